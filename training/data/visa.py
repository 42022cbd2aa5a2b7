"""VisA (Zou et al., SPot-the-difference, 2022), with its published one-class split.

split_csv/1cls.csv                          object, split, label, image, mask
<category>/Data/Images/Normal/0000.JPG
<category>/Data/Images/Anomaly/000.JPG
<category>/Data/Masks/Anomaly/000.png
"""

import csv
from pathlib import Path

from edge.imaging.folder_names import existing, written
from training.data.layout_files import demanded_file, unknown_category
from training.data.samples import GOOD, Sample, Splits, images_in
from training.data.shares import VALIDATION_SHARE
from training.errors import DataError

_TABLE = Path("split_csv") / "1cls.csv"
_COLUMNS = ("object", "split", "label", "image", "mask")
_ANOMALY = "anomaly"


class VisA:
    """One category."""

    held_out_share = VALIDATION_SHARE
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None) -> None:
        """Read the table of the splits and find its files.

        Raises:
            DataError: the table, a column, the category or a file is missing; names it.
        """
        if category is None and (root.parent / _TABLE).is_file():
            root, category = root.parent, root.name
        table = demanded_file(root / _TABLE, "the splits of VisA")
        rows = _rows(table)
        known = {written(row["object"]) for row in rows}
        if category is None or written(category) not in known:
            raise DataError(unknown_category(root, category, known))
        self.name = category = written(category)
        self.places = [existing(root / category)]
        self.train: list[Sample] = []
        self.test: list[Sample] = []
        used: set[Path] = set()
        for row in rows:
            if written(row["object"]) != category:
                continue
            path = demanded_file(existing(root / row["image"]), f"an image that {table} lists")
            mask = None
            if row["mask"]:
                mask = demanded_file(existing(root / row["mask"]), f"a mask that {table} lists")
                used.add(mask)
            kind = GOOD if row["label"].lower() == "normal" else _ANOMALY
            split = self.train if row["split"].lower() == "train" else self.test
            split.append(
                Sample(path=path, kind=kind, mask=mask, name=f"{path.parent.name}/{path.name}")
            )
        defects = [sample.label for sample in self.train if sample.is_defective]
        if defects:
            raise DataError(f"{table}: lists the defective {defects[0]} under train. Correct it.")
        masks = images_in(self.places[0] / "Data" / "Masks" / "Anomaly")
        self.stray_masks = [mask for mask in masks if mask not in used]

    @staticmethod
    def matches(root: Path) -> bool:
        return (root / _TABLE).is_file() or (
            (root.parent / _TABLE).is_file() and (root / "Data").is_dir()
        )

    def split(self, seed: int) -> Splits:
        return Splits(name=self.name, fit=tuple(self.train), validation=(), test=tuple(self.test))

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.train)


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{table}: has no column {missing[0]!r}. Unpack VisA again.")
            return [{name: row[name] or "" for name in _COLUMNS} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a table ({error}). Unpack VisA again.") from error
