"""A plain folder of images, as ``edge-run`` or a person collects them.

good/*.png            or the images directly in the folder
defect/*.png          optional; also defect/<kind>/*.png
masks/<name>.png      optional, same name as the defective image; also masks/<kind>/<name>.png

The folders may have other usual names, in any case (``edge.imaging.folder_names``), and folders in
them.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from edge.imaging.folder_names import (
    DEFECTIVE_NAMES,
    GOOD_NAMES,
    MASK_NAMES,
    is_called,
    written,
)
from edge.wording import counted
from training.data.layout_files import good_samples, set_name
from training.data.samples import (
    GOOD,
    Sample,
    Splits,
    images_below,
    images_in,
    subfolders,
)
from training.data.shares import VALIDATION_SHARE
from training.data.splitting import split_off
from training.errors import DataError

_TEST_SHARE = 0.15
_MAX_NAMED = 5
_MASKS = "masks"


class Folder:
    """Good images, perhaps some defective ones, perhaps with masks."""

    held_out_share = VALIDATION_SHARE / (1.0 - _TEST_SHARE)
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None = None) -> None:
        """Read the file lists.

        Raises:
            DataError: no such folder, or no images in it.
        """
        if not root.is_dir():
            raise DataError(f"{root}: not a folder. Check --data.")
        self.name = set_name(root)
        self.places = [root]
        good = _called(root, GOOD_NAMES)
        others = _called(root, DEFECTIVE_NAMES | MASK_NAMES)
        if not good and not others and is_called(self.name, GOOD_NAMES):
            good = [root]  # the folder of the good images itself
        if good:
            self.good = [sample for folder in good for sample in good_samples(folder)]
        else:
            self.good = [Sample(path=path, kind=GOOD) for path in images_in(root)]
        masks = [path for folder in _called(root, MASK_NAMES) for path in images_below(folder)]
        self.defective = _defective(root, masks)
        if not self.good and not self.defective:
            raise no_good_images(root)
        used = {sample.mask for sample in self.defective}
        self.stray_masks = [path for path in masks if path not in used]

    @staticmethod
    def matches(root: Path) -> bool:
        return True

    def split(self, seed: int) -> Splits:
        rest, test_good = split_off(self.good, _TEST_SHARE, seed, "test")
        validation_defects, test_defects = split_off(self.defective, 0.5, seed, "test")
        return Splits(
            name=self.name, fit=rest, validation=validation_defects, test=test_good + test_defects
        )

    def new_images(self) -> tuple[Sample, ...]:
        return (*self.good, *self.defective)


def no_good_images(root: Path) -> DataError:
    """Return the error that says where good images were expected."""
    good = _called(root, GOOD_NAMES)
    folders = {GOOD_NAMES, DEFECTIVE_NAMES, MASK_NAMES}
    others = [
        folder.name
        for folder in subfolders(root)
        if not any(is_called(folder.name, names) for names in folders) and images_below(folder)
    ]
    more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
    there = (
        f" The folders {', '.join(others[:_MAX_NAMED])}{more} hold images, but nothing says "
        "whether they are good."
        if others
        else ""
    )
    return DataError(
        f"{good[0] if good else root}: no images. Put images of good parts there "
        f"(.png, .jpg, .bmp, .tif), or pass a folder in the MVTec layout.{there}"
    )


def _called(root: Path, names: frozenset[str]) -> list[Path]:
    return [folder for folder in subfolders(root) if is_called(folder.name, names)]


def _defective(root: Path, masks: list[Path]) -> list[Sample]:
    found: list[tuple[Sample, list[tuple[str, ...]]]] = []
    for folder in _called(root, DEFECTIVE_NAMES):
        for path in images_below(folder):
            inner = path.relative_to(folder).parts[:-1]
            if any(is_called(name, GOOD_NAMES) for name in inner):
                raise DataError(f"{path.parent}: good images belong in {root / GOOD}. Move them.")
            kind = written(inner[0] if inner else folder.name)
            name = "/".join((*inner[1:], path.name)) if len(inner) > 1 else ""
            # A mask lies as deep as its image, in the folder of its kind, or just with all masks.
            places = dict.fromkeys([(folder.name, *inner), inner, inner[:1], ()])
            keys = [_key(place, path) for place in places]
            found.append((Sample(path=path, kind=kind, mask=None, name=name), keys))
    by_key: dict[tuple[str, ...], Path] = {}
    for mask in masks:
        by_key.setdefault(_key(mask.relative_to(root).parts[1:-1], mask), mask)
    may_claim = Counter(key for _, keys in found for key in keys)
    samples = []
    for sample, keys in found:
        key = next((key for key in keys if key in by_key), None)
        if key is not None and may_claim[key] > 1:
            raise DataError(
                f"{by_key[key]}: "
                f"{counted(may_claim[key], 'defective image is', 'defective images are')} called "
                f"{sample.path.stem}. Put the mask of {sample.path} into "
                f"{root / _MASKS / sample.kind}, or give the images different names."
            )
        samples.append(sample if key is None else replace(sample, mask=by_key[key]))
    return samples


def _key(folders: tuple[str, ...], file: Path) -> tuple[str, ...]:
    """Return what an image and its mask have in common."""
    return (*(written(name).casefold() for name in folders), written(file.stem))
