"""What lies in a source of files and is not inspected: logged by name, and counted."""

import logging
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from edge.imaging.further_images import further_images
from edge.redaction import one_line
from edge.wording import counted

log = logging.getLogger(__name__)

MAX_NAMED = 3
MAX_TYPES = 20
MAX_LOGGED = 20

# What copy programs call a file until it is whole; they rename it then.
_UNFINISHED = frozenset({".tmp", ".temp", ".part", ".partial", ".filepart"})
_FOLDERS, _LINKS, _DEVICES = "folders", "links that lead nowhere", "devices or pipes"
_ONE = {_FOLDERS: "folder", _LINKS: "link that leads nowhere", _DEVICES: "device or pipe"}
_HIDDEN = "hidden"
_NO_SUFFIX = "without suffix"


class NotInspected:
    """Counts for one run; one thread adds, any may read."""

    def __init__(self, identity: str) -> None:
        """Begin with nothing counted.

        Args:
            identity: what messages call the source.
        """
        self._identity = identity
        self._lock = threading.Lock()
        self._kinds: Counter[str] = Counter()
        self._types: list[str] = []
        self._pages = 0
        self._paged_files = 0

    def add_listed(self, entries: Sequence[Path]) -> None:
        """Count what a listing holds beside images, and log it in one line."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for entry in entries:
            found[_kind(entry)].append(one_line(entry.name))
        if not found:
            return
        with self._lock:
            self._kinds.update({kind: len(names) for kind, names in found.items()})
        level = logging.INFO if set(found) == {_HIDDEN} else logging.WARNING
        shown = ", ".join(
            f"{_counted(len(names), kind)} ({_listed(names)})" for kind, names in found.items()
        )
        log.log(level, "%s: not inspected: %s", self._identity, shown)

    def add_arrived(self, name: str) -> None:
        """Log the first file of each type that came and is no image; called for many names."""
        suffix = name[name.rfind(".") :].lower() if "." in name else _NO_SUFFIX
        if suffix in self._types or len(self._types) >= MAX_TYPES:
            return
        if name.startswith(".") or suffix in _UNFINISHED:
            return
        with self._lock:
            self._types.append(suffix)
        log.warning(
            "%s: %s is not inspected, and neither are other files of this type (%s): "
            "names of images end in .png, .jpg, .jpeg, .bmp, .tif, .tiff or .webp",
            *(self._identity, one_line(name), one_line(suffix)),
        )

    def add_further(self, path: Path) -> None:
        """Count pages and frames behind the first one of an image that is inspected."""
        count = further_images(path)
        if not count:
            return
        with self._lock:
            self._pages += count
            self._paged_files += 1
            files = self._paged_files
        if files <= MAX_LOGGED:
            more = "; more such files are counted only" if files == MAX_LOGGED else ""
            log.warning(
                "%s: only its first image is inspected, without %s. Save each image as its "
                "own file%s",
                *(one_line(str(path)), _pages(count), more),
            )

    def __str__(self) -> str:
        """Return one sentence for people; empty where everything was inspected."""
        with self._lock:
            parts = [_counted(count, kind) for kind, count in self._kinds.most_common()]
            if self._types:
                parts.append(f"files of the types {', '.join(map(one_line, self._types))}")
            if self._pages:
                parts.append(f"{_pages(self._pages)} in {counted(self._paged_files, 'file')}")
        return f"not inspected: {', '.join(parts)}" if parts else ""


def _kind(entry: Path) -> str:
    if entry.name.startswith("."):
        return _HIDDEN
    if entry.is_dir():
        return _FOLDERS
    if entry.is_symlink() and not entry.exists():
        return _LINKS
    if entry.exists() and not entry.is_file():
        return _DEVICES
    return one_line(entry.suffix.lower()) or _NO_SUFFIX


def _counted(count: int, kind: str) -> str:
    return counted(count, _ONE.get(kind, kind), kind)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def _pages(count: int) -> str:
    return counted(count, "further page or frame", "further pages or frames")
