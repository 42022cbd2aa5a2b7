"""The tilted part of the demo: found, judged by area, its defect shown where it lies."""

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.imaging.image_files import read_image
from tests.edge.conftest import edge_run_command
from training.data.rendered import RenderedPart
from training.tilted_demo import tilted_frames

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "configs" / "demo"
ZONE = "sealing face"


class Seen(NamedTuple):
    """What a run of the demo gave: verdicts by frame, and the overlays."""

    verdicts: dict[str, dict[str, Any]]
    overlays: Path


@pytest.fixture(scope="module")
def parts() -> dict[str, RenderedPart]:
    return dict(tilted_frames())


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    overlays = tmp_path_factory.mktemp("overlays")
    command = edge_run_command(
        *("--camera", DEMO / "tilted", "--model", DEMO / "tilted.xml", "--once"),
        *("--save", overlays),
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    return Seen({Path(one["image"]["source_uri"]).stem: one for one in verdicts}, overlays)


def difference(first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Return by how many levels two images differ on average."""
    assert first.shape == second.shape
    return float(np.abs(first.astype(np.int32) - second).mean())


def test_the_frames_are_those_that_are_rendered(parts: dict[str, RenderedPart]) -> None:
    assert sorted(path.stem for path in (DEMO / "tilted").iterdir()) == list(parts)
    for name, part in parts.items():
        frame = read_image(DEMO / "tilted" / f"{name}.jpg")
        assert difference(frame, part.pixels) < 3.0, name  # what JPEG changes


def test_make_demo_inspects_them() -> None:
    done = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True)
    words = done.stdout.replace("\\\n", " ").split()
    at = words.index("configs/demo/tilted")
    assert words[at - 1 : at + 4] == [
        *("--camera", "configs/demo/tilted", "--model", "configs/demo/tilted.xml", "--once"),
    ]


def test_good_parts_are_ok_and_of_the_others_the_zone_is_named(seen: Seen) -> None:
    results = {
        name: (one["result"], [zone["name"] for zone in one["zones"] if zone["result"] == "NOK"])
        for name, one in seen.verdicts.items()
    }
    assert results == {
        "00_good": ("OK", []),
        "01_stain": ("NOK", [ZONE]),
        "02_good": ("OK", []),
        "03_chipped_edge": ("NOK", []),
        "04_good": ("OK", []),
    }
    assert ZONE in seen.verdicts["01_stain"]["detail"]
    rejected = seen.verdicts["01_stain"]
    assert rejected["zones"][0]["raw_threshold"] < rejected["raw_threshold"]


def test_the_parts_lie_shifted_and_turned(seen: Seen) -> None:
    places = [one["locator"] for one in seen.verdicts.values()]
    assert min(place["score"] for place in places) > 0.9
    angles = [place["angle_deg"] for place in places]
    assert min(angles) < -10.0 and max(angles) > 10.0
    assert np.ptp([place["x"] for place in places]) > 20
    assert np.ptp([place["y"] for place in places]) > 20


def test_a_defect_is_marked_where_it_lies_in_the_frame(
    seen: Seen, parts: dict[str, RenderedPart]
) -> None:
    for name, part in parts.items():
        regions = [region["bbox"] for region in seen.verdicts[name]["regions"]]
        if part.defect is None:
            assert regions == [], name
            continue
        rows, columns = np.nonzero(part.mask)
        x, y, width, height = max(regions, key=lambda box: box[2] * box[3])
        assert x < columns.mean() < x + width and y < rows.mean() < y + height, name


def test_the_image_of_readme_is_what_the_demo_writes(seen: Seen) -> None:
    (overlay,) = seen.overlays.glob("*_01_stain_NOK.jpg")
    shown = ROOT / "docs" / "images" / "tilted.jpg"
    assert difference(read_image(shown), read_image(overlay)) < 1.0
