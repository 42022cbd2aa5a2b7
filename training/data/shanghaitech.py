"""ShanghaiTech Campus frames (Liu et al., Future frame prediction, 2018).

training/frames/<clip>/*.jpg
testing/frames/<clip>/*.jpg
testing/test_frame_mask/<clip>.npy     (T,): 1 where the frame shows something unusual
testing/test_pixel_mask/<clip>.npy     (T, H, W), optional

A clip is called SS_NNN; SS is the scene, which serves as category.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.wording import counted
from training.data.layout_files import (
    demanded,
    demanded_file,
    unknown_category,
)
from training.data.samples import GOOD, Sample, Splits, images_in, subfolders
from training.data.shares import VALIDATION_SHARE
from training.errors import DataError
from training.load_fault import load_fault

_UNUSUAL = "unusual"


class ShanghaiTech:
    """Frames of one scene, or of all."""

    held_out_share = VALIDATION_SHARE
    other_files: tuple[Path, ...] = ()

    def __init__(self, root: Path, category: str | None) -> None:
        """Read file lists and frame labels.

        Raises:
            DataError: frames or labels are missing, or their numbers differ; names the file.
        """
        train = _clips(root, "training", category)
        test = _clips(root, "testing", category)
        self.places = [*train, *test]
        self.name = "shanghaitech" + (f"-{category}" if category else "")
        self.train = [
            Sample(path=path, kind=GOOD, name=f"{clip.name}/{path.name}", group=clip.name)
            for clip in train
            for path in demanded(clip, "frames")
        ]
        self.test = [sample for clip in test for sample in _labelled(root / "testing", clip)]
        known = {clip.name for clip in subfolders(root / "testing" / "frames")}
        masks = sorted((root / "testing" / "test_pixel_mask").glob("*.npy"))
        self.stray_masks = [mask for mask in masks if mask.stem not in known]

    @staticmethod
    def matches(root: Path) -> bool:
        return (root / "testing" / "test_frame_mask").is_dir()

    def split(self, seed: int) -> Splits:
        return Splits(name=self.name, fit=tuple(self.train), validation=(), test=tuple(self.test))

    def new_images(self) -> tuple[Sample, ...]:
        return tuple(self.train)


def read_array_mask(path: Path, index: int | None) -> NDArray[np.uint8]:
    """Return one frame's ``(H, W) uint8`` mask of a clip's ``.npy``, without reading the others.

    Raises:
        DataError: not an array of masks, or the frame is not in it.
    """
    masks = _array(path)
    if masks.ndim != 3 or index is None or index >= len(masks):
        raise DataError(f"{path}: no mask of frame {index}. Unpack the data set again.")
    return (np.asarray(masks[index]) > 0).astype(np.uint8)


def _clips(root: Path, split: str, category: str | None) -> list[Path]:
    folder = root / split / "frames"
    clips = subfolders(folder)
    if not clips:
        films = sorted((root / split / "videos").glob("*.avi"))
        hint = (
            f" Take the frames out of {films[0]} and the others: ffmpeg -i {films[0].name} "
            f"{folder / films[0].stem}/%03d.jpg"
            if films
            else " Unpack the data set again."
        )
        raise DataError(f"{folder}: no clips in folders 01_001, 01_002, ….{hint}")
    chosen = [c for c in clips if category is None or c.name.split("_")[0] == category]
    if not chosen:
        raise DataError(
            unknown_category(root, category, {clip.name.split("_")[0] for clip in clips})
        )
    return chosen


def _labelled(testing: Path, clip: Path) -> list[Sample]:
    table = demanded_file(testing / "test_frame_mask" / f"{clip.name}.npy", "the labels of frames")
    unusual = _array(table)
    frames = images_in(clip)
    if unusual.ndim != 1 or len(unusual) != len(frames):
        raise DataError(
            f"{table}: labels {counted(len(unusual), 'frame')}, but {clip} holds {len(frames)}. "
            "Unpack the data set again."
        )
    pixel_masks = testing / "test_pixel_mask" / f"{clip.name}.npy"
    mask = pixel_masks if pixel_masks.is_file() else None
    return [
        Sample(
            path=path,
            kind=_UNUSUAL if unusual[index] else GOOD,
            mask=mask if unusual[index] else None,
            name=f"{clip.name}/{path.name}",
            group=clip.name,
            mask_index=index if mask and unusual[index] else None,
        )
        for index, path in enumerate(frames)
    ]


def _array(path: Path) -> NDArray[np.generic]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a numpy array ({load_fault(error)}). Unpack the data set again."
        ) from error
