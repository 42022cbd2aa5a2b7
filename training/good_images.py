"""Before a fit: which good images look like defects, and what models say that did not see them."""

import logging
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edge.bundle.input_spec import InputSpec
from edge.bundle.manifest_types import plain_text
from edge.bundle.training_record import GoodCheck
from edge.redaction import one_line
from edge.teaching.lots import MAX_CROSS_VALIDATED
from edge.teaching.outliers import MIN_FOR_OUTLIERS, far_above
from edge.wording import SUSPECTS, counted
from training.calibration import Calibration
from training.components.feature_extractor import FeatureExtractor
from training.components.remembered_features import RememberedFeatures
from training.cross_validation import cross_validated, make_folds
from training.data.content import image_hash
from training.data.disjoint_splits import named
from training.data.kept_images import KeptImages
from training.data.samples import Sample, Splits
from training.errors import DataError
from training.evaluation import Scored
from training.leave_one_out import suspicious_good
from training.models.anomaly_model import AnomalyModel, StatisticalModel

# Of the names in a manifest.
_MAX_LISTED = 100
_MAX_NAMED = 5
_MAX_STRANGEST = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GoodImages:
    """What is known of the good images before the fit.

    Attributes:
        cross_validated: those of the fit, scored by models that were fitted without them; none of
            a large set or a trained model.
        suspects: those that may show a defect, in whichever split.
    """

    cross_validated: Sequence[Scored] = ()
    suspects: Collection[Sample] = ()


def look_at_good(
    model: AnomalyModel,
    splits: Splits,
    spec: InputSpec,
    device: torch.device,
    *,
    features: FeatureExtractor | RememberedFeatures | None,
    kept: KeptImages | None,
    unfitted: Callable[[], StatisticalModel],
    check: bool,
    confirmed: Container[bytes] = (),
) -> GoodImages:
    """Cross-validate the images of a small fit, and look for defects among all good ones.

    Where the model's own scores are not known before the fit, the images are compared with each
    other.

    Args:
        model: not fitted yet.
        features, kept: of the images, which the fit needs, too; no features of a model without
            a backbone.
        unfitted: makes another model, for a fold.
        check: look for defects.
        confirmed: contents of images that are none, whatever they look like.

    Raises:
        DataError: an image cannot be used; names the file.
        OutOfMemory: names the settings to lower.
    """
    held_out = _held_out(splits)
    plain = [sample for sample in splits.fit if sample.view is None]
    if is_cross_validated(model, splits):
        # The folds learn what is held out, so that they see as many images as the final model;
        # test images are learned by nobody.
        beside = [] if splits.validation == splits.test else held_out
        scored = cross_validated(make_folds(splits.fit, beside), unfitted, spec, device, kept=kept)
        if scored:
            found = far_above(np.array([item.score for item in scored])) if check else []
            suspected = [scored[i] for i in found if image_hash(scored[i].sample) not in confirmed]
            suspects = tuple(item.sample for item in suspected)
            if suspects:
                # The final model does without them; so must those that score the others.
                folds = make_folds(without(splits.fit, suspects), beside)
                scored = [*cross_validated(folds, unfitted, spec, device, kept=kept), *suspected]
            return GoodImages(scored, suspects)
    if not check:
        return GoodImages()
    unlike = suspicious_good(features, [*plain, *held_out], spec, device, kept=kept)
    return GoodImages((), tuple(one for one in unlike if image_hash(one) not in confirmed))


def is_cross_validated(model: AnomalyModel, splits: Splits) -> bool:
    """Whether the images of a fit are few enough to be scored by models fitted without them."""
    plain = sum(sample.view is None for sample in splits.fit)
    few = plain + len(_held_out(splits)) <= MAX_CROSS_VALIDATED
    return isinstance(model, StatisticalModel) and few


def _held_out(splits: Splits) -> list[Sample]:
    return [sample for sample in splits.validation if not sample.is_defective]


def without(samples: Sequence[Sample], suspects: Collection[Sample]) -> tuple[Sample, ...]:
    """Return samples without suspects, their copies and their views."""
    if not suspects:
        return tuple(samples)
    contents = {image_hash(sample) for sample in suspects}
    return tuple(sample for sample in samples if image_hash(sample) not in contents)


