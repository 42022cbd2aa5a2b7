"""The report as one HTML page: no script, no external resource, ready to be printed and signed."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from edge.bundle.manifest import Threshold, ThresholdMethod
from edge.inspection.decision import Result
from edge.teaching.guarantees import guarantee_sentence
from edge.wording import SUSPECTS, counted
from training.algorithm_choice import choice_lines
from training.checkpoint import Description
from training.metrics import Interval, share_interval, share_text
from training.report.charts import roc_chart, score_histogram
from training.report.evidence import (
    FALSELY_REJECTED,
    MISSED,
    NEAREST_GOOD,
    Evidence,
    ImageRow,
    Shown,
)
from training.report.poses import Poses
from training.zone_scores import ZoneScores

# Under which a fit notes the size of the input; it stands with the images.
_SIZE = "image_size"

_FEW = 10
_MAX_ERRORS = 20

# Of good parts: more are a nuisance on most lines.
_MANY_REJECTED = 0.03
# What the report proposes instead.
_FEW_REJECTS = 0.02
_CALIBRATE = "MODEL --data FOLDER -o NEW"
_METHODS = {
    ThresholdMethod.F1_ADAPTIVE: "highest F1, midway between neighbouring scores",
    ThresholdMethod.RECALL: "target recall",
    ThresholdMethod.FALSE_REJECT_RATE: "target false-reject rate",
    ThresholdMethod.MISS_RATE: "target miss rate",
    ThresholdMethod.QUANTILE: "quantile of good scores with a margin",
    ThresholdMethod.BALANCED: "both kinds weighed alike, within a false-reject rate",
    ThresholdMethod.MANUAL: "set by hand",
}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about.

    Attributes:
        file: name of the checkpoint.
        sha256: of the checkpoint file, so that a signature belongs to one model.
        made_at: when the report was made, with its zone.
        made_with: programs and libraries with their versions.
    """

    file: str
    sha256: str
    made_at: datetime
    made_with: dict[str, str]


class _Notice(NamedTuple):
    heading: str
    text: str = ""


class _Tile(NamedTuple):
    value: str
    name: str
    bad: bool = False


class _Figure(NamedTuple):
    name: str
    value: str
    interval: str


class _Kind(NamedTuple):
    """Verdicts of one kind of images; scores are normalized."""

    name: str
    image_count: int
    wrong: int
    share: str
    lowest: str
    highest: str


class _ZoneRow(NamedTuple):
    """What good images score in a zone; scores and thresholds are raw."""

    name: str
    scores: str
    threshold: str
    rejected: str
    proposed: str
    rejected_then: str
    rate: str


class _Card(NamedTuple):
    """One image beside its heat map, as base64 of a JPEG."""

    name: str
    kind: str
    result: str
    score: str
    synthetic: bool
    jpeg: str


class _Group(NamedTuple):
    """Cards under a heading, or what is said where there are none."""

    heading: str
    cards: list[_Card]
    nothing: str = ""


# Whatever a template is given is escaped: names of files and folders are others' text.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report_page(
    subject: Subject,
    description: Description,
    evidence: Evidence,
    poses: Poses | None = None,
    *,
    zones: Sequence[ZoneScores] = (),
) -> str:
    """Return the report of a model on a split, as ``templates/report.html`` lays it out.

    Args:
        evidence: of the split; its images must not have served the fit.
        poses: where the part lies in the images of the fit; None where nobody looked.
        zones: what good images score in each zone, of a calibration just now.
    """
    threshold, totals = description.threshold, evidence.totals
    synthetic = bool(totals.synthetic_count)
    histogram = score_histogram(
        totals.scores, totals.labels, threshold.image, threshold.interval, synthetic=synthetic
    )
    return _TEMPLATES.get_template("report.html").render(
        title=f"{description.training.dataset}: {description.algorithm} {description.backbone}",
        subject=subject,
        evidence=evidence,
        notices=_notices(description, evidence),
        tiles=_tiles(description, evidence),
        figures=_figures(description, evidence),
        advice=_advice(description, evidence),
        threshold=_threshold(description),
        # The charts are SVG of our own, in which every text is escaped.
        histogram=Markup(histogram),
        roc=Markup(roc_chart(totals.scores, totals.labels, threshold.image, synthetic)),
        kinds=_kinds(evidence),
        zones=[_zone(one) for one in zones],
        choice=_choice(description),
        groups=_groups(evidence),
        poses=poses,
        data=_data(description, evidence),
        errors=[_error(row) for row in evidence.errors[:_MAX_ERRORS]],
        model=_model(subject, description),
    )


