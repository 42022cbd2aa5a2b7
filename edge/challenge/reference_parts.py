"""The reference parts of a capability study: a folder of good and a folder of each defect.

good/1.png            a part with one image
good/2/*.png          a part with one image for each round, named by its folder
scratch/3.png         every other folder holds defective parts; also defect/KIND/3.png

Folders of masks, as data sets for training have them, hold no parts.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge.cameras.files.not_inspected import NotInspected
from edge.cameras.files.replay import natural_key, natural_order
from edge.errors import ConfigurationError
from edge.imaging.folder_names import DEFECTIVE_NAMES, GOOD_NAMES, MASK_NAMES, is_called, written
from edge.imaging.image_files import is_image
from edge.wording import counted

_MAX_NAMED = 5


class ReferencePartsInvalid(ConfigurationError):
    """The folder of a capability study does not hold what a study needs."""


@dataclass(frozen=True, slots=True)
class ReferencePart:
    """A part that is known to be good or defective.

    Attributes:
        name: unique in its study: the path below the study's folder.
        kind: of defect, or ``good``.
        images: one, or one for each round.
    """

    name: str
    kind: str
    defective: bool
    images: tuple[Path, ...]

    def image(self, turn: int) -> Path:
        """Return the image of a round, counted from 0."""
        return self.images[turn % len(self.images)]


def read_reference_parts(
    folder: Path, rounds: int, not_inspected: NotInspected
) -> list[ReferencePart]:
    """List the parts of a folder, good ones first, as people count.

    Args:
        rounds: how often each is to be shown.
        not_inspected: gets what is there beside them.

    Raises:
        ReferencePartsInvalid: a class is missing or empty, an image belongs to no class, or a part
            has neither one image nor one for each round.
    """
    parts: list[ReferencePart] = []
    try:
        for place in _classes(folder, not_inspected):
            found = _read_parts(folder, place, not_inspected)
            if not found:
                raise ReferencePartsInvalid(
                    f"{place}: holds no images. Put images of parts there (.png, .jpg, .bmp, .tif, "
                    ".webp), or remove the folder."
                )
            parts += found
    except OSError as error:
        raise ReferencePartsInvalid(
            f"{folder}: cannot be listed ({error.strerror}). Name the folder of the reference "
            "parts after --challenge."
        ) from error
    _demand_both(folder, parts)
    _demand_every_round(parts, rounds)
    return parts


def demand_different_images(parts: list[ReferencePart]) -> None:
    """Make sure that each image is that of one part; copies would count as parts of their own.

    Raises:
        ReferencePartsInvalid: two parts have the same file, be it known as good and as defective.
    """
    seen: dict[str, ReferencePart] = {}
    for part in parts:
        for path in part.images:
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:
                continue  # shown, it is an ERROR that says so
            other = seen.setdefault(digest, part)
            if other is part:
                continue
            raise ReferencePartsInvalid(
                f"{other.name} and {part.name} have the same image. A part counts once, and is "
                "either good or defective: remove one of them."
            )


def _classes(folder: Path, not_inspected: NotInspected) -> list[Path]:
    entries = natural_order(list(folder.iterdir()))
    loose = [entry.name for entry in entries if is_image(entry) and entry.is_file()]
    if loose:
        raise ReferencePartsInvalid(
            f"{folder}: {_listed(loose)} beside the folders of good and defective parts: "
            "it is not known whether they are good. Move them into good, or into a "
            "folder of their defect."
        )
    places = [
        entry
        for entry in entries
        if entry.is_dir() and entry.name[0] != "." and not is_called(entry.name, MASK_NAMES)
    ]
    not_inspected.add_listed([entry for entry in entries if entry not in places])
    return sorted(places, key=lambda place: not is_called(place.name, GOOD_NAMES))


def _read_parts(root: Path, place: Path, not_inspected: NotInspected) -> list[ReferencePart]:
    defective = not is_called(place.name, GOOD_NAMES)
    found = []
    for folder in (place, *natural_order([one for one in place.rglob("*") if one.is_dir()])):
        entries = list(folder.iterdir())
        images = [one for one in entries if is_image(one) and one.is_file()]
        others = [one for one in entries if one not in images and not one.is_dir()]
        not_inspected.add_listed(natural_order(others))
        inner = folder.relative_to(place).parts
        if any(is_called(name, GOOD_NAMES) for name in inner):
            raise ReferencePartsInvalid(
                f"{folder}: good parts belong in {root / 'good'}. Move them."
            )
        if not images:
            continue
        kind = place.name
        if is_called(kind, DEFECTIVE_NAMES) and len(inner) > 1:
            kind = inner[0]
        kind = written(kind) if defective else "good"
        groups = [(folder, natural_order(images))] if inner else [(i, [i]) for i in images]
        found += [
            ReferencePart(written(str(path.relative_to(root))), kind, defective, tuple(shown))
            for path, shown in groups
        ]
    return sorted(found, key=lambda part: natural_key(part.name))


def _demand_both(folder: Path, parts: list[ReferencePart]) -> None:
    for defective, what, where in (
        (False, "good", "a folder good"),
        (True, "defective", "a folder defect, or one for each kind of defect"),
    ):
        if any(part.defective is defective for part in parts):
            continue
        raise ReferencePartsInvalid(
            f"{folder}: holds no images of {what} parts. A study needs both classes: put images of "
            f"known {what} parts (.png, .jpg, .bmp, .tif, .webp) into {where}. Of a data set in "
            "the MVTec layout name its folder test."
        )


def _demand_every_round(parts: list[ReferencePart], rounds: int) -> None:
    uneven = [part for part in parts if len(part.images) not in (1, rounds)]
    if not uneven:
        return
    first = uneven[0]
    count = len(first.images)
    if count < rounds:
        what = f"is missing in round {count + 1}: its folder has {counted(count, 'image')} for"
    else:
        what = f"has {counted(count, 'image')} in its folder for"
    more = (
        f", and {counted(len(uneven) - 1, 'more part is', 'more parts are')} uneven"
        if len(uneven) > 1
        else ""
    )
    raise ReferencePartsInvalid(
        f"{first.name}: {what} {counted(rounds, 'round')}{more}. Give each part one image for "
        "each round, or "
        "one alone outside of a folder; or set --rounds. Images of different parts do not share a "
        "folder below their class."
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"{', '.join(written(name) for name in names[:_MAX_NAMED])}{more}"
