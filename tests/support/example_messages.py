"""One message of each topic, as the station builds it, for the documentation.

``python -m tests.support.example_messages`` writes them anew into docs/messages.md.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.bundle.loading import load_bundle
from edge.challenge.reference_parts import ReferencePart
from edge.challenge.report import StudyContext, evidence, make_report
from edge.challenge.study import Showing, StudiedPart
from edge.contract import announcements as printed
from edge.contract.challenge import challenge_event
from edge.contract.commands import CommandAnswer, CommandRequest, Status, answer_payloads
from edge.contract.encoding import utc_text
from edge.contract.event import Event, Severity, event_payload
from edge.contract.fleet import (
    Action,
    Desired,
    FleetReport,
    InForce,
    PartCounts,
    ReleasedInForce,
    ReleaseFile,
    ReleasePhase,
)
from edge.contract.fleet import payload as fleet_payload
from edge.contract.part import JoinedPart, PartReason, View, part_payload
from edge.contract.state import Condition, State, StationReport, state_payloads
from edge.contract.topics import StationTopic
from edge.contract.verdict import PartIdentity, Recipe, payload
from edge.imaging.frame import Frame
from edge.inspection.criteria import decision_criteria
from edge.inspection.decision import Decision, Reason, Result
from edge.inspection.inspector import Durations, Inspection
from edge.inspection.regions import Region
from tests.support.sample_verdict import DECIDED_UTC_NS, IDENTITY, SECOND_NS, sample_verdict

DEMO = Path(__file__).parents[2] / "configs" / "demo" / "bottle.xml"
GUIDE = Path(__file__).parents[2] / "docs" / "messages.md"
BEGIN, END = "<!-- examples -->\n", "<!-- end of the examples -->\n"
TOPIC = StationTopic.parse("plant1/line3/washer/cam1")
JOURNAL = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11"
SESSION = "0d0a5d0e-3c5c-4a7e-9c34-51c1f1b0a001"
VERDICT_ID = "019b76da-a8fb-7cc3-98c4-dc0c0c07398f"
STUDY_ID = "019b76da-a8fb-7d02-9b1d-5a0c3e6f1b22"
PART_ID = "019b76da-a8fb-7e05-8a40-6b1f0d2c9e33"
EVENT_ID = "019b76da-a8fb-7d01-8c1e-2f0e5f3b7a10"


def example_messages() -> dict[str, dict[str, Any]]:
    """Return a message by what follows the station's name in its topic."""
    verdict = _verdict()
    meta = printed.Meta(
        camera="watch:///srv/images",
        simulated=False,
        model_name="bottle",
        model_version="20260101T000000Z",
        model_sha256="a" * 64,
        guarantee=printed.ThresholdGuarantee(
            of="false_reject_rate", rate=0.103, confidence=0.95, count=100
        ),
        config_sha256="b" * 64,
        journal=JOURNAL,
        trigger_mode="software",
        commands=("resend", "reload", "set_recipe", "snapshot", "selftest"),
        fleet=True,
    )
    report = StationReport(camera_state="open", trigger_ready=True)
    state = State(condition=Condition.ONLINE, since_utc=utc_text(DECIDED_UTC_NS))
    metrics = printed.Metrics(
        {"parts_ok": 4710, "parts_nok": 7}, {"frames_waiting": 0}, {"total": {"p50": 11.9}}
    )
    lost = Event(
        "camera_lost",
        Severity.ALARM,
        "gige://192.168.2.10: no answer for 1.5 s. Check cable and power of the camera.",
        {"losses": 1, "recoveries": 0},
    )
    handshake = printed.HandshakeMessage(
        phase=printed.TriggerPhase.EXPOSED,
        trigger_id="9917",
        part_id="B-4711",
        utc_ns=DECIDED_UTC_NS,
    )
    repeated = printed.HandshakeMessage(
        phase=printed.TriggerPhase.DECIDED,
        trigger_id="9918",
        part_id="B-4712",
        utc_ns=DECIDED_UTC_NS,
        reason=None,
        seq=4719,
        result="ERROR",
    )
    malformed = printed.HandshakeMessage(
        phase=printed.TriggerPhase.REJECTED,
        trigger_id="9919",
        part_id=None,
        utc_ns=DECIDED_UTC_NS,
        reason="malformed",
    )
    answer = CommandAnswer(
        request=CommandRequest(name="resend"),
        status=Status.ACCEPTED,
        detail="",
        data={"from_seq": 4711},
    )
    return {
        "trigger": {
            "trigger_id": "9917",
            "part_id": "B-4711",
            "recipe": {"id": "bottle"},
            "deadline_ms": 400,
        },
        "handshake": printed.handshake_payload(handshake, SESSION),
        "handshake (the trigger sent again; its image never came)": printed.handshake_payload(
            repeated, SESSION
        ),
        "handshake (a trigger that breaks its schema)": printed.handshake_payload(
            malformed, SESSION
        ),
        "verdict": verdict,
        "ack": {"seq": 4718, "journal": JOURNAL},
        "event": {
            **event_payload(lost, DECIDED_UTC_NS),
            "id": EVENT_ID,
            "seq": 12,
            "journal": JOURNAL,
            "session": SESSION,
        },
        "event (a capability study)": {
            **event_payload(_challenge(), DECIDED_UTC_NS),
            "id": STUDY_ID,
            "seq": 13,
            "journal": JOURNAL,
            "session": SESSION,
        },
        "state": state_payloads(state, SESSION, report)[0],
        "meta": printed.meta_payloads(meta, TOPIC, SESSION)[0],
        "last": printed.last_payload(verdict),
        "metrics": printed.metrics_payloads(metrics, SESSION, DECIDED_UTC_NS)[0],
        "part": _part(),
        "cmd/resend": {"from_seq": 4711, "to_seq": 4715},
        "cmd/resend/res": answer_payloads(answer)[0],
        "cmd/set_recipe": {"id": "bottle", "version": 1},
        "cmd/reload": {},
        "cmd/snapshot": {},
        "cmd/selftest": {},
        **_fleet(),
    }


