"""Snapshots: the right images, within their bounds, and never at the line's cost."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.contract.verdict import ImageAddresses, Verdict, new_id
from edge.errors import OutputNotWritable
from edge.imaging.frame import Frame
from edge.imaging.image_files import read_image
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Inspection
from edge.settings.snapshots import SnapshotSettings
from edge.station.images.overlay_folder import OverlayWriter
from edge.station.images.recent_images import RecentImages
from edge.station.images.snapshot_folder import MIN_LISTED, PINNED_AGES, RETRY_NS, SnapshotFolder
from edge.station.images.snapshot_policy import SnapshotName, SnapshotReason, snapshot_reason

DAY_NS = 86_400_000_000_000
START_UTC_NS = 1_790_000_000_000_000_000
PIXELS = np.random.default_rng(7).integers(0, 255, (40, 60, 3)).astype(np.uint8)

REASONS = {
    Result.OK: Reason.SCORE_BELOW,
    Result.NOK: Reason.SCORE_ABOVE,
    Result.NOT_DECIDABLE: Reason.NEAR_THRESHOLD,
    Result.ERROR: Reason.MODEL_ERROR,
}


def inspection(result: Result, score: float | None = 0.1) -> Inspection:
    return Inspection(
        decision=Decision(result, REASONS[result]),
        threshold=1.0,
        pixel_threshold=1.0,
        normalized_score=score,
    )


def verdict(
    result: Result, score: float | None = 0.1, pixels: np.ndarray = PIXELS, utc_ns: int = 0
) -> Verdict:
    frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
    utc_ns = utc_ns or START_UTC_NS
    return Verdict(
        id=new_id(utc_ns),
        inspection=inspection(result, score),
        frame=frame,
        decided_ns=1,
        decided_utc_ns=utc_ns,
        inspection_started_ns=0,
    )


class Disk:
    """A folder under test: its clock, its free space, and what it said."""

    def __init__(self, folder: Path, **bounds: object) -> None:
        bounds = {"free_space_floor_bytes": 0, "max_bytes": 2**20, **bounds}
        self.settings = SnapshotSettings(folder=str(folder), **bounds)  # type: ignore[arg-type]
        self.root = folder
        self.now_ns = 0
        self.utc_ns = START_UTC_NS
        self.free = 10**12
        self.printed: list[tuple[bool, str]] = []
        self.folder = self.opened()

    def opened(self) -> SnapshotFolder:
        """A new run over the same folder."""
        return SnapshotFolder(
            settings=self.settings,
            on_change=lambda wrong, why: self.printed.append((wrong, why)),
            clock_ns=lambda: self.now_ns,
            free_bytes=lambda _: self.free,
        )

    def keep(self, why: SnapshotReason, size_bytes: int = 1000) -> SnapshotName:
        """Keep one snapshot, a second after the last one."""
        self.now_ns += 1_000_000_000
        self.utc_ns += 1_000_000_000
        name = SnapshotName(new_id(self.utc_ns), why)
        files = {name.IMAGE: bytes(size_bytes - 2), name.OVERLAY: b"x", name.RECORD: b"y"}
        self.folder.keep(name, files)
        return name

    def has(self, name: SnapshotName) -> bool:
        there = [path.exists() for path in name.paths(self.root)]
        assert all(there) or not any(there)
        return all(there)

    def names(self) -> list[SnapshotName]:
        found = (SnapshotName.parse(p.parent.name, p.name) for p in self.root.glob("*/*.png"))
        return sorted((name for name in found if name), key=lambda name: name.verdict_id)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "snapshots", max_count=3)


@pytest.mark.parametrize(
    ("result", "score", "ok_count", "why"),
    [
        (Result.NOK, 0.9, 1, SnapshotReason.NOK),
        (Result.NOK, 0.51, 1, SnapshotReason.NOK),
        (Result.ERROR, None, 1, SnapshotReason.ERROR),
        (Result.NOT_DECIDABLE, 0.2, 1, SnapshotReason.NEAR),
        (Result.OK, 0.45, 1, SnapshotReason.NEAR),
        (Result.OK, 0.4, 1, None),
        (Result.OK, 0.4, 10, SnapshotReason.SAMPLE),
        (Result.OK, 0.4, 11, None),
    ],
)
def test_what_is_kept_and_why(
    result: Result, score: float | None, ok_count: int, why: SnapshotReason | None
) -> None:
    settings = SnapshotSettings(folder="x", every_nth_ok=10, near_threshold=0.0625)

    assert snapshot_reason(inspection(result, score), ok_count, settings) is why


def test_zero_keeps_no_ok_image_far_from_the_threshold() -> None:
    settings = SnapshotSettings(folder="x", every_nth_ok=0)

    assert not any(snapshot_reason(inspection(Result.OK), count, settings) for count in range(1000))


@given(
    st.integers(0, 2**48 - 1), st.sampled_from(SnapshotReason), st.sampled_from([".png", ".json"])
)
def test_a_name_can_be_read_from_each_of_its_files(
    ms: int, why: SnapshotReason, suffix: str
) -> None:
    name = SnapshotName(new_id(ms * 1_000_000), why)
    path = name.path(Path("/x"), suffix)

    assert SnapshotName.parse(path.parent.name, path.name) == name
    assert SnapshotName.parse("1999-01-01", path.name) is None or ms < 10**12
    assert name.utc_ms == ms


def test_image_overlay_and_record_lie_where_the_verdict_says(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "kept images")
    part = verdict(Result.NOK, 0.9)
    addresses = disk.folder.addresses(part)
    assert addresses is not None
    part = replace(part, images=addresses)

    assert disk.folder.write(part, {"schema": "verdict/1", "id": part.id})

    image = Path(unquote(urlsplit(addresses.image or "").path))
    overlay = Path(unquote(urlsplit(addresses.heat_map or "").path))
    assert np.array_equal(read_image(image), PIXELS)
    assert read_image(overlay).shape[2] == 3
    record = json.loads(next(image.parent.glob("*.json")).read_text())
    assert record == {"schema": "verdict/1", "id": part.id}
    assert sorted(p.name for p in image.parent.iterdir()) == sorted(
        f"{part.id}_nok{suffix}" for suffix in (".png", "_overlay.jpg", ".json")
    )


def test_a_verdict_that_is_not_kept_writes_nothing(disk: Disk) -> None:
    assert disk.folder.addresses(verdict(Result.OK)) is None
    assert not disk.folder.write(verdict(Result.OK), {})
    assert list(disk.root.iterdir()) == []


def test_an_error_without_an_image_is_not_kept(disk: Disk) -> None:
    lost = verdict(Result.ERROR, None, np.empty((0, 0), np.uint8))

    assert disk.folder.addresses(lost) is None


@pytest.mark.parametrize(
    "pixels", [np.zeros((9, 9, 2), np.uint8), np.zeros((9, 9, 5), np.uint8), np.zeros(9, np.uint8)]
)
def test_what_is_no_image_is_not_kept_and_ends_no_station(
    disk: Disk, tmp_path: Path, pixels: np.ndarray
) -> None:
    odd = verdict(Result.ERROR, None, pixels)
    overlays = OverlayWriter(tmp_path / "overlays")

    overlays.write(odd)

    assert disk.folder.addresses(odd) is None
    assert overlays.written == 1


def test_the_next_image_is_kept_when_somebody_asks(disk: Disk) -> None:
    disk.folder.keep_next()
    first = disk.folder.addresses(verdict(Result.OK))
    second = disk.folder.addresses(verdict(Result.OK))

    assert isinstance(first, ImageAddresses)
    assert "_asked.png" in (first.image or "")
    assert second is None


def test_by_count_the_oldest_goes_first_and_pinned_ones_last(disk: Disk) -> None:
    nok = disk.keep(SnapshotReason.NOK)
    first = disk.keep(SnapshotReason.SAMPLE)
    second = disk.keep(SnapshotReason.NEAR)
    third = disk.keep(SnapshotReason.ERROR)

    assert [disk.has(name) for name in (nok, first, second, third)] == [True, False, True, True]


def test_pinned_ones_make_room_for_each_other_only(disk: Disk) -> None:
    pinned = [disk.keep(SnapshotReason.NOK) for _ in range(4)]
    sample = disk.keep(SnapshotReason.SAMPLE)

    assert disk.names() == pinned[1:]
    assert not disk.has(sample)
    assert (disk.folder.written, disk.folder.refused) == (4, 1)
    assert disk.printed == []


def test_the_folder_never_holds_more_bytes_than_its_bound(tmp_path: Path) -> None:
    disk = Disk(tmp_path, max_bytes=2**20)
    nok = disk.keep(SnapshotReason.NOK, 400_000)
    for _ in range(20):
        disk.keep(SnapshotReason.SAMPLE, 150_000)
        assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) <= 2**20

    assert disk.has(nok)
    assert len(disk.names()) == 5


def test_one_that_is_larger_than_the_bound_deletes_nothing(disk: Disk) -> None:
    before = [disk.keep(SnapshotReason.SAMPLE), disk.keep(SnapshotReason.NOK)]

    disk.keep(SnapshotReason.NOK, 2**20 + 1)

    assert disk.names() == before


def test_ages_are_monotonic_and_pinned_ones_live_longer(tmp_path: Path) -> None:
    disk = Disk(tmp_path, max_age_days=30.0)
    nok, sample = disk.keep(SnapshotReason.NOK), disk.keep(SnapshotReason.SAMPLE)
    disk.now_ns += 30 * DAY_NS
    third = disk.keep(SnapshotReason.SAMPLE)
    assert [disk.has(name) for name in (nok, sample, third)] == [True, False, True]

    disk.now_ns += (PINNED_AGES - 1) * 30 * DAY_NS
    disk.keep(SnapshotReason.SAMPLE)
    assert not disk.has(nok)


@pytest.mark.parametrize("step_days", [-1, 1, -400, 400])
def test_a_step_of_the_wall_clock_deletes_nothing(tmp_path: Path, step_days: int) -> None:
    disk = Disk(tmp_path, max_age_days=30.0)
    before = [disk.keep(SnapshotReason.SAMPLE) for _ in range(5)]
    disk.utc_ns += step_days * DAY_NS
    after = [disk.keep(SnapshotReason.SAMPLE) for _ in range(5)]
    disk.folder = disk.opened()  # the ages are estimated from the names now
    last = disk.keep(SnapshotReason.SAMPLE)

    assert sorted(disk.names(), key=str) == sorted([*before, *after, last], key=str)


def test_a_new_run_goes_on_with_what_is_there(disk: Disk) -> None:
    nok, first, second = (
        disk.keep(SnapshotReason.NOK),
        disk.keep(SnapshotReason.SAMPLE),
        disk.keep(SnapshotReason.SAMPLE),
    )
    disk.folder = disk.opened()
    disk.keep(SnapshotReason.SAMPLE)

    assert [disk.has(name) for name in (nok, first, second)] == [True, False, True]


def test_an_earlier_run_ages_by_the_gaps_between_its_images(tmp_path: Path) -> None:
    disk = Disk(tmp_path, max_age_days=10.0)
    names = []
    for _ in range(15):
        names.append(disk.keep(SnapshotReason.SAMPLE))
        disk.utc_ns += DAY_NS
    disk.folder = disk.opened()
    disk.keep(SnapshotReason.SAMPLE)

    assert disk.names()[:-1] == names[-11:]  # the newest counts as new


def test_files_of_others_are_never_touched(disk: Disk) -> None:
    name = disk.keep(SnapshotReason.SAMPLE)
    day = disk.root / name.day
    foreign = [
        disk.root / "notes.txt",
        day / "notes.txt",
        day / f"{name.verdict_id}_holiday.png",
        day / ".hidden.partial",
        disk.root / "2019-01-01" / f"{name.verdict_id}_sample.png",  # another day's folder
        disk.root / "old" / f"{name.verdict_id}_sample.png",
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    (disk.root / "2018-01-01").symlink_to(disk.root / "old")
    disk.folder = disk.opened()
    for _ in range(8):
        disk.keep(SnapshotReason.SAMPLE)

    assert len(disk.names()) == 3
    assert all(path.read_bytes() == b"mine" for path in foreign)


def test_what_a_killed_run_left_half_written_is_removed(disk: Disk) -> None:
    name = disk.keep(SnapshotReason.NOK)
    half = disk.root / name.day / f".{name.verdict_id}_nok.png.partial"
    half.write_bytes(b"half")
    disk.folder = disk.opened()
    disk.keep(SnapshotReason.NOK)

    assert not half.exists()
    assert disk.has(name)


def test_without_a_list_of_the_folder_nothing_is_written_or_deleted(disk: Disk) -> None:
    kept = [disk.keep(SnapshotReason.SAMPLE) for _ in range(3)]
    odd = disk.root / "2020-01-01"
    odd.mkdir()
    for number in range(5):
        name = new_id(1_577_836_800_000_000_000 + number * 1_000_000)
        (odd / f"{name}_sample.png").write_bytes(b"")
    disk.folder = disk.opened()
    unlistable = disk.root.rename(disk.root.with_name("elsewhere"))
    disk.root.write_bytes(b"not a folder")
    disk.keep(SnapshotReason.SAMPLE)
    assert [wrong for wrong, _ in disk.printed] == [True]
    disk.root.unlink()
    unlistable.rename(disk.root)

    assert len(disk.names()) == 3 + 5
    disk.now_ns += RETRY_NS
    disk.keep(SnapshotReason.SAMPLE)
    assert [wrong for wrong, _ in disk.printed] == [True, False]
    assert len(disk.names()) == 3
    assert disk.has(kept[-1])


def test_a_folder_with_more_than_the_bounds_can_have_made_is_left_alone(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [disk.keep(SnapshotReason.SAMPLE) for _ in range(3)]
    assert MIN_LISTED >= 10_000
    monkeypatch.setattr("edge.station.images.snapshot_folder.MIN_LISTED", 2)
    disk.settings = SnapshotSettings(folder=str(disk.root), max_count=1, free_space_floor_bytes=0)
    disk.folder = disk.opened()
    disk.keep(SnapshotReason.NOK)

    assert disk.names() == kept
    (printed,) = disk.printed
    assert "more than 2 snapshots" in printed[1]


def test_below_the_floor_nothing_is_written_or_deleted_which_is_reported_once(disk: Disk) -> None:
    disk.settings = SnapshotSettings(
        folder=str(disk.root), max_count=3, free_space_floor_bytes=1_000_000
    )
    disk.folder = disk.opened()
    kept = [disk.keep(SnapshotReason.SAMPLE) for _ in range(3)]
    disk.free = 1_000_500
    for _ in range(3):
        disk.keep(SnapshotReason.NOK)
    assert disk.names() == kept
    assert [wrong for wrong, _ in disk.printed] == [True]
    assert "free_space_floor_bytes" in disk.printed[0][1]
    assert disk.folder.addresses(verdict(Result.NOK)) is None

    disk.free = 1_020_000  # enough for one, not for going on
    disk.keep(SnapshotReason.NOK)
    assert disk.names() == kept
    disk.free = 2_000_000
    disk.now_ns += RETRY_NS
    assert disk.folder.addresses(verdict(Result.NOK)) is not None
    assert disk.has(disk.keep(SnapshotReason.NOK))
    assert [wrong for wrong, _ in disk.printed] == [True, False]


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 512 KiB, where this user may mount one."""
    place = tmp_path / "tiny"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user cannot mount a file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_stops_snapshots_until_there_is_space(tiny: Path) -> None:
    disk = Disk(tiny / "snapshots", max_bytes=2**20)
    kept = [disk.keep(SnapshotReason.SAMPLE, 100_000) for _ in range(3)]
    # What statvfs promises, others may take before it is written.
    filler = tiny / "filler"
    filler.write_bytes(bytes(150_000))
    for _ in range(3):
        disk.keep(SnapshotReason.NOK, 100_000)
    assert [wrong for wrong, _ in disk.printed] == [True]
    assert "No space left on device" in disk.printed[0][1]
    assert all(disk.has(name) for name in kept)
    assert not list(tiny.rglob("*.partial"))

    filler.unlink()
    disk.now_ns += RETRY_NS
    assert disk.has(disk.keep(SnapshotReason.NOK, 100_000))
    assert [wrong for wrong, _ in disk.printed] == [True, False]


