"""Random transforms of images to learn from, named in YAML and made by torchvision v2.

They act on the frame, before the one preparation, and during the fit only: what validation, test,
export and the line see is never transformed.
"""

import hashlib
import inspect
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.imaging.frame import Pixels
from training.errors import DataError, SettingError

# Everything of torchvision that takes an image is allowed, but what changes its type, its meaning
# or its number, and what wraps other transforms, which YAML cannot name.
_REFUSED = frozenset(
    {"Compose", "Lambda", "Normalize", "ToDtype", "ConvertImageDtype", "ToImage", "ToPILImage"}
    | {"ToTensor", "PILToTensor", "ToPureTensor", "CutMix", "MixUp", "FiveCrop", "TenCrop", "JPEG"}
    | {"LinearTransformation", "RandomChoice", "RandomOrder", "Transform", "SanitizeBoundingBoxes"}
    | {"RandomApply", "SanitizeKeyPoints", "UniformTemporalSubsample", "Identity", "AugMix"}
)

# torch has one global generator: two threads must not seed it at once.
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Transforms:
    """Steps in order, each a torchvision v2 class and its arguments as JSON.

    As text, so that equal transforms are equal, hashable and can be kept in a manifest.
    """

    steps: tuple[tuple[str, str], ...]
    seed: int

    @property
    def text(self) -> str:
        """What a manifest and a report call them."""
        return ", ".join(f"{name} {arguments}" for name, arguments in self.steps)


@dataclass(frozen=True, slots=True)
class RandomView:
    """One random way to look at an image.

    Attributes:
        number: of the view; another number draws other transforms.
    """

    transforms: Transforms
    number: int


def parse_transforms(steps: Sequence[str | Mapping[str, Any]], seed: int) -> Transforms:
    """Check the steps of a YAML list: ``- RandomHorizontalFlip`` or ``- ColorJitter: {hue: 0.1}``.

    Raises:
        SettingError: no such transform, or arguments it does not take; lists what there is.
    """
    parsed = []
    arguments: Any
    for step in steps:
        if isinstance(step, str):
            name, arguments = step, {}
        elif len(step) == 1:
            ((name, given),) = step.items()
            arguments = {} if given is None else given
        else:
            raise SettingError(
                f"transforms: found {dict(step)!r}; give one name each, with its arguments, "
                "for example - ColorJitter: {brightness: 0.1}."
            )
        if not isinstance(arguments, Mapping):
            raise SettingError(
                f"transforms.{name}: found {arguments!r}; give arguments by name, for example "
                "{p: 0.5}."
            )
        parsed.append((str(name), json.dumps(dict(arguments), sort_keys=True)))
    transforms = Transforms(tuple(parsed), seed)
    _pipeline(transforms.steps)
    return transforms


def transform_image(
    pixels: Pixels, view: RandomView, name: str, mask: NDArray[np.bool_] | None = None
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Look at an image, and its mask, through random transforms.

    Args:
        pixels: ``(H, W)``, ``(H, W, 3)`` BGR or ``(H, W, 4)`` BGRA uint8; not changed.
        view: the transforms and which draw of them.
        name: of the image; with the seed and the view's number it decides every draw.
        mask: ``(H, W)``; moves with the image.

    Returns:
        Image in the same format and mask; geometric steps may have changed the size of both.

    Raises:
        DataError: a 16-bit image.
        SettingError: a step refuses the image.
    """
    if pixels.dtype != np.uint8:
        raise DataError(
            f"{name}: transforms take 8-bit images only. Leave out transforms, or save the "
            "images as 8 bit."
        )
    # torch and torchvision take seconds to load; most fits transform nothing.
    import torch
    from torchvision import tv_tensors

    colour = pixels[:, :, None] if pixels.ndim == 2 else pixels[:, :, 2::-1]
    rest: list[NDArray[Any]] = [] if mask is None else [mask.astype(np.uint8)]
    rest += [pixels[:, :, 3]] if pixels.ndim == 3 and pixels.shape[2] == 4 else []
    image = tv_tensors.Image(torch.from_numpy(colour.transpose(2, 0, 1).copy()))
    others = [tv_tensors.Mask(torch.from_numpy(plane.copy())) for plane in rest]
    seed = f"{view.transforms.seed} {view.number} {name}"
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7])
    steps = _pipeline(view.transforms.steps)
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        for step_name, step in steps:
            try:
                image, *others = step(image, *others) if others else (step(image),)
            except (ValueError, TypeError, RuntimeError) as error:
                raise SettingError(
                    f"transforms.{step_name} refused {name}: {_first_line(error)}. "
                    "Change its arguments or leave it out."
                ) from error
    planes = [other.numpy() for other in others]
    seen = image.numpy().transpose(1, 2, 0)
    found = planes.pop(0) > 0 if mask is not None else np.zeros(seen.shape[:2], np.bool_)
    if pixels.ndim == 2:
        return np.ascontiguousarray(seen[:, :, 0]), found
    bgr = seen[:, :, ::-1]
    return np.ascontiguousarray(np.dstack([bgr, *planes])), found


@lru_cache(maxsize=8)
def _pipeline(steps: tuple[tuple[str, str], ...]) -> tuple[tuple[str, Any], ...]:
    # torchvision, see above; what it misses has to be declared before it is loaded.
    from training.components.torchvision_operators import load_torchvision

    load_torchvision()
    # torchvision
    from torchvision.transforms import v2

    known = {
        name: value
        for name, value in vars(v2).items()
        if inspect.isclass(value) and issubclass(value, v2.Transform) and name not in _REFUSED
    }
    built = []
    for name, text in steps:
        if name not in known:
            raise SettingError(
                f"transforms: {name!r} does not exist, or does not give an image to learn from. "
                f"There are: {', '.join(sorted(known))}."
            )
        try:
            built.append((name, known[name](**json.loads(text))))
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"transforms.{name}: {_first_line(error)}. Correct its arguments."
            ) from error
    return tuple(built)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
