"""Arithmetic on per-pixel fields that the renderer is made of."""

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def smooth_step(values: Field, start: float, stop: float) -> Field:
    """Rise from 0 at ``start`` to 1 at ``stop``; exactly 0 and 1 beyond."""
    t = np.clip((values - start) / np.float32(stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def blurred_noise(
    random: np.random.Generator, height: int, width: int, *, blur_x: float, blur_y: float
) -> Field:
    """White noise blurred with the given sigmas, brought back to a deviation of 1."""
    noise = random.standard_normal((height, width), dtype=np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), blur_x, sigmaY=blur_y)
    return blurred / max(float(blurred.std()), 1e-6)