def _notices(description: Description, evidence: Evidence) -> list[_Notice]:
    """Return what a reader must know before any figure, to weigh it."""
    threshold, totals = description.threshold, evidence.totals
    notices = []
    if totals.synthetic_count:
        notices.append(
            _Notice(
                "Synthetic defects.",
                f"{totals.synthetic_count} of the images judged here carry defects made by "
                "software. The figures show that the model reacts to a change, not how it does "
                "on real defects.",
            )
        )
    if "synthetic" in description.training.dataset and threshold.defective_count:
        notices.append(
            _Notice(
                "The threshold rests on synthetic defects.",
                "Calibrate again once there are real ones: train-station calibrate.",
            )
        )
    check = description.training.good_check
    if check is not None and check.suspect_count:
        effect = ""
        if check.image_with is not None:
            effect = (
                f" The threshold is {threshold.image:.4g}; with them it would be "
                f"{check.image_with:.4g}."
            )
        notices.append(
            _Notice(
                f"{counted(check.suspect_count, *SUSPECTS)},",
                f"left out of fit and threshold.{effect} Look at them and move those that show a "
                f"defect: {', '.join(check.suspects[:_MAX_ERRORS])}",
            )
        )
    if description.training.hyperparameters.get("validate_on") == "test":
        notices.append(
            _Notice(
                "The threshold was chosen on the test images.",
                "Figures at the threshold are optimistic.",
            )
        )
    if not totals.labels.any():
        notices.append(
            _Notice(
                "No defective images.",
                "Only false rejects can be judged; whether defects are found is not known.",
            )
        )
    elif totals.labels.sum() < _FEW:
        notices.append(
            _Notice(
                f"Only {counted(int(totals.labels.sum()), 'defective image')}.",
                "Mind the intervals.",
            )
        )
    if threshold.good_count < _FEW:
        notices.append(
            _Notice(f"The threshold rests on {counted(threshold.good_count, 'good image')} only.")
        )
    verdicts, image = totals.verdicts(threshold.image), totals.image_figures(description.seed)
    if image and verdicts.f1 is not None and verdicts.f1 <= image.f1_reject_all:
        notices.append(
            _Notice(
                "Not better than rejecting everything.",
                "F1 at the threshold does not exceed that of a station that rejects every part.",
            )
        )
    if evidence.errors:
        notices.append(
            _Notice(
                f"{counted(len(evidence.errors), 'image')} could not be inspected",
                "and are in no figure; they are listed under Data.",
            )
        )
    return notices


def _defects(evidence: Evidence) -> str:
    return "synthetic defects" if evidence.totals.synthetic_count else "defects"


def _tiles(description: Description, evidence: Evidence) -> list[_Tile]:
    """Return the figures that are read first."""
    totals = evidence.totals
    verdicts = totals.verdicts(description.threshold.image)
    image, pixels = totals.image_figures(description.seed), totals.pixel_figures()
    good, defective = int((~totals.labels).sum()), int(totals.labels.sum())
    missed = f"{verdicts.missed} of {defective}"
    tiles = [
        _Tile(missed, f"{_defects(evidence)} missed", bool(verdicts.missed)),
        _Tile(f"{verdicts.false_rejects} of {good}", "good parts rejected"),
    ]
    if image and image.auroc is not None:
        tiles.append(_Tile(f"{image.auroc:.4f}", "image AUROC"))
    if pixels:
        tiles.append(_Tile(f"{pixels.aupro:.4f}", "AUPRO"))
    return tiles


def _figures(description: Description, evidence: Evidence) -> list[_Figure]:
    """Return the table of figures: shares of verdicts, then the areas and F1."""
    totals = evidence.totals
    verdicts = totals.verdicts(description.threshold.image)
    image, pixels = totals.image_figures(description.seed), totals.pixel_figures()
    good, defective = int((~totals.labels).sum()), int(totals.labels.sum())
    defects = _defects(evidence).capitalize()
    figures = [
        _Figure(
            f"{defects} missed",
            _share(verdicts.missed, defective),
            _percent_between(verdicts.miss_interval),
        ),
        _Figure(
            "Good parts rejected",
            _share(verdicts.false_rejects, good),
            _percent_between(verdicts.false_reject_interval),
        ),
    ]
    if image:
        intervals = image.intervals
        recall = image.recall_at_false_rejects
        beside = f" (rejecting everything: {image.f1_reject_all:.4f})"
        figures += [
            _Figure(
                f"{defects} found where 1 % of good parts are rejected",
                "–" if recall is None else f"{recall:.1%}",
                _percent_between(intervals.get("recall_at_false_rejects")),
            ),
            _Figure("Image AUROC", _number(image.auroc), _between(intervals.get("auroc"))),
            _Figure(
                "Image AUPR (average precision)",
                _number(image.average_precision),
                _between(intervals.get("average_precision")),
            ),
            _Figure(f"F1 at the threshold{beside}", _number(verdicts.f1), "–"),
            _Figure(
                f"F1 at its best threshold{beside}",
                _number(image.f1_max),
                _between(intervals.get("f1_max")),
            ),
        ]
    if pixels:
        bins = f"exact to ±{max(pixels.auroc_error, pixels.aupro_error):.0e}"
        figures += [
            _Figure(f"Pixel AUROC ({bins})", _number(pixels.auroc), "–"),
            _Figure("Pixel AUPR (average precision)", _number(pixels.average_precision), "–"),
            _Figure("Pixel F1 at its best threshold", _number(pixels.f1_max), "–"),
            _Figure(f"AUPRO up to 30 % false positives ({bins})", _number(pixels.aupro), "–"),
        ]
    return figures


