"""What tells sets of tensors apart."""

import hashlib

import torch


def tensors_sha256(tensors: dict[str, torch.Tensor]) -> str:
    """Return a SHA-256 over names, types, shapes and bytes; safetensors itself has none."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
