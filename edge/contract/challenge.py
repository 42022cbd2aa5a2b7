"""The event of a capability study, and which of them count for a model and its decision."""

from collections.abc import Mapping
from typing import Any

from edge.contract.event import Datum, Event, Severity
from edge.inspection.attribute_agreement import Judgement

PASSED = "challenge_passed"
FAILED = "challenge_failed"

_SEVERITY = {
    Judgement.ACCEPTABLE: Severity.INFO,
    Judgement.MARGINAL: Severity.WARNING,
    Judgement.NOT_ACCEPTABLE: Severity.ALARM,
}


def challenge_event(
    judgement: Judgement,
    detail: str,
    *,
    model_sha256: str,
    decision_sha256: str,
    evidence: Mapping[str, Datum],
) -> Event:
    """Return what a journal keeps of a study; of a marginal one, too, that it was passed.

    Args:
        detail: the figures, for people.
        model_sha256: of the manifest of the bundle that inspected.
        decision_sha256: of ``DecisionCriteria``.
        evidence: the figures, and what they rest on.
    """
    return Event(
        FAILED if judgement is Judgement.NOT_ACCEPTABLE else PASSED,
        _SEVERITY[judgement],
        detail,
        {
            "judgement": judgement.value,
            "model_sha256": model_sha256,
            "decision_sha256": decision_sha256,
            **evidence,
        },
    )


def is_passed_challenge(event: Mapping[str, Any], model_sha256: str, decision_sha256: str) -> bool:
    """Tell whether an ``event/1`` says that this model passed with this decision."""
    data = event["data"]
    return (
        event["kind"] == PASSED
        and data.get("model_sha256") == model_sha256
        and data.get("decision_sha256") == decision_sha256
    )
