"""One fitted model in each precision: graph, bytes, and what the precision changed."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import openvino as ov

from edge.errors import StationError
from edge.inspection.openvino_core import openvino_core
from export.accuracy_gate import Accuracy, AccuracyBudget, Predictions, Scale, compare
from export.engines import BFLOAT16, DecidingAreas, computes_in, openvino_engine, scored_over
from export.errors import ConversionFailed, GateFailed, QuantizationRefused
from export.int8_search import Attempt, search
from export.ir import ir_bytes
from export.parity_gate import Budget, Engine, Images, Joined, dependences, invariance
from export.quantization import Quantizable, compress_weights

NOT_HERE = "this processor does not compute in it"

# Why a precision may not be made of a model, while others may.
NOT_MADE = (GateFailed, QuantizationRefused, ConversionFailed)

# The kernels of a batch may round differently; a step of the integers may then tip over.
_INVARIANCE = Budget(score_difference=0.02, map_correlation=0.999, map_difference=0.02)

log = logging.getLogger(__name__)


class ExportPrecision(StrEnum):
    """What an export can give.

    ``FP32``: as fitted. ``BF16``: the same graph, computed in bfloat16. ``FP16``: half the size.
    ``INT8_WEIGHTS``: a quarter of the size of the layers. All four compute in floating point.
    ``INT8``: computes in integers, several times as fast; its floats are stored in 16 bits.
    """

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8_WEIGHTS = "int8-weights"
    INT8 = "int8"

    @property
    def weights(self) -> str:
        """Number format of the weights, as a manifest names it."""
        return (ExportPrecision.FP32 if self is ExportPrecision.BF16 else self).value


# What stores floating-point numbers in 16 bits, and computes with them in 32.
_HALF = (ExportPrecision.FP16, ExportPrecision.INT8_WEIGHTS, ExportPrecision.INT8)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class JudgingSet:
    """What variants are judged on: images that nothing was made with, and what FP32 says of them.

    Attributes:
        images: ``(P, H, W, 3) uint8``, of images that are inspected in tiles all of them; the last
            are probes.
        reference: predictions of the exported FP32 graph, of images and probes; those beyond
            ``scale.defective`` are probes.
        joined: makes predictions of images of those of their pieces.
        single_tiles: of how many images one tile stands for all.
    """

    images: Images
    reference: Predictions
    scale: Scale
    joined: Joined = list
    single_tiles: int = 0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Variant:
    """A model in one precision.

    Attributes:
        accuracy: against FP32; of FP32 itself too, where it says that nothing changed.
        floating: layer groups that stay in floating point beside those the model declares.
        attempts: what was tried on the way.
        devices: faults by the name of each other OpenVINO device of this PC; empty: it may be used.
    """

    precision: ExportPrecision
    inference: str
    xml: bytes
    weights: bytes
    accuracy: Accuracy
    floating: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    devices: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class VariantBuilder:
    """Everything that variants of one model are made from.

    Attributes:
        size: height and width of the input.
        calibration: gives the images for quantization when they are needed.
        inference: arithmetic of what is not integer, ``f32`` or ``bf16``.
        in_batches: whether INT8 is asked for several images at once, as tiles are. OpenVINO's
            integer kernels of a batch were seen to give other numbers at one call in thirty
            (2026.4.1, AVX2 without VNNI), those of a single image never.
        takes_batches: whether the graph takes several images at once, in any precision.
        areas: that are scored and decide; None where all of an image does alike.
    """

    subject: Quantizable
    size: tuple[int, int]
    calibration: Callable[[], Images]
    evidence: JudgingSet
    budget: AccuracyBudget
    inference: str = "f32"
    in_batches: bool = True
    takes_batches: bool = True
    areas: DecidingAreas | None = None

    def make(self, precision: ExportPrecision) -> Variant:
        """Make a variant and let it pass the gate.

        Raises:
            GateFailed, QuantizationRefused: it changes more than the budget allows.
            ConversionFailed: the graph cannot be quantized.
            CalibrationUnusable: the images for quantization cannot be used.
        """
        floating: tuple[str, ...] = ()
        attempts: tuple[Attempt, ...] = ()
        model = self.subject.model.clone()
        if precision is ExportPrecision.INT8_WEIGHTS:
            model = compress_weights(model)
        elif precision is ExportPrecision.INT8:
            found = search(self.subject, self.calibration(), self.judge, self.budget)
            model, floating, attempts = found.model, found.recipe.floating, found.attempts
        inference = BFLOAT16 if precision is ExportPrecision.BF16 else self.inference
        xml, weights = ir_bytes(model, *self.size, half_weights=precision in _HALF)
        name = f"OpenVINO {precision.value}"
        engine = self._engine(xml, weights, inference)
        found_now = invariance(
            name,
            engine,
            self.evidence.images,
            self.evidence.scale.spread,
            budget=_INVARIANCE,
            in_batches=self.takes_batches
            and (self.in_batches or precision is not ExportPrecision.INT8),
        )
        accuracy = self.measure(found_now)
        faults = accuracy.faults(self.budget)
        if faults:
            raise GateFailed(
                f"gate: {name}, computed in {inference}, is not good enough: "
                f"{'; '.join(faults)}. Nothing was written. Export with another --precision, or "
                "allow more with --max-auroc-drop and --max-verdict-flips."
            )
        devices = self._other_devices(xml, weights, inference)
        return Variant(
            precision=precision,
            inference=inference,
            xml=xml,
            weights=weights,
            accuracy=accuracy,
            floating=floating,
            attempts=attempts,
            devices=devices,
        )

    def judge(self, model: ov.Model) -> tuple[Accuracy, list[str]]:
        """Measure a candidate for INT8 as the runtime would run it; say what speaks against it."""
        parts = ir_bytes(model.clone(), *self.size, half_weights=True)
        engine = self._engine(*parts, self.inference)
        evidence = self.evidence
        found = [engine(image[None])[0] for image in evidence.images]
        accuracy = self.measure(found)
        return accuracy, accuracy.faults(self.budget) or dependences(
            engine,
            evidence.images,
            found,
            evidence.scale.spread,
            budget=_INVARIANCE,
            in_batches=self.takes_batches and self.in_batches,
        )

    def _engine(self, xml: bytes, weights: bytes, inference: str, device: str = "CPU") -> Engine:
        return scored_over(openvino_engine(xml, weights, inference, device), self.areas)

    def measure(self, pieces: Predictions) -> Accuracy:
        """Compare what a candidate says of the images, by its predictions of their pieces."""
        evidence = self.evidence
        return compare(evidence.reference, evidence.joined(pieces), evidence.scale)

    def fallback_accuracy(self, variant: Variant) -> Accuracy | None:
        """Judge a variant's graph in f32, for processors that do not compute in its arithmetic.

        Returns:
            None where it needs no other processor, or is not good enough in f32.
        """
        if variant.inference != BFLOAT16:
            return None
        engine = self._engine(variant.xml, variant.weights, "f32")
        accuracy = self.measure([engine(image[None])[0] for image in self.evidence.images])
        return None if accuracy.faults(self.budget) else accuracy

    def _other_devices(
        self, xml: bytes, weights: bytes, inference: str
    ) -> dict[str, tuple[str, ...]]:
        """Judge the bytes on every other device here; a bad one is named, not refused."""
        found = {}
        for device in openvino_core().available_devices:
            if device == "CPU":
                continue
            try:
                engine = self._engine(xml, weights, inference, device)
                predictions = [engine(image[None])[0] for image in self.evidence.images]
                faults = tuple(self.measure(predictions).faults(self.budget))
            except RuntimeError as error:
                faults = (f"cannot run it ({str(error).splitlines()[-1]})",)
            found[device] = faults
            if faults:
                log.warning("do not run it on %s: %s", device, "; ".join(faults))
        return found


def make_all(
    builder: VariantBuilder,
    precisions: Sequence[ExportPrecision],
    known: Mapping[ExportPrecision, Variant | str],
) -> dict[ExportPrecision, Variant | str]:
    """Make the other precisions for comparison; of one that is refused, the reason."""
    made: dict[ExportPrecision, Variant | str] = {}
    for precision in precisions:
        if precision in known:
            made[precision] = known[precision]
            continue
        if precision is ExportPrecision.BF16 and not computes_in(BFLOAT16):
            made[precision] = NOT_HERE
            continue
        try:
            made[precision] = builder.make(precision)
        except NOT_MADE as error:
            made[precision] = why_not(error)
    return made


def why_not(error: StationError) -> str:
    """Return for a report why a precision was not made."""
    if isinstance(error, QuantizationRefused):
        return f"{error.reason}. {error.details}"
    return str(error)


def reference_graph(model: ov.Model, size: tuple[int, int]) -> tuple[bytes, bytes, ov.Model]:
    """Return the FP32 bytes and the graph that other precisions start from.

    The graph keeps its operations' names, which the bytes do not.
    """
    model.reshape([1, *size, 3])
    return *ir_bytes(model.clone(), *size), model
