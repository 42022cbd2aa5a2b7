"""What waits between the camera's thread and its reader, in the order in which it happened."""

from collections import deque

from edge.cameras.supervised.state_machine import CameraStatus
from edge.imaging.frame import Frame

# Changes of state that nobody has read; the counts of newer ones include those of older ones.
MAX_CHANGES = 32

Item = Frame | CameraStatus


class Handover:
    """A queue of frames and changes of state; whoever owns it serialises the calls.

    When it is full the oldest frame goes, and of the changes the oldest change.

    Attributes:
        frames: that wait.
    """

    def __init__(self, max_frames: int) -> None:
        self.frames = 0
        self._max_frames = max_frames
        self._items: deque[Item] = deque()

    @property
    def has_room(self) -> bool:
        """Whether a frame fits without dropping one."""
        return self.frames < self._max_frames

    def put_frame(self, frame: Frame) -> Frame | None:
        """Add a frame; return the one that had to go for it."""
        oldest = None if self.has_room else self._oldest(Frame)
        if isinstance(oldest, Frame):
            self._items.remove(oldest)
            self.frames -= 1
        self._items.append(frame)
        self.frames += 1
        return oldest if isinstance(oldest, Frame) else None

    def put_change(self, change: CameraStatus) -> None:
        """Add a change of state."""
        if len(self._items) - self.frames >= MAX_CHANGES:
            self._items.remove(self._oldest(CameraStatus))
        self._items.append(change)

    def get(self) -> Item | None:
        """Return what happened first, or None."""
        if not self._items:
            return None
        item = self._items.popleft()
        self.frames -= isinstance(item, Frame)
        return item

    def _oldest(self, kind: type[Frame] | type[CameraStatus]) -> Item:
        return next(item for item in self._items if isinstance(item, kind))