def _advice(description: Description, evidence: Evidence) -> list[str]:
    """Return what a reader can do about the verdicts, in plain words."""
    totals = evidence.totals
    verdicts = totals.verdicts(description.threshold.image)
    good, defective = int((~totals.labels).sum()), int(totals.labels.sum())
    lines = []
    if good and verdicts.false_rejects / good > _MANY_REJECTED:
        known, needed = description.threshold.good_count, math.ceil(1 / _FEW_REJECTS)
        lacking = (
            f" (with {counted(needed - known, 'good image')} more: it takes {needed} that "
            f"the model was not fitted on, and has {known})"
            if known < needed
            else ""
        )
        lines.append(
            f"The model rejects {_one_in(verdicts.false_rejects, good, 'good part')}: try more "
            "good images that show what is usual in production (fit again), or allow fewer rejects "
            f"with train-station calibrate {_CALIBRATE} --threshold "
            f"false-reject-rate={_FEW_REJECTS}{lacking}, which may miss more defects."
        )
    if defective and verdicts.missed:
        lines.append(
            f"The model misses {_one_in(verdicts.missed, defective, 'defect')}: look at the missed "
            f"ones below. Try train-station calibrate {_CALIBRATE} --threshold recall=0.99 with "
            "defective images, which rejects more good parts; for small defects a larger "
            "--image-size or --tile."
        )
    if defective < _FEW:
        lines.append(
            f"Only {counted(defective, 'defective image was', 'defective images were')} judged: "
            "collect more and run train-station "
            "test, to know how many defects are found."
        )
    return lines


def _one_in(part: int, whole: int, what: str) -> str:
    """Return a share as people say it."""
    times = round(whole / part)
    return f"1 {what} in {times}" if times > 1 else f"nearly every {what}"


def _threshold(description: Description) -> list[tuple[str, str]]:
    threshold = description.threshold
    interval = threshold.interval
    between = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "none: set by hand"
    return [
        ("Raw image threshold", f"{threshold.image:.6g}"),
        ("Raw pixel threshold", f"{threshold.pixel:.6g}"),
        ("Method", _method(description, threshold)),
        (
            "Rests on",
            f"{threshold.good_count} good, {counted(threshold.defective_count, 'defective image')}",
        ),
        ("Good images scored", _scored(threshold)),
        ("Guaranteed", guarantee_sentence(threshold, description.training.good_check)),
        ("Suspects among the good ones", _suspects(description)),
        ("Look first at these good ones", _strangest(description)),
        ("95 % interval (bootstrap)", between),
    ]


def _scored(threshold: Threshold) -> str:
    """Return which models scored what the threshold rests on."""
    folds = threshold.cross_validated_count
    rest = threshold.good_count - folds
    parts = [f"{folds} by models fitted without them (cross-validation)"] if folds else []
    parts += [f"{rest} by this model, which was fitted without them (held out)"] if rest else []
    return ", ".join(parts) or "none"


def _suspects(description: Description) -> str:
    check = description.training.good_check
    if check is None:
        return "not looked for"
    suspects = f"{check.suspect_count} of {counted(check.compared, 'good image')}"
    if check.image_with is None:
        return suspects
    threshold = description.threshold
    return (
        f"{suspects}; threshold without them {threshold.image:.6g} (pixel {threshold.pixel:.6g}), "
        f"with them {check.image_with:.6g} (pixel {check.pixel_with:.6g})"
    )


def _strangest(description: Description) -> str:
    check = description.training.good_check
    if check is None or not check.strangest:
        return "–"
    return f"{', '.join(check.strangest)}: the highest scores, where a faint defect would be"


def _choice(description: Description) -> list[str]:
    """Return why it is this algorithm; empty where it was set."""
    choice = description.training.choice
    return [] if choice is None else choice_lines(choice)


