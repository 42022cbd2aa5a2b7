"""A watched folder that holds many files: how late a new one is, and what an idle one costs.

python -m tests.bench.watched_folder [FILES] [SECONDS]
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.cameras.factory import supervised_camera
from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import CameraStatus
from edge.settings.camera import CameraSettings

FILES = 100_000
IDLE_S = 200.0  # one look at every file falls into it
NEW_IMAGES = 60


@dataclass(frozen=True, slots=True)
class FolderFigures:
    """What was measured.

    Attributes:
        files: that lay in the folder.
        opening_s: from the start to the first image that is taken.
        idle_share: processor time of the process while nothing happened, of one core.
        latency_p50_ms, latency_max_ms: from the close of a new file to its frame.
    """

    files: int
    opening_s: float
    idle_share: float
    latency_p50_ms: float
    latency_max_ms: float


def measured(files: int = FILES, idle_s: float = IDLE_S) -> FolderFigures:
    """Measure a folder with so many files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(files):
            (folder / f"part_{number:06d}.png").touch()
        began = time.monotonic()
        camera = supervised_camera(CameraSettings(uri=f"watch://{folder}"), _ignored)
        with closing(camera):
            camera.start()
            _latency_s(camera, folder, -1)
            opening_s = time.monotonic() - began
            latencies = [_latency_s(camera, folder, number) for number in range(NEW_IMAGES)]
            cpu_s, wall_s = time.process_time(), time.monotonic()
            while time.monotonic() < wall_s + idle_s:
                assert camera.read(0.1) is None
            idle = (time.process_time() - cpu_s) / (time.monotonic() - wall_s)
            latencies += [
                _latency_s(camera, folder, NEW_IMAGES + number) for number in range(NEW_IMAGES)
            ]
    p50_ms, max_ms = statistics.median(latencies) * 1e3, max(latencies) * 1e3
    return FolderFigures(files, opening_s, idle, p50_ms, max_ms)


def _latency_s(camera: SupervisedCamera, folder: Path, number: int) -> float:
    image = np.full((48, 64), number % 256, np.uint8)
    content = cv2.imencode(".png", image)[1].tobytes()
    (folder / "new.tmp").write_bytes(content)
    closed = time.monotonic()
    (folder / "new.tmp").rename(folder / f"new_{number}.png")
    while camera.read(0.1) is None:
        assert time.monotonic() < closed + 60
    return time.monotonic() - closed


def _ignored(_status: CameraStatus) -> None:
    """Nobody has to know."""


def sentence(found: Mapping[str, Any]) -> str:
    return (
        f"watched folder of {found['files']} files: a new one after {found['latency_p50_ms']:.0f} "
        f"ms (most {found['latency_max_ms']:.0f} ms), idle {100 * found['idle_share']:.2f} % of a "
        f"core, first image {found['opening_s']:.2f} s after the start"
    )


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    print(sentence(asdict(measured(files, float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_S))))


if __name__ == "__main__":
    main()
