"""The gate of an INT8 teacher: it must rank the images of products as its graph in FP32 does.

A teacher is made once for products that nobody knows yet, so it is calibrated and judged on parts
that this project renders: some designs give ranges, others are taught and judged. What rounding
does to a feature it does to bank and part alike, because both come from the same graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.bundle.input_spec import InputSpec
from edge.bundle.teacher import Teacher, TeacherGate
from edge.inspection.preprocessing import prepare
from edge.teaching.core_set import CoreSetStream
from edge.teaching.memory_bank import make_bank
from edge.teaching.teacher_graph import TeacherGraph
from export.calibration_images import with_patches
from export.errors import GateFailed
from export.parity_gate import Images
from training.data.pasted_defects import KINDS, paste_flaw
from training.data.rendered import render_part
from training.metrics import auroc
from training.small_backbone_training import random_design

# Seeds of different purposes never meet.
_RANGES, _JUDGED = 11, 12
_WIDTH, _HEIGHT = 320, 240
_FLAWS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class GateImages:
    """How many images the gate takes, and what it demands of them.

    Attributes:
        min_rank_correlation, max_auroc_drop: of each product; of few images they are known badly.
        range_designs, range_images: that ranges are taken from; images of each design.
        products, taught, good, flawed: products that are taught and judged, and images of each.
    """

    range_designs: int = 6
    range_images: int = 8
    products: int = 4
    taught: int = 8
    good: int = 12
    flawed: int = 12
    min_rank_correlation: float = 0.9
    max_auroc_drop: float = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Prepared ``(N, H, W, 3)`` images of one product: to teach, and to judge."""

    taught: Images
    good: Images
    flawed: Images


def range_images(spec: InputSpec, counts: GateImages = GateImages()) -> Images:
    """Return prepared images that ranges are taken from; some with patches of every extreme."""
    random = np.random.default_rng(_RANGES)
    shown = [
        image
        for _ in range(counts.range_designs)
        for image in _rendered(random, spec, counts.range_images)
    ]
    return with_patches(np.stack(shown), spec)


def products(spec: InputSpec, counts: GateImages = GateImages()) -> Iterator[Product]:
    """Yield products whose designs ranges know nothing of."""
    random = np.random.default_rng(_JUDGED)
    for _ in range(counts.products):
        shown = _rendered(random, spec, counts.taught + counts.good + counts.flawed)
        taught, good, whole = np.split(
            np.stack(shown), (counts.taught, counts.taught + counts.good)
        )
        yield Product(taught, good, np.stack([_flawed(random, image) for image in whole]))


def _rendered(random: np.random.Generator, spec: InputSpec, count: int) -> list[Images]:
    design = random_design(random)
    return [
        prepare(render_part(random, None, _WIDTH, _HEIGHT, design=design).pixels, spec)
        for _ in range(count)
    ]


def _flawed(random: np.random.Generator, image: Images) -> Images:
    for _ in range(_FLAWS):
        image = paste_flaw(image, int(random.integers(1, KINDS)), random)
    return image


def demand_alike(
    reference: Teacher, rounded: Teacher, counts: GateImages = GateImages()
) -> TeacherGate:
    """Demand that two teachers rank the images of products alike.

    Raises:
        GateFailed: they do not; names the figure.
        ModelError: inference failed.
    """
    scorers = [_Scorer(reference), _Scorer(rounded)]
    correlation, drop, images = 1.0, -1.0, 0
    for product in products(reference.manifest.input, counts):
        before, after = (scorer.scores(product) for scorer in scorers)
        flawed = np.arange(len(before)) >= len(product.good)
        images += len(before)
        correlation = min(correlation, _rank_correlation(before, after))
        first, second = auroc(before, flawed), auroc(after, flawed)
        assert first is not None and second is not None  # there are both kinds
        drop = max(drop, first - second)
    for holds, what, value, limit in (
        (
            correlation >= counts.min_rank_correlation,
            "correlation of ranks",
            correlation,
            counts.min_rank_correlation,
        ),
        (drop <= counts.max_auroc_drop, "drop of the AUROC", drop, counts.max_auroc_drop),
    ):
        if not holds:
            raise GateFailed(
                f"gate: INT8 ranks images of a product differently than FP32: {what} "
                f"{value:.4f}, allowed {limit:g}. Nothing was written. Make the teacher with "
                "--precision fp32."
            )
    return TeacherGate(
        products=counts.products, images=images, rank_correlation=correlation, auroc_drop=drop
    )


class _Scorer:
    """Teaches a product and judges its images."""

    def __init__(self, teacher: Teacher) -> None:
        graph = TeacherGraph(teacher, threads=0)
        self._head = teacher.manifest.head
        self._features, self._judge = graph.features(), graph.judge()

    def scores(self, product: Product) -> NDArray[np.float64]:
        core_set = CoreSetStream(self._head.bank_size)
        for image in product.taught:
            core_set.add(self._features.of(image))
        self._judge.compare_with(make_bank(core_set.finish(), self._head.variance))
        judged = np.concatenate([product.good, product.flawed])
        return np.array([self._judge.judge(image).score for image in judged])


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's correlation; of scores that are all different."""
    one, other = (values.argsort().argsort().astype(np.float64) for values in (first, second))
    return float(np.corrcoef(one, other)[0, 1])
