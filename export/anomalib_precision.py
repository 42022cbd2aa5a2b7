"""An imported graph in other precisions: which of its layers may become INT8, and what judges them.

Its layers are known by their names alone, and which images it was fitted on nobody knows: what is
compared with is its own graph in FP32, on images that the user gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino.passes import ConstantFolding, Manager

from edge.errors import FrameUnsuitable
from edge.inspection.preprocessing import prepare, to_samples
from edge.teaching.used_images import HASH_BYTES
from export.accuracy_gate import AccuracyBudget, Scale
from export.anomalib_parity import Frame, Imported
from export.calibration_images import (
    ToQuantize,
    read_calibration_folder,
    require_enough,
    usable_images,
    with_patches,
)
from export.engines import openvino_engine
from export.errors import CalibrationUnusable
from export.ir import ir_bytes
from export.parity_gate import Images, probe_images
from export.quantization import Quantizable
from export.variants import JudgingSet, VariantBuilder
from training.data.content import content_hashes
from training.data.loading import read_sample
from training.data.samples import Sample
from training.errors import DataError

# What the sum of a residual block, or a bias, comes from: whole layers of a network.
_CONVOLUTIONS = {"Convolution", "ConvolutionBackpropData", "GroupConvolution"}
_BETWEEN = {"Relu", "PRelu", "Clamp", "MaxPool", "Add"}

NO_IMAGES = "no good images to quantize with: give a folder of them with --calibrate-on"


@dataclass(frozen=True, slots=True, eq=False)
class ImportedImages:
    """Images of the user's that precisions are made and judged with.

    Attributes:
        judging: test images of the data set, without those that are quantized with.
        quantized: None where none were given.
    """

    judging: tuple[Sample, ...]
    quantized: ToQuantize | None


def images_for(
    imported: Imported, samples: Sequence[Sample], folder: Path | None
) -> ImportedImages:
    """Read the images to quantize with, and keep them from judging.

    Raises:
        CalibrationUnusable: they cannot be used, or none is left to judge by.
    """
    if folder is None:
        return ImportedImages(tuple(samples), None)
    quantized = read_calibration_folder(folder, imported.spec())
    require_enough(len(quantized.images))
    contents = content_hashes(samples)
    left = tuple(s for s in samples if contents[s][:HASH_BYTES] not in quantized.hashes)
    if not left:
        raise CalibrationUnusable(
            f"{folder}: all images of --judge-on are among these. Give others to judge by."
        )
    return ImportedImages(left, quantized)


def make_builder(
    imported: Imported, model: ov.Model, images: ImportedImages, budget: AccuracyBudget
) -> VariantBuilder:
    """Collect what precisions of an imported graph are made from.

    Args:
        model: with our input and outputs; it is changed.

    Raises:
        DataError: an image cannot be used.
    """
    xml, weights = ir_bytes(model.clone(), *imported.size)
    reference = openvino_engine(xml, weights, "f32")
    spec = imported.spec()
    prepared = [prepare(colour_frame(sample, imported), spec) for sample in images.judging]
    everything = np.concatenate([np.stack(prepared), probe_images(spec)])
    defective = np.array([sample.is_defective for sample in images.judging], np.bool_)
    evidence = JudgingSet(
        images=everything,
        reference=[reference(image[None])[0] for image in everything],
        scale=Scale(defective, imported.threshold, imported.unit),
    )
    judged_good = np.array([p.score for p in evidence.reference[: len(defective)]])[~defective]

    @cache
    def calibration() -> Images:
        assert images.quantized is not None, "INT8 is not asked for without images"
        given = images.quantized
        scores = np.array([reference(image[None])[0].score for image in given.images])
        good = usable_images(
            given.images, given.names, scores, imported.threshold, judged_good=judged_good
        )
        return with_patches(good, spec)

    return VariantBuilder(
        subject=quantizable(model),
        size=imported.size,
        calibration=calibration,
        evidence=evidence,
        budget=budget,
        in_batches=False,
        takes_batches=False,
    )


def colour_frame(sample: Sample, imported: Imported) -> Frame:
    """Return an image as ``(H, W, 3) uint8`` BGR, as its own program takes it.

    Raises:
        DataError: it cannot be used; names the file.
    """
    try:
        pixels = to_samples(read_sample(sample), imported.spec())
    except FrameUnsuitable as error:
        raise DataError(f"{sample.label}: {error}") from error
    return pixels[:, :, None].repeat(3, 2) if pixels.ndim == 2 else pixels


def quantizable(model: ov.Model) -> Quantizable:
    """Tell which operations of an imported graph may become INT8: convolutions and their sums.

    Products of matrices stay as they are: the distances of a memory bank are some.

    Args:
        model: whose operations get names that are unique, as those of a foreign graph need not be.
    """
    manager = Manager()
    manager.register_pass(ConstantFolding())  # weights that are stored in 16 bits, and widened
    manager.run_passes(model)
    layers: dict[str, str] = {}
    for number, operation in enumerate(model.get_ordered_ops()):
        path = _path(operation.get_friendly_name())
        name = f"{operation.get_type_name()}_{number}"
        if operation.get_type_name() not in ("Parameter", "Result"):
            operation.set_friendly_name(name)
        if _is_convolution(operation) or _is_sum_of_layers(operation, layers):
            layers[name] = path
    return Quantizable(model, layers, ())


def _is_convolution(operation: Any) -> bool:
    return operation.get_type_name() in _CONVOLUTIONS


def _is_sum_of_layers(operation: Any, layers: dict[str, str]) -> bool:
    """Tell a bias, or the sum of a residual block, from arithmetic before and behind a network."""
    if operation.get_type_name() not in _BETWEEN:
        return False
    sources = [value.get_node() for value in operation.input_values()]
    given = [node for node in sources if node.get_type_name() not in ("Constant", "Convert")]
    return bool(given) and all(node.get_friendly_name() in layers for node in given)


def _path(name: str) -> str:
    """Return a layer's path of the name that exporters give: ``/model/layer1/layer1.0/conv1/…``."""
    return name.strip("/").replace("/", ".") or "unnamed"
