"""The file drop: one whole JSON file per verdict, bounded; a fault is told and stops no line."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.contract.event import Event
from edge.contract.verdict import Verdict, new_id
from edge.errors import OutputNotWritable
from edge.ports.file_drop import FileDrop
from edge.station.monitoring.health import Health
from edge.station.recording.port_output import PortOutput
from tests.edge.conftest import EdgeRun
from tests.support.payloads import validator
from tests.support.sample_verdict import DECIDED_UTC_NS, IDENTITY, sample_verdict
from tests.support.small_bundle import write_bundle


def verdict(number: int) -> Verdict:
    return replace(sample_verdict(), id=new_id(DECIDED_UTC_NS + number * 10**7), identity=IDENTITY)


def station(folder: Path, parts: int, settings: str) -> Path:
    (folder / "frames").mkdir()
    for number in range(parts):
        image = np.random.default_rng(number).integers(40, 200, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / "frames" / f"{number}.png"), image)
    bundle = write_bundle(folder)
    path = folder / "station.yaml"
    path.write_text(f"camera: {{uri: frames}}\nmodel: {{path: {bundle.name}}}\n{settings}\n")
    return path


def test_each_verdict_is_one_file_until_nobody_fetches_them(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    config = station(tmp_path, 5, "file_drop: {folder: out, max_files: 3}")

    done = edge_run("--config", config, "--once")

    assert done.returncode == 0, done.stderr
    printed = {one["id"]: one for one in map(json.loads, done.stdout.splitlines())}
    files = sorted((tmp_path / "out").iterdir())
    assert [file.stem for file in files] == list(printed)[:3]
    for file in files:
        content = json.loads(file.read_text())
        validator("verdict/1").validate(content)
        assert content["result"] == printed[file.stem]["result"]
    assert len(printed) == 5  # the line went on
    assert (
        done.stderr.count("file_drop.max_files. Fetch and delete them. Inspection continues") == 1
    )


def test_a_folder_that_cannot_be_made_is_a_configuration_error(
    tmp_path: Path, edge_run: EdgeRun
) -> None:
    (tmp_path / "out").write_text("a file")
    done = edge_run("--config", station(tmp_path, 1, "file_drop: {folder: out}"), "--once")
    assert done.returncode == 78
    assert "file_drop.folder" in done.stderr


def test_a_drop_inside_the_watched_folder_is_refused(tmp_path: Path, edge_run: EdgeRun) -> None:
    config = station(tmp_path, 1, "file_drop: {folder: frames/out}")
    config.write_text(config.read_text().replace("uri: frames", "uri: 'watch://frames'"))
    done = edge_run("--config", config, "--check")
    assert done.returncode == 78
    assert "file_drop.folder" in done.stderr and "watches" in done.stderr


def test_a_folder_that_is_lost_makes_the_station_degraded_until_it_is_back(tmp_path: Path) -> None:
    folder, events, health = tmp_path / "out", list[Event](), Health()
    output = PortOutput("file_drop", FileDrop(folder, 10), health, events.append)
    folder.rmdir()

    output.write(verdict(1))
    output.write(verdict(2))

    assert list(health.reasons) == ["file_drop_stopped"] and output.failed == 2
    assert [event.kind for event in events] == ["file_drop_stopped"]
    folder.mkdir()
    output.write(verdict(3))
    assert not health.reasons
    assert len(list(folder.iterdir())) == 1


def test_room_that_was_made_is_used(tmp_path: Path) -> None:
    drop = FileDrop(tmp_path, 1)
    drop.write(verdict(1))
    next(tmp_path.iterdir()).unlink()
    drop.write(verdict(2))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_folder_is_counted_rarely_and_used_again_once_a_tenth_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, now_s, scandir = list[Path](), [0.0], os.scandir

    def counting(path: Path) -> Any:
        counted.append(path)
        return scandir(path)

    for number in range(20):
        (tmp_path / f"{number}.json").touch()
    drop = FileDrop(tmp_path, 20, lambda: now_s[0])
    monkeypatch.setattr(os, "scandir", counting)

    def taken(number: int) -> bool:
        with suppress(OutputNotWritable):
            drop.write(verdict(number))
            return True
        return False

    assert not any(taken(number) for number in range(100))
    assert len(counted) == 1
    waiting = sorted(tmp_path.iterdir())
    waiting[0].unlink()
    now_s[0] += 10.0
    assert not any(taken(number) for number in range(100))
    assert len(counted) == 2
    waiting[1].unlink()
    now_s[0] += 10.0
    assert [taken(number) for number in range(3)] == [True, True, False]
