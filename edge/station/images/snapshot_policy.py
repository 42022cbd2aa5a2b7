"""Which images are kept, under which names, and what is in their files."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import cv2
import numpy as np

from edge.imaging.frame import Pixels
from edge.inspection.decision import Result
from edge.inspection.normalization import THRESHOLD
from edge.settings.snapshots import SnapshotSettings

if TYPE_CHECKING:  # names alone need no inspector: the page's process has none
    from edge.inspection.inspector import Inspection


class SnapshotReason(StrEnum):
    """Why an image is kept; part of its file names."""

    NOK = "nok"
    ERROR = "error"
    NEAR = "near"  # close to the threshold, so worth a look
    SAMPLE = "sample"  # every n-th OK
    ASKED = "asked"
    MARKED = "marked"  # by a person: a defect that was missed, or a part rejected falsely
    RECENT = "recent"  # for some hours, in case somebody marks the part

    @property
    def pinned(self) -> bool:
        """Whether such an image goes last: evidence for a part thrown away, or of a wrong one."""
        return self in (SnapshotReason.NOK, SnapshotReason.MARKED)


def snapshot_reason(
    inspection: "Inspection", ok_count: int, settings: SnapshotSettings
) -> SnapshotReason | None:
    """Tell whether and why the image of a part is kept; it has to have one.

    Args:
        inspection: of the part.
        ok_count: OK parts so far, this one included.
        settings: of the station.
    """
    result, score = inspection.decision.result, inspection.normalized_score
    if result is Result.NOK:
        return SnapshotReason.NOK
    if result is Result.ERROR:
        return SnapshotReason.ERROR
    if result is Result.NOT_DECIDABLE:
        return SnapshotReason.NEAR
    if score is not None and abs(score - THRESHOLD) <= settings.near_threshold:
        return SnapshotReason.NEAR
    if settings.every_nth_ok and ok_count % settings.every_nth_ok == 0:
        return SnapshotReason.SAMPLE
    return None


@dataclass(frozen=True, slots=True)
class SnapshotName:
    """The name of one snapshot: ``DAY/ID_WHY`` and a suffix for each of its files.

    Attributes:
        verdict_id: UUIDv7; its day in UTC names the folder.
        why: why it is kept.
    """

    verdict_id: str
    why: SnapshotReason

    IMAGE, OVERLAY, RECORD, RECENT = ".png", "_overlay.jpg", ".json", ".jpg"

    @classmethod
    def parse(cls, day: str, file_name: str) -> Self | None:
        """Read the name from one of its files; None for every file that is not ours."""
        found = _FILE.fullmatch(file_name)
        if found is None:
            return None
        name = cls(found["id"], SnapshotReason(found["why"]))
        return name if name.day == day else None

    @property
    def utc_ms(self) -> int:
        """Wall-clock time in milliseconds since 1970, as the id has it."""
        return int(self.verdict_id.replace("-", "")[:12], 16)

    @property
    def day(self) -> str:
        """Its folder, for example ``2026-11-23``; ids too far off to be a date share one."""
        try:
            return datetime.fromtimestamp(self.utc_ms // 1000, UTC).strftime("%Y-%m-%d")
        except (ValueError, OverflowError, OSError):
            return "undated"

    def path(self, root: Path, suffix: str) -> Path:
        """Return where one of its files lies."""
        return root / self.day / f"{self.verdict_id}_{self.why.value}{suffix}"

    def paths(self, root: Path) -> list[Path]:
        """Return where all of its files lie."""
        suffixes = [self.IMAGE, self.OVERLAY, self.RECORD]
        if self.why is SnapshotReason.RECENT:
            suffixes = [self.IMAGE, self.RECENT]
        return [self.path(root, suffix) for suffix in suffixes]


def recent_root(snapshots: Path) -> Path:
    """Return where the images of the last hours lie, beside the snapshots of a folder."""
    return snapshots / "recent"


_HEX = "[0-9a-f]"
_FILE = re.compile(
    rf"\.?(?P<id>{_HEX}{{8}}-{_HEX}{{4}}-7{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}})"
    rf"_(?P<why>{'|'.join(SnapshotReason)})(\.png|_overlay\.jpg|\.jpg|\.json)(\.partial)?"
)


def rendered(
    pixels: Pixels,
    inspection: "Inspection",
    record: Mapping[str, Any],
    jpeg_quality: int,
) -> dict[str, bytes]:
    """Return the content of the files of a snapshot by suffix.

    The image is PNG: without loss, so that it can train the next model, read by everything, and
    about half as large as raw; OpenCV's default level takes 45 ms for 5 MP grey, where the highest
    takes seconds. The overlay is for people: JPEG.

    Args:
        pixels: as inspected; not empty.
        inspection: of these pixels.
        record: the verdict.
        jpeg_quality: of the overlay, 1 to 100.
    """
    # numba compiles with it: only who keeps images waits.
    from edge.inspection.overlay import draw_overlay

    overlay = draw_overlay(pixels, inspection)
    quality = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    return {
        SnapshotName.IMAGE: encoded(SnapshotName.IMAGE, pixels, []),
        SnapshotName.OVERLAY: encoded(".jpg", overlay, quality),
        SnapshotName.RECORD: json.dumps(record, allow_nan=False, indent=1).encode() + b"\n",
    }


def encoded(suffix: str, pixels: Pixels, options: list[int]) -> bytes:
    """Return an image as the bytes of a file of this suffix."""
    _, content = cv2.imencode(suffix, np.ascontiguousarray(pixels), options)
    return content.tobytes()
