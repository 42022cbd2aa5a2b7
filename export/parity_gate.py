"""The parity gate: torch, ONNX Runtime and OpenVINO must give the same numbers.

Run at every export. What it measured goes into the manifest; over budget nothing is written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest import GateReport
from edge.imaging.frame import PixelFormat
from edge.inspection.predictor import RawPrediction
from edge.inspection.preprocessing import prepare
from export.accuracy_gate import map_correlation
from export.errors import GateFailed
from training.metrics import auroc, exact_interval

Images = NDArray[np.uint8]
# Prepared ``(N, H, W, 3)`` images to raw predictions, all in one call.
Engine = Callable[[Images], Sequence[RawPrediction]]
# Predictions of pieces to those of the images that they are of.
Joined = Callable[[Sequence[RawPrediction]], list[RawPrediction]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What an export may change.

    Attributes:
        score_difference: in shares of the score's spread.
        map_correlation: lowest Pearson correlation of the maps.
        map_difference: in shares of the largest map value, which correlation alone cannot see.
        auroc_drop: of the image AUROC on the validation images.
        verdict_flips: share of validation images whose decision changes.
    """

    score_difference: float = 1e-3
    map_correlation: float = 0.9999
    map_difference: float = 1e-3
    auroc_drop: float = 1e-3
    verdict_flips: float = 0.0


# Images that are run again in a batch and in another order.
_INVARIANCE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Prepared validation images.

    Attributes:
        images: ``(P, H, W, 3) uint8``; of an image that is inspected in tiles all of them.
        defective: ``(N,) bool``, of the images.
        joined: makes predictions of images of those of their pieces.
        single_tiles: of how many images one tile stands for all.
    """

    images: Images
    defective: NDArray[np.bool_]
    joined: Joined = list
    single_tiles: int = 0


def parity(
    reference: Engine,
    others: dict[str, Engine],
    exported: str,
    spec: InputSpec,
    *,
    validation: Validation,
    threshold: float,
    spread: float,
    budget: Budget,
) -> GateReport:
    """Compare engines and judge the exported one.

    Args:
        reference: the checkpoint in torch.
        others: engines to compare with it, by name.
        exported: which of them goes into the bundle.
        spread: range of the image score that becomes one normalized unit.

    Raises:
        GateFailed: names engine, check, value and budget.
    """
    images = np.concatenate([probe_images(spec), validation.images])
    expected = _one_by_one(reference, images)
    first_validation = len(images) - len(validation.images)
    found = {name: _one_by_one(engine, images) for name, engine in others.items()}
    for name, engine in others.items():
        agreement(expected, found[name], spread).demand(name, budget)
        _demand_invariance(name, engine, images, found[name], spread=spread, budget=budget)
    measured = agreement(expected, found[exported], spread)
    before, after = (
        np.array([p.score for p in validation.joined(one[first_validation:])])
        for one in (expected, found[exported])
    )
    changed = int(((before >= threshold) != (after >= threshold)).sum())
    flips = changed / len(before) if len(before) else 0.0
    interval = exact_interval(changed, len(before)) if len(before) else None
    auroc_before = auroc(before, validation.defective)
    auroc_after = auroc(after, validation.defective)
    _demand(
        flips <= budget.verdict_flips,
        exported,
        "verdict flips",
        value=flips,
        limit=budget.verdict_flips,
    )
    if auroc_before is not None and auroc_after is not None:
        drop = auroc_before - auroc_after
        _demand(
            drop <= budget.auroc_drop, exported, "AUROC drop", value=drop, limit=budget.auroc_drop
        )
    return GateReport(
        images=first_validation + len(before),
        single_tiles=validation.single_tiles,
        largest_score_difference=measured.score_difference,
        smallest_map_correlation=measured.map_correlation,
        verdict_flips=flips,
        auroc_before=auroc_before,
        auroc_after=auroc_after,
        flips_interval=None if interval is None else (interval.low, interval.high),
    )


def invariance(
    name: str,
    engine: Engine,
    images: Images,
    spread: float,
    *,
    budget: Budget,
    in_batches: bool = True,
) -> list[RawPrediction]:
    """Demand that an engine gives an image's numbers whatever else it is asked.

    Args:
        in_batches: whether the runtime asks for several images at once, too.

    Returns:
        The predictions of the images, each run on its own.

    Raises:
        GateFailed: numbers depend on the batch or on earlier calls.
    """
    found = _one_by_one(engine, images)
    _demand_invariance(
        name, engine, images, found, spread=spread, budget=budget, in_batches=in_batches
    )
    return found


def _demand_invariance(
    name: str,
    engine: Engine,
    images: Images,
    found: list[RawPrediction],
    *,
    spread: float,
    budget: Budget,
    in_batches: bool = True,
) -> None:
    for fault in dependences(engine, images, found, spread, budget=budget, in_batches=in_batches):
        raise _failed(name, fault)


def dependences(
    engine: Engine,
    images: Images,
    found: Sequence[RawPrediction],
    spread: float,
    *,
    budget: Budget,
    in_batches: bool = True,
) -> list[str]:
    """Return a sentence for each figure that depends on the batch or on earlier calls.

    Args:
        found: the predictions of the images, each run on its own.
        in_batches: whether the runtime asks for several images at once, too.
    """
    few = images[:_INVARIANCE]
    expected = found[: len(few)]
    together = engine(few) if in_batches else expected
    again = _one_by_one(engine, few[::-1])[::-1]
    return [
        *agreement(expected, together, spread).faults(" in a batch", budget),
        *agreement(expected, again, spread).faults(" after other calls", budget),
    ]


def probe_images(spec: InputSpec) -> Images:
    """Return prepared images of every kind that has ever made exports differ.

    Non-square, larger and smaller than the input, dark, constant, textured: ``(N, H, W, 3)``.
    """
    random = np.random.default_rng(0)
    whole = {"crop": None, "locator": None, "areas": None}
    grey = spec.model_copy(update={"pixel_formats": (PixelFormat.GREY8,), **whole})
    colour = spec.model_copy(update={"pixel_formats": (PixelFormat.BGR8,), **whole})
    noise = random.integers(0, 256, (3 * spec.height, 4 * spec.width, 3), np.uint8)
    small = random.integers(0, 256, (max(spec.height // 3, 16), spec.width, 3), np.uint8)
    rows, columns = np.mgrid[0 : 2 * spec.height, 0 : 3 * spec.width]
    stripes = (127.5 + 127.5 * np.sin(columns / 2.3 + rows / 7.1)).astype(np.uint8)
    ramp = (255.0 * columns / columns.max()).astype(np.uint8)
    frames: list[tuple[NDArray[np.uint8], InputSpec]] = [
        (noise, colour),
        (small, colour),
        (np.repeat(stripes[:, :, None], 3, 2), colour),
        (noise // 32, colour),
        (np.minimum(noise, 1), colour),
        (np.zeros_like(noise), colour),
        (np.full_like(noise, 255), colour),
        (stripes, grey),
        (ramp, grey),
    ]
    return np.stack([prepare(pixels, frame_spec) for pixels, frame_spec in frames])


def _one_by_one(engine: Engine, images: Images) -> list[RawPrediction]:
    return [engine(image[None])[0] for image in images]


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two lists of predictions agree, at their worst; NaN if any number is not finite."""

    score_difference: float
    map_correlation: float
    map_difference: float

    def demand(self, engine: str, budget: Budget) -> None:
        """Raise GateFailed for the first figure over budget."""
        for fault in self.faults("", budget):
            raise _failed(engine, fault)

    def faults(self, circumstance: str, budget: Budget) -> list[str]:
        """Return a sentence for each figure over budget; NaN is always over it."""
        return [
            _fault(check + circumstance, value, limit)
            for holds, check, value, limit in (
                (
                    self.score_difference <= budget.score_difference,
                    "largest score difference",
                    self.score_difference,
                    budget.score_difference,
                ),
                (
                    self.map_correlation >= budget.map_correlation,
                    "smallest map correlation",
                    self.map_correlation,
                    budget.map_correlation,
                ),
                (
                    self.map_difference <= budget.map_difference,
                    "largest map difference",
                    self.map_difference,
                    budget.map_difference,
                ),
            )
            if not holds
        ]


