"""Tiny data sets, weights and fitted models, made in a moment and always the same."""

from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.support.shared_files import done_once
from training.components.backbones import Weights, build_backbone
from training.gradient_fit import fit_trained
from training.models.anomaly_model import AnomalyModel, StatisticalModel
from training.models.building import adopt_tensors, build_model, make_settings
from training.models.trained_model import TrainedModel
from training.training_images import TrainingImages

SIDE = 64
ALGORITHMS = ("padim", "patchcore")

# Every algorithm, small enough for a test and just large enough to tell the spot apart.
FEW: dict[str, dict[str, Any]] = {
    "cflow": {
        "layers": ("layer2", "layer3"),
        "couplings": 2,
        "condition_width": 16,
        "epochs": 8,
        "learning_rate": 5e-3,
    },
    "dfkde": {"layers": ("layer3",)},
    "dfm": {"pooling": 1},
    "efficientad": {
        "patents_cleared": True,
        "channels": 16,
        "epochs": 12,
        "batch_size": 4,
        "learning_rate": 3e-3,
    },
    "fastflow": {"layers": ("layer2", "layer3"), "flow_steps": 2, "epochs": 12},
    "ganomaly": {
        "channels": 4,
        "latent": 10,
        "epochs": 40,
        "patience": 40,
        "batch_size": 4,
        "learning_rate": 4e-3,
    },
    "padim": {"feature_count": 12},
    "patchcore": {"bank_size": 48},
    "reverse_distillation": {"layers": ("layer1", "layer2"), "epochs": 25},
    "stfpm": {"epochs": 12},
    "supersimplenet": {
        "layers": ("layer2",),
        "hidden": 64,
        "noise": 1.0,
        "epochs": 50,
        "learning_rate": 5e-3,
        "adaptor_rate": 3e-3,
    },
}
TRAINED = tuple(name for name, settings in FEW.items() if "epochs" in settings)
STATISTICAL = tuple(name for name in FEW if name not in TRAINED)


def good_image(number: int = 0, height: int = 80, width: int = 112) -> NDArray[np.uint8]:
    """Return ``(H, W, 3) uint8`` BGR: a coloured slope with stripes and a little noise."""
    random = np.random.default_rng(number)
    rows, columns = np.mgrid[0:height, 0:width]
    stripes = 20.0 * np.sin(columns / 5.0)
    planes = [90.0 + rows / 2.0 + stripes, 120.0 + stripes, 70.0 + columns / 3.0]
    return np.clip(np.stack(planes, 2) + random.normal(0, 3, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def defective_image(
    number: int = 0, height: int = 80, width: int = 112
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a good image with a red spot, and its mask."""
    pixels = good_image(1000 + number, height, width)
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
        write(root / "train" / "good" / f"{number:03d}.png", good_image(number))
    for number in range(good):
        write(root / "test" / "good" / f"{number:03d}.png", good_image(500 + number))
    for number in range(defective):
        pixels, mask = defective_image(number)
        write(root / "test" / "spot" / f"{number:03d}.png", pixels)
        write(root / "ground_truth" / "spot" / f"{number:03d}_mask.png", mask)
    return root


def write_folder(root: Path, good: int = 12, defective: int = 6, masks: bool = True) -> Path:
    """Write a plain folder: good/, defect/spot/ and masks/."""
    for number in range(good):
        write(root / "good" / f"good_{number:03d}.png", good_image(number))
    for number in range(defective):
        pixels, mask = defective_image(number)
        write(root / "defect" / "spot" / f"spot_{number:03d}.png", pixels)
        if masks:
            write(root / "masks" / f"spot_{number:03d}.png", mask)
    return root


@cache
def small_weights() -> dict[str, Tensor]:
    """Return random weights of the small backbone, always the same; they are only read."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return build_backbone("small").state_dict()


def write_weights(path: Path) -> Path:
    save_file(small_weights(), path)
    return path


def batch(
    count: int, first: int = 0, side: int = SIDE, size: tuple[int, int] | None = None
) -> Tensor:
    """Return ``(count, H, W, 3) uint8`` prepared good images, square if no size is given."""
    images = [good_image(first + n, *(size or (side, side))) for n in range(count)]
    return torch.from_numpy(np.stack(images))


def spotted(count: int, side: int = SIDE) -> Tensor:
    """Return ``(count, side, side, 3) uint8`` prepared defective images."""
    images = [defective_image(number, side, side)[0] for number in range(count)]
    return torch.from_numpy(np.stack(images))


def unfitted(
    algorithm: str, image: tuple[int, int] = (SIDE, SIDE), **settings: Any
) -> AnomalyModel:
    return build_model(
        algorithm,
        "small",
        Weights(small_weights(), "none"),
        image,
        settings=make_settings(algorithm, {**FEW[algorithm], **settings}),
        seed=3,
    )


def fitted(algorithm: str, images: Tensor | None = None, **settings: Any) -> AnomalyModel:
    """Return a small model fitted to images; statistical ones in batches of three."""
    images = batch(7) if images is None else images
    size = (images.shape[1], images.shape[2])
    model = unfitted(algorithm, size, **settings)
    if isinstance(model, TrainedModel):
        fit_trained(
            model,
            TrainingImages.prepared(images),
            TrainingImages.prepared(batch(2, first=50, size=size)),
            torch.device("cpu"),
            seed=3,
        )
        return model
    assert isinstance(model, StatisticalModel)
    with torch.inference_mode():
        for part in images.split(3):
            model.learn(part)
        model.finish()
    return model


@cache
def fitted_once(algorithm: str, shared: Path) -> AnomalyModel:
    """Return ``fitted(algorithm)``, for tests that only read it; one worker of a run fits it.

    test_two_fits_give_the_same_numbers_to_the_last_bit holds that it is the same: of trained ones
    over two epochs, in make soak over all, and against this one.
    """
    path = done_once(
        shared,
        f"{algorithm}-fitted.safetensors",
        lambda part: save_file(fitted(algorithm).state_dict(), part),
    )
    model = unfitted(algorithm)
    adopt_tensors(model, load_file(path))
    return model


def predict_scores(model: AnomalyModel, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(images).score
