"""What a calibration rests on, so that later images can be added to it: a few numbers each.

The images themselves do not travel with the checkpoint. A content hash tells whether one is given
again, under whatever name; then the new label counts.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.inspection.regions import enlarge, region_resolution
from edge.wording import counted
from training.figures import Scored
from training.tensor_hash import demand_layout, pop_tensor

# Bounds the checkpoint: 50 bytes each. The latest are kept.
MAX_RECORDS = 20_000
_PREFIX = "calibrated."

# Type, and shape of one row, of the fields that are no single float32.
_LAYOUT: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
    "hashes": (torch.uint8, (32,)),
    "defective": (torch.bool, ()),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CalibrationRecords:
    """Scored images of a calibration, N of them.

    Attributes:
        hashes: ``(N, 32) uint8`` SHA-256 of each image's content.
        defective: ``(N,) bool``.
        scores: ``(N,) float32`` raw image scores.
        lows, peaks: ``(N,) float32`` lowest and highest value of the raw map.
        region_peaks: ``(N,) float32`` highest value at the resolution in which regions are found.
    """

    hashes: NDArray[np.uint8]
    defective: NDArray[np.bool_]
    scores: NDArray[np.float32]
    lows: NDArray[np.float32]
    peaks: NDArray[np.float32]
    region_peaks: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.scores)

    def joined(self, newer: "CalibrationRecords") -> "CalibrationRecords":
        """Return both; of an image that is in both the newer record, and at most 20,000 in all."""
        known = {row.tobytes() for row in newer.hashes}
        kept = np.array([row.tobytes() not in known for row in self.hashes], np.bool_)
        room = max(MAX_RECORDS - len(newer), 0)
        rows = np.flatnonzero(kept)
        if len(rows) > room:
            log.warning(
                "a calibration keeps at most %s; no longer used are the oldest %d",
                counted(MAX_RECORDS, "image"),
                len(rows) - room,
            )
            rows = rows[len(rows) - room :]
        return CalibrationRecords(
            **{
                field.name: np.concatenate(
                    [getattr(self, field.name)[rows], getattr(newer, field.name)]
                )
                for field in fields(self)
            }
        )

    def only(self, rows: NDArray[np.bool_]) -> "CalibrationRecords":
        """Return some of the records."""
        return CalibrationRecords(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def wrong_at(self, threshold: float) -> tuple[int, int]:
        """Return how many good images a threshold rejects and how many defective ones it misses."""
        rejected = self.scores >= np.float32(threshold)
        return int((rejected & ~self.defective).sum()), int((~rejected & self.defective).sum())

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint stores, by name."""
        return {
            _PREFIX + field.name: torch.from_numpy(np.ascontiguousarray(getattr(self, field.name)))
            for field in fields(self)
        }


def make_records(scored: Sequence[Scored], spec: InputSpec) -> CalibrationRecords:
    """Record scored images; of more than 20,000 the last."""
    rows = scored[-MAX_RECORDS:]
    hashes = [np.frombuffer(item.content, np.uint8) for item in rows]
    maps = [item.anomaly_map for item in rows]
    enlarged = [float(enlarge(m, *region_resolution(m, spec)).max()) for m in maps]
    return CalibrationRecords(
        hashes=np.stack(hashes) if hashes else np.zeros((0, 32), np.uint8),
        defective=np.array([item.sample.is_defective for item in rows], np.bool_),
        scores=np.array([item.score for item in rows], np.float32),
        lows=np.array([m.min() for m in maps], np.float32),
        peaks=np.array([m.max() for m in maps], np.float32),
        region_peaks=np.array(enlarged, np.float32),
    )


def pop_records(tensors: dict[str, torch.Tensor]) -> CalibrationRecords:
    """Move the records out of a checkpoint's tensors.

    Raises:
        CheckpointError: they are not there, or have other types or shapes than records.
    """
    names = [field.name for field in fields(CalibrationRecords)]
    arrays = {name: pop_tensor(tensors, _PREFIX + name) for name in names}
    count = len(arrays["defective"]) if arrays["defective"].ndim else 0
    for name, array in arrays.items():
        kind, shape = _LAYOUT.get(name, (torch.float32, ()))
        demand_layout(_PREFIX + name, array, kind, (count, *shape))
    return CalibrationRecords(**{name: array.numpy() for name, array in arrays.items()})
