"""Files of which each trigger takes the next one: a hand-shake to try without a camera."""

import threading
from dataclasses import replace

from edge.cameras.interface import Camera
from edge.imaging.frame import Frame


class TriggeredFiles:
    """Files that wait for triggers. One thread reads and closes; any may trigger."""

    def __init__(self, files: Camera) -> None:
        """Begin before the first file; no trigger has come.

        Args:
            files: read and closed by this from here on.
        """
        self.identity = files.identity
        self.simulated = files.simulated
        self.can_wait = files.can_wait
        self._files = files
        self._number = 0
        self._triggers = 0
        self._changed = threading.Condition()

    def trigger(self) -> None:
        """Give the next file."""
        with self._changed:
            self._triggers += 1
            self._changed.notify_all()

    def read(self, timeout_s: float) -> Frame | None:
        """Return the next file after a trigger; numbers count on where files are started over.

        Raises:
            EndOfFrames: a trigger came after the last file.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._triggers > 0, timeout_s):
                return None
        frame = self._files.read(timeout_s)
        if frame is None:
            return None
        with self._changed:
            self._triggers -= 1
        self._number += 1
        return replace(frame, number=self._number)

    def close(self) -> None:
        self._files.close()
