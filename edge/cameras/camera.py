"""What every camera is to the station."""

from typing import Protocol

from edge.frame import Frame


class EndOfPictures(Exception):
    """A finite source has given its last picture. Not a fault."""


class Camera(Protocol):
    """A source of frames with one owner: one thread reads and closes it.

    Attributes:
        identity: the redacted URI; what messages and states call this camera.
        simulated: the pictures come from files; nobody may book them as production.
        can_wait: nothing is lost when nobody reads for a while (files); a live camera goes on.
    """

    identity: str
    simulated: bool
    can_wait: bool

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next frame, or None when there was none within the time.

        Raises:
            CameraLost: the camera was open and gives no more frames.
            EndOfPictures: a finite source is through.
        """
        ...

    def close(self) -> None:
        """Release the device. May be called more than once."""
        ...
