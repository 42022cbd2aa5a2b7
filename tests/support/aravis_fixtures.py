"""Simulated cameras and their clients, closed at the end of a test."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from edge.cameras.genicam.camera import AravisCamera, open_aravis
from edge.errors import CameraLost, CameraNotOpened
from edge.imaging.frame import Frame, FrameStatus
from edge.settings.camera import SensorSettings, TriggerSettings
from tests.support.gige_camera import Image

GENEROUS_S = 60.0

DEMO_FRAMES = Path(__file__).parents[2] / "configs" / "demo" / "frames"

FREE_RUN = TriggerSettings()
AS_IT_IS = SensorSettings()

NO_ANSWER = ("no camera answers", "no camera of this serial number answers")

Opened = TypeVar("Opened")


def numbered_images(count: int, height: int = 48, width: int = 64) -> list[Image]:
    """Return grey images that differ: image ``n`` has the value n all over."""
    return [np.full((height, width), n, np.uint8) for n in range(count)]


def demo_image(name: str) -> Image:
    pixels = cv2.imread(str(DEMO_FRAMES / name))
    assert pixels is not None
    return pixels


def patiently(opening: Callable[[], Opened]) -> Opened:
    """Open a camera that is there: it is asked again, as the supervisor does.

    A machine that stands still for half a second has missed the camera's answer.
    """
    deadline = time.monotonic() + GENEROUS_S
    while True:
        try:
            return opening()
        except CameraNotOpened as error:
            if not any(words in str(error) for words in NO_ANSWER):
                raise
            assert time.monotonic() < deadline, error


def answers(camera: AravisCamera) -> None:
    """Wait until a camera that is there answers."""
    deadline = time.monotonic() + GENEROUS_S
    while True:
        try:
            return camera.check()
        except CameraLost as error:
            if "does not answer" not in str(error):
                raise
            assert time.monotonic() < deadline, error


@contextmanager
def opened(uri: str, trigger: TriggerSettings = FREE_RUN, **sensor: Any) -> Iterator[AravisCamera]:
    """Open a camera with these settings of its sensor, and close it."""
    camera = patiently(lambda: open_aravis(uri, SensorSettings(**sensor), trigger))
    try:
        yield camera
    finally:
        camera.close()


def next_frame(camera: AravisCamera) -> Frame:
    """Return the next frame, whatever its status."""
    deadline = time.monotonic() + GENEROUS_S
    while time.monotonic() < deadline:
        frame = camera.read(1.0)
        if frame is not None:
            return frame
    raise AssertionError("no frame arrived")


def next_image(camera: AravisCamera) -> Frame:
    """Return the next complete frame: a busy machine may lose a packet at any time."""
    return first_that(camera, lambda frame: frame.status is FrameStatus.COMPLETE)


def first_that(camera: AravisCamera, wanted: Callable[[Frame], bool]) -> Frame:
    for _ in range(1000):
        frame = next_frame(camera)
        if wanted(frame):
            return frame
    raise AssertionError("1000 frames came, and none was wanted")
