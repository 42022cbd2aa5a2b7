"""challenge.every_hours: the state is degraded until the model has passed, and when that is old."""

import time
from pathlib import Path

import pytest

from edge.challenge.journal import StudyJournal
from edge.cli.main import main
from edge.contract.challenge import challenge_event
from edge.inspection.attribute_agreement import Judgement
from edge.journal.database import FILE_NAME
from edge.settings.challenge import ChallengeSettings
from edge.settings.station import Settings
from edge.station.model.configured import load_configured
from edge.station.model.releases import Releases
from edge.station.monitoring.challenge_monitor import ChallengeMonitor
from edge.station.monitoring.health import Health
from tests.support.broker import Broker
from tests.support.small_bundle import IMAGE_THRESHOLD, write_images
from tests.support.station_process import StationProcess

HOUR_NS = 3_600_000_000_000


def test_a_station_is_degraded_until_its_model_has_passed_with_its_decision(
    tmp_path: Path, bundle: Path, running_broker: Broker
) -> None:
    parts = write_images(tmp_path / "parts" / "good", good=1).parent
    write_images(parts / "spot", good=0, defective=1)
    line = StationProcess(
        tmp_path,
        running_broker,
        {
            "camera": {"uri": str(parts / "good"), "rate_fps": 20, "loop": True},
            "model": {"path": str(bundle)},
            "challenge": {"every_hours": 12},
        },
    )
    with line:
        line.degraded("challenge_overdue")
        assert line.stop() == 0
        command = [
            "--challenge",
            parts,
            "--config",
            line.config,
            "--report",
            tmp_path,
            "--rounds=1",
        ]
        assert main([str(one) for one in command]) == 0
        line.start()
        line.states("online")
        (passed,) = line.events("challenge_passed")
        line.settings["decision"] = {"image_threshold": IMAGE_THRESHOLD + 1}
        line.reload()
        line.degraded("challenge_overdue", 2)
        assert line.stop() == 0
    assert passed["data"]["judgement"] == "acceptable"


@pytest.mark.parametrize(
    ("age_hours", "judgement", "overdue"),
    [
        (11.9, Judgement.MARGINAL, False),
        (12.1, Judgement.ACCEPTABLE, True),
        (1.0, Judgement.NOT_ACCEPTABLE, True),
        (-1.0, Judgement.ACCEPTABLE, True),  # the clock was wrong then, or is now
    ],
)
def test_the_last_passed_study_counts_for_so_many_hours(
    tmp_path: Path, bundle: Path, age_hours: float, judgement: Judgement, overdue: bool
) -> None:
    settings = Settings.model_validate(
        {"camera": {"uri": str(tmp_path)}, "model": {"path": str(bundle)}}
    )
    model = load_configured(settings, bundle, tmp_path / "tuning.json", Releases(None))
    now_ns = time.time_ns()
    kept = StudyJournal(tmp_path / "journal", settings)
    event = challenge_event(
        judgement,
        "",
        model_sha256=model.bundle.sha256,
        decision_sha256=model.criteria.sha256,
        evidence={},
    )
    kept.record(event, now_ns)
    kept.close()
    health = Health()
    monitor = ChallengeMonitor(
        settings=ChallengeSettings(every_hours=12),
        journal=tmp_path / "journal" / FILE_NAME,
        current=lambda: model,
        health=health,
        utc_ns=lambda: now_ns + round(age_hours * HOUR_NS),
    )
    monitor.check()
    assert ("challenge_overdue" in health.reasons) is overdue


@pytest.mark.parametrize(
    ("journal", "reported"),
    [
        ("", "challenge looks into the journal. Set journal.folder"),
        (
            "journal: {folder: journal, retention_days: 1}\n",
            "25 is longer than the journal keeps records (24 hours)",
        ),
    ],
)
def test_a_limit_that_cannot_be_watched_is_refused(
    tmp_path: Path, bundle: Path, journal: str, reported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {tmp_path}}}\nmodel: {{path: {bundle}}}\n"
        f"{journal}challenge: {{every_hours: 25}}\n"
    )
    assert main(["--config", str(config), "--check"]) == 78
    assert reported in capsys.readouterr().err