def test_real_free_space_is_asked_for(tiny: Path) -> None:
    settings = SnapshotSettings(folder=str(tiny), free_space_floor_bytes=2**20)
    printed: list[str] = []
    folder = SnapshotFolder(settings=settings, on_change=lambda _, why: printed.append(why))

    name = SnapshotName(new_id(START_UTC_NS), SnapshotReason.NOK)
    assert not folder.keep(name, {name.IMAGE: b"x"})
    assert len(printed) == 1


def test_a_folder_that_cannot_be_made_is_reported_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    settings = SnapshotSettings(folder=str(tmp_path / "file" / "snapshots"))

    with pytest.raises(OutputNotWritable, match=r"snapshots\.folder"):
        SnapshotFolder(settings=settings, on_change=lambda *_: None)


# The images of the last hours.


def recent(folder: Path, clock_ns: Callable[[], int] = lambda: 0, **more: object) -> RecentImages:
    settings = SnapshotSettings(folder=str(folder), free_space_floor_bytes=0, **more)  # type: ignore[arg-type]
    return RecentImages(settings, lambda *_: None, clock_ns)


def recent_ids(folder: Path) -> list[str]:
    return sorted(path.name[:36] for path in (folder / "recent").rglob("*_recent.*"))


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (PIXELS, ".jpg"),
        (PIXELS[:, :, 0], ".jpg"),
        (PIXELS.astype(np.uint16) * 200, ".png"),
        (np.dstack([PIXELS, PIXELS[:, :, :1]]), ".png"),
    ],
)
def test_images_of_every_format_are_kept_for_some_hours_and_promoted(
    tmp_path: Path, pixels: np.ndarray, suffix: str
) -> None:
    images, disk = recent(tmp_path), Disk(tmp_path)
    part = verdict(Result.OK, pixels=pixels)
    images.keep(part)
    assert [path.suffix for path in (tmp_path / "recent").rglob("*_recent*")] == [suffix]

    assert images.promote(journalled(part), disk.folder)

    (name,) = disk.names()
    assert name == SnapshotName(part.id, SnapshotReason.MARKED)
    assert disk.has(name)
    kept = read_image(name.path(tmp_path, name.IMAGE))
    assert (kept.shape, kept.dtype) == (pixels.shape, pixels.dtype)
    unlike = np.abs(kept.astype(int) - pixels).mean()
    assert unlike == 0 if suffix == ".png" else unlike < 8  # noise is the hardest there is
    assert not images.promote({**journalled(part), "id": new_id(1)}, disk.folder)


