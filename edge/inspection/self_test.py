"""The self-test: a model that gives other numbers than at its export inspects no part.

Hashes prove the files. They do not prove that this PC, with its OpenVINO and its processor,
computes what the thresholds were validated with: that the golden images do, at every load.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest import GoldenScore, Manifest
from edge.errors import BundleError
from edge.inspection.predictor import NOT_FINITE, Predictor, RawPredictions

Image = NDArray[np.uint8]

# Shares of a score, or of the score's spread where that is more. Processors differ in the last
# digits of float32; arithmetic in bfloat16 is off by more than this. Int8 rounds at steps that
# the processor's instructions move.
_TOLERANCE = {"fp32": 1e-3, "fp16": 1e-3, "int8-weights": 1e-3, "int8": 3e-2}


class SelfTestFailed(BundleError):
    """The model gives other numbers here than at its export; starting again cannot cure it."""


def golden_images(height: int, width: int) -> dict[str, Image]:
    """Return the golden images by name: ``(H, W, 3) uint8`` each.

    Made by integer arithmetic alone, so they are the same on every machine. As of a well-exposed
    camera, no sample is 0 or 255.
    """
    rows = np.arange(height, dtype=np.uint32)[:, None, None]
    columns = np.arange(width, dtype=np.uint32)[None, :, None]
    channels = np.arange(3, dtype=np.uint32)[None, None, :]
    ramp = columns * 200 // max(width - 1, 1) + rows * 0 + channels * 8
    squares = ((rows // 8 + columns // 8) % 2) * 160 + channels * 20
    mixed = rows * 73856093 ^ columns * 19349663 ^ channels * 83492791  # wraps at 2**32, as meant
    noise = (mixed ^ mixed >> 13) * 1274126177 >> 24
    spot = (2 * rows - height // 2) ** 2 + (2 * columns - width) ** 2 < (height // 3) ** 2
    plain = 100 + noise % 16 + np.where(spot, 90, 0)
    return {
        name: (16 + image % 224).astype(np.uint8)
        for name, image in (
            ("ramp", ramp),
            ("squares", squares),
            ("noise", noise),
            ("spot", plain),
        )
    }


def golden_scores(predictor: Predictor, manifest: Manifest) -> tuple[GoldenScore, ...]:
    """Return what a model says about the golden images, for its manifest.

    Raises:
        SelfTestFailed: it gives numbers that are not finite.
        ModelError: inference failed.
    """
    images = golden_images(manifest.input.height, manifest.input.width)
    predicted = _predicted(predictor, images)
    extent = manifest.normalization.image
    share = _TOLERANCE[manifest.precision.weights]
    return tuple(
        GoldenScore(
            image=name,
            score=score,
            map_peak=peak,
            tolerance=max(share * max(extent.max - extent.min, abs(score), abs(peak)), 1e-6),
        )
        for name, score, peak in predicted
    )


def self_test(predictor: Predictor, manifest: Manifest) -> None:
    """Run the golden images; a model that passes may inspect parts.

    Without golden scores the numbers only have to be finite.

    Raises:
        SelfTestFailed: names the image, what was expected and what was found.
        ModelError: inference failed.
    """
    images = golden_images(manifest.input.height, manifest.input.width)
    unknown = sorted({golden.image for golden in manifest.self_test} - images.keys())
    if unknown:
        raise SelfTestFailed(
            f"{manifest.identity.name}: self-test asks for the image {unknown[0]!r}, which this "
            "version does not have. Export the model again with this version."
        )
    found = {name: (score, peak) for name, score, peak in _predicted(predictor, images)}
    for golden in manifest.self_test:
        for what, expected, value in zip(
            ("score", "map peak"),
            (golden.score, golden.map_peak),
            found[golden.image],
            strict=True,
        ):
            if not abs(value - expected) <= golden.tolerance:
                raise SelfTestFailed(
                    f"{manifest.identity.name}: self-test image {golden.image!r}: {what} "
                    f"{value:.6g}, at the export {expected:.6g} ± {golden.tolerance:.2g}. This PC "
                    "computes other numbers than the thresholds were validated with. Copy the "
                    "bundle again; if the error remains, choose device CPU, or export the model "
                    "again with this version."
                )


def batch_fault(alone: RawPredictions, found: RawPredictions, manifest: Manifest) -> str | None:
    """Return what a batch changes of numbers that images get alone; None if nothing."""
    extent = manifest.normalization.image
    share = _TOLERANCE[manifest.precision.weights]
    for what, expected, value, unit in (
        ("a score", alone.scores, found.scores, extent.max - extent.min),
        ("a map value", alone.anomaly_maps, found.anomaly_maps, 0.0),
    ):
        scale = max(unit, float(np.abs(expected).max()), 1e-6)
        difference = float(np.abs(expected.astype(np.float64) - value).max())
        if not difference <= share * scale:
            return f"{what} is off by {difference / scale:.2g} of what single images give"
    return None


def _predicted(predictor: Predictor, images: dict[str, Image]) -> list[tuple[str, float, float]]:
    """Return name, score and map peak of each image, all of them finite."""
    predictions = predictor.predict_all(len(images), _filling(list(images.values())))
    found = []
    for name, score, anomaly_map in zip(images, *predictions, strict=True):
        peak = float(anomaly_map.max())
        if not (np.isfinite(score) and np.isfinite(anomaly_map).all()):
            raise SelfTestFailed(f"self-test image {name!r}: {NOT_FINITE}")
        found.append((name, float(score), peak))
    return found


def _filling(images: list[Image]) -> Callable[[int, Image], None]:
    return lambda index, out: np.copyto(out, images[index])
