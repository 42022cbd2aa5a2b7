"""The parity gate: torch, ONNX Runtime and OpenVINO must give the same numbers.

Run at every export. What it measured goes into the manifest; over budget nothing is written.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.frame import PixelFormat
from edge.inspection.prediction import RawPrediction
from edge.manifest import GateReport, InputSpec
from edge.preparation import prepare
from export.errors import GateFailed
from training.metrics import auroc

Pictures = NDArray[np.uint8]
# Prepared ``(N, H, W, 3)`` pictures to raw predictions, all in one call.
Engine = Callable[[Pictures], Sequence[RawPrediction]]


@dataclass(frozen=True, slots=True)
class Budget:
    """What an export may change.

    Attributes:
        score_difference: in shares of the score's spread.
        map_correlation: lowest Pearson correlation of the maps.
        auroc_drop: of the image AUROC on the validation pictures.
        verdict_flips: share of validation pictures whose decision changes.
    """

    score_difference: float = 1e-3
    map_correlation: float = 0.9999
    auroc_drop: float = 1e-3
    verdict_flips: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """Prepared validation pictures: ``(N, H, W, 3) uint8`` and ``(N,) bool`` defective."""

    pictures: Pictures
    defective: NDArray[np.bool_]


def parity(
    reference: Engine,
    others: dict[str, Engine],
    exported: str,
    spec: InputSpec,
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
    pictures = np.concatenate([probe_pictures(spec), validation.pictures])
    expected = _one_by_one(reference, pictures)
    first_validation = len(pictures) - len(validation.pictures)
    differences: dict[str, float] = {}
    correlations: dict[str, float] = {}
    for name, engine in others.items():
        found = _one_by_one(engine, pictures)
        differences[name] = max(
            abs(a.score - b.score) / spread for a, b in zip(expected, found, strict=True)
        )
        correlations[name] = min(
            _correlation(a.anomaly_map, b.anomaly_map) for a, b in zip(expected, found, strict=True)
        )
        _demand(
            differences[name] <= budget.score_difference,
            name,
            "largest score difference",
            differences[name],
            budget.score_difference,
        )
        _demand(
            correlations[name] >= budget.map_correlation,
            name,
            "smallest map correlation",
            correlations[name],
            budget.map_correlation,
        )
        _check_invariance(name, engine, pictures, found, spread, budget)
        if name == exported:
            judged = found
    before = np.array([p.score for p in expected[first_validation:]])
    after = np.array([p.score for p in judged[first_validation:]])
    flips = float(np.mean((before >= threshold) != (after >= threshold))) if len(before) else 0.0
    auroc_before = auroc(before, validation.defective)
    auroc_after = auroc(after, validation.defective)
    _demand(flips <= budget.verdict_flips, exported, "verdict flips", flips, budget.verdict_flips)
    if auroc_before is not None and auroc_after is not None:
        drop = auroc_before - auroc_after
        _demand(drop <= budget.auroc_drop, exported, "AUROC drop", drop, budget.auroc_drop)
    return GateReport(
        pictures=len(pictures),
        largest_score_difference=differences[exported],
        smallest_map_correlation=correlations[exported],
        verdict_flips=flips,
        auroc_before=auroc_before,
        auroc_after=auroc_after,
    )


def probe_pictures(spec: InputSpec) -> Pictures:
    """Return prepared pictures of every kind that has ever made exports differ.

    Non-square, larger and smaller than the input, dark, constant, textured: ``(N, H, W, 3)``.
    """
    random = np.random.default_rng(0)
    grey = spec.model_copy(update={"pixel_formats": tuple(PixelFormat)[:1], "crop": None})
    colour = spec.model_copy(update={"pixel_formats": (PixelFormat.BGR8,), "crop": None})
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


def _one_by_one(engine: Engine, pictures: Pictures) -> list[RawPrediction]:
    return [engine(picture[None])[0] for picture in pictures]


def _check_invariance(
    name: str,
    engine: Engine,
    pictures: Pictures,
    alone: list[RawPrediction],
    spread: float,
    budget: Budget,
) -> None:
    """Demand that neither batch mates nor earlier calls change a score."""
    in_batch = engine(pictures[:4])
    batch = max(abs(a.score - b.score) / spread for a, b in zip(alone[:4], in_batch, strict=True))
    _demand(
        batch <= budget.score_difference,
        name,
        "score alone against in a batch",
        batch,
        budget.score_difference,
    )
    again = _one_by_one(engine, pictures[3::-1])[::-1]
    order = max(abs(a.score - b.score) / spread for a, b in zip(alone[:4], again, strict=True))
    _demand(
        order <= budget.score_difference,
        name,
        "score after other calls",
        order,
        budget.score_difference,
    )


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return Pearson's r; of two flat maps 1 if they agree."""
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    scale = max(float(np.abs(x).max()), 1e-12)
    x_spread, y_spread = float(x.std()), float(y.std())
    if max(x_spread, y_spread) < 1e-4 * scale:
        return 1.0 if float(np.abs(x - y).max()) < 1e-3 * scale else 0.0
    if min(x_spread, y_spread) == 0.0:
        return 0.0
    return float(np.mean((x - x.mean()) * (y - y.mean())) / (x_spread * y_spread))


def _demand(holds: bool, engine: str, check: str, value: float, limit: float) -> None:
    if not holds:
        raise GateFailed(
            f"parity gate: {engine} differs from the checkpoint: {check} {value:.3g}, "
            f"allowed {limit:.3g}. Nothing was written. Report this with the algorithm's name; "
            "the checkpoint itself is fine."
        )