def journalled(part: Verdict) -> dict[str, object]:
    region = {"bbox": [1, 2, 3, 4], "area_px": 5, "peak": 0.7}
    return {
        "id": part.id,
        "result": part.inspection.decision.result.value,
        "reason": part.inspection.decision.reason.value,
        "raw_score": 0.1,
        "raw_threshold": 1.0,
        "anomaly_score": 0.1,
        "regions": [region],
    }


def test_recent_images_are_bounded_by_age_and_bytes_and_no_step_of_the_clock_deletes_them(
    tmp_path: Path,
) -> None:
    now_ns = 0
    images = recent(tmp_path, lambda: now_ns, recent_hours=2.0, recent_max_bytes=2**20)
    parts = [verdict(Result.OK, utc_ns=START_UTC_NS + step * DAY_NS) for step in (0, 400, -400)]
    for part in parts:
        images.keep(part)
    assert recent_ids(tmp_path) == sorted(part.id for part in parts)

    now_ns += 3 * 3_600_000_000_000
    newest = verdict(Result.OK)
    images.keep(newest)
    assert recent_ids(tmp_path) == [newest.id]

    for step in range(300):
        images.keep(verdict(Result.OK, utc_ns=START_UTC_NS + step * 1_000_000))
    stored = sum(path.stat().st_size for path in (tmp_path / "recent").rglob("*.jpg"))
    assert 2**19 < stored <= 2**20


def test_what_is_kept_as_a_snapshot_is_not_kept_twice(tmp_path: Path) -> None:
    images, disk = recent(tmp_path), Disk(tmp_path)
    part = verdict(Result.NOK)

    images.keep(replace(part, images=disk.folder.addresses(part)))

    assert recent_ids(tmp_path) == []
