"""What every camera is to the station."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from edge.imaging.frame import Frame


class EndOfFrames(Exception):
    """A finite source has given its last frame. Not a fault."""


class Camera(Protocol):
    """A source of frames with one owner: one thread reads and closes it.

    Attributes:
        identity: the redacted URI; what messages and states call this camera.
        simulated: the frames come from files; nobody may book them as production.
        can_wait: nothing is lost when nobody reads for a while (files); a live camera goes on.
    """

    identity: str
    simulated: bool
    can_wait: bool

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when there was none within the time.

        Raises:
            CameraLost: the camera was open and gives no more frames.
            EndOfFrames: a finite source is through.
        """
        ...

    def close(self) -> None:
        """Release the device. May be called more than once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraReport:
    """What a camera says about itself; None and missing where it does not say.

    Attributes:
        settings: name and value of what was set, as read back from the camera.
        counters: name and value of the driver's counters since the camera was opened.
    """

    model: str | None = None
    serial: str | None = None
    temperature_c: float | None = None
    settings: tuple[tuple[str, str], ...] = ()
    counters: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CameraLine:
    """An output line of a camera, and how it is set up when the camera is opened.

    Attributes:
        line: name that the camera gives it.
        high: its level then.
        key: of the settings that ask for it.
    """

    line: str
    high: bool
    key: str


@runtime_checkable
class SwitchesLines(Protocol):
    """A live camera with output lines."""

    def set_line(self, line: str, high: bool) -> None:
        """Switch a line, one of those that it was opened with.

        Raises:
            CameraError: it did not.
        """
        ...


class LiveCamera(Camera, Protocol):
    """A device. It has no thread: whoever owns it reads, checks, triggers and closes it."""

    def check(self) -> None:
        """Ask the device whether it is there, within half a second; frames are no answer.

        Raises:
            CameraLost: it does not answer.
        """
        ...

    def trigger(self) -> None:
        """Expose one frame now.

        Raises:
            CameraError: the camera takes no software trigger, or did not take this one.
        """
        ...

    def report(self) -> CameraReport:
        """Return what the camera says about itself; never raises for a value it does not give."""
        ...
