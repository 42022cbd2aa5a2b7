"""Teaching: a bank and a threshold of good images, as a fit of PatchCore makes them.

The images are split, cross-validated, searched for defects and calibrated on by the very functions
that ``train-station fit`` uses; only what runs the network is the teacher's graph.
"""

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.bundle.manifest_types import plain_text
from edge.bundle.training_record import GoodCheck
from edge.inspection.predictor import RawPrediction
from edge.inspection.regions import enlarge
from edge.inspection.thresholding import Scores, quantile
from edge.redaction import one_line
from edge.teaching.calibration import CalibratedScores, TrustedScores, calibrated_scores
from edge.teaching.core_set import CoreSetStream
from edge.teaching.images import TaughtImage
from edge.teaching.learning_from_marks import WrongBefore, no_worse_than
from edge.teaching.lots import MAX_CROSS_VALIDATED, MIN_LEARNED, dealt, held_out
from edge.teaching.memory_bank import MemoryBank, make_bank
from edge.teaching.outliers import far_above
from edge.teaching.product_view import ProductView, counted_patches
from edge.teaching.refusals import TeachingRefused
from edge.teaching.teacher_graph import PatchFeatures, TeacherGraph
from edge.teaching.threshold_choice import AUTOMATIC, ThresholdChoice
from edge.teaching.views import MAX_FEW_IMAGES, views
from edge.wording import counted

# Of the images, on average; as that of a fit on images without defects.
_HELD_OUT_SHARE = 0.15

# Of what is held in memory: features of images that several banks are made of, and the vectors that
# compete for a bank. More images are run again, and their vectors reduced in between.
_FEATURE_BYTES = 160 * 2**20
_BUFFER_BYTES = 160 * 2**20

_MAX_LISTED = 100

