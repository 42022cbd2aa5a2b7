"""What lies in a data set and is not used: counted and named; nothing is left out in silence."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.imaging.further_images import further_images
from edge.imaging.image_files import is_image
from edge.wording import counted
from training.data.samples import folders_below

_MAX_NAMED = 3
_LINKS = "link that leads nowhere", "links that lead nowhere"
# What people and programs put beside images; no image is meant by it.
_PAPERS = frozenset(
    {".txt", ".md", ".pdf", ".html", ".csv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".log"}
)


@dataclass(slots=True, kw_only=True)
class Unused:
    """What was found.

    Attributes:
        images: by their folder.
        types: files that are no images, by suffix.
        broken: links that lead nowhere.
        hidden: files and folders whose name begins with a dot.
        special: neither file nor folder.
        inner: by file, pages or frames behind the first one.
    """

    images: Counter[Path] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    broken: list[Path] = field(default_factory=list)
    hidden: int = 0
    special: int = 0
    inner: dict[Path, int] = field(default_factory=dict)

    @property
    def matters(self) -> bool:
        """Something of it may be an image."""
        return bool(
            self.images or self.broken or self.inner or self.special or set(self.types) - _PAPERS
        )


def find_unused(
    places: Sequence[Path], images: Collection[Path], others: Collection[Path] = ()
) -> Unused:
    """Look through folders for what is used neither as an image nor as something else."""
    found = Unused()
    for place in places:
        for folder in folders_below(place):
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    path = folder / entry.name
                    if path not in images and path not in others:
                        _count(entry, path, found)
    for path in sorted(images):
        more = further_images(path)
        if more:
            found.inner[path] = more
    return found


def _count(entry: os.DirEntry[str], path: Path, found: Unused) -> None:
    if entry.name.startswith("."):
        found.hidden += 1
    elif entry.is_symlink() and not path.exists():
        found.broken.append(path)
    elif entry.is_file():
        if is_image(path):
            found.images[path.parent] += 1
        else:
            found.types[path.suffix.lower() or "without suffix"] += 1
    elif not entry.is_dir():
        found.special += 1


def unused_text(root: Path, unused: Unused) -> str:
    """Return one sentence on what is not used; empty where everything is."""

    def named(path: Path) -> str:
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)

    def listed(names: Sequence[str]) -> str:
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return ", ".join(names[:_MAX_NAMED]) + more

    parts = []
    if unused.images:
        folders = [f"{count} in {named(f)}" for f, count in unused.images.most_common()]
        total = unused.images.total()
        parts.append(f"{counted(total, 'image')} in folders of no known use ({listed(folders)})")
    if unused.types:
        types = [f"{count} {suffix}" for suffix, count in unused.types.most_common()]
        parts.append(f"{counted(unused.types.total(), 'file')} of other types ({listed(types)})")
    if unused.broken:
        names = [named(path) for path in unused.broken]
        parts.append(f"{counted(len(names), *_LINKS)} ({listed(names)})")
    if unused.inner:
        names = [f"{more} in {named(path)}" for path, more in unused.inner.items()]
        total = sum(unused.inner.values())
        parts.append(
            f"{counted(total, 'further page or frame', 'further pages or frames')} in files "
            f"({listed(names)})"
        )
    if unused.special:
        parts.append(f"{counted(unused.special, 'device or pipe', 'devices or pipes')}")
    if unused.hidden:
        parts.append(f"{unused.hidden} hidden")
    return f"{root}: not used: {', '.join(parts)}" if parts else ""
