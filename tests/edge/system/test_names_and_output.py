"""Names that are no ASCII under any locale, and output that nobody can write to any more."""

import csv
import io
import json
import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from edge.contract.encoding import bounded, to_json
from edge.redaction import readable
from edge.system.process_start import discard_output
from tests.edge.conftest import edge_run_command
from tests.support.broker import GENEROUS_S, Broker
from tests.support.small_bundle import good_image
from tests.support.station_process import STATION
from tests.support.warm_start import Closed

ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ASCII_OUTPUT = {"PYTHONIOENCODING": "ascii:strict"}


def named_images(folder: Path) -> Path:
    """Write images with umlauts, one whose name is no UTF-8, and two that are damaged."""
    folder.mkdir()
    encoded = cv2.imencode(".png", good_image())[1].tobytes()
    for name in ("1 gut ü.png".encode(), b"2 sch\xf6n.png"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(encoded)
    for name in ("3 kaputt ß.png".encode(), b"4 kaputt \xdf.png"):
        Path(os.fsdecode(bytes(folder) + b"/" + name)).write_bytes(encoded[:200])
    return folder


@pytest.mark.parametrize("environment", [ASCII_LOCALE, ASCII_OUTPUT], ids=["locale", "output"])
def test_no_verdict_is_lost_over_a_name_whatever_the_locale(
    tmp_path: Path, bundle: Path, environment: dict[str, str]
) -> None:
    settings = {
        "camera": {"uri": str(named_images(tmp_path / "Prüfbilder"))},
        "model": {"path": str(bundle)},
        "journal": {"folder": str(tmp_path / "Prüfbuch")},
        "save": {"folder": str(tmp_path / "Bilder ä")},
    }
    config = tmp_path / "prüfung.yaml"
    config.write_text(yaml.safe_dump(settings, allow_unicode=True), "utf-8")

    def run(*arguments: object) -> "subprocess.CompletedProcess[bytes]":
        done = subprocess.run(
            edge_run_command("--config", config, *arguments),
            capture_output=True,
            env={**os.environ, **environment},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    verdicts = [json.loads(line.decode("utf-8")) for line in run("--once").stdout.splitlines()]
    sources = [str(one["image"]["source_uri"]).rpartition("/")[2] for one in verdicts]
    assert [one["result"] for one in verdicts] == ["OK", "OK", "ERROR", "ERROR"]
    assert sources[:2] == ["1%20gut%20%C3%BC.png", "2%20sch%F6n.png"]
    assert "kaputt ß" in verdicts[2]["detail"] and "kaputt \\xdf" in verdicts[3]["detail"]
    assert len(list((tmp_path / "Bilder ä").iterdir())) == 4

    assert b"4 " in run("--journal").stdout
    run("--journal", "--csv", tmp_path / "Tabelle ü.csv")
    table = (tmp_path / "Tabelle ü.csv").read_text("utf-8")
    assert [row["seq"] for row in csv.DictReader(io.StringIO(table)) if row["kind"] == "verdict"]


def test_what_utf_8_cannot_carry_is_written_with_backslashes() -> None:
    name = os.fsdecode(b"sch\xf6n \xc3\xbc")

    assert readable(name) == "sch\\xf6n ü"
    assert json.loads(to_json({"a": name, "b": "\ud83d", "c": "ü"}).encode()) == {
        "a": "sch\\xf6n ü",
        "b": "\\ud83d",
        "c": "ü",
    }
    assert bounded(name, 100) == "sch\\xf6n ü"


def started(config: Path, *arguments: str, **how: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(edge_run_command("--config", config, *arguments), **how)


def station_config(folder: Path, bundle: Path, broker: Broker, **camera: object) -> Path:
    frames = folder / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "1.png"), good_image())
    settings = {
        "camera": {"uri": str(frames), **camera},
        "model": {"path": str(bundle)},
        "mqtt": {"url": broker.url, "station": STATION},
        "journal": {"folder": str(folder / "journal")},
    }
    config = folder / "station.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def test_a_closed_terminal_changes_neither_exit_code_nor_the_last_state(
    running_broker: Broker, bundle: Path, tmp_path: Path
) -> None:
    config = station_config(tmp_path, bundle, running_broker, loop=True, rate_fps=5.0)
    terminal, end = pty.openpty()
    process = started(config, stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    try:
        running_broker.collect("/state", lambda got: any(m["state"] == "online" for m in got))
        os.close(terminal)
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS_S) == 0
    finally:
        process.kill()
    states = running_broker.collect("/state", lambda got: got[-1]["state"] != "online")
    assert states[-1]["state"] == "stopped"


def test_a_full_disk_behind_standard_error_changes_nothing_either(
    running_broker: Broker, bundle: Path, tmp_path: Path
) -> None:
    config = station_config(tmp_path, bundle, running_broker)
    with Path("/dev/full").open("wb") as full:
        assert started(config, "--once", stderr=full).wait(GENEROUS_S) == 0
        # What fails tells it by its exit code all the same.
        config.write_text("camera: {uri: nowhere}\nmodel: {path: none.xml}\n")
        assert started(config, stderr=full).wait(GENEROUS_S) == 78

    states = running_broker.collect("/state", lambda got: got[-1]["state"] == "stopped")
    assert states[-1]["reasons"] == []


def test_a_closed_standard_error_puts_nothing_among_the_verdicts(
    bundle: Path, tmp_path: Path
) -> None:
    folder = named_images(tmp_path / "frames")
    run = subprocess.run(
        edge_run_command("--camera", folder, "--model", bundle, "--once"),
        preexec_fn=Closed(2),
        capture_output=True,
        check=False,
    )

    assert run.returncode == 0
    assert len([json.loads(line) for line in run.stdout.splitlines()]) == 4


def test_a_full_disk_behind_standard_output_is_named(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            edge_run_command("--doctor"), stdout=full, stderr=subprocess.PIPE, check=False
        )

    assert run.returncode == 78
    assert b"standard output: cannot be written (No space left on device)" in run.stderr
    assert b"internal error" not in run.stderr


def test_output_that_is_discarded_can_be_written_on(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        full.write("x")
        discard_output(full)
        full.flush()
