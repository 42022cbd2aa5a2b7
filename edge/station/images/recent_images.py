"""The images of the last hours: of every part whose image is not kept anyway.

A defect that was missed looks like any good part to the station, so its image is there only if
every image is, until somebody has had the time to find it. Marked then, it becomes a snapshot like
the others. The buffer is bounded by age and bytes as snapshots are, and is the first to give way.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.contract.verdict import Verdict
from edge.errors import ImageUnreadable
from edge.imaging.frame import Pixels, pixel_format
from edge.imaging.image_files import read_image
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.inspection.regions import Region
from edge.settings.snapshots import SnapshotSettings
from edge.station.images.snapshot_folder import SnapshotFolder
from edge.station.images.snapshot_policy import (
    SnapshotName,
    SnapshotReason,
    encoded,
    recent_root,
    rendered,
)

MAX_IMAGES = 100_000
# JPEG takes a tenth of the time of PNG and a sixth of its space; at this quality eyes see no
# difference. What it cannot hold (16 bits, four channels) is PNG.
JPEG_OPTIONS = [
    cv2.IMWRITE_JPEG_QUALITY,
    95,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]
# Images and their bytes that may wait to be written; what comes then is not kept, and counted.
QUEUE_IMAGES, QUEUE_BYTES = 64, 128 * 2**20


class RecentImages:
    """Keeps images for some hours; one thread writes.

    Attributes:
        folder: where they lie, bounded; its counts are those of this run.
    """

    def __init__(
        self,
        settings: SnapshotSettings,
        on_change: Callable[[bool, str], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Create the folder beside the snapshots.

        Args:
            settings: of the snapshots, with ``recent_hours`` above 0.
            on_change, clock_ns: as of ``SnapshotFolder``.

        Raises:
            OutputNotWritable: it cannot be created, or nothing can be written there.
        """
        bounds = {
            "folder": str(recent_root(Path(settings.folder))),
            "max_age_days": settings.recent_hours / 24,
            "max_bytes": settings.recent_max_bytes,
            "max_count": MAX_IMAGES,
            # Evidence that is kept for good has the last of the disk.
            "free_space_floor_bytes": 2 * settings.free_space_floor_bytes,
        }
        own = settings.model_copy(update=bounds)
        self.folder = SnapshotFolder(
            settings=own, on_change=on_change, clock_ns=clock_ns, durable=False
        )
        self._jpeg_quality = settings.jpeg_quality

    def keep(self, verdict: Verdict) -> None:
        """Write the image of a part, unless it has none or is kept as a snapshot."""
        pixels = verdict.frame.pixels
        if verdict.images is not None or pixels.size == 0 or pixel_format(pixels) is None:
            return
        if self.folder.pausing:
            self.folder.refused += 1
            return
        name = SnapshotName(verdict.id, SnapshotReason.RECENT)
        if pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2] == 3):
            files = {name.RECENT: encoded(name.RECENT, pixels, JPEG_OPTIONS)}
        else:
            files = {name.IMAGE: encoded(name.IMAGE, pixels, [])}
        self.folder.keep(name, files)

    def promote(self, record: Mapping[str, Any], snapshots: SnapshotFolder) -> bool:
        """Make the image of a part a snapshot that stays; tell whether there is one now.

        Args:
            record: the verdict.
            snapshots: where it goes.
        """
        pixels = self._read(record["id"])
        if pixels is None:
            return False
        name = SnapshotName(record["id"], SnapshotReason.MARKED)
        files = rendered(pixels, _inspection(record), record, self._jpeg_quality)
        return snapshots.keep(name, files)

    def _read(self, verdict_id: str) -> Pixels | None:
        for path in SnapshotName(verdict_id, SnapshotReason.RECENT).paths(self.folder.root):
            with suppress(ImageUnreadable):
                return read_image(path)
        return None


def _inspection(record: Mapping[str, Any]) -> Inspection:
    """Return what a verdict says of its part, as far as it can be drawn; the map is not kept."""
    regions = tuple(
        Region(x=x, y=y, width=width, height=height, area_px=region["area_px"], peak=region["peak"])
        for region in record["regions"]
        for x, y, width, height in [region["bbox"]]
    )
    return Inspection(
        decision=Decision(Result(record["result"]), Reason(record["reason"])),
        threshold=record["raw_threshold"],
        pixel_threshold=record["raw_threshold"],
        score=record["raw_score"],
        normalized_score=record["anomaly_score"],
        regions=regions,
    )