def make_check(
    splits: Splits,
    found: GoodImages,
    calibration: Calibration,
    *,
    scored: Sequence[Scored],
    confirmed: Sequence[Path] = (),
) -> GoodCheck:
    """Return what a manifest keeps of the search, and warn of what was found.

    Args:
        scored: images that the threshold may rest on.
        confirmed: suspects that are good.
    """
    good = [s for s in (*splits.fit, *splits.validation) if not s.is_defective and s.view is None]
    suspects = tuple(dict.fromkeys([*calibration.suspects, *found.suspects]))
    if len(good) < MIN_FOR_OUTLIERS:
        log.warning(
            "%s too few to look for defects among them",
            counted(len(good), "good image is", "good images are"),
        )
    warn_about(suspects, calibration)
    strangest = _strangest(scored, suspects, confirmed)
    if strangest:
        log.info(
            "of the other good images look first at those with the highest scores, for a faint "
            "defect is no suspect: %s",
            ", ".join(strangest),
        )
    image, pixel = calibration.with_suspects or (None, None)
    return GoodCheck(
        compared=len(good),
        strangest=strangest,
        suspects=_listed(suspects),
        suspect_count=len(suspects),
        confirmed=_names(confirmed),
        image_with=image,
        pixel_with=pixel,
    )


def make_calibration_check(calibration: Calibration, confirmed: Sequence[Path] = ()) -> GoodCheck:
    """Return what a manifest keeps of a search among the images of a calibration."""
    image, pixel = calibration.with_suspects or (None, None)
    return GoodCheck(
        compared=int((~calibration.records.defective).sum()),
        suspects=_listed(tuple(calibration.suspects)),
        suspect_count=len(calibration.suspects) + calibration.earlier_suspects,
        confirmed=_names(confirmed),
        image_with=image,
        pixel_with=pixel,
    )


def _strangest(
    scored: Sequence[Scored], suspects: Collection[Sample], confirmed: Sequence[Path]
) -> tuple[str, ...]:
    """Return the names of the good images with the highest scores that nobody looked at yet."""
    looked_at = {path.resolve() for path in confirmed}
    left = [
        item
        for item in scored
        if not item.sample.is_defective
        and item.sample not in suspects
        and item.sample.path.resolve() not in looked_at
    ]
    left.sort(key=lambda item: -item.score)
    return tuple(plain_text(item.sample.label) for item in left[:_MAX_STRANGEST])


def _listed(suspects: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(plain_text(sample.label) for sample in suspects[:_MAX_LISTED])


def _names(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(plain_text(one_line(str(path))) for path in paths[:_MAX_LISTED])


def warn_about(suspects: Sequence[Sample], calibration: Calibration) -> None:
    """Name suspects, with what the threshold would be if they counted."""
    if not suspects and not calibration.earlier_suspects:
        return
    scores: Mapping[Sample, float] = calibration.suspects
    shown = [
        f"{sample.label} (score {scores[sample]:.4g})" if sample in scores else sample.label
        for sample in suspects
    ]
    earlier = calibration.earlier_suspects
    others = [f"{earlier} of the calibration before"] if earlier else []
    threshold = calibration.threshold.image
    effect = "the threshold does not rest on them"
    if calibration.with_suspects is not None:
        effect = f"the threshold is {threshold:.4g}, with them {calibration.with_suspects[0]:.4g}"
    log.warning(
        "%s, left out of fit and calibration: %s; %s. Move "
        "those that show a defect, and confirm those that are good with --confirm-good FILE; "
        "--no-check-good uses all",
        counted(len(suspects) + earlier, *SUSPECTS),
        named([Path(text) for text in [*shown, *others]], _MAX_NAMED),
        effect,
    )


def refuse_suspects(suspects: Collection[Sample]) -> None:
    """End a strict fit.

    Raises:
        DataError: there are suspects; names them.
    """
    if suspects:
        files = named([Path(sample.label) for sample in suspects], _MAX_NAMED)
        raise DataError(
            f"{files}: {counted(len(suspects), *SUSPECTS)}, and --strict ends here. Check them: "
            "move those that show a defect, confirm those that are "
            "good with --confirm-good FILE, or use all as good with --no-check-good."
        )
