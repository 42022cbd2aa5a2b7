"""MVTec AD and every set in its layout (Bergmann et al., 2019).

train/good/*.png
test/good/*.png                 optional
test/<defect>/*.png             optional
ground_truth/<defect>/<name>_mask.png
validation/good, validation/<defect>   ours, optional: images to calibrate on

The folders may be written in any case, ``good`` be called by another usual name
(``edge.imaging.folder_names``), and all hold sub-folders.
"""

from pathlib import Path

from edge.imaging.folder_names import GOOD_NAMES, folder_called, is_called, written
from training.data.layout_files import category_folder, good_samples, set_name
from training.data.samples import GOOD, Sample, Splits, images_below, subfolders
from training.data.shares import VALIDATION_SHARE
from training.errors import DataError


class MVTecAD:
    """One category."""

    held_out_share = VALIDATION_SHARE
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None = None) -> None:
        """Read the file lists.

        Raises:
            DataError: ``train/good`` has no images, or defects lie in ``train``.
        """
        root = category_folder(root, category, self.matches)
        self.name = set_name(root)
        self.places = [root]
        train = folder_called(root, "train")
        good = [folder for folder in subfolders(train) if is_called(folder.name, GOOD_NAMES)]
        self.train = [sample for folder in good for sample in good_samples(folder)]
        if not self.train:
            raise DataError(
                f"{good[0] if good else train / GOOD}: no images. The MVTec layout needs good "
                "images there; images of one folder go under good/ or directly into --data."
            )
        others = [folder.name for folder in subfolders(train) if folder not in good]
        if others:
            raise DataError(
                f"{train / others[0]}: only good images may be trained on. "
                f"Move it to {root / 'test' / others[0]}, or to {root / 'validation' / others[0]} "
                "for a model that learns defects."
            )
        ground_truth = folder_called(root, "ground_truth")
        found = {_key(p.relative_to(ground_truth)): p for p in images_below(ground_truth)}
        self.validation = _labelled(folder_called(root, "validation"), found)
        self.test = _labelled(folder_called(root, "test"), found)
        masks: dict[Path, Path] = {}
        for sample in [*self.validation, *self.test]:
            if (
                sample.mask is not None
                and masks.setdefault(sample.mask, sample.path) != sample.path
            ):
                raise DataError(
                    f"{sample.mask}: belongs to {masks[sample.mask]} and to {sample.path}. "
                    "Give the images different names."
                )
        self.stray_masks = [mask for mask in images_below(ground_truth) if mask not in masks]

    @staticmethod
    def matches(root: Path) -> bool:
        return folder_called(root, "train").is_dir()

    def split(self, seed: int) -> Splits:
        return Splits(
            name=self.name,
            fit=tuple(self.train),
            validation=tuple(self.validation),
            test=tuple(self.test),
        )

    def new_images(self) -> tuple[Sample, ...]:
        return (*self.train, *self.validation)


def _labelled(split: Path, masks: dict[tuple[str, ...], Path]) -> list[Sample]:
    samples = []
    for folder in subfolders(split):
        if is_called(folder.name, GOOD_NAMES):
            samples += good_samples(folder)
            continue
        for path in images_below(folder):
            inner = path.relative_to(folder)
            mask = masks.get(_key(Path(folder.name, inner.parent, f"{path.stem}_mask.png")))
            name = "" if inner == Path(path.name) else str(inner)
            samples.append(Sample(path=path, kind=written(folder.name), mask=mask, name=name))
    return samples


def _key(mask: Path) -> tuple[str, ...]:
    """Return what a mask is found by: folders in any case, and its name, whatever its format."""
    return (*(written(name).casefold() for name in mask.parts[:-1]), written(mask.stem))
