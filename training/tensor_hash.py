"""What tells sets of tensors apart, and those that a fit wrote from others."""

import hashlib

import torch

from training.errors import CheckpointError


def tensors_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and bytes; safetensors itself has none."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def pop_tensor(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Move one tensor out of those of a checkpoint.

    Raises:
        CheckpointError: it is not there.
    """
    if name not in tensors:
        raise CheckpointError(f"it holds no {name}. Fit the model again.")
    return tensors.pop(name)


def demand_layout(
    name: str, tensor: torch.Tensor, kind: torch.dtype, shape: tuple[int, ...]
) -> None:
    """Demand type and shape of a tensor of a checkpoint.

    Raises:
        CheckpointError: names both.
    """
    if tensor.dtype != kind or tensor.shape != shape:
        raise CheckpointError(
            f"its {name} is {tensor.dtype} {tuple(tensor.shape)}, not {kind} {shape}. "
            "Fit the model again."
        )
