"""Files that version 0.2.0 wrote keep working; ``tests/data/kept`` holds one of each."""

import json
import shutil
from pathlib import Path

from edge.journal.entries import RecordKind
from edge.journal.query import Query, query
from edge.journal.verification import verify_chain
from edge.settings.loading import load_settings
from tests.edge.conftest import EdgeRun
from tests.support.small_bundle import write_images

KEPT = Path(__file__).parents[2] / "data" / "kept"


def test_settings_bundle_and_journal_go_on(edge_run: EdgeRun, tmp_path: Path) -> None:
    folder = tmp_path / "station"
    shutil.copytree(KEPT, folder)
    write_images(folder / "images", good=2, defective=1)

    run = edge_run("--config", folder / "station.yaml", "--once")

    assert run.returncode == 0, run.stderr
    journal = folder / "journal" / "journal.db"
    rows = [*query(journal, Query(kind=RecordKind.VERDICT))]
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]  # three were there
    verdicts = [json.loads(row.payload) for row in rows]
    decided = [(one["result"], one["raw_threshold"], one["model"]["sha256"]) for one in verdicts]
    assert decided[3:] == decided[:3]
    assert [result for result, _, _ in decided[:3]].count("NOK") == 1
    scores = [one["raw_score"] for one in verdicts]
    assert scores[3:] == scores[:3]
    assert verify_chain(journal).fault is None


def test_every_key_of_the_settings_is_read() -> None:
    settings = load_settings(KEPT / "every-key.yaml")

    assert (settings.camera.queue_depth, settings.camera.supervision.frozen_after) == (8, 2)
    assert settings.mqtt is not None and settings.mqtt.topic.name == "plant1/line3/washer/cam1"
    assert settings.journal is not None and settings.journal.max_rows == 1_000_000
    assert settings.snapshots is not None and settings.snapshots.recent_hours == 8
    assert settings.hmi is not None and settings.hmi.shifts == ["06:00", "14:00", "22:00"]
