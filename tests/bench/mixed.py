"""Marked defects learned beside good images: ``python -m tests.bench.mixed WEIGHTS PRODUCT ...``.

Each PRODUCT is laid out as MVTec AD has it, with masks or without; 100 of its good images are
fitted on. Of each kind of defect a few are taken out of ``test`` as marked ones, with their masks
where there are any. SuperSimpleNet is fitted twice to the same folder: with
``supervision=unsupervised``, where they hold the threshold alone, and with ``supervision=mixed``,
where two thirds of them are learned. Both judge what is left of ``test``.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch

from edge.imaging.image_files import is_image
from training.api import Model, data_set

GOOD = 100
# Of each kind of defect, and of one kind alone.
MARKED, MARKED_OF_ONE = 6, 20
THREADS = 1
# Small, so that two fits take some minutes of a core.
SIDE = 64
SETTINGS = {"layers": ["layer2"], "hidden": 256, "epochs": 16, "batch_size": 8}


def marked_set(product: Path, folder: Path) -> int:
    """Lay a set out with marked defects among its validation images; returns how many."""
    (folder / "train" / "good").mkdir(parents=True)
    good = sorted(path for path in (product / "train" / "good").iterdir() if is_image(path))
    for path in good[:: max(len(good) // GOOD, 1)][:GOOD]:
        shutil.copy(path, folder / "train" / "good")
    shutil.copytree(product / "test", folder / "test")
    if (product / "ground_truth").is_dir():
        shutil.copytree(product / "ground_truth", folder / "ground_truth")
    kinds = sorted(one for one in (folder / "test").iterdir() if one.name != "good")
    count = MARKED if len(kinds) > 1 else MARKED_OF_ONE
    for kind in kinds:
        images = sorted(path for path in kind.iterdir() if is_image(path))
        marked = folder / "validation" / kind.name
        marked.mkdir(parents=True)
        for path in images[:: len(images) // count][:count]:
            path.rename(marked / path.name)
    return count * len(kinds)


def run(weights: Path, product: Path) -> None:
    """Fit and judge one set twice."""
    with tempfile.TemporaryDirectory() as folder:
        marked = marked_set(product, Path(folder) / product.name)
        data = data_set(Path(folder) / product.name)
        for supervision in ("unsupervised", "mixed"):
            started = time.process_time()
            settings = {
                "weights": str(weights),
                "weights_licence": "of the file",
                "image_size": SIDE,
                "check_good": False,
                "hyperparameters": {
                    **SETTINGS,
                    "learning_rate": 0.0005,
                    "supervision": supervision,
                },
            }
            found = Model("supersimplenet", "resnet18", settings).fit(data)
            learned = found.checkpoint.description.training.hyperparameters.get(
                "learned_defects", 0
            )
            figures = found.test(data).model_dump(exclude_none=True)
            shown = ", ".join(
                f"{name} {value:.4f}" for name, value in figures.items() if isinstance(value, float)
            )
            print(
                f"{product.name}, {marked} marked, {supervision}, {learned} learned: {shown}; "
                f"{time.process_time() - started:.0f} s of processor",
                flush=True,
            )


def main() -> None:
    """Compare once a product."""
    torch.set_num_threads(THREADS)
    for name in sys.argv[2:]:
        run(Path(sys.argv[1]).absolute(), Path(name).absolute())


if __name__ == "__main__":
    main()
