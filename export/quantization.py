"""INT8 by post-training quantization: which operations, with which ranges.

Ranges span everything that calibration saw. Quantizers usually cut outliers off for the sake of
finer steps; here the outliers are what a defect does to the features, and cutting them off moved
verdicts five times as often.
"""

import logging
import os
from collections.abc import Collection, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from export.errors import ConversionFailed
from export.mean_correction import correct_mean

# NNCF reports its use over the network, unless it is told before its import that nobody watches.
os.environ.setdefault("NNCF_CI", "1")

# What is worth eight bits: everything else takes little time and may need its digits.
_WEIGHTY = {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul"}

# What eight-bit numbers pass through unchanged; ignoring these would cut chains of layers apart.
_TRANSPARENT = {"Parameter", "Constant", "Result", "Convert", "Relu", "PRelu", "Clamp", "MaxPool"}
_TRANSPARENT |= {"Reshape", "Transpose", "Squeeze", "Unsqueeze"}

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class QuantizationRecipe:
    """One way to quantize.

    Attributes:
        bias_correction: shift each layer's bias by what rounding did to its mean.
        mean_correction: take off, place by place, what rounding did to the mean of the features.
        floating: layer groups that stay in floating point beside those the model declares.
    """

    bias_correction: bool = True
    mean_correction: bool = True
    floating: tuple[str, ...] = ()

    def __str__(self) -> str:
        corrected = ["biases"] * self.bias_correction + ["means"] * self.mean_correction
        words = f"INT8, {' and '.join(corrected)} corrected" if corrected else "INT8"
        return words + (f", without {', '.join(self.floating)}" if self.floating else "")


@dataclass(frozen=True, slots=True)
class Quantizable:
    """A graph and what of it may become INT8.

    Attributes:
        model: floating-point graph with a batch of one.
        layers: layer path of each operation, by name, from ``export.ir.read_layers``.
        floating: sub-modules whose maths stays in floating point, as the model declares.
        mean_corrected: sub-modules whose outputs may be brought back to their mean.
    """

    model: ov.Model
    layers: dict[str, str]
    floating: tuple[str, ...]
    mean_corrected: tuple[str, ...] = ()

    def layer(self, operation: Any) -> str:
        """Return the layer path of an operation; empty for the model's own arithmetic."""
        return self.layers.get(operation.get_friendly_name().partition("/")[0], "")

    def is_weighty(self, operation: Any) -> bool:
        """Tell whether an operation may become INT8."""
        if operation.get_type_name() not in _WEIGHTY:
            return False
        path = self.layer(operation)
        # A product of two activations, as in attention, has no weights to fit a scale to.
        return bool(path) and not within(path, self.floating) and _has_constant(operation)

    def groups(self) -> list[str]:
        """Return the layer groups that may become INT8, in the order of the graph."""
        found = [
            layer_group(self.layer(operation))
            for operation in self.model.get_ordered_ops()
            if self.is_weighty(operation)
        ]
        return list(dict.fromkeys(found))

    def leaves_corrected(self, operation: Any) -> bool:
        """Tell whether an operation lies outside the modules whose outputs may be corrected."""
        return not within(self.layer(operation), self.mean_corrected)

    def corrected_outputs(self) -> list[str]:
        """Return the names of the operations by which features leave those modules."""
        return [
            operation.get_friendly_name()
            for operation in self.model.get_ordered_ops()
            if not self.leaves_corrected(operation)
            and any(
                self.leaves_corrected(consumer.get_node())
                for consumer in operation.output(0).get_target_inputs()
            )
        ]

    def ignored(self, floating: Collection[str]) -> list[str]:
        """Return the names of all operations that stay in floating point."""
        return [
            operation.get_friendly_name()
            for operation in self.model.get_ordered_ops()
            if operation.get_type_name() not in _TRANSPARENT
            and not self._becomes_int8(operation, floating)
        ]

    def _becomes_int8(self, operation: Any, floating: Collection[str]) -> bool:
        path = self.layer(operation)
        if within(path, (*self.floating, *floating)):
            return False
        if operation.get_type_name() == "Add" and path:
            # Biases of convolutions, and the sums of residual blocks.
            sources = [value.get_node().get_type_name() for value in operation.input_values()]
            return "Constant" not in sources or sources[0] in _WEIGHTY - {"MatMul"}
        return self.is_weighty(operation)


def quantize(
    subject: Quantizable,
    calibration: Images,
    recipe: QuantizationRecipe,
    beside: Mapping[str, NDArray[np.float32]] | None = None,
) -> ov.Model:
    """Quantize weights and activations; the same arguments give the same model.

    Args:
        calibration: ``(N, H, W, 3) uint8`` prepared good images.
        beside: what further inputs of the graph get with each of them.

    Raises:
        ConversionFailed: NNCF meets an operation that it cannot quantize around.
    """
    # NNCF takes seconds to load, and the other precisions do without.
    import nncf
    from nncf.quantization import advanced_parameters, range_estimator

    span = range_estimator.RangeEstimatorParameters(
        min=range_estimator.StatisticsCollectorParameters(
            statistics_type=range_estimator.StatisticsType.MIN,
            aggregator_type=range_estimator.AggregatorType.MIN,
        ),
        max=range_estimator.StatisticsCollectorParameters(
            statistics_type=range_estimator.StatisticsType.MAX,
            aggregator_type=range_estimator.AggregatorType.MAX,
        ),
    )
    advanced = advanced_parameters.AdvancedQuantizationParameters(
        activations_range_estimator_params=span,
        disable_bias_correction=not recipe.bias_correction,
    )
    logging.getLogger("nncf").setLevel(logging.ERROR)
    image_name = subject.model.inputs[0].get_any_name()
    items: list[Any] = [
        {image_name: image[None], **beside} if beside else image[None] for image in calibration
    ]
    try:
        with redirect_stdout(StringIO()):  # its progress bars
            quantized = nncf.quantize(
                subject.model.clone(),
                nncf.Dataset(items),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                fast_bias_correction=False,
                model_type=nncf.ModelType.TRANSFORMER if _attends(subject) else None,
                ignored_scope=nncf.IgnoredScope(
                    names=subject.ignored(recipe.floating), validate=False
                ),
                advanced_parameters=advanced,
            )
    except (RuntimeError, nncf.ValidationError, nncf.UnsupportedModelError) as error:
        raise ConversionFailed(
            f"NNCF {nncf.__version__} cannot quantize it ({error}). Export with --precision fp16, "
            "or declare the sub-module it names as floating_point in the model."
        ) from error
    if recipe.mean_correction:
        for name in subject.corrected_outputs():
            correct_mean(
                quantized, subject.model, name, calibration, is_consumer=subject.leaves_corrected
            )
    return quantized


def compress_weights(model: ov.Model) -> ov.Model:
    """Store the weights of layers in eight bits with a scale per channel; arithmetic stays."""
    # NNCF, as above.
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    with redirect_stdout(StringIO()):
        return nncf.compress_weights(model.clone(), mode=nncf.CompressWeightsMode.INT8_SYM)


def layer_group(path: str) -> str:
    """Return the group that a layer is tried in: its stage, such as ``extractor.body.layer2``."""
    parts = path.split(".")
    for depth, part in enumerate(parts):
        if part.isdigit() and depth > 0:
            return ".".join(parts[:depth])
    return path


def within(path: str, prefixes: Collection[str]) -> bool:
    """Tell whether a layer lies in one of the modules."""
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _has_constant(operation: Any) -> bool:
    weights = operation.input_values()[1].get_node()
    first = operation.input_values()[0].get_node()
    return any(
        source.get_type_name() == "Constant"
        or (source.get_type_name() in ("Reshape", "Transpose", "Convert") and _is_folded(source))
        for source in (weights, first)
    )


def _is_folded(source: Any) -> bool:
    return all(value.get_node().get_type_name() == "Constant" for value in source.input_values())


def _attends(subject: Quantizable) -> bool:
    """Tell whether the graph has attention, whose quantization follows other rules."""
    return any(
        operation.get_type_name() in ("Softmax", "ScaledDotProductAttention")
        and bool(subject.layer(operation))
        for operation in subject.model.get_ordered_ops()
    )
