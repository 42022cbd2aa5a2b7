"""Kolektor surface defects: SDD (Tabernik et al., 2020) and SDD2 (Božič et al., 2021).

SDD    kos01/Part0.jpg, kos01/Part0_label.bmp      50 items of about 8 images
SDD2   train/10000.png, train/10000_GT.png, test/…

An image is defective where its mask is not empty.
"""

from pathlib import Path

from edge.errors import ImageUnreadable
from edge.imaging.folder_names import written
from edge.imaging.image_files import read_image
from training.data.layout_files import demanded, set_name
from training.data.masks import mask_area
from training.data.samples import GOOD, Sample, Splits, subfolders
from training.data.shares import VALIDATION_SHARE
from training.data.splitting import split_off
from training.errors import DataError

_DEFECT = "defect"
_TEST_SHARE = 0.3


class KolektorSDD:
    """Commutators; published without fixed splits: ours keep the images of an item together."""

    held_out_share = VALIDATION_SHARE / (1.0 - _TEST_SHARE)

    def __init__(self, root: Path, category: str | None) -> None:
        """Read file lists and masks.

        Raises:
            DataError: no item, or an image without its label; names the file.
        """
        items = [folder for folder in subfolders(root) if folder.name.startswith("kos")]
        if not items:
            raise DataError(f"{root}: no folders kos01, kos02, …; check --data.")
        self.name = set_name(root)
        self.places = [root]
        self.other_files: list[Path] = []
        self.samples: list[Sample] = []
        self.stray_masks: list[Path] = []
        for item in items:
            images, masks = _apart(demanded(item, "Part0.jpg, Part0_label.bmp, …"), "_label")
            self.other_files += masks.values()
            self.samples += [
                _labelled(
                    path,
                    masks.pop(written(path.stem), None),
                    f"{item.name}/{path.name}",
                    item.name,
                )
                for path in images
            ]
            self.stray_masks += masks.values()

    @staticmethod
    def matches(root: Path) -> bool:
        return any(root.glob("kos*/*_label.bmp"))

    def split(self, seed: int) -> Splits:
        rest, test = split_off(self.samples, _TEST_SHARE, seed, "test")
        return _splits(self.name, rest, test)

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.samples)


class KolektorSDD2:
    """Surfaces with the published splits; defective images to fit on serve validation."""

    held_out_share = VALIDATION_SHARE

    def __init__(self, root: Path, category: str | None) -> None:
        """Read file lists and masks.

        Raises:
            DataError: a split is missing, or an image has no mask; names the file.
        """
        self.name = set_name(root)
        self.places = [root]
        self.other_files: list[Path] = []
        self.stray_masks: list[Path] = []
        found = {}
        for split in ("train", "test"):
            files = demanded(root / split, "10000.png, 10000_GT.png, …")
            images, masks = _apart(files, "_GT")
            self.other_files += masks.values()
            found[split] = [
                _labelled(path, masks.pop(written(path.stem), None), f"{split}/{path.name}", "")
                for path in images
            ]
            self.stray_masks += masks.values()
        self.train, self.test = found["train"], found["test"]

    @staticmethod
    def matches(root: Path) -> bool:
        return any(root.glob("train/*_GT.png"))

    def split(self, seed: int) -> Splits:
        return _splits(self.name, tuple(self.train), tuple(self.test))

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.train)


def _splits(name: str, rest: tuple[Sample, ...], test: tuple[Sample, ...]) -> Splits:
    good = tuple(sample for sample in rest if not sample.is_defective)
    defective = tuple(sample for sample in rest if sample.is_defective)
    return Splits(name=name, fit=good, validation=defective, test=test)


def _apart(files: list[Path], ending: str) -> tuple[list[Path], dict[str, Path]]:
    """Tell images from masks, which are named after their image."""
    masks = {written(f.stem.removesuffix(ending)): f for f in files if f.stem.endswith(ending)}
    return [f for f in files if not f.stem.endswith(ending)], masks


def _labelled(image: Path, mask: Path | None, name: str, group: str) -> Sample:
    if mask is None:
        raise DataError(
            f"{image}: its mask is missing, so nobody knows whether it is defective. "
            "Unpack the data set again."
        )
    try:
        defective = bool(mask_area(read_image(mask)).any())
    except ImageUnreadable as error:
        raise DataError(str(error)) from error
    return Sample(
        path=image,
        kind=_DEFECT if defective else GOOD,
        mask=mask if defective else None,
        name=name,
        group=group,
    )