def _kinds(evidence: Evidence) -> list[_Kind]:
    names = sorted({row.kind for row in evidence.rows}, key=lambda kind: (kind != "good", kind))
    kinds = []
    for name in names:
        rows = [row for row in evidence.rows if row.kind == name and row.score is not None]
        if not rows:
            continue
        wrong = sum((row.result is Result.OK) == row.defective for row in rows)
        scores = [row.normalized for row in rows if row.normalized is not None]
        between = _percent_between(share_interval(wrong, len(rows)))
        share = f"{_share(wrong, len(rows))}; {between}"
        lowest, highest = f"{min(scores):.2f}", f"{max(scores):.2f}"
        kinds.append(_Kind(name, len(rows), wrong, share, lowest, highest))
    return kinds


def _zone(zone: ZoneScores) -> _ZoneRow:
    return _ZoneRow(
        name=zone.name,
        scores=f"{zone.median:.4g} / {zone.highest:.4g}",
        threshold=f"{zone.threshold:.4g}" + ("" if zone.own else " (the part's)"),
        rejected=share_text(zone.rejected, zone.count),
        proposed=f"{zone.proposed:.4g}",
        rejected_then=share_text(zone.rejected_then, zone.count),
        rate=f"{100.0 * zone.rate:.3g} %",
    )


def _groups(evidence: Evidence) -> list[_Group]:
    gallery = evidence.gallery
    groups = [
        _Group(
            "Missed defects, the lowest scores first",
            _cards(gallery.group(MISSED)),
            "No defect was missed.",
        ),
        _Group(
            "Good parts that were rejected, the highest scores first",
            _cards(gallery.group(FALSELY_REJECTED)),
            "No good part was rejected.",
        ),
    ]
    for kind in gallery.kinds():
        name = kind.removeprefix("kind ")
        groups.append(_Group(f"{name}, the hardest first", _cards(gallery.group(kind))))
    nearest = _cards(gallery.group(NEAREST_GOOD))
    groups.append(_Group("Good parts, the highest scores first", nearest))
    return groups


def _cards(images: Sequence[Shown]) -> list[_Card]:
    return [_card(shown) for shown in images]


def _card(shown: Shown) -> _Card:
    row = shown.row
    return _Card(
        name="/".join(row.label.split("/")[-2:]),
        kind=row.kind,
        result=row.result.value,
        score=f"{row.normalized:.2f}" if row.normalized is not None else "–",
        synthetic=row.synthetic,
        jpeg=base64.b64encode(shown.jpeg).decode("ascii"),
    )


def _data(description: Description, evidence: Evidence) -> list[tuple[str, str]]:
    training, labels = description.training, evidence.totals.labels
    return [
        ("Data set", training.dataset),
        ("Fingerprint (SHA-256)", training.dataset_fingerprint),
        ("Images to fit on", f"{training.fit_count} good"),
        (
            "Images to calibrate on",
            f"{training.validation_good_count} good, "
            f"{training.validation_defective_count} defective",
        ),
        (
            f"Judged here: {evidence.name}",
            f"{int((~labels).sum())} good, {int(labels.sum())} defective"
            + (
                f" ({evidence.totals.synthetic_count} synthetic)"
                if evidence.totals.synthetic_count
                else ""
            ),
        ),
        ("Image formats", ", ".join(f.value for f in description.input.pixel_formats)),
        ("Model input", _input(description)),
    ]


def _error(row: ImageRow) -> str:
    detail = row.detail or row.reason
    return detail if row.label in detail else f"{row.label}: {detail}"


def _input(description: Description) -> str:
    spec = description.input
    size = f"{spec.width}×{spec.height} pixels"
    text = str(description.training.hyperparameters.get(_SIZE, size))
    if spec.crop is not None:
        text += f"; region {spec.crop.width}×{spec.crop.height}+{spec.crop.x}+{spec.crop.y}"
    if spec.locator is not None:
        text += f"; of the part, found by {spec.locator.mode.value}"
    if spec.tile_plan is not None:
        plan = spec.tile_plan
        text += f"; in tiles of {plan.width}×{plan.height}, {plan.overlap:.0%} overlap"
    return text


def _model(subject: Subject, description: Description) -> list[tuple[str, str]]:
    return [
        ("Algorithm", description.algorithm),
        ("Backbone", f"{description.backbone} (weights: {description.weights_licence})"),
        ("Checkpoint", subject.file),
        ("Checkpoint SHA-256", subject.sha256),
        ("Seed", str(description.seed)),
        *(
            (name, _setting(value))
            for name, value in description.training.hyperparameters.items()
            if name != _SIZE
        ),
        (
            "Made with",
            ", ".join(f"{name} {version}" for name, version in subject.made_with.items()),
        ),
    ]


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _method(description: Description, threshold: Threshold) -> str:
    chosen = description.training.hyperparameters.get("threshold")
    return _METHODS[threshold.method] + (f" ({chosen})" if chosen and chosen != "auto" else "")


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _between(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f} ({interval.method})" if interval else "–"


def _percent_between(interval: Interval | None) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%} ({interval.method})" if interval else "–"
