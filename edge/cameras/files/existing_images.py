"""Images that were in a folder before anybody watched it: which of them still want a verdict."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from edge.cameras.files.arrivals import Stamp
from edge.contract.encoding import utc_text
from edge.contract.image_source import quoted_name
from edge.errors import StationError
from edge.journal.judged_images import JudgedImage, JudgedImages


@dataclass(frozen=True, slots=True)
class Inventory:
    """What was found in a folder when it was seen first.

    Attributes:
        judged: images that have a verdict.
        unjudged: names of those that have none.
        forgotten: images that are older than what is recorded, so nobody knows.
        fault: why it could not be found out; then all but the judged ones count as forgotten.
    """

    judged: int
    unjudged: tuple[str, ...]
    forgotten: int
    fault: str = ""


class ExistingImages:
    """Compares a listing with what is recorded, a little at a time."""

    def __init__(self, files: Mapping[str, Stamp], record: JudgedImages | None) -> None:
        """Begin to compare a listing.

        Args:
            files: the first listing.
            record: None where nothing is recorded.
        """
        self._left = {
            quoted_name(os.fsencode(name)): (name, stamp) for name, stamp in files.items()
        }
        self._count = len(files)
        self._record = record
        self._images = record.images() if record is not None and files else None

    def step(self, count: int) -> Inventory | None:
        """Look at so many records; return the inventory once all are seen."""
        oldest_ns: int | None = None
        fault = ""
        try:
            for _ in range(count):
                image = next(self._images, None) if self._images and self._left else None
                if image is None:
                    break
                self._strike_off(image)
            else:
                return None
            if self._record is not None and self._left:
                oldest_ns = self._record.oldest_utc_ns()
        except StationError as error:
            fault = str(error)
        left = list(self._left.values())
        unjudged = [
            name
            for name, stamp in left
            if not fault and (oldest_ns is None or stamp.modified_ns >= oldest_ns)
        ]
        return Inventory(self._count - len(left), tuple(unjudged), len(left) - len(unjudged), fault)

    def _strike_off(self, image: JudgedImage) -> None:
        key = image.uri.rpartition("/")[2]
        found = self._left.get(key)
        if found is None:
            return
        # By name and time: the same folder may be reached by another path.
        if image.modified_utc in (None, utc_text(found[1].modified_ns)):
            del self._left[key]
