"""What foreign texts do to lines on the terminal and in the journal: nothing."""

import os
import re
import socket
import subprocess
import sys
import unicodedata
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigurationInvalid, StationError
from edge.redaction import one_line
from tests.edge.conftest import edge_run_command
from tests.support.broker import Broker
from tests.support.small_bundle import good_image, write_images
from tests.support.station_process import StationProcess

# Steers the terminal, turns the direction of writing, ends a line in one way or another.
HOSTILE = {
    "\x1b[2Jclear": "\\x1b[2Jclear",
    "a\u202egnp": "a\\u202egnp",
    "b\u2066c": "b\\u2066c",
    "line\u2028two": "line\\u2028two",
    "paragraph\u2029two": "paragraph\\u2029two",
    "next\x85line": "next\\x85line",
    "x\n2026-01-01T00:00:00Z ERROR edge: forged": "x\\n2026-01-01T00:00:00Z ERROR edge: forged",
    "x\r<0>edge: forged": "x\\r<0>edge: forged",
}
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def forged(output: str) -> list[str]:
    """Return what a terminal or the journal would take for more than text."""
    lines = output.split("\n")
    return [one for one in lines if RAW.search(one) or one.startswith(("2026-01-01T", "<0>"))]


@given(st.text())
def test_no_character_with_an_effect_is_left_and_plain_text_stays(text: str) -> None:
    shown = one_line(text)

    kept = {"Zs"}
    assert all(c.isprintable() or unicodedata.category(c) in kept for c in shown)
    assert one_line(shown) == shown
    if all(c.isprintable() or unicodedata.category(c) in kept for c in text):
        assert shown == text


def test_a_message_has_the_lines_it_was_made_of_and_no_more() -> None:
    assert str(StationError("a\nb: cannot be read")) == "a\\nb: cannot be read"
    assert str(ConfigurationInvalid("a: wrong", "b\x1b: wrong")) == "a: wrong\nb\\x1b: wrong"


@pytest.mark.parametrize("journal", [False, True], ids=["terminal", "journal"])
def test_the_name_of_a_camera_cannot_steer_or_forge_a_line(
    tmp_path: Path, bundle: Path, journal: bool
) -> None:
    folder = write_images(tmp_path / " ".join(HOSTILE), good=1)
    ours, theirs = socket.socketpair()
    state = os.fstat(theirs.fileno())
    stream = f"{state.st_dev}:{state.st_ino}" if journal else ""
    with ours, theirs:
        done = subprocess.run(
            edge_run_command("--camera", folder, "--model", bundle, "--once"),
            stdout=subprocess.DEVNULL,
            stderr=theirs.fileno(),
            timeout=120,
            check=False,
            env={**os.environ, "JOURNAL_STREAM": stream},
        )
        theirs.close()
        output = b"".join(iter(lambda: ours.recv(65536), b"")).decode()

    assert done.returncode == 0
    assert forged(output) == []
    assert " ".join(HOSTILE.values()) in output
    assert all(re.match("<[2-7]>", line) for line in output.splitlines()) is journal


def test_a_command_that_fails_quotes_a_name_without_its_effect(tmp_path: Path) -> None:
    for name, shown in HOSTILE.items():
        if name.startswith(("a", "x")):
            (run := tmp_path / f"{name}.yaml").write_text("camera: {\n")
            done = subprocess.run(
                edge_run_command("--config", run, "--check"),
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 78
            assert forged(done.stderr) == [] and f"{shown}.yaml" in done.stderr


def test_messages_of_the_network_cannot_steer_or_forge_a_line(
    tmp_path: Path, bundle: Path, running_broker: Broker
) -> None:
    frames = write_images(tmp_path / "frames", good=1)
    camera = {"uri": str(frames), "rate_fps": 10.0, "loop": True}
    settings = {"camera": camera, "model": {"path": str(bundle)}}
    with StationProcess(tmp_path, running_broker, settings) as station:
        station.states("online")
        station.trigger("turned\u202eid", "part\u2028id")
        station.phases("rejected", 1)
        station.publish("cmd/set_recipe", {"id": "recipe\u2066\u2028\u202e", "version": 1})
        station.events("command_failed")
        assert station.stop() == 0

    assert forged(station.log) == []
    assert "turned\\u202eid" in station.log
    assert "recipe\\u2066\\u2028\\u202e" in station.log


def test_names_in_a_data_set_cannot_steer_or_forge_a_line(tmp_path: Path) -> None:
    good = tmp_path / "set" / "good"
    good.mkdir(parents=True)
    whole = cv2.imencode(".png", good_image())[1].tobytes()
    for number, name in enumerate(HOSTILE):
        (good / f"{name}.png").write_bytes(whole[: 100 + number])
    program, output = Path(sys.executable).parent / "train-station", tmp_path / "model.safetensors"
    done = subprocess.run(
        [
            str(program),
            "fit",
            "--algorithm",
            "ganomaly",
            "--data",
            str(good.parent),
            "-o",
            str(output),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode not in (0, 70), done.stderr
    assert forged(done.stderr + done.stdout) == []
    assert any(f"{shown}.png" in done.stderr for shown in HOSTILE.values())
