"""A supervised camera and its reader."""

import time
from collections.abc import Callable

from edge.cameras.supervised.camera import SupervisedCamera
from edge.cameras.supervised.state_machine import CameraState, CameraStatus
from edge.imaging.frame import Frame

GENEROUS_S = 60.0


class SupervisedLine:
    """Reads a supervised camera and keeps what it saw, in order.

    Attributes:
        camera: made by the argument, which is given what to call for each change of state.
        seen: frames and changes of state.
    """

    def __init__(self, make: Callable[[Callable[[CameraStatus], None]], SupervisedCamera]) -> None:
        self.seen: list[Frame | CameraStatus] = []
        self._looked_at = 0
        self.camera = make(self.seen.append)

    def close(self) -> None:
        self.camera.close()

    def read_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + GENEROUS_S
        while not reached():
            assert time.monotonic() < deadline, self.seen[-5:]
            frame = self.camera.read(0.1)
            if frame is not None:
                self.seen.append(frame)

    def read_until_state(self, state: CameraState) -> CameraStatus:
        """Return the next change into a state, after those that were returned before."""
        self.read_until(lambda: state in self.states[self._looked_at :])
        place = self.states.index(state, self._looked_at)
        self._looked_at = place + 1
        return self.changes[place]

    def read_frames(self, count: int) -> list[Frame]:
        """Read so many more frames, of any status."""
        begun = len(self.frames)
        self.read_until(lambda: len(self.frames) >= begun + count)
        return self.frames[begun:]

    @property
    def changes(self) -> list[CameraStatus]:
        return [one for one in self.seen if isinstance(one, CameraStatus)]

    @property
    def states(self) -> list[CameraState]:
        return [change.state for change in self.changes]

    @property
    def frames(self) -> list[Frame]:
        return [one for one in self.seen if isinstance(one, Frame)]
