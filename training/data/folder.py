"""A plain folder of pictures, as ``edge-run`` or a person collects them.

good/*.png            or the pictures directly in the folder
defect/*.png          optional; also defect/<kind>/*.png
masks/<name>.png      optional, same name as the defective picture; also masks/<kind>/<name>.png
"""

from collections import Counter
from pathlib import Path

from training.data.adapting import VALIDATION_SHARE
from training.data.samples import GOOD, Sample, Splits, pictures_in, subfolders
from training.data.splitting import split_off
from training.errors import DataError

_TEST_SHARE = 0.15
_DEFECT = "defect"
_MASKS = "masks"


class Folder:
    """Good pictures, perhaps some defective ones, perhaps with masks."""

    held_out_share = VALIDATION_SHARE / (1.0 - _TEST_SHARE)

    def __init__(self, root: Path, category: str | None = None) -> None:
        """Read the file lists.

        Raises:
            DataError: no such folder, or no pictures in it.
        """
        if not root.is_dir():
            raise DataError(f"{root}: not a folder. Check --data.")
        self.name = root.resolve().name
        self.good = [Sample(path, GOOD) for path in pictures_in(_good_folder(root))]
        self.defective = _defective(root)
        if not self.good and not self.defective:
            raise no_good_pictures(root)
        used = {sample.mask for sample in self.defective}
        folders = [root / _MASKS, *subfolders(root / _MASKS)]
        self.stray_masks = [p for f in folders for p in pictures_in(f) if p not in used]

    @staticmethod
    def matches(root: Path) -> bool:
        return True

    def split(self, seed: int) -> Splits:
        rest, test_good = split_off(self.good, _TEST_SHARE, seed, "test")
        validation_defects, test_defects = split_off(self.defective, 0.5, seed, "test")
        return Splits(self.name, rest, validation_defects, test_good + test_defects)

    def new_pictures(self) -> tuple[Sample, ...]:
        return (*self.good, *self.defective)


def no_good_pictures(root: Path) -> DataError:
    """Return the error that says where good pictures were expected."""
    return DataError(
        f"{_good_folder(root)}: no pictures. Put pictures of good parts there "
        "(.png, .jpg, .bmp, .tif), or pass a folder in the MVTec layout."
    )


def _good_folder(root: Path) -> Path:
    return root / GOOD if (root / GOOD).is_dir() else root


def _defective(root: Path) -> list[Sample]:
    folders = [(_DEFECT, root / _DEFECT)]
    folders += [(kind.name, kind) for kind in subfolders(root / _DEFECT)]
    pictures = [(kind, path) for kind, folder in folders for path in pictures_in(folder)]
    for kind, path in pictures:
        if kind == GOOD:
            raise DataError(f"{path.parent}: good pictures belong in {root / GOOD}. Move them.")
    plain = _by_stem(root / _MASKS)
    of_kind = {kind: _by_stem(root / _MASKS / kind) for kind, _ in folders}
    uses = Counter(path.stem for _, path in pictures)
    samples = []
    for kind, path in pictures:
        mask = of_kind[kind].get(path.stem) or plain.get(path.stem)
        if mask is not None and mask.parent == root / _MASKS and uses[path.stem] > 1:
            raise DataError(
                f"{mask}: {uses[path.stem]} defective pictures are called {path.stem}. "
                f"Put the mask of {path} into {root / _MASKS / kind}."
            )
        samples.append(Sample(path, kind, mask))
    return samples


def _by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in pictures_in(folder)}
