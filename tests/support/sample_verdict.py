"""A verdict as a station gives it, for tests that need one."""

import numpy as np

from edge.contract.verdict import StationIdentity, Verdict, new_id
from edge.imaging.frame import Frame
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Durations, Inspection

SECOND_NS = 1_000_000_000
DECIDED_UTC_NS = 1_767_225_600 * SECOND_NS + 123_456_789

IDENTITY = StationIdentity(
    simulated=True,
    trigger_source="free_run",
    model_name="bottle",
    model_version="20260101T000000Z",
    model_sha256="a" * 64,
    precision="fp32/f32",
    device="CPU",
    runtime="openvino 2026.1.0",
    config_sha256="b" * 64,
)
GOOD = Inspection(
    decision=Decision(Result.OK, Reason.SCORE_BELOW),
    threshold=20.0,
    pixel_threshold=20.0,
    score=2.0,
    normalized_score=0.32,
    durations=Durations(1_000_000, 2_500_000, 300_000),
)


def sample_verdict(inspection: Inspection = GOOD, of: Frame | None = None) -> Verdict:
    """Return a verdict of a part that was decided 12 ms after its image came."""
    return Verdict(
        id=new_id(DECIDED_UTC_NS),
        inspection=inspection,
        frame=of
        or Frame(
            pixels=np.full((120, 160, 3), 90, np.uint8),
            number=7,
            captured_ns=SECOND_NS,
            captured_utc_ns=0,
        ),
        decided_ns=SECOND_NS + 12_000_000,
        decided_utc_ns=DECIDED_UTC_NS,
        inspection_started_ns=SECOND_NS + 5_000_000,
    )
