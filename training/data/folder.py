"""A plain folder of pictures, as ``edge-run`` or a person collects them.

good/*.png            or the pictures directly in the folder
defect/*.png          optional; also defect/<kind>/*.png
masks/<name>.png      optional, same name as the defective picture
"""

from pathlib import Path

from training.data.samples import GOOD, Sample, pictures_in, subfolders
from training.errors import DataError

_DEFECT = "defect"


class Folder:
    """Good pictures, perhaps some defective ones, perhaps with masks."""

    def __init__(self, root: Path) -> None:
        """Read the file lists.

        Raises:
            DataError: no such folder, or no good pictures in it.
        """
        if not root.is_dir():
            raise DataError(f"{root}: no such folder. Check --data.")
        self.name = root.resolve().name
        directory = root / GOOD if (root / GOOD).is_dir() else root
        self.good = [Sample(path, GOOD) for path in pictures_in(directory)]
        if not self.good:
            raise DataError(
                f"{directory}: no pictures. Put pictures of good parts there "
                "(.png, .jpg, .bmp, .tif), or pass a folder in the MVTec layout."
            )
        self.defective = [
            Sample(path, kind, _mask(root, path))
            for kind, folder in _defect_folders(root)
            for path in pictures_in(folder)
        ]


def _defect_folders(root: Path) -> list[tuple[str, Path]]:
    folder = root / _DEFECT
    return [(_DEFECT, folder)] + [(kind.name, kind) for kind in subfolders(folder)]


def _mask(root: Path, picture: Path) -> Path | None:
    for mask in pictures_in(root / "masks"):
        if mask.stem == picture.stem:
            return mask
    return None
