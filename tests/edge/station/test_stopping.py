"""A station is told to stop, whatever the moment and whoever does not read what it says."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.journal.database import FILE_NAME
from edge.journal.entries import RecordKind
from edge.journal.outbox import Outbox
from tests.edge.conftest import edge_run_command
from tests.support.broker import GENEROUS_S
from tests.support.small_bundle import write_images
from tests.support.station_process import until

# Two verdicts fill the pipe, 64 the queues behind it.
PARTS, INSPECTED = 120, 60


class Stalled:
    """A station whose standard output nobody reads.

    Attributes:
        journal: of a station that keeps one.
        overlays: one for every part that was inspected.
    """

    def __init__(self, folder: Path, bundle: Path, journal: bool) -> None:
        folder.mkdir()
        self.journal = folder / "journal" if journal else None
        self.overlays = folder / "overlays"
        settings: dict[str, Any] = {
            "camera": {"uri": str(write_images(folder / "parts", good=PARTS, defective=1))},
            "model": {"path": str(bundle)},
            "save": {"folder": str(self.overlays)},
        }
        if self.journal:
            settings["journal"] = {"folder": str(self.journal)}
        config = folder / "station.yaml"
        config.write_text(yaml.safe_dump(settings))
        self._reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        self._log = folder / "edge-run.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                edge_run_command("--config", config), stdout=writer, stderr=log
            )
        os.close(writer)

    def inspects(self) -> None:
        """Wait until the reader should have had many verdicts."""
        until(
            lambda: self.overlays.is_dir() and len(list(self.overlays.iterdir())) > INSPECTED,
            "parts",
        )

    def end(self) -> tuple[int, str, list[dict[str, Any]]]:
        """Return exit code, log, and the verdicts that lie in the pipe whole."""
        code = self.process.wait(GENEROUS_S)
        with open(self._reader, "rb", closefd=False) as pipe:
            lines = pipe.read().splitlines(keepends=True)
        whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return code, self._log.read_text(), whole

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._reader)


@contextmanager
def stalled(folder: Path, bundle: Path, journal: bool) -> Iterator[Stalled]:
    with closing(Stalled(folder, bundle, journal)) as one:
        yield one


def test_a_reader_that_stands_still_cannot_keep_the_station_and_every_verdict_is_accounted_for(
    tmp_path: Path, bundle: Path
) -> None:
    with (
        stalled(tmp_path / "recorded", bundle, journal=True) as recorded,
        stalled(tmp_path / "plain", bundle, journal=False) as plain,
    ):
        for one in (recorded, plain):
            one.inspects()
        for one in (recorded, plain):
            one.process.send_signal(signal.SIGTERM)

        code, printed, written = recorded.end()
        assert code == 75, printed
        assert recorded.journal is not None
        with closing(Outbox(recorded.journal / FILE_NAME)) as outbox:
            rows = outbox.rows(RecordKind.VERDICT, 1, 10_000, 10_000)
        records = [json.loads(row.payload) for row in rows]
        parts, named = counted(printed)
        assert len(records) == parts
        assert [one["id"] for one in written] + named == [one["id"] for one in records]
        assert f"recorded, up to number {parts}. Read them with edge-run --journal" in printed

        code, printed, written = plain.end()
        assert code == 74, printed
        parts, named = counted(printed)
        assert len({*(one["id"] for one in written), *named}) == parts
        assert f"{len(named)} parts have no record" in printed


def counted(printed: str) -> tuple[int, list[str]]:
    """Return how many parts a run had, and the ids of those that its log names as not written."""
    assert "Fatal" not in printed and "Traceback" not in printed
    parts = re.search(r"edge-run: (\d+) parts: ", printed)
    assert parts is not None, printed
    return int(parts[1]), re.findall(r"not written: part .*, id (\S+)\)$", printed, re.MULTILINE)


TWO_SIGNALS = """
import os, signal, sys
from edge.app.signals import Stopper
with Stopper() as stopper:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    print("not stopped at once")
"""


def test_a_second_signal_stops_at_once_however_soon_it_comes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_SIGNALS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize("loaded", ["edge.settings.station", "openvino"])
def test_a_signal_in_the_first_moments_of_a_start_is_a_stop_in_order(
    tmp_path: Path, bundle: Path, loaded: str
) -> None:
    """Told when it imports a library, which is where the first moments go."""
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    code = (
        "import importlib.abc, os, signal, sys\n"
        "class Now(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == {loaded!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.meta_path.insert(0, Now())\n"
        f"sys.argv = ['edge-run', '--camera', {str(images)!r}, '--model', {str(bundle)!r}]\n"
        "from edge.cli.main import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
