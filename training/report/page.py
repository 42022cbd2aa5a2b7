"""The report as one HTML page: no script, no external resource, ready to be printed and signed."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from edge.bundle.manifest import Threshold, ThresholdMethod
from edge.inspection.thresholding import Result
from training.checkpoint import Description
from training.guarantees import guarantee_sentence
from training.metrics import Interval, share_interval
from training.report.charts import roc_chart, score_histogram
from training.report.evidence import (
    FALSELY_REJECTED,
    MISSED,
    NEAREST_GOOD,
    Evidence,
    ImageRow,
    Shown,
)
from training.report.style import STYLE

_FEW = 10
_MOST_ERRORS = 20

# Of good parts: more are a nuisance on most lines.
_MANY_REJECTED = 0.03
_CALIBRATE = "MODEL --data FOLDER -o NEW"


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


def report_page(subject: Subject, description: Description, evidence: Evidence) -> str:
    """Return the report of a model on a split.

    Args:
        evidence: of the split; its images must not have served the fit.
    """
    title = f"{description.training.dataset}: {description.algorithm} {description.backbone}"
    sections = [
        _header(subject, description, evidence, title),
        _notices(description, evidence),
        _summary(description, evidence),
        _threshold(description, evidence),
        _kinds(evidence),
        _images(evidence),
        _data(description, evidence),
        _model(subject, description),
        _signature(subject),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(sections)}</main></body></html>\n"
    )


def _header(subject: Subject, description: Description, evidence: Evidence, title: str) -> str:
    return (
        '<header><p class="over">Inspection model report</p>'
        f"<h1>{escape(title)}</h1><p>{escape(subject.file)}, judged on {escape(evidence.name)}; "
        f"{subject.made_at:%d %B %Y, %H:%M %Z}</p></header>"
    )


def _notices(description: Description, evidence: Evidence) -> str:
    """Say before any figure what a reader must know to weigh it."""
    threshold, tally = description.threshold, evidence.tally
    notices = []
    if evidence.tally.synthetic_count:
        notices.append(
            f"<b>Synthetic defects.</b> {tally.synthetic_count} of the images judged here carry "
            "defects made by software. The figures show that the model reacts to a change, not "
            "how it does on real defects."
        )
    if "synthetic" in description.training.dataset and threshold.defective_count:
        notices.append(
            "<b>The threshold rests on synthetic defects.</b> Calibrate again once there are "
            "real ones: train-station calibrate."
        )
    check = description.training.good_check
    if check is not None and check.suspect_count:
        listed = ", ".join(check.suspects[:_MOST_ERRORS])
        effect = ""
        if check.image_with is not None:
            effect = (
                f" The threshold is {threshold.image:.4g}; with them it would be "
                f"{check.image_with:.4g}."
            )
        notices.append(
            f"<b>{check.suspect_count} good images look like defects</b> and count neither for "
            f"the fit nor for the threshold.{effect} Look at them and move those that show a "
            f"defect: {escape(listed)}"
        )
    if description.training.hyperparameters.get("validate_on") == "test":
        notices.append(
            "<b>The threshold was chosen on the test images.</b> Figures at the threshold are "
            "optimistic."
        )
    if not tally.labels.any():
        notices.append(
            "<b>No defective images.</b> Only false rejects can be judged; whether defects are "
            "found is not known."
        )
    elif tally.labels.sum() < _FEW:
        notices.append(
            f"<b>Only {int(tally.labels.sum())} defective images.</b> Mind the intervals."
        )
    if threshold.good_count < _FEW:
        notices.append(f"<b>The threshold rests on {threshold.good_count} good images only.</b>")
    verdicts, image = tally.verdicts(threshold.image), tally.image_figures(description.seed)
    if image and verdicts.f1 is not None and verdicts.f1 <= image.f1_reject_all:
        notices.append(
            "<b>Not better than rejecting everything.</b> F1 at the threshold does not exceed "
            "that of a station that rejects every part."
        )
    if evidence.errors:
        notices.append(
            f"<b>{len(evidence.errors)} images could not be inspected</b> and are in no figure; "
            "they are listed under Data."
        )
    return "".join(f'<p class="notice">{notice}</p>' for notice in notices)


def _summary(description: Description, evidence: Evidence) -> str:
    tally = evidence.tally
    verdicts = tally.verdicts(description.threshold.image)
    image, pixels = tally.image_figures(description.seed), tally.pixel_figures()
    good, defective = int((~tally.labels).sum()), int(tally.labels.sum())
    what = "synthetic defects" if tally.synthetic_count else "defects"
    tiles = [
        _tile(f"{verdicts.missed} of {defective}", f"{what} missed", bool(verdicts.missed)),
        _tile(f"{verdicts.false_rejects} of {good}", "good parts rejected", False),
    ]
    if image and image.auroc is not None:
        tiles.append(_tile(f"{image.auroc:.4f}", "image AUROC", False))
    if pixels:
        tiles.append(_tile(f"{pixels.aupro:.4f}", "AUPRO", False))
    shares = [
        (f"{what.capitalize()} missed", _share(verdicts.missed, defective), verdicts.miss_interval),
        (
            "Good parts rejected",
            _share(verdicts.false_rejects, good),
            verdicts.false_reject_interval,
        ),
    ]
    rows: list[tuple[str, str, Interval | None]] = []
    if image:
        intervals = image.intervals
        recall = image.recall_at_false_rejects
        shares.append(
            (
                f"{what.capitalize()} found where 1 % of good parts are rejected",
                "–" if recall is None else f"{recall:.1%}",
                intervals.get("recall_at_false_rejects"),
            )
        )
        rows += [
            ("Image AUROC", _number(image.auroc), intervals.get("auroc")),
            (
                "Image AUPR (average precision)",
                _number(image.average_precision),
                intervals.get("average_precision"),
            ),
            (
                f"F1 at the threshold{_beside(image.f1_reject_all)}",
                _number(verdicts.f1),
                None,
            ),
            (
                f"F1 at its best threshold{_beside(image.f1_reject_all)}",
                _number(image.f1_max),
                intervals.get("f1_max"),
            ),
        ]
    if pixels:
        bins = f"exact to ±{max(pixels.auroc_error, pixels.aupro_error):.0e}"
        rows += [
            (f"Pixel AUROC ({bins})", _number(pixels.auroc), None),
            ("Pixel AUPR (average precision)", _number(pixels.average_precision), None),
            ("Pixel F1 at its best threshold", _number(pixels.f1_max), None),
            (f"AUPRO up to 30 % false positives ({bins})", _number(pixels.aupro), None),
        ]
    body = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(value)}</td><td>{_between(interval)}</td></tr>"
        for name, value, interval in rows
    )
    body = (
        "".join(
            f"<tr><th>{escape(name)}</th><td>{escape(value)}</td>"
            f"<td>{_percent_between(interval)}</td></tr>"
            for name, value, interval in shares
        )
        + body
    )
    advice = "".join(f"<li>{escape(line)}</li>" for line in _advice(description, evidence))
    advised = f'<h3>What to do</h3><ul class="advice">{advice}</ul>' if advice else ""
    return (
        f'<section><h2>Result</h2><div class="tiles">{"".join(tiles)}</div>'
        '<table class="figures"><thead><tr><th>Figure</th><th>Value</th>'
        f"<th>95 % interval (method)</th></tr></thead><tbody>{body}</tbody></table>"
        f"{advised}</section>"
    )


def _advice(description: Description, evidence: Evidence) -> list[str]:
    """Return what a reader can do about the verdicts, in plain words."""
    tally = evidence.tally
    verdicts = tally.verdicts(description.threshold.image)
    good, defective = int((~tally.labels).sum()), int(tally.labels.sum())
    lines = []
    if good and verdicts.false_rejects / good > _MANY_REJECTED:
        lines.append(
            f"The model rejects {_one_in(verdicts.false_rejects, good, 'good part')}: try more "
            "good images that show what is usual in production (fit again), or allow fewer rejects "
            f"with train-station calibrate {_CALIBRATE} --threshold false-reject-rate=0.02, which "
            "may miss more defects."
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
            f"Only {defective} defective images were judged: collect more and run train-station "
            "test, to know how many defects are found."
        )
    return lines


def _one_in(part: int, whole: int, what: str) -> str:
    """Return a share as people say it."""
    times = round(whole / part)
    return f"1 {what} in {times}" if times > 1 else f"nearly every {what}"


def _threshold(description: Description, evidence: Evidence) -> str:
    threshold, tally = description.threshold, evidence.tally
    synthetic = bool(tally.synthetic_count)
    histogram = score_histogram(
        tally.scores, tally.labels, threshold.image, threshold.interval, synthetic
    )
    roc = roc_chart(tally.scores, tally.labels, threshold.image, synthetic)
    interval = threshold.interval
    between = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "none: set by hand"
    lines = [
        ("Raw image threshold", f"{threshold.image:.6g}"),
        ("Raw pixel threshold", f"{threshold.pixel:.6g}"),
        ("Method", _method(description, threshold)),
        (
            "Rests on",
            f"{threshold.good_count} good, {threshold.defective_count} defective images",
        ),
        ("Good images scored", _scored(threshold)),
        ("Guaranteed", guarantee_sentence(threshold, description.training.good_check)),
        ("Suspects among the good ones", _suspects(description)),
        ("95 % interval (bootstrap)", between),
    ]
    return (
        f"<section><h2>Threshold</h2>{_list(lines)}"
        f"<figure>{histogram}<figcaption>Scores of {escape(evidence.name)}. A part at or above "
        "the threshold is rejected; the band is the threshold's 95 % interval.</figcaption>"
        f"</figure>{_roc(roc)}</section>"
    )


def _scored(threshold: Threshold) -> str:
    """Tell which models scored what the threshold rests on."""
    folds = threshold.cross_validated_count
    rest = threshold.good_count - folds
    parts = [f"{folds} by models fitted without them (cross-validation)"] if folds else []
    parts += [f"{rest} by this model, which was fitted without them (held out)"] if rest else []
    return ", ".join(parts) or "none"


def _suspects(description: Description) -> str:
    check = description.training.good_check
    if check is None:
        return "not looked for"
    counted = f"{check.suspect_count} of {check.compared} good images"
    if check.image_with is None:
        return counted
    threshold = description.threshold
    return (
        f"{counted}; threshold without them {threshold.image:.6g} (pixel {threshold.pixel:.6g}), "
        f"with them {check.image_with:.6g} (pixel {check.pixel_with:.6g})"
    )


def _roc(chart: str) -> str:
    if not chart:
        return ""
    return (
        f"<figure>{chart}<figcaption>ROC: what other thresholds would find and reject."
        "</figcaption></figure>"
    )


def _kinds(evidence: Evidence) -> str:
    kinds = sorted({row.kind for row in evidence.rows}, key=lambda kind: (kind != "good", kind))
    body = []
    for kind in kinds:
        rows = [row for row in evidence.rows if row.kind == kind and row.score is not None]
        if not rows:
            continue
        wrong = sum((row.result is Result.OK) == row.defective for row in rows)
        scores = [row.normalized for row in rows if row.normalized is not None]
        body.append(
            f"<tr><th>{escape(kind)}</th><td>{len(rows)}</td>"
            f'<td class="{"bad" if wrong else ""}">{wrong}</td>'
            f"<td>{_share(wrong, len(rows))}; "
            f"{_percent_between(share_interval(wrong, len(rows)))}</td>"
            f"<td>{min(scores):.2f}</td><td>{max(scores):.2f}</td></tr>"
        )
    return (
        '<section><h2>By kind</h2><table class="figures"><thead><tr><th>Kind</th><th>Images</th>'
        "<th>Wrong</th><th>Share wrong, 95 % interval</th><th>Lowest score</th>"
        f"<th>Highest score</th></tr></thead><tbody>{''.join(body)}</tbody></table>"
        '<p class="note">Scores are normalized: the threshold is 0.5.</p></section>'
    )


def _images(evidence: Evidence) -> str:
    gallery = evidence.gallery
    parts = [
        _shown(
            "Missed defects, the lowest scores first",
            gallery.group(MISSED),
            "No defect was missed.",
        ),
        _shown(
            "Good parts that were rejected, the highest scores first",
            gallery.group(FALSELY_REJECTED),
            "No good part was rejected.",
        ),
    ]
    for kind in gallery.kinds():
        name = kind.removeprefix("kind ")
        parts.append(_shown(f"{name}, the hardest first", gallery.group(kind), ""))
    parts.append(_shown("Good parts, the highest scores first", gallery.group(NEAREST_GOOD), ""))
    hint = '<p class="note">Click an image to enlarge it. Left the image, right its heat map.</p>'
    return f'<section class="pictures"><h2>Images</h2>{hint}{"".join(parts)}</section>'


def _shown(heading: str, images: Sequence[Shown], nothing: str) -> str:
    if not images:
        return f"<h3>{escape(heading)}</h3><p>{escape(nothing)}</p>" if nothing else ""
    cards = "".join(_card(shown) for shown in images)
    return f'<h3>{escape(heading)}</h3><div class="cards">{cards}</div>'


def _card(shown: Shown) -> str:
    row = shown.row
    place = row.label.split("/")
    name = "/".join(place[-2:])
    mark = ' <b class="synthetic">synthetic</b>' if row.synthetic else ""
    score = f"{row.normalized:.2f}" if row.normalized is not None else "–"
    data = base64.b64encode(shown.jpeg).decode("ascii")
    return (
        f'<details class="card"><summary><img alt="{escape(name)} and its heat map" '
        f'src="data:image/jpeg;base64,{data}"><span class="caption">{escape(name)}{mark}<br>'
        f"{escape(row.kind)}, {row.result.value}, score {score}</span></summary></details>"
    )


def _data(description: Description, evidence: Evidence) -> str:
    training, labels = description.training, evidence.tally.labels
    lines = [
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
                f" ({evidence.tally.synthetic_count} synthetic)"
                if evidence.tally.synthetic_count
                else ""
            ),
        ),
        ("Image formats", ", ".join(f.value for f in description.input.pixel_formats)),
        ("Model input", _input(description)),
    ]
    errors = evidence.errors[:_MOST_ERRORS]
    listed = "".join(f"<li>{escape(_error(row))}</li>" for row in errors)
    more = f"<h3>Not inspected</h3><ul>{listed}</ul>" if errors else ""
    return f"<section><h2>Data</h2>{_list(lines)}{more}</section>"


def _error(row: ImageRow) -> str:
    detail = row.detail or row.reason
    return detail if row.label in detail else f"{row.label}: {detail}"


def _input(description: Description) -> str:
    spec = description.input
    text = f"{spec.width}×{spec.height} pixels"
    if spec.crop is not None:
        text += f", region {spec.crop.width}×{spec.crop.height}+{spec.crop.x}+{spec.crop.y}"
    if spec.tile_plan is not None:
        plan = spec.tile_plan
        text += f", in tiles of {plan.width}×{plan.height}, {plan.overlap:.0%} overlap"
    return text


def _model(subject: Subject, description: Description) -> str:
    lines = [
        ("Algorithm", description.algorithm),
        ("Backbone", f"{description.backbone} (weights: {description.weights_licence})"),
        ("Checkpoint", subject.file),
        ("Checkpoint SHA-256", subject.sha256),
        ("Seed", str(description.seed)),
        *((name, _setting(value)) for name, value in description.training.hyperparameters.items()),
        (
            "Made with",
            ", ".join(f"{name} {version}" for name, version in subject.made_with.items()),
        ),
    ]
    return f"<section><h2>Model</h2>{_list(lines)}</section>"


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _signature(subject: Subject) -> str:
    fields = ("Name", "Function", "Date", "Signature")
    boxes = "".join(f'<div class="field"><span>{name}</span></div>' for name in fields)
    return (
        '<section class="release"><h2>Release</h2>'
        '<p><span class="box"></span> released for production &nbsp; '
        '<span class="box"></span> released with conditions &nbsp; '
        '<span class="box"></span> not released</p>'
        '<div class="field wide"><span>Conditions, remarks</span></div>'
        f'<div class="fields">{boxes}</div>'
        f'<p class="note">Belongs to the checkpoint with SHA-256 {escape(subject.sha256)}.</p>'
        "</section>"
    )


def _method(description: Description, threshold: Threshold) -> str:
    names = {
        ThresholdMethod.F1_ADAPTIVE: "highest F1, midway between neighbouring scores",
        ThresholdMethod.RECALL: "target recall",
        ThresholdMethod.FALSE_REJECT_RATE: "target false-reject rate",
        ThresholdMethod.QUANTILE: "quantile of good scores with a margin",
        ThresholdMethod.MANUAL: "set by hand",
    }
    chosen = description.training.hyperparameters.get("threshold")
    return names[threshold.method] + (f" ({chosen})" if chosen and chosen != "auto" else "")


def _tile(value: str, name: str, bad: bool) -> str:
    return f'<div class="tile{" bad" if bad else ""}"><b>{escape(value)}</b>{escape(name)}</div>'


def _list(lines: Iterable[tuple[str, str]]) -> str:
    body = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in lines)
    return f"<dl>{body}</dl>"


def _beside(baseline: float) -> str:
    return f" (rejecting everything: {baseline:.4f})"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _between(interval: Interval | None) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f} ({interval.method})" if interval else "–"


def _percent_between(interval: Interval | None) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%} ({interval.method})" if interval else "–"
