"""A site that runs for hours: broker, network, a steady station, and one that is killed."""

import itertools
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.endurance.consumer import Consumer
from tests.support.broken_network import BrokenNetwork
from tests.support.broker import Broker
from tests.support.gige_camera import GigECamera
from tests.support.small_bundle import defective_image, good_image, write_bundle, write_images
from tests.support.station_process import StationProcess

STEADY, DRIVEN = "site/line/cell/steady", "site/line/cell/driven"
RATE_FPS = 5.0
TRIGGER_PERIOD_S = 0.5
# What a verdict takes of the disk, with room to spare.
_VERDICT_BYTES = 8000


class Site:
    """Everything runs in processes of its own, as on a line.

    Attributes:
        steady: inspects files; it is never ended, so that its memory and files can be compared.
        driven: inspects what a PLC triggers on a GigE camera.
        network: between the stations and the broker.
        disk: the steady station's journal and snapshots; a small file system of its own where
            this user may mount one, else None.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        (folder / "broker").mkdir()
        self.broker = Broker(folder / "broker")
        self.broker.start()
        self.network = BrokenNetwork(self.broker.port)
        self.consumer = Consumer(self.broker.port)
        self.camera = GigECamera([good_image(1), defective_image(2)], rate_fps=10, noise=2)
        self.camera.start()
        self.models = [
            write_bundle(folder, "part"),
            write_bundle(folder, "other"),
            write_bundle(folder, "damaged"),
        ]
        self.models[2].with_suffix(".bin").write_bytes(b"no weights")
        self.disk = _mounted(folder, 96 * 2**20 + int(minutes * 60 * RATE_FPS * _VERDICT_BYTES))
        self.steady = self._station(folder / "steady", STEADY, self._files(folder))
        self.driven = self._station(folder / "driven", DRIVEN, self._triggered())
        self._numbers = itertools.count(1)
        self._ended = threading.Event()
        self._plc = threading.Thread(target=self._trigger)

    def start(self) -> None:
        self.steady.start()
        self.driven.start()
        self._plc.start()

    def rest(self) -> None:
        """Let the PLC trigger no more parts."""
        self._ended.set()
        self._plc.join()

    def close(self) -> None:
        self._ended.set()
        self.steady.close()
        self.driven.close()
        self.consumer.close()
        self.network.close()
        self.camera.close()
        self.broker.close()
        if self.disk is not None:
            subprocess.run(["umount", "--lazy", str(self.disk)], check=True)

    def journal(self, station: StationProcess) -> tuple[str, int, int, list[int]]:
        """Return UUID, newest number, what the broker does not have, and the numbers there."""
        path = Path(station.settings["journal"]["folder"]) / "journal.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=60)) as database:
            (journal,) = database.execute("SELECT journal FROM meta").fetchone()
            last, waiting = database.execute(
                "SELECT verdict_seq, waiting_rows FROM tally"
            ).fetchone()
            rows = database.execute("SELECT seq FROM record WHERE kind = 'verdict' ORDER BY seq")
            return journal, last, waiting, [seq for (seq,) in rows]

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Leave no room on the steady station's disk."""
        assert self.disk is not None
        filling = self.disk / "filling"
        with filling.open("wb") as file:
            try:
                while True:
                    os.write(file.fileno(), bytes(2**16))
            except OSError:
                pass
        yield
        filling.unlink()

    def _station(self, folder: Path, name: str, settings: dict[str, Any]) -> StationProcess:
        folder.mkdir()
        url = f"mqtt://127.0.0.1:{self.network.port}"
        mqtt = {"url": url, "station": name}
        return StationProcess(folder, self.broker, {"mqtt": mqtt, **settings})

    def _files(self, folder: Path) -> dict[str, Any]:
        kept = self.disk or folder / "kept"
        return {
            "camera": {
                "uri": str(write_images(folder / "frames", good=7, defective=3)),
                "rate_fps": RATE_FPS,
                "loop": True,
            },
            "model": {"path": str(self.models[0])},
            "journal": {"folder": str(kept / "journal")},
            "snapshots": {
                "folder": str(kept / "snapshots"),
                "max_bytes": 16 * 2**20,
                "free_space_floor_bytes": 32 * 2**20,
                "recent_hours": 0,
            },
        }

    def _triggered(self) -> dict[str, Any]:
        return {
            "camera": {
                "uri": self.camera.uri,
                "trigger": {"mode": "software", "frame_timeout_ms": 3000},
                "supervision": {"frozen_after": 0},
            },
            "model": {"path": str(self.models[0])},
        }

    def _trigger(self) -> None:
        while not self._ended.wait(TRIGGER_PERIOD_S):
            number = next(self._numbers)
            content = {"trigger_id": f"t{number}", "part_id": f"part-{number}"}
            self.consumer.publish(f"vi/v1/{DRIVEN}/trigger", content)


def _mounted(folder: Path, size: int) -> Path | None:
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return disk if mounted else None


class SiteEnded(Exception):
    """A station has ended that should run; the message has the end of its log."""


def pause(seconds: float) -> None:
    """Let a fault last."""
    time.sleep(seconds)
