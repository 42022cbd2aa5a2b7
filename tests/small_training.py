"""Tiny data sets, weights and fitted models, made in a moment and always the same."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from training.components.backbones import Weights, build_backbone
from training.models.anomaly_model import StatisticalModel
from training.models.building import build_model, make_settings

SIDE = 64
ALGORITHMS = ("padim", "patchcore")
FEW = {"padim": {"feature_count": 12}, "patchcore": {"bank_size": 48}}


def good_picture(number: int = 0, height: int = 80, width: int = 112) -> NDArray[np.uint8]:
    """Return ``(H, W, 3) uint8`` BGR: a coloured slope with stripes and a little noise."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[0:height, 0:width]
    stripes = 20.0 * np.sin(columns / 5.0)
    planes = [90.0 + rows / 2.0 + stripes, 120.0 + stripes, 70.0 + columns / 3.0]
    return np.clip(np.stack(planes, 2) + random.normal(0, 3, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def defective_picture(
    number: int = 0, height: int = 80, width: int = 112
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a good picture with a red spot, and its mask."""
    pixels = good_picture(1000 + number, height, width)
    mask = np.zeros((height, width), np.uint8)
    centre = (20 + 7 * number % (width - 40), height // 2)
    cv2.circle(mask, centre, 9, 255, -1)
    pixels[mask > 0] = (20, 20, 230)
    return pixels, mask


def write(path: Path, pixels: NDArray[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def write_mvtec(root: Path, train: int = 8, good: int = 4, defective: int = 4) -> Path:
    """Write a data set in the MVTec layout, with one kind of defect and its masks."""
    for number in range(train):
        write(root / "train" / "good" / f"{number:03d}.png", good_picture(number))
    for number in range(good):
        write(root / "test" / "good" / f"{number:03d}.png", good_picture(500 + number))
    for number in range(defective):
        pixels, mask = defective_picture(number)
        write(root / "test" / "spot" / f"{number:03d}.png", pixels)
        write(root / "ground_truth" / "spot" / f"{number:03d}_mask.png", mask)
    return root


def write_folder(root: Path, good: int = 12, defective: int = 6, masks: bool = True) -> Path:
    """Write a plain folder: good/, defect/spot/ and masks/."""
    for number in range(good):
        write(root / "good" / f"good_{number:03d}.png", good_picture(number))
    for number in range(defective):
        pixels, mask = defective_picture(number)
        write(root / "defect" / "spot" / f"spot_{number:03d}.png", pixels)
        if masks:
            write(root / "masks" / f"spot_{number:03d}.png", mask)
    return root


def small_weights() -> dict[str, Tensor]:
    """Return random weights of the small backbone, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return build_backbone("small").state_dict()


def write_weights(path: Path) -> Path:
    save_file(small_weights(), path)
    return path


def batch(count: int, first: int = 0, side: int = SIDE) -> Tensor:
    """Return ``(count, side, side, 3) uint8`` prepared good pictures."""
    pictures = [good_picture(first + number, side, side) for number in range(count)]
    return torch.from_numpy(np.stack(pictures))


def spotted(count: int, side: int = SIDE) -> Tensor:
    """Return ``(count, side, side, 3) uint8`` prepared defective pictures."""
    pictures = [defective_picture(number, side, side)[0] for number in range(count)]
    return torch.from_numpy(np.stack(pictures))


def unfitted(algorithm: str, **settings: Any) -> StatisticalModel:
    return build_model(
        algorithm,
        "small",
        Weights(small_weights(), "none"),
        (SIDE, SIDE),
        make_settings(algorithm, {**FEW[algorithm], **settings}),
        seed=3,
    )


def fitted(algorithm: str, pictures: Tensor | None = None, **settings: Any) -> StatisticalModel:
    """Return a small model fitted to pictures, in batches of three."""
    model = unfitted(algorithm, **settings)
    with torch.inference_mode():
        for part in (batch(7) if pictures is None else pictures).split(3):
            model.accumulate(part)
        model.finish()
    return model
