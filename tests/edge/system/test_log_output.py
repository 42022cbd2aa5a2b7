"""Log lines: a time for people, a priority for systemd's journal."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

from tests.edge.conftest import edge_run_command

PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (INFO|WARNING|ERROR) [\w.]+: ")
PRIORITY = re.compile(r"<[3467]>\S")


def printed(folder: Path, bundle: Path, *, journal: bool) -> list[str]:
    """Run a station with its page on two images; return its lines on standard error."""
    images = folder / "pictures"
    images.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(bundle, images / name)  # no image: an ERROR, and a line
    config = folder / "station.yaml"
    config.write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}}}\n"
        f"journal: {{folder: {folder / 'journal'}}}\nhmi: {{port: 0}}\n"
    )
    ours, theirs = socket.socketpair()
    state = os.fstat(theirs.fileno())
    stream = f"{state.st_dev}:{state.st_ino}" if journal else "1:1"
    with ours, theirs:
        done = subprocess.run(
            edge_run_command("--config", config, "--once"),
            stdout=subprocess.DEVNULL,
            stderr=theirs.fileno(),
            timeout=120,
            check=False,
            env={**os.environ, "JOURNAL_STREAM": stream},
        )
        assert done.returncode == 0
        theirs.close()
        text = b""
        while piece := ours.recv(65536):
            text += piece
    return text.decode().splitlines()


def test_every_line_for_the_journal_has_a_priority_and_no_time_of_its_own(
    tmp_path: Path, bundle: Path
) -> None:
    lines = printed(tmp_path, bundle, journal=True)

    assert any(line.startswith("<6>edge.app.inspection_line: ") for line in lines), lines
    assert any(line.startswith("<6>edge-run: 2 parts") for line in lines), lines
    assert [line for line in lines if not PRIORITY.match(line)] == []
    assert [line for line in lines if PLAIN.search(line)] == []


def test_without_a_journal_each_record_has_its_time_and_level(tmp_path: Path, bundle: Path) -> None:
    lines = printed(tmp_path, bundle, journal=False)

    assert any(PLAIN.match(line) for line in lines), lines
    assert [line for line in lines if PRIORITY.match(line)] == []
