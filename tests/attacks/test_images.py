"""Image files of somebody hostile: each is that image's ERROR, and the station goes on."""

import json
import random
from pathlib import Path

import cv2
import pytest

from edge.errors import ImageUnreadable
from edge.imaging.image_files import read_image
from tests.edge.conftest import EdgeRun, edge_run
from tests.edge.imaging.test_image_header import make_bmp, make_png, make_tiff
from tests.soak import times
from tests.support.small_bundle import good_image, write_bundle

__all__ = ["edge_run"]


def test_image_bombs_are_errors_and_the_images_behind_them_are_inspected(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, content, size in (
        ("1.png", make_png(32_768, 32_768), 0),
        ("2.tif", make_tiff(64, 64), 12 * 10**9),
        ("3.tif", make_tiff(110_000, 110_000), 12 * 10**9),
        ("4.bmp", make_bmp(64, 64), 10**12),
        ("5.bmp", make_bmp(577_350, 577_350), 10**12),
    ):
        with (folder / name).open("wb") as file:
            file.write(content)
            file.truncate(max(size, len(content)))
    cv2.imwrite(str(folder / "6.png"), good_image())
    done = edge_run("--camera", folder, "--model", write_bundle(tmp_path), "--once")
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [v["result"] for v in verdicts] == ["ERROR"] * 5 + ["OK"]
    assert {v["reason"] for v in verdicts[:5]} == {"frame_incomplete"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_changed_file_is_read_or_refused_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    """Bytes of real files are changed, most of them in the headers."""
    source = random.Random(suffix)
    path = tmp_path / f"part{suffix}"
    assert cv2.imwrite(str(path), good_image(height=24, width=32))
    whole = path.read_bytes()
    for _ in range(times(150, 20_000)):
        content = bytearray(whole)
        for _ in range(source.choice([1, 1, 2, 8])):
            end = source.choice([64, len(content)])
            content[source.randrange(min(end, len(content)))] = source.choice(
                [0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)]
            )
        path.write_bytes(content[: source.choice([len(content)] * 3 + [len(content) // 2])])
        try:
            pixels = read_image(path, max_pixels=2**20)
        except ImageUnreadable:
            continue
        assert pixels.size <= 4 * 2**20
