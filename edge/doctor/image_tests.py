"""Two tests of a camera that is open: are images lost, and does it take triggers?"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from edge.cameras.interface import Camera, LiveCamera
from edge.cameras.supervised.freshness import Freshness
from edge.errors import CameraError, CameraLost
from edge.imaging.frame import Frame, FrameStatus

READ_SLICE_S = 0.1
# Without a trigger, a camera that waits for one gives nothing for so long.
QUIET_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTest:
    """What a camera gave.

    Attributes:
        complete, incomplete, not_new: images by what they are worth.
        missing: gaps in the camera's own numbers.
        fault: why the first one that could not be inspected could not.
        lost: why the camera went away during the test; empty if it did not.
        seconds: how long it took, from the first image to the last one.
        newest: the last complete image.
    """

    complete: int
    incomplete: int
    not_new: int
    missing: int
    fault: str
    lost: str
    seconds: float
    newest: Frame | None

    @property
    def images(self) -> int:
        return self.complete + self.incomplete + self.not_new

    @property
    def rate_fps(self) -> float:
        return (self.images - 1) / self.seconds if self.seconds > 0 else 0.0


def loss_test(
    camera: Camera,
    freshness: Freshness,
    images: int,
    limit_s: float,
    *,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> LossTest:
    """Read so many images of a camera that runs free, at most for ``limit_s``.

    Args:
        freshness: new, with the station's limits.
    """
    counts = dict.fromkeys(FrameStatus, 0)
    missing, fault, lost = 0, "", ""
    first_ns = last_ns = 0
    number: int | None = None
    newest: Frame | None = None
    until_ns = clock_ns() + round(limit_s * 1e9)
    while sum(counts.values()) < images and clock_ns() < until_ns:
        try:
            frame = camera.read(READ_SLICE_S)
        except CameraLost as error:
            lost = str(error)
            break
        if frame is None:
            continue
        frame = freshness.judged(frame)
        counts[frame.status] += 1
        last_ns = clock_ns()
        first_ns = first_ns or last_ns
        missing += max(0, frame.number - number - 1) if number is not None else 0
        number = frame.number
        fault = fault or frame.detail
        newest = frame if frame.status is FrameStatus.COMPLETE else newest
    return LossTest(
        complete=counts[FrameStatus.COMPLETE],
        incomplete=counts[FrameStatus.INCOMPLETE],
        not_new=counts[FrameStatus.STALE] + counts[FrameStatus.FROZEN],
        missing=missing,
        fault=fault,
        lost=lost,
        seconds=(last_ns - first_ns) / 1e9,
        newest=newest,
    )


@dataclass(frozen=True, slots=True)
class TriggerTest:
    """What became of some triggers.

    Attributes:
        fired: triggers that the camera was given.
        answered_ms: from each trigger that was answered to its image.
        untriggered: images that nobody asked for.
        refused: what the camera said against a trigger.
    """

    fired: int
    answered_ms: tuple[float, ...]
    untriggered: int
    refused: str


def trigger_test(
    camera: LiveCamera,
    triggers: int,
    frame_timeout_ms: float,
    clock_ns: Callable[[], int] = time.monotonic_ns,
) -> TriggerTest:
    """Expose some images by software, one after the other; each has ``frame_timeout_ms``.

    Raises:
        CameraLost: the camera went away.
    """
    untriggered = 0
    quiet_until_ns = clock_ns() + round(QUIET_S * 1e9)
    while clock_ns() < quiet_until_ns:
        untriggered += camera.read(READ_SLICE_S) is not None
    answered: list[float] = []
    for fired in range(1, triggers + 1):
        began_ns = clock_ns()
        try:
            camera.trigger()
        except CameraLost:
            raise
        except CameraError as error:
            return TriggerTest(fired, tuple(answered), untriggered, str(error))
        came_ms = _answer_ms(camera, began_ns, frame_timeout_ms, clock_ns)
        if came_ms is not None:
            answered.append(came_ms)
    return TriggerTest(triggers, tuple(answered), untriggered, "")


def wait_for_edge(
    camera: LiveCamera, limit_s: float, clock_ns: Callable[[], int] = time.monotonic_ns
) -> bool:
    """Wait for an image that a line exposed; tell whether one came.

    Raises:
        CameraLost: the camera went away.
    """
    return _answer_ms(camera, clock_ns(), limit_s * 1e3, clock_ns) is not None


def _answer_ms(
    camera: LiveCamera, began_ns: int, limit_ms: float, clock_ns: Callable[[], int]
) -> float | None:
    while (left_s := (limit_ms - (clock_ns() - began_ns) / 1e6) / 1e3) > 0:
        if camera.read(min(READ_SLICE_S, left_s)) is not None:
            return (clock_ns() - began_ns) / 1e6
    return None
