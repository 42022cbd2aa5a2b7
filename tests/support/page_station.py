"""A station with its page: ``edge-run --config`` in a process of its own, without a broker."""

import re
import signal
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml

from tests.edge.conftest import edge_run_command
from tests.support.warm_start import HELPER

# The page is served at a low priority: where others keep every core busy, it takes its time.
GENEROUS_S = 60.0
# Waiting asks ever more rarely: a page that is asked for parts too often refuses.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.05, 0.5
# For clients of pages, which speak HTTP: whoever makes one of its own for each request reads all
# certificates of the machine each time, ten times as long as the request takes.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TOKEN = "3k7mzq5xw2vhn4tjd6rbyfc2aegl5uio"
ADDRESS = re.compile(r"the page is at (http://\S+)")


class PageStation:
    """One station on files, its journal, its snapshots and its page on a free port.

    Attributes:
        settings: what the YAML holds; written at each start.
        address: of the page, after ``start``.
        config: its YAML.
    """

    def __init__(self, folder: Path, camera: dict[str, Any], model: Path) -> None:
        """Prepare a station and its token; ``with`` starts it.

        Args:
            folder: for everything it writes.
            camera: section of that name.
            model: the ``.xml`` of a bundle.
        """
        folder.mkdir(parents=True, exist_ok=True)
        token = folder / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        self.settings: dict[str, Any] = {
            "camera": camera,
            "model": {"path": str(model)},
            "journal": {"folder": str(folder / "journal")},
            "snapshots": {"folder": str(folder / "snapshots"), "every_nth_ok": 5},
            "hmi": {"port": 0, "token_file": str(token), "title": "Cell 7"},
        }
        self.folder = folder
        self.address = ""
        self.config = folder / "station.yaml"
        self._log = folder / "edge-run.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def journal(self) -> Path:
        return self.folder / "journal" / "journal.db"

    @property
    def page_process(self) -> psutil.Process:
        """The process that serves the page."""
        children = psutil.Process(self.pid).children()
        (found,) = (one for one in children if one.name() != HELPER)
        return found

    def write(self) -> None:
        """Write its settings."""
        self.config.write_text(yaml.safe_dump(self.settings))

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self.write()
        self._log.write_bytes(b"")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                edge_run_command("--config", self.config), stdout=log, stderr=log
            )

    def start(self) -> None:
        """Start it and wait until the page is served and shows a part that is in the journal."""
        self.launch()
        try:
            self.wait_for_page()
            wait_until(lambda: self.status()["part"] is not None, "a part is decided")
            wait_until(lambda: bool(self.parts(max_count=1)), "its record")
        except BaseException:
            self.close()
            raise

    def wait_for_page(self, count: int = 1) -> None:
        """Wait until the page was served for the ``count``-th time, and answers."""
        try:
            wait_until(lambda: len(ADDRESS.findall(self.log)) >= count, "the page")
        except AssertionError as error:
            reported = [line for line in self.log.splitlines() if not line.startswith("{")]
            raise AssertionError("\n".join(reported[-40:])) from error
        self.address = ADDRESS.findall(self.log)[-1]
        wait_until(lambda: self.get("/livez").status_code == 200, "the page answers")

    def reload(self, content: bytes | None = None) -> None:
        """Let it read its settings again (SIGHUP), or this content in their place."""
        assert self._process is not None
        self.config.write_bytes(content or yaml.safe_dump(self.settings).encode())
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """Ask it to end (SIGTERM); returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(GENEROUS_S)

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""
        assert self._process is not None
        return self._process.wait(GENEROUS_S)

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.address + path, timeout=GENEROUS_S, verify=NO_TLS, **options)

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self) -> Any:
        return self.json("/api/status")

    def act(self, name: str, asked: object = None, **headers: str | None) -> httpx.Response:
        """Carry out an action as the page does; a header that is None is left out."""
        given: dict[str, str | None] = {
            "content-type": "application/json",
            "x-edge-request": "1",
            "authorization": f"Bearer {TOKEN}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return httpx.post(
            f"{self.address}/api/actions/{name}",
            json=asked or {},
            headers={key: value for key, value in given.items() if value is not None},
            timeout=GENEROUS_S,
            verify=NO_TLS,
        )

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind that the page lists, newest first."""
        return [one for one in self.json("/api/numbers")["events"] if one["kind"] == kind]

    def event(self, kind: str) -> dict[str, Any]:
        """Return the only event of a kind, once the page lists it: it counts every few seconds."""
        wait_until(lambda: bool(self.events(kind)), f"event {kind}")
        (event,) = self.events(kind)
        return event

    def parts(self, max_count: int = 50, **wanted: str) -> list[dict[str, Any]]:
        answer = self.get("/api/parts", params={"limit": str(max_count), **wanted})
        assert answer.status_code == 200, answer.text
        return answer.json()["parts"]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: it does not within a generous time.
    """
    deadline, pause_s = time.monotonic() + GENEROUS_S, FIRST_PAUSE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {GENEROUS_S:g} s: {what}"
        time.sleep(pause_s)
        pause_s = min(1.05 * pause_s, MAX_PAUSE_S)
