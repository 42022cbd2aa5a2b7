"""The report of a study: figures, what they rest on, and every showing, as JSON."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import edge
from edge.challenge.study import Showing, StudiedPart
from edge.contract.encoding import utc_text
from edge.contract.event import Datum
from edge.contract.verdict import Recipe, StationIdentity
from edge.inspection.attribute_agreement import (
    CONFIDENCE,
    GOOD_KAPPA,
    POOR_KAPPA,
    AttributeAgreement,
    Criterion,
    Judgement,
    ObservedRate,
    attribute_agreement,
    criteria,
    worst,
)
from edge.inspection.criteria import DecisionCriteria
from edge.redaction import one_line, readable
from edge.wording import agreeing, counted

SCHEMA = "challenge/1"
NAMES = {
    "effectiveness": "effectiveness",
    "miss_rate": "miss rate",
    "false_alarm_rate": "false-alarm rate",
}
WORDS = {
    Judgement.ACCEPTABLE: "acceptable",
    Judgement.MARGINAL: "marginal",
    Judgement.NOT_ACCEPTABLE: "not acceptable",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyContext:
    """What a study was made with.

    Attributes:
        station: of ``mqtt.station``; None where the settings name none.
        host: name of the PC.
        folder: of the reference parts.
        not_inspected: what is there beside them; empty for nothing.
        camera: redacted URI of the camera that saw the parts; None for image files.
        identity: model, runtime and settings, as in verdicts.
        decision: what the parts were decided by.
        guard_band: half-width of the undecided band on the normalized scale.
        recipe: of the settings.
        model_path: of the bundle.
        begun_utc_ns, ended_utc_ns: wall clock.
        public_key_sha256: of the key that signs, raw; None without one.
    """

    station: str | None
    host: str
    folder: str
    not_inspected: str
    camera: str | None
    identity: StationIdentity
    decision: DecisionCriteria
    guard_band: float
    recipe: Recipe | None
    model_path: str
    begun_utc_ns: int
    ended_utc_ns: int
    public_key_sha256: str | None


@dataclass(frozen=True, slots=True)
class StudyReport:
    """A judged study.

    Attributes:
        context: what it was made with.
        parts: every part and what was found of it.
        figures, criteria: and how each is judged.
    """

    context: StudyContext
    parts: tuple[StudiedPart, ...]
    figures: AttributeAgreement
    criteria: tuple[Criterion, ...]

    @property
    def judgement(self) -> Judgement:
        return worst(self.criteria)

    @property
    def supported(self) -> bool:
        """The number of parts suffices for the judgement: one figure fails it, all must pass."""
        if self.judgement is Judgement.NOT_ACCEPTABLE:
            return any(one.supported for one in self.criteria if one.judgement is self.judgement)
        return all(one.supported for one in self.criteria)

    @property
    def rounds(self) -> int:
        return len(self.parts[0].showings)

    @property
    def good(self) -> int:
        return sum(not shown.part.defective for shown in self.parts)

    @property
    def defective(self) -> int:
        return len(self.parts) - self.good

    @property
    def summary(self) -> str:
        """One sentence with judgement and figures."""
        figures = ", ".join(f"{NAMES[one.name]} {percent(one.rate.value)}" for one in self.criteria)
        word = WORDS[self.judgement]
        if not self.supported:
            word += ", not supported by so few parts"
        return (
            f"{word}: {figures}; parts: {self.good} good, {self.defective} defective; "
            f"rounds: {self.rounds}"
        )


def make_report(context: StudyContext, parts: Sequence[StudiedPart]) -> StudyReport:
    """Judge a study."""
    figures = attribute_agreement([shown.results for shown in parts])
    return StudyReport(context, tuple(parts), figures, criteria(figures))


def notes(report: StudyReport) -> list[str]:
    """Return what the figures of a study do not show, one sentence or two each."""
    found = [_unsupported(one) for one in report.criteria if not one.supported]
    repeated = sum(len(shown.part.images) == 1 for shown in report.parts)
    if report.context.camera is None:
        found.append("The images came from files: camera, lens and light were not examined.")
        if repeated and report.rounds > 1:
            found.append(
                f"{repeated} of {counted(len(report.parts), 'part')} "
                f"{agreeing(repeated, 'was', 'were')} shown by one image in every round. "
                "That one image gets one result proves that the software is deterministic, and "
                "nothing about how the station agrees with itself on the line."
            )
    if report.context.not_inspected:
        found.append(f"Of the folder {report.context.not_inspected}.")
    if report.rounds == 1:
        found.append("With one round the station cannot be compared with itself.")
    undecided = report.figures.not_decidable + report.figures.errors
    if undecided:
        found.append(
            f"{undecided} of {counted(len(report.parts) * report.rounds, 'showing')} ended "
            "NOT_DECIDABLE or ERROR. They are not right for any part: they lower the "
            "effectiveness, and count neither as misses nor as false alarms."
        )
    found.append(
        f"Intervals are exact (Clopper and Pearson) at {percent(CONFIDENCE)} and count parts, not "
        "showings. They hold for parts like those of this study: a defect that is not in it was "
        "not examined."
    )
    if report.context.public_key_sha256 is None:
        found.append("This report is not signed.")
    return found


def _unsupported(one: Criterion) -> str:
    low, high = one.rate.interval
    sentence = (
        f"The number of parts is too small to support that the {NAMES[one.name]} is "
        f"{WORDS[one.judgement]}: with {percent(CONFIDENCE)} confidence it lies between "
        f"{percent(low)} and {percent(high)}."
    )
    if one.judgement is Judgement.NOT_ACCEPTABLE:
        return sentence
    kind = {"miss_rate": "defective ", "false_alarm_rate": "good "}.get(one.name, "")
    at = "at least" if one.name == "effectiveness" else "at most"
    return (
        f"{sentence} {one.needed} {kind}parts, all judged right, support {at} "
        f"{percent(one.acceptable)}; shown: {one.rate.parts}."
    )


def kappa_in_words(kappa: float | None) -> str:
    """Return what a kappa says by the rule of thumb of AIAG."""
    if kappa is None:
        return "not defined"
    if kappa > GOOD_KAPPA:
        return "good"
    return "poor" if kappa < POOR_KAPPA else "between poor and good"


def percent(value: float) -> str:
    return f"{value * 100:.4g} %"


def as_json(report: StudyReport, signature: str | None) -> bytes:
    """Return the report as ``challenge/1``, with the hash of its own contents.

    Args:
        signature: name of the file with the signature of these bytes; None for none.
    """
    content = _content(report, signature)
    content["content_sha256"] = content_sha256(content)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    return readable(text, in_json=True).encode() + b"\n"


def content_sha256(content: Mapping[str, Any]) -> str:
    """Return the hash of a report: of its canonical JSON without ``content_sha256`` itself."""
    rest = {name: value for name, value in content.items() if name != "content_sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def evidence(report: StudyReport, report_name: str, report_sha256: str) -> dict[str, Datum]:
    """Return what the journal keeps of a study beside its judgement."""
    figures, context = report.figures, report.context
    found: dict[str, Datum] = {
        "model_name": context.identity.model_name,
        "threshold": context.decision.threshold,
        "config_sha256": context.identity.config_sha256,
        "camera": context.camera is not None,
        "rounds": report.rounds,
        "good_parts": report.good,
        "defective_parts": report.defective,
        "not_decidable": figures.not_decidable,
        "errors": figures.errors,
        "own_kappa": figures.own_kappa,
        "reference_kappa": figures.reference_kappa,
        "report": report_name,
        "report_sha256": report_sha256,
    }
    for one in report.criteria:
        found[one.name] = one.rate.value
        worse = one.rate.interval[0 if one.name == "effectiveness" else 1]
        found[f"{one.name}_bound"] = worse
    found["supported"] = report.supported
    return found


def _content(report: StudyReport, signature: str | None) -> dict[str, Any]:
    context, figures = report.context, report.figures
    identity, decision = context.identity, context.decision
    return {
        "schema": SCHEMA,
        "judgement": report.judgement.value,
        "supported": report.supported,
        "summary": report.summary,
        "notes": notes(report),
        "begun_utc": utc_text(context.begun_utc_ns),
        "ended_utc": utc_text(context.ended_utc_ns),
        "station": context.station,
        "host": context.host,
        "software": f"edge {edge.__version__}",
        "camera": context.camera,
        "simulated": identity.simulated,
        "model": {
            "name": identity.model_name,
            "version": identity.model_version,
            "sha256": identity.model_sha256,
            "path": one_line(context.model_path),
            "precision": identity.precision,
            "device": identity.device,
            "runtime": identity.runtime,
        },
        "config_sha256": identity.config_sha256,
        "decision": {
            "sha256": decision.sha256,
            "threshold": decision.threshold,
            "pixel_threshold": decision.pixel_threshold,
            "guard_band": context.guard_band,
            "crop": decision.input.crop.model_dump() if decision.input.crop else None,
        },
        "recipe": (
            {"id": context.recipe.id, "version": context.recipe.version} if context.recipe else None
        ),
        "folder": one_line(context.folder),
        "good_parts": report.good,
        "defective_parts": report.defective,
        "rounds": report.rounds,
        "confidence": CONFIDENCE,
        "criteria": [_criterion(one) for one in report.criteria],
        "agreement_with_itself": {
            **_rate(figures.alike),
            "fleiss_kappa": _kappa(figures.own_kappa),
        },
        "agreement_with_reference": {"cohen_kappa": _kappa(figures.reference_kappa)},
        "not_decidable": figures.not_decidable,
        "errors": figures.errors,
        "parts": [_part(shown, context.camera is None) for shown in report.parts],
        "signature": (
            {"algorithm": "ed25519", "file": signature, "key_sha256": context.public_key_sha256}
            if signature
            else None
        ),
    }


def _criterion(one: Criterion) -> dict[str, Any]:
    return {
        "name": one.name,
        **_rate(one.rate),
        "acceptable": one.acceptable,
        "marginal": one.marginal,
        "judgement": one.judgement.value,
        "supported": one.supported,
        "parts_needed": one.needed,
    }


def _kappa(value: float | None) -> dict[str, Any]:
    return {"value": value, "words": kappa_in_words(value)}


def _rate(rate: ObservedRate) -> dict[str, Any]:
    return {
        "value": rate.value,
        "hits": rate.hits,
        "of": rate.showings,
        "parts": rate.parts,
        "interval": list(rate.interval),
    }


def _part(shown: StudiedPart, of_files: bool) -> dict[str, Any]:
    images = [shown.part.image(turn).name for turn in range(len(shown.showings))]
    return {
        "part": one_line(shown.part.name),
        "kind": one_line(shown.part.kind),
        "expected": shown.results.expected.value,
        "right": shown.results.right,
        "showings": [
            _showing(one, image if of_files else None)
            for one, image in zip(shown.showings, images, strict=True)
        ],
    }


def _showing(one: Showing, image: str | None) -> dict[str, Any]:
    inspection = one.inspection
    return {
        "result": inspection.decision.result.value,
        "reason": inspection.decision.reason.value,
        "detail": one_line(inspection.detail) or None,
        "anomaly_score": inspection.normalized_score,
        "raw_score": inspection.score,
        "image": one_line(image) if image else None,
        "image_sha256": one.image_sha256,
    }
