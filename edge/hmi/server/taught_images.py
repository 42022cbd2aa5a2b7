"""The images that are being taught with, as the station left them beside its journal."""

import os
from pathlib import Path

# Made small by the station; one that is larger is none of its.
_MAX_BYTES = 2 * 2**20


class TaughtImages:
    """Reads one folder; any thread may call it."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def read(self, which: str, number: int, build: int | None) -> bytes | None:
        """Return a small image, a larger one, or a map of a build; None where there is none.

        The path is made of numbers and of names of ours, never of what a browser sent.
        """
        if self._folder is None or (which == "maps" and build is None):
            return None
        place = f"candidate-{build}" if which == "maps" else "images"
        name = f"{number:04d}{'.large' if which == 'large' else ''}.jpg"
        try:
            with open(self._folder / place / name, "rb", opener=_no_link) as file:
                return file.read(_MAX_BYTES)
        except OSError:  # gone since
            return None


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