def agreement(
    expected: Sequence[RawPrediction], found: Sequence[RawPrediction], spread: float
) -> Agreement:
    pairs = list(zip(expected, found, strict=True))
    # Of numpy, because min and max of Python lose NaN.
    return Agreement(
        float(np.max([_score_difference(a.score, b.score, spread) for a, b in pairs])),
        float(np.min([map_correlation(a.anomaly_map, b.anomaly_map) for a, b in pairs])),
        float(np.max([_map_difference(a.anomaly_map, b.anomaly_map) for a, b in pairs])),
    )


def _score_difference(a: float, b: float, spread: float) -> float:
    """Return a difference in shares of the spread.

    Of a score far outside the spread, as noise has it, the last digits of float32 alone are more
    than that; there the share is of a hundredth of the score.
    """
    return abs(a - b) / max(spread, 0.01 * abs(a))


def _map_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    scale = max(float(np.abs(a).max()), 1e-12)
    return float(np.abs(a.astype(np.float64) - b).max()) / scale


def _demand(holds: bool, engine: str, check: str, *, value: float, limit: float) -> None:
    if not holds:
        raise _failed(engine, _fault(check, value, limit))


def _fault(check: str, value: float, limit: float) -> str:
    return f"{check} {value:.6g}, allowed {limit:.6g}"


def _failed(engine: str, fault: str) -> GateFailed:
    return GateFailed(
        f"parity gate: {engine} differs from the checkpoint: {fault}. Nothing was written. Report "
        "this with the algorithm's name; the checkpoint itself is fine."
    )
