"""Makes what the demo is built from: backbone, data sets and sample frames.

python -m training.demo backbone -o small.safetensors
python -m training.demo dataset  -o DIR
python -m training.demo frames   -o configs/demo/frames

and the same of a part that lies tilted:

python -m training.demo tilted-dataset -o DIR
python -m training.demo tilted-frames  -o configs/demo/tilted
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.torch import save
from tqdm import tqdm

from edge.atomic_files import write_whole
from edge.errors import OutputNotWritable, StationError
from edge.system.log_output import write_line
from training.data.rendered import (
    Defect,
    ImageCounts,
    render_part,
    write_dataset,
    write_encoded,
)
from training.small_backbone_training import train_small_backbone
from training.tilted_demo import write_tilted_dataset, write_tilted_frames

# Seeds of different purposes never meet: no image the backbone has seen is in the demo.
_DATASET_SEED, _FRAMES_STREAM = 2, 3
# Thresholds rest on images of their own: neither fitted on nor quoted from.
_COUNTS = ImageCounts(
    train_good=500,
    test_good=40,
    test_defective=16,
    validation_good=40,
    validation_defective=8,
)
# One good part after each kind of defect, as on a line that mostly makes good ones.
_FRAME_PLAN: tuple[Defect | None, ...] = (
    None,
    None,
    Defect.SCRATCH,
    None,
    Defect.DENT,
    None,
    Defect.STAIN,
    Defect.CHIPPED_EDGE,
    None,
    Defect.MISSING_HOLE,
    None,
    Defect.CONTAMINATION,
    Defect.SCRATCH,
    None,
    Defect.CONTAMINATION,
    None,
)


def render_demo_dataset(folder: Path, counts: ImageCounts | None = None) -> None:
    """Write the data set that the demo's model is fitted on and calibrated with.

    Raises:
        OutputNotWritable: the folder exists already, or the disk refused it.
    """
    write_dataset(folder, counts or _COUNTS, seed=_DATASET_SEED)


def write_demo_frames(folder: Path) -> list[Path]:
    """Write the frames that the demo inspects; a name tells what is in the image.

    Raises:
        OutputNotWritable: the disk refused it.
    """
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, defect in enumerate(_FRAME_PLAN):
            part = render_part(np.random.default_rng([_FRAMES_STREAM, number]), defect)
            paths.append(folder / f"{number:02d}_{defect or 'good'}.jpg")
            write_encoded(paths[-1], part.pixels)
    except OSError as error:
        raise OutputNotWritable(
            f"{folder}: cannot be written ({error.strerror}). Check space and permissions."
        ) from error
    return paths


STEPS: dict[str, Callable[[Path], object]] = {
    "dataset": render_demo_dataset,
    "frames": write_demo_frames,
    "tilted-dataset": write_tilted_dataset,
    "tilted-frames": write_tilted_frames,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one step of making the demo."""
    parser = argparse.ArgumentParser(prog="python -m training.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("step", choices=("backbone", *STEPS))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of the backbone")
    parser.add_argument("--epochs", type=int, default=28, help="of the backbone")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.step == "backbone":
            _write_backbone(chosen.output, chosen.seed, chosen.epochs)
        else:
            STEPS[chosen.step](chosen.output)
    except StationError as error:
        write_line(f"error: {error}")
        return error.exit_code
    return 0


def _write_backbone(path: Path, seed: int, epochs: int) -> None:
    with tqdm(desc="training backbone", unit="step") as bar:

        def show(step: int, steps: int, loss: float) -> None:
            bar.total = steps
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            bar.update()

        backbone = train_small_backbone(seed, epochs=epochs, progress=show)
    write_whole(path, save(backbone.state_dict()))


if __name__ == "__main__":
    sys.exit(main())
