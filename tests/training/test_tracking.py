"""Trackers: what was logged can be read back with each one's own tools."""

import csv
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edge.errors import OutputNotWritable
from training.errors import SettingError
from training.tracking import open_trackers, read_numbers


def log_three_steps(places: list[str]) -> None:
    with open_trackers(places) as trackers:
        trackers.start({"algorithm": "padim", "seed": 3})
        for step in range(3):
            trackers.log(step, {"loss": 1.0 / (step + 1), "rate": 0.5})


def test_csv_holds_every_figure_with_its_step(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    log_three_steps([f"csv:{path}"])
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[:2] == [
        {"step": "0", "name": "setting/algorithm", "value": "padim"},
        {"step": "0", "name": "setting/seed", "value": "3"},
    ]
    losses = [(int(r["step"]), float(r["value"])) for r in rows if r["name"] == "loss"]
    assert losses == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]


def test_what_was_logged_is_on_disk_before_the_end(tmp_path: Path) -> None:
    trackers = open_trackers([f"csv:{tmp_path / 'log.csv'}"])
    trackers.log(7, {"loss": 2.0})
    assert "7,loss,2.0" in (tmp_path / "log.csv").read_text()
    trackers.close()


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    log_three_steps([f"tensorboard:{tmp_path / 'run'}"])
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("rate")] == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert [e.step for e in events.Scalars("loss")] == [0, 1, 2]
    assert "settings/text_summary" in events.Tags()["tensors"]


def test_weights_and_biases_works_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is optional: pip install wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    log_three_steps(["wandb:bottles"])
    runs = list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(runs) == 1
    # Its own process writes the file, a little after the run is finished here.
    deadline = time.monotonic() + 60
    while b"loss" not in runs[0].read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_several_trackers_take_in_the_same(tmp_path: Path) -> None:
    places = [f"csv:{tmp_path / name}.csv" for name in ("a", "b")]
    log_three_steps(places)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.mark.parametrize("place", ["mlflow:x", "csv", "csv:", "tensorboard:"])
def test_an_unknown_tracker_lists_those_that_exist(place: str) -> None:
    with pytest.raises(SettingError, match=rf"track '{place}': give csv:FILE, tensorboard:FOLDER"):
        open_trackers([place])


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match="file"):
        open_trackers([f"{kind}:{tmp_path / 'file' / 'log'}"])


def test_a_missing_wandb_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SettingError, match="pip install wandb"):
        open_trackers(["wandb:bottles"])


def test_only_known_numbers_are_logged() -> None:
    assert read_numbers({"a": 1, "b": None, "c": "x", "d": {"e": 1}, "f": 0.5, "g": True}) == {
        "a": 1.0,
        "f": 0.5,
    }
