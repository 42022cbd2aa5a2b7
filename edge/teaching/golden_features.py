"""The teacher's self-test: with other features than at its export it teaches nothing."""

import numpy as np

from edge.bundle.input_spec import InputSpec
from edge.bundle.teacher import GoldenFeatures, TeacherManifest
from edge.inspection.self_test import SelfTestFailed, golden_images
from edge.teaching.teacher_graph import PatchFeatures

# Shares of the features' deviation: int8 rounds at steps that the processor's instructions move.
_TOLERANCE = {"fp32": 1e-3, "int8": 3e-2}


def golden_features(
    features: PatchFeatures, size: InputSpec, weights: str
) -> tuple[GoldenFeatures, ...]:
    """Return what a graph gives for the golden images, for its manifest.

    Raises:
        ModelError: inference failed, or gave numbers that are not finite.
    """
    found = []
    for name, image in golden_images(size.height, size.width).items():
        values = features.of(image).astype(np.float64)
        deviation = float(values.std())
        tolerance = max(_TOLERANCE[weights] * deviation, 1e-6)
        found.append(
            GoldenFeatures(
                image=name, mean=float(values.mean()), deviation=deviation, tolerance=tolerance
            )
        )
    return tuple(found)


def check_features(features: PatchFeatures, manifest: TeacherManifest) -> None:
    """Run the golden images.

    Raises:
        SelfTestFailed: names the image, what was expected and what was found.
        ModelError: inference failed, or gave numbers that are not finite.
    """
    found = {
        golden.image: golden
        for golden in golden_features(features, manifest.input, manifest.weights)
    }
    for golden in manifest.self_test:
        here = found.get(golden.image)
        if here is None:
            raise SelfTestFailed(
                f"{manifest.identity.name}: self-test asks for the image {golden.image!r}, which "
                "this version does not have. Make the teacher again with this version."
            )
        for what, expected, value in (
            ("mean", golden.mean, here.mean),
            ("deviation", golden.deviation, here.deviation),
        ):
            if not abs(value - expected) <= golden.tolerance:
                raise SelfTestFailed(
                    f"{manifest.identity.name}: self-test image {golden.image!r}: {what} of the "
                    f"features {value:.6g}, at the export {expected:.6g} ± "
                    f"{golden.tolerance:.2g}. This PC computes other numbers. Copy the teacher "
                    "again; if the error remains, make it again with this version."
                )