def _fleet() -> dict[str, dict[str, Any]]:
    release = ReleaseFile(
        name="bottle",
        version=8,
        sha256="c" * 64,
        bytes=31_457_280,
        address=f"/srv/releases/{'c' * 64}.recipe",
    )
    desired = Desired(
        rollout="8-5a0c3e6f1b22", claim=4, step=2, action=Action.TAKE, journal=JOURNAL,
        release=release,
    )  # fmt: skip
    report = FleetReport(
        journal=JOURNAL,
        rollout=desired.rollout,
        claim=4,
        step=2,
        phase=ReleasePhase.IN_FORCE,
        detail=f"{release} is in force",
        in_force=InForce(
            name="bottle", version=3, release=8, sha256=release.sha256, model_sha256="a" * 64
        ),
        settings=ReleasedInForce(name="guard-band", version=2, sha256="d" * 64),
        since=PartCounts(ok=392, nok=8, p99_ms=41.5),
        week=PartCounts(ok=9_810, nok=190, p99_ms=40.9),
    )
    return {"fleet/desired": fleet_payload(desired), "fleet/report": fleet_payload(report)}


def _inspection(result: Result, reason: Reason) -> Inspection:
    return Inspection(
        decision=Decision(result, reason),
        threshold=20.0,
        pixel_threshold=20.0,
        score=31.5,
        normalized_score=0.71,
        regions=(Region(x=40, y=60, width=12, height=9, area_px=70, peak=0.83),),
        durations=Durations(1_000_000, 2_500_000, 300_000),
    )


def _challenge() -> Event:
    """Return the event of a study in which every part was found right in three rounds."""
    good = Showing(_inspection(Result.OK, Reason.SCORE_BELOW), None)
    bad = Showing(_inspection(Result.NOK, Reason.SCORE_ABOVE), None)
    parts = [
        StudiedPart(ReferencePart(f"{number}.png", kind, kind != "good", ()), (shown,) * 3)
        for kind, shown, count in (("good", good, 100), ("scratch", bad, 200))
        for number in range(count)
    ]
    report = make_report(
        StudyContext(
            station="plant1/line3/washer/cam1",
            host="ipc",
            folder="/srv/reference",
            not_inspected="",
            camera=None,
            identity=replace(IDENTITY, simulated=False),
            decision=decision_criteria(load_bundle(DEMO).manifest),
            guard_band=0.0,
            recipe=None,
            model_path="/etc/edge/bottle.xml",
            begun_utc_ns=DECIDED_UTC_NS,
            ended_utc_ns=DECIDED_UTC_NS,
            public_key_sha256=None,
        ),
        parts,
    )
    return challenge_event(
        report.judgement,
        f"capability study {report.summary}.",
        model_sha256=report.context.identity.model_sha256,
        decision_sha256=report.context.decision.sha256,
        evidence=evidence(report, "challenge-20260101T000000.123Z.json", "d" * 64),
    )


def _verdict() -> dict[str, Any]:
    nok = _inspection(Result.NOK, Reason.SCORE_ABOVE)
    frame = Frame(
        pixels=np.full((120, 160, 3), 90, np.uint8),
        number=7,
        captured_ns=SECOND_NS,
        captured_utc_ns=DECIDED_UTC_NS - 12_000_000,
        source="file:///srv/images/B-4711.png",
        source_modified_utc_ns=DECIDED_UTC_NS - SECOND_NS,
    )
    part = PartIdentity(
        part_id="B-4711",
        trigger_id="9917",
        trigger_source="software",
        recipe=Recipe("bottle", 1),
        triggered_ns=SECOND_NS - 20_000_000,
        triggered_utc_ns=DECIDED_UTC_NS - 32_000_000,
        deadline_ms=400.0,
    )
    verdict = replace(sample_verdict(nok, frame), id=VERDICT_ID, part=part)
    record = payload(verdict, replace(IDENTITY, simulated=False), SESSION)
    return {**record, "seq": 4718, "journal": JOURNAL, "software": "edge 0"}


def _part() -> dict[str, Any]:
    """Return a part of which one of two stations found a defect."""
    views = tuple(
        View(
            station=f"plant1/line3/washer/{camera}",
            id=VERDICT_ID,
            journal=JOURNAL,
            seq=seq,
            result=result,
            reason=reason.value,
            decided_utc_ns=DECIDED_UTC_NS,
        )
        for camera, seq, result, reason in (
            ("cam2", 3120, Result.OK, Reason.SCORE_BELOW),
            ("cam1", 4718, Result.NOK, Reason.SCORE_ABOVE),
        )
    )
    joined = JoinedPart(
        part_id="B-4711",
        result=Result.NOK,
        reason=PartReason.VIEW_NOK,
        views=views,
        missing=(),
        detail="",
        simulated=False,
        replayed=False,
        decided_utc_ns=DECIDED_UTC_NS,
    )
    return part_payload(joined, "plant1/line3/washer/all", PART_ID, 2000.0)


def documented(messages: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section of the guide."""
    pieces = []
    for name, content in messages.items():
        text = json.dumps(content, indent=1, ensure_ascii=False)
        pieces.append(f"`{name}`\n\n```json\n{text}\n```\n")
    return "\n".join(pieces)


def main() -> None:
    guide = GUIDE.read_text("utf-8")
    before, _, rest = guide.partition(BEGIN)
    _, _, after = rest.partition(END)
    GUIDE.write_text(f"{before}{BEGIN}{documented(example_messages())}{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