Progress = Callable[[str], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachingOrder:
    """What is asked of teaching.

    Attributes:
        seed: of every draw; the same images and seed give the same model.
        with_views: few images are shown turned, flipped and shifted, too.
        view: where in them the product is.
        check_good: images that look like defects are named and left out.
        before: what the model in force makes of the images; the threshold is laid so that this one
            is no worse. None lays it as ``threshold`` says.
        threshold: how it is laid where nothing was before.
    """

    seed: int = 0
    with_views: bool = False
    check_good: bool = True
    view: ProductView = field(default_factory=ProductView)
    before: WrongBefore | None = None
    threshold: ThresholdChoice = AUTOMATIC

    def choice(self, good: Scores, defective: Scores) -> ThresholdChoice:
        """Return how the threshold between scores of this model is laid."""
        if self.before is None:
            return self.threshold
        return no_worse_than(self.before, good, defective)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeachingImages:
    """What a product is taught with; no image is in two of them.

    Attributes:
        good: are learned.
        confirmed: contents of good ones that a person has confirmed: none is left out.
        passed: of parts that passed, and that nobody objected to; good, not learned.
        defective: of parts that must be rejected, not learned.
        rejected: of parts that were rejected, and that nobody objected to; defective.
    """

    good: Sequence[TaughtImage]
    confirmed: frozenset[bytes] = frozenset()
    passed: Sequence[TaughtImage] = ()
    defective: Sequence[TaughtImage] = ()
    rejected: Sequence[TaughtImage] = ()

    @property
    def held_against(self) -> tuple[TaughtImage, ...]:
        """Those that the threshold ought to reject."""
        return (*self.defective, *self.rejected)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImage:
    """An image and what a bank says of it that was made without it.

    Attributes:
        doubtful: it looks like a defect, and nothing rests on it.
    """

    image: TaughtImage
    raw: RawPrediction
    doubtful: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TaughtModel:
    """What was learned of the images.

    Attributes:
        bank: of the model.
        described: its thresholds, and what they rest on.
        choice: how they were laid.
        scored: images with a score, the strangest first.
        held_out: those of them that were scored by this very bank.
        learned: images that the bank is made of.
        check: the search for defects among the images; None where it was switched off.
        viewed: views were learned, too.
        passed, defective: scored by this bank; the threshold is held against them, too.
    """

    bank: MemoryBank
    described: CalibratedScores
    choice: ThresholdChoice
    scored: tuple[ScoredImage, ...]
    held_out: tuple[ScoredImage, ...]
    learned: tuple[TaughtImage, ...]
    check: GoodCheck | None
    viewed: bool
    passed: tuple[ScoredImage, ...] = ()
    defective: tuple[ScoredImage, ...] = ()

    def known_scores(self) -> tuple[Scores, Scores]:
        """Return the scores of good and of defective images that the threshold rests on."""
        trusted = [item for item in (*self.scored, *self.passed) if not item.doubtful]
        return _scores(trusted), _scores(self.defective)


def teach(
    images: TeachingImages,
    graph: TeacherGraph,
    order: TeachingOrder = TeachingOrder(),
    progress: Progress = log.info,
) -> TaughtModel:
    """Make a bank and a threshold of good images.

    Args:
        images: of different content.
        progress: called with a sentence at each step.

    Raises:
        TeachingRefused: too few images, or all of them look like defects.
        ModelError: inference failed.
    """
    count = len(images.good)
    few = count <= MAX_FEW_IMAGES
    if count < MIN_LEARNED and not order.with_views:
        raise TeachingRefused(
            "one image does not show how good parts differ. Use more, about 20; or with "
            "--views this one is learned turned, flipped and shifted, but nothing is "
            "guaranteed.",
            kind="one_image",
        )
    if order.with_views and order.view.areas is not None:
        raise TeachingRefused(
            "turned and shifted views do not fit a mask. Teach without views, or draw the mask "
            "once the product is taught.",
            kind="views_and_mask",
        )
    lesson = _Lesson(
        graph=graph,
        order=order,
        progress=progress,
        viewed=few and order.with_views,
        several_banks=count <= MAX_CROSS_VALIDATED,
        confirmed=images.confirmed,
    )
    return lesson.of(images)


class _Lesson:
    """One run of teaching; holds what is compiled and what was extracted."""

    def __init__(
        self,
        *,
        graph: TeacherGraph,
        order: TeachingOrder,
        progress: Progress,
        viewed: bool,
        several_banks: bool,
        confirmed: frozenset[bytes],
    ) -> None:
        self._manifest = graph.manifest
        self._order = order
        self._progress = progress
        self._viewed = viewed
        self._confirmed = confirmed
        self._features = _KeptFeatures(graph.features(), _FEATURE_BYTES if several_banks else 0)
        self._judge = graph.judge()
        spec = order.view.applied(graph.manifest.input)
        self._counted = counted_patches(spec, graph.manifest.output)

    def of(self, given: TeachingImages) -> TaughtModel:
        images = given.good
        if len(images) < MIN_LEARNED:
            return self._of_one(images[0], given)
        off = held_out(
            [image.content for image in images], _HELD_OUT_SHARE, f"{self._order.seed} validation"
        )
        beside = [image for index, image in enumerate(images) if index in off]
        fit = [image for index, image in enumerate(images) if index not in off]
        folded, suspects = self._cross_validated(fit, beside, len(images))
        learned = [image for image in fit if image.content not in suspects]
        self._progress(f"bank of {counted(len(learned), 'image')}")
        bank = self._bank(learned)
        held_out_scored = self._scored(bank, beside)
        bad = self._scored(bank, given.held_against)
        passed = self._scored(bank, given.passed)
        doubtful = set(suspects) | self._doubtful([*folded, *held_out_scored, *passed])
        scored = _marked([*folded, *held_out_scored], doubtful)
        passed = _marked(passed, doubtful)
        trusted = [item for item in scored if not item.doubtful]
        if not trusted:
            raise TeachingRefused(
                "the images are all too different from each other. Check them: teach with "
                "images of one product, in one position and light.",
                kind="all_strange",
            )
        known = [*trusted, *(item for item in passed if not item.doubtful)]
        choice = self._order.choice(_scores(known), _scores(bad))
        count = sum(item.image.content not in doubtful for item in folded)
        return TaughtModel(
            bank=bank,
            described=self._described(known, bad, choice, count),
            choice=choice,
            scored=tuple(sorted(scored, key=lambda item: -item.raw.score)),
            held_out=tuple(held_out_scored),
            learned=tuple(learned),
            check=self._check(images, scored, trusted, bad, choice=choice),
            viewed=self._viewed,
            passed=tuple(passed),
            defective=tuple(bad),
        )

    def _doubtful(self, scored: Sequence[ScoredImage]) -> set[bytes]:
        """Return the contents of images far above the others, but for those that are confirmed."""
        if not self._order.check_good:
            return set()
        found = {scored[index].image.content for index in far_above(_scores(scored))}
        return found - self._confirmed

    def _of_one(self, image: TaughtImage, given: TeachingImages) -> TaughtModel:
        """Learn one image and its views; the views are all that a threshold can be held against."""
        self._progress("bank of one image and its views")
        bank = self._bank([image])
        shown = list(views(image.prepared))
        raws = []
        for number, view in enumerate(shown):
            others = [image.prepared, *shown[:number], *shown[number + 1 :]]
            self._judge.compare_with(self._make_bank(others))
            raws.append(self._judge.judge(view))
        bad, passed = self._scored(bank, given.held_against), self._scored(bank, given.passed)
        alone = [ScoredImage(image, raw) for raw in raws]
        choice = self._order.choice(_scores([*alone, *passed]), _scores(bad))
        described = self._described([*alone, *passed], bad, choice, 0)
        # Views are no draw of parts: they are one image, of which neither a guarantee, an interval
        # nor the drift alarm may make nine.
        threshold = described.threshold.model_copy(
            update={"good_count": 1, "interval": None, "guarantee": None}
        )
        return TaughtModel(
            bank=bank,
            described=CalibratedScores(described.normalization, threshold, described.statistics),
            choice=choice,
            scored=(),
            held_out=(),
            learned=(image,),
            check=None,
            viewed=True,
            passed=tuple(passed),
            defective=tuple(bad),
        )

    def _cross_validated(
        self, fit: Sequence[TaughtImage], beside: Sequence[TaughtImage], count: int
    ) -> tuple[list[ScoredImage], frozenset[bytes]]:
        """Score the images of a small fit by banks made without them; those far above are suspects.

        Returns:
            The scores, and the contents of suspects; none of many images.
        """
        if count > MAX_CROSS_VALIDATED:
            return [], frozenset()
        scored = self._folds(fit, beside)
        if not self._order.check_good:
            return scored, frozenset()
        suspects = frozenset(self._doubtful(scored))
        suspected = [item for item in scored if item.image.content in suspects]
        if suspects:
            # The model does without them; so must those that score the others.
            kept = [image for image in fit if image.content not in suspects]
            scored = [*self._folds(kept, beside), *suspected]
        return scored, suspects

    def _folds(
        self, fit: Sequence[TaughtImage], beside: Sequence[TaughtImage]
    ) -> list[ScoredImage]:
        scored: list[ScoredImage] = []
        folds = dealt([image.content for image in fit])
        for number, fold in enumerate(folds):
            learned = [image for image in fit if image.content not in fold]
            judged = [image for image in fit if image.content in fold]
            if len(learned) + len(beside) < MIN_LEARNED:
                continue
            self._progress(f"cross-validation, fold {number + 1} of {len(folds)}")
            scored += self._scored(self._bank([*learned, *beside]), judged)
        return scored

    def _scored(self, bank: MemoryBank, images: Iterable[TaughtImage]) -> list[ScoredImage]:
        self._judge.compare_with(bank)
        return [ScoredImage(image, self._judged(image.prepared)) for image in images]

    def _judged(self, prepared: NDArray[np.uint8]) -> RawPrediction:
        raw = self._judge.judge(prepared)
        return raw if self._counted is None else self._counted.judged(raw)

    def _bank(self, images: Sequence[TaughtImage]) -> MemoryBank:
        shown = [image.prepared for image in images]
        if self._viewed:
            shown += [view for image in images for view in views(image.prepared)]
        return self._make_bank(shown)

    def _make_bank(self, shown: Iterable[NDArray[np.uint8]]) -> MemoryBank:
        head = self._manifest.head
        core_set = CoreSetStream(
            head.bank_size, _BUFFER_BYTES // (4 * head.width), self._order.seed
        )
        for image in shown:
            patches = self._features.of(image)
            core_set.add(patches if self._counted is None else patches[self._counted.cells])
        return make_bank(core_set.finish(), head.variance)

    def _described(
        self,
        trusted: Sequence[ScoredImage],
        bad: Sequence[ScoredImage],
        choice: ThresholdChoice,
        cross_validated: int,
    ) -> CalibratedScores:
        good, defective = _scores(trusted), _scores(bad)
        maps = [item.raw.anomaly_map for item in (*trusted, *bad)]
        lowest_and_highest = [value for each in maps for value in (each.min(), each.max())]
        return calibrated_scores(
            TrustedScores(good, defective, np.array(lowest_and_highest, np.float32)),
            choice.threshold(good, defective),
            self._pixel_threshold(trusted),
            choice,
            seed=self._order.seed,
            cross_validated=cross_validated,
        )

    def _pixel_threshold(self, trusted: Sequence[ScoredImage]) -> float:
        """Return the threshold of the good maps, at the resolution in which regions are found."""
        size = self._manifest.input
        peaks = [enlarge(item.raw.anomaly_map, size.height, size.width).max() for item in trusted]
        return quantile(np.array(peaks, np.float32))

    def _check(
        self,
        images: Sequence[TaughtImage],
        scored: Sequence[ScoredImage],
        trusted: Sequence[ScoredImage],
        bad: Sequence[ScoredImage],
        *,
        choice: ThresholdChoice,
    ) -> GoodCheck | None:
        if not self._order.check_good:
            return None
        names = [
            plain_text(one_line(item.image.path.name))
            for item in sorted(scored, key=lambda item: -item.raw.score)
            if item.doubtful
        ]
        with_all = len(trusted) < len(scored)
        return GoodCheck(
            compared=len(images),
            suspects=tuple(names[:_MAX_LISTED]),
            suspect_count=len(names),
            image_with=choice.threshold(_scores(scored), _scores(bad)) if with_all else None,
            pixel_with=self._pixel_threshold(scored) if with_all else None,
        )


class _KeptFeatures:
    """Features of images that several banks are made of: extracted once where there is room."""

    def __init__(self, features: PatchFeatures, room_bytes: int) -> None:
        self._features = features
        self._room = room_bytes
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def of(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        known = self._known.get(key)
        if known is not None:
            return known
        found = self._features.of(image)
        if found.nbytes <= self._room:
            self._room -= found.nbytes
            self._known[key] = found
        return found


def _marked(scored: Sequence[ScoredImage], doubtful: Collection[bytes]) -> list[ScoredImage]:
    return [ScoredImage(item.image, item.raw, item.image.content in doubtful) for item in scored]


def _scores(scored: Sequence[ScoredImage]) -> NDArray[np.float32]:
    return np.array([item.raw.score for item in scored], np.float32)
