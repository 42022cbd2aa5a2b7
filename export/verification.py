"""``export-model --verify``: is this bundle, on this PC, the model that was validated?

Needs what the inspection PC has, OpenVINO and ``edge``, and neither torch nor the checkpoint.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edge.bundle.loading import Bundle, load_bundle
from edge.bundle.manifest import Manifest
from edge.errors import StationError
from edge.inspection.detector import CompiledModel, Detector, RunPlan
from edge.inspection.graph_trial import try_model
from edge.inspection.openvino_core import openvino_core
from edge.inspection.predictor import RawPredictions
from edge.inspection.self_test import golden_images, self_test
from edge.wording import counted
from export.errors import VerificationFailed

# Images of one request, to compare with each on its own.
_BATCH = 4

# Shares of the score's spread, or of the score where that is more. In integers a step may tip over.
_TOLERANCE = {"int8": 0.02}
_FLOAT_TOLERANCE = 1e-3


def verify(path: Path) -> Iterator[str]:
    """Check a bundle; yields a sentence for each thing that holds.

    Hashes; the scores that its export noted for the golden images; that an image's numbers
    depend neither on its batch, where a station asks in batches, nor on earlier calls, nor on the
    number of threads; and the other OpenVINO devices of this PC, of which one that gives other
    numbers is named.

    Raises:
        BundleError: the files are missing, damaged, or give other numbers than at the export.
        VerificationFailed: numbers depend on what else is asked.
        ModelError: the network cannot be compiled or run here.
    """
    bundle = load_bundle(path)
    manifest = bundle.manifest
    yield f"hashes       {path}: xml and bin are those of the manifest"
    try_model(bundle)
    network = CompiledModel(bundle)
    self_test(Detector(network), manifest)
    count = len(manifest.self_test)
    yield (
        f"self-test    {counted(count, 'golden image')} as at the export"
        if count
        else "self-test    numbers are finite; this bundle carries no golden scores"
    )
    images = list(golden_images(manifest.input.height, manifest.input.width).values())
    detector = Detector(network)
    alone = _predict(detector, images)
    backwards = _predict(detector, images[::-1])
    again = RawPredictions(backwards.scores[::-1], backwards.anomaly_maps[::-1])
    _demand("after other calls", alone, again, manifest)
    plans = {"with one thread": RunPlan(threads=1)}
    if _is_asked_in_batches(manifest):
        plans[f"in a batch of {_BATCH}"] = RunPlan(batch=_BATCH)
    for what, plan in plans.items():
        found = _predict(Detector(CompiledModel(bundle, plan=plan)), images)
        _demand(what, alone, found, manifest)
    yield f"parity       alone, in another order, {' and '.join(plans)} alike"
    core = openvino_core()
    yield f"device       CPU, {core.get_property('CPU', 'FULL_DEVICE_NAME')}: verified"
    for device in core.available_devices:
        if device != "CPU":
            yield f"device       {device}: {_other_device(bundle, device)}"


def _is_asked_in_batches(manifest: Manifest) -> bool:
    """Tell whether several images may go into one request; see ``VariantBuilder.in_batches``."""
    return manifest.input.tile_plan is not None or manifest.precision.weights != "int8"


def _other_device(bundle: Bundle, device: str) -> str:
    try:
        self_test(Detector(CompiledModel(bundle, device)), bundle.manifest)
    except StationError as error:
        return f"do not use it ({error})"
    return "verified"


def _predict(detector: Detector, images: list[np.ndarray]) -> RawPredictions:
    return detector.predict_all(len(images), lambda index, out: np.copyto(out, images[index]))


def _demand(what: str, expected: RawPredictions, found: RawPredictions, manifest: Manifest) -> None:
    """Demand equal numbers.

    Raises:
        VerificationFailed: names the circumstance and the difference.
    """
    extent = manifest.normalization.image
    share = _TOLERANCE.get(manifest.precision.weights, _FLOAT_TOLERANCE)
    for kind, a, b, unit in (
        ("score", expected.scores, found.scores, extent.max - extent.min),
        ("map value", expected.anomaly_maps, found.anomaly_maps, 0.0),
    ):
        scale = max(unit, float(np.abs(a).max()), 1e-6)
        difference = float(np.abs(a.astype(np.float64) - b).max())
        if not difference <= share * scale:
            raise VerificationFailed(
                f"{manifest.identity.name}: an image's {kind} {what} differs by {difference:.3g}, "
                f"allowed {share * scale:.3g}. Do not run this bundle here; export the model again "
                "with this version."
            )
