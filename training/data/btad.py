"""BTAD, beanTech's industrial set (Mishra et al., VT-ADL, 2021).

<product>/train/ok/*          bmp or png
<product>/test/ok/*
<product>/test/ko/*           defective
<product>/ground_truth/ko/*   masks, of the same name
"""

from pathlib import Path

from training.data.layout_files import (
    category_folder,
    demanded,
    find_masks,
    set_name,
)
from training.data.samples import GOOD, Sample, Splits, images_in
from training.data.shares import VALIDATION_SHARE

_OK, _KO = "ok", "ko"


class BTAD:
    """One product."""

    held_out_share = VALIDATION_SHARE
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None) -> None:
        """Read the file lists.

        Raises:
            DataError: a folder or its images are missing; names it.
        """
        root = category_folder(root, category, self.matches)
        self.name = set_name(root)
        self.places = [root]
        self.train = [
            Sample(path=p, kind=GOOD) for p in demanded(root / "train" / _OK, "good images")
        ]
        good = [
            Sample(path=p, kind=GOOD) for p in demanded(root / "test" / _OK, "good test images")
        ]
        defective = demanded(root / "test" / _KO, "defective test images")
        masks, self.stray_masks = find_masks(defective, images_in(root / "ground_truth" / _KO))
        self.test = good + [Sample(path=path, kind=_KO, mask=masks.get(path)) for path in defective]

    @staticmethod
    def matches(root: Path) -> bool:
        return (root / "train" / _OK).is_dir() and (root / "test" / _KO).is_dir()

    def split(self, seed: int) -> Splits:
        return Splits(name=self.name, fit=tuple(self.train), validation=(), test=tuple(self.test))

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.train)
