"""Which images went into a model, and how: nothing is judged by what the model has seen."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

import numpy as np
import torch

from edge.teaching.used_images import HASH_BYTES
from training.data.content import content_hashes
from training.data.samples import Sample
from training.tensor_hash import demand_layout, pop_tensor

_PREFIX = "seen."


class Role(StrEnum):
    """What an image was used for."""

    FITTED = "fitted"
    STOPPING = "stopping"
    CALIBRATED = "calibrated"
    QUANTIZED = "quantized"


_PHRASES = {
    Role.FITTED: "that the model was fitted on",
    Role.STOPPING: "that decided when its training stopped",
    Role.CALIBRATED: "that its threshold rests on",
    Role.QUANTIZED: "that INT8 was calibrated with",
}


@dataclass(frozen=True, slots=True)
class SeenImages:
    """What a model has seen: the first 16 bytes of the content hash of each image, by role.

    Attributes:
        fitted: images that it learned from.
        stopping: those that told when a training had to stop.
        calibrated: those that the threshold rests on.
        quantized: those that travel with the checkpoint for quantization.
    """

    fitted: frozenset[bytes] = frozenset()
    stopping: frozenset[bytes] = frozenset()
    calibrated: frozenset[bytes] = frozenset()
    quantized: frozenset[bytes] = frozenset()

    def of(self, role: Role) -> frozenset[bytes]:
        """Return the images of one role."""
        found: frozenset[bytes] = getattr(self, role.value)
        return found

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint stores, by name: ``(N, 16) uint8``, sorted."""
        return {_PREFIX + role: _rows(self.of(role)) for role in Role}


@dataclass(frozen=True, slots=True)
class UnseenImages:
    """Images that a model has not seen, and how many were left out, by role."""

    unseen: tuple[Sample, ...]
    left_out: Mapping[Role, int]


def seen(samples: Iterable[Sample]) -> frozenset[bytes]:
    """Return what images are known by; a view or a synthetic defect does not hide an image."""
    return frozenset(content[:HASH_BYTES] for content in content_hashes(samples).values())


def sift(
    samples: Sequence[Sample], known: SeenImages | None, roles: Collection[Role]
) -> UnseenImages:
    """Leave out the images that a model has seen in one of these roles.

    Args:
        known: None where there is no model yet; nothing is left out then.
    """
    if known is None:
        return UnseenImages(tuple(samples), {})
    contents = content_hashes(samples)
    left_out: dict[Role, int] = {}
    unseen = []
    for sample in samples:
        content = contents[sample][:HASH_BYTES]
        role = next((role for role in Role if role in roles and content in known.of(role)), None)
        if role is None:
            unseen.append(sample)
        else:
            left_out[role] = left_out.get(role, 0) + 1
    return UnseenImages(tuple(unseen), left_out)


def phrase(left_out: Mapping[Role, int]) -> str:
    """Return counts and reasons in words, such as ``30 that the model was fitted on``."""
    parts = [f"{left_out[role]} {_PHRASES[role]}" for role in Role if left_out.get(role)]
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def pop_seen(tensors: dict[str, torch.Tensor]) -> SeenImages:
    """Move what was seen out of a checkpoint's tensors.

    Raises:
        CheckpointError: they are not there, or have other types or shapes.
    """
    found = []
    for name in (_PREFIX + field.name for field in fields(SeenImages)):
        rows = pop_tensor(tensors, name)
        demand_layout(name, rows, torch.uint8, (len(rows) if rows.ndim else 0, HASH_BYTES))
        found.append(frozenset(row.tobytes() for row in rows.numpy()))
    return SeenImages(*found)


def _rows(hashes: Collection[bytes]) -> torch.Tensor:
    joined = b"".join(sorted(hashes))
    return torch.from_numpy(np.frombuffer(joined, np.uint8).reshape(-1, HASH_BYTES).copy())
