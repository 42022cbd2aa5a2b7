"""The three runtimes the gate compares, each as one function from images to raw numbers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import torch
from numpy.typing import NDArray
from torch import nn

from edge.errors import ConfigurationError
from edge.inspection.areas import CountedAreas, counted_areas
from edge.inspection.criteria import Calibrated, DecisionCriteria, decision_criteria
from edge.inspection.openvino_core import openvino_core
from edge.inspection.pieces import frame_pieces
from edge.inspection.predictor import RawPrediction
from edge.inspection.zones import deciding_score
from export.ir import INPUT, OUTPUTS
from export.parity_gate import Engine, Images

BFLOAT16 = "bf16"
# Of which a processor needs one to compute in it, as the kernel names them.
BFLOAT16_FEATURES = ("amx_bf16", "avx512_bf16")


def torch_engine(model: nn.Module) -> Engine:
    def run(images: Images) -> list[RawPrediction]:
        with torch.inference_mode():
            score, anomaly_map = model(torch.from_numpy(images))
        return _split(score.numpy(), anomaly_map.numpy())

    return run


def onnx_engine(onnx: Path) -> Engine:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> list[RawPrediction]:
        return _split(*session.run(list(OUTPUTS), {INPUT: images}))

    return run


def openvino_engine(xml: bytes, weights: bytes, precision: str, device: str = "CPU") -> Engine:
    """Run the IR that goes into the bundle, compiled as the runtime compiles it."""
    core = openvino_core()
    model = core.read_model(xml, ov.Tensor(np.frombuffer(weights, np.uint8)))
    compiled: dict[int, Any] = {}

    def run(images: Images) -> list[RawPrediction]:
        count = len(images)
        if count not in compiled:
            model.reshape(list(images.shape))
            compiled[count] = core.compile_model(
                model, device, {"INFERENCE_PRECISION_HINT": precision}
            )
        outputs = compiled[count]({INPUT: images})
        return _split(*(outputs[name] for name in OUTPUTS))

    return run


def computes_in(precision: str) -> bool:
    """Whether this PC computes in an arithmetic; in f32 every one does."""
    able = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return precision != BFLOAT16 or "BF16" in able


@dataclass(frozen=True, slots=True)
class DecidingAreas:
    """What of an image counts, and the limits by which each of its areas decides."""

    counted: CountedAreas
    criteria: DecisionCriteria

    @property
    def tiles(self) -> int:
        """Of how many maps an image is made."""
        return len(self.counted.areas[0].values)

    def score(self, maps: NDArray[np.float32]) -> float:
        """Return what decides, beside the part's threshold.

        Args:
            maps: ``(T, h, w) float32``, of the tiles of an image.
        """
        return deciding_score(self.counted.scores(maps), self.criteria)

    def of_tile(self, index: int) -> "DecidingAreas":
        """Return what counts of one tile; where nothing of it does, it scores −infinity."""
        areas = tuple(replace(area, values=(area.values[index],)) for area in self.counted.areas)
        return DecidingAreas(replace(self.counted, areas=areas), self.criteria)


def make_deciding_areas(description: Calibrated) -> DecidingAreas | None:
    """Return what of an image counts and decides; None where all does alike."""
    spec = description.input
    if spec.areas is None:
        return None
    frame = (spec.areas.height, spec.areas.width)
    whole = frame_pieces(frame, spec).whole
    counted = counted_areas(
        spec, frame, whole, score=description.map_score, map_shape=description.map_shape
    )
    return DecidingAreas(counted, decision_criteria(description))


def scored_over(engine: Engine, areas: DecidingAreas | None) -> Engine:
    """Return an engine whose scores are those that decide, also where a zone does by its own.

    Of tiles it gives those of each tile: what decides an image of them, ``export.stitching`` says.
    """
    if areas is None or areas.tiles > 1:
        return engine

    def run(images: Images) -> list[RawPrediction]:
        maps = [prediction.anomaly_map for prediction in engine(images)]
        return [RawPrediction(areas.score(one[None]), one) for one in maps]

    return run


def require_inference(precision: str) -> None:
    """Demand that this PC computes in a precision: no gate, no bundle.

    Raises:
        ConfigurationError: it does not.
    """
    if not computes_in(precision):
        raise ConfigurationError(
            "bf16: this processor does not compute in bfloat16, so the gate cannot run "
            "in it. Export on a processor with AVX512-BF16 or AMX, or leave the option out."
        )


def _split(scores: Any, maps: Any) -> list[RawPrediction]:
    return [RawPrediction(float(s), m.copy()) for s, m in zip(scores, maps, strict=True)]
