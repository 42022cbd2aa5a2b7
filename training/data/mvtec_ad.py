"""MVTec AD and every set in its layout (Bergmann et al., 2019).

train/good/*.png
test/good/*.png                 optional
test/<defect>/*.png             optional
ground_truth/<defect>/<name>_mask.png
validation/good, validation/<defect>   ours, optional: pictures to calibrate on
"""

from pathlib import Path

from training.data.adapting import VALIDATION_SHARE, category_folder
from training.data.samples import GOOD, Sample, Splits, pictures_in, subfolders
from training.errors import DataError


class MVTecAD:
    """One category."""

    held_out_share = VALIDATION_SHARE

    def __init__(self, root: Path, category: str | None = None) -> None:
        """Read the file lists.

        Raises:
            DataError: ``train/good`` has no pictures, or defects lie in ``train``.
        """
        root = category_folder(root, category, self.matches)
        self.name = root.resolve().name
        self.train = [Sample(path, GOOD) for path in pictures_in(root / "train" / GOOD)]
        if not self.train:
            raise DataError(
                f"{root / 'train' / GOOD}: no pictures. The MVTec layout needs good pictures "
                "there; pictures of one folder go under good/ or directly into --data."
            )
        others = [folder.name for folder in subfolders(root / "train") if folder.name != GOOD]
        if others:
            raise DataError(
                f"{root / 'train' / others[0]}: only good pictures may be trained on. "
                f"Move it to {root / 'test' / others[0]}."
            )
        self.validation = _labelled(root, "validation")
        self.test = _labelled(root, "test")
        masks: dict[Path, Path] = {}
        for sample in [*self.validation, *self.test]:
            if (
                sample.mask is not None
                and masks.setdefault(sample.mask, sample.path) != sample.path
            ):
                raise DataError(
                    f"{sample.mask}: belongs to {masks[sample.mask]} and to {sample.path}. "
                    "Give the pictures different names."
                )
        self.stray_masks = [
            mask
            for folder in subfolders(root / "ground_truth")
            for mask in pictures_in(folder)
            if mask not in masks
        ]

    @staticmethod
    def matches(root: Path) -> bool:
        return (root / "train").is_dir()

    def split(self, seed: int) -> Splits:
        return Splits(self.name, tuple(self.train), tuple(self.validation), tuple(self.test))

    def new_pictures(self) -> tuple[Sample, ...]:
        return (*self.train, *self.validation)


def _labelled(root: Path, split: str) -> list[Sample]:
    return [
        Sample(path, folder.name, _mask(root, folder.name, path))
        for folder in subfolders(root / split)
        for path in pictures_in(folder)
    ]


def _mask(root: Path, kind: str, picture: Path) -> Path | None:
    mask = root / "ground_truth" / kind / f"{picture.stem}_mask.png"
    return mask if mask.is_file() else None
