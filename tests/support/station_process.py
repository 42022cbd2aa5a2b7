"""A station as the service manager runs it: ``edge-run --config`` in a process of its own."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge.contract.topics import StationTopic
from tests.edge.conftest import edge_run_command
from tests.support.broker import GENEROUS_S, Broker, Messages

STATION = "site/line/cell/top"
ROOT = f"vi/v1/{STATION}"


class StationProcess:
    """One station on a broker; its settings may be changed between starts, or for a reload.

    Attributes:
        settings: what the YAML holds; ``write`` writes it.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        settings: dict[str, Any],
        environment: dict[str, str] | None = None,
    ) -> None:
        """Prepare the settings of a station; ``with`` starts it.

        Args:
            folder: for YAML, journal and log.
            settings: ``camera`` and ``model`` at least; broker and journal are added.
            environment: variables beside those of the test.
        """
        self.settings: dict[str, Any] = {
            "mqtt": {"url": broker.url, "station": STATION},
            "journal": {"folder": str(folder / "journal")},
            **settings,
        }
        self.config = folder / "station.yaml"
        self.journal = folder / "journal"
        self._log = folder / "edge-run.log"
        self.broker = broker
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._sender: paho.Client | None = None

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
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text()

    def write(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))

    def start(self) -> None:
        self.write()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                edge_run_command("--config", self.config),
                stdout=log,
                stderr=log,
                env=self._environment,
            )

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""
        self._send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to end (SIGTERM); returns its exit code."""
        self._send(signal.SIGTERM)
        return self.wait()

    def reload(self) -> None:
        """Let it read its settings again (SIGHUP)."""
        self.write()
        self._send(signal.SIGHUP)

    def wait(self) -> int:
        """Wait for its end; returns its exit code."""
        assert self._process is not None
        return self._process.wait(GENEROUS_S)

    def states(self, state: str, count: int = 1) -> Messages:
        """Return all states said so far, once this one was entered so often.

        A state is said again whenever something of it changes, and kept by the broker.
        """

        def entered(seen: Messages) -> set[str]:
            return {one["since_utc"] for one in seen if one["state"] == state}

        return self._collect("/state", lambda seen: len(entered(seen)) >= count)

    def ready(self) -> None:
        """Wait until a trigger would be accepted."""
        self._collect("/state", lambda seen: bool(seen) and seen[-1]["trigger_ready"] is True)

    def degraded(self, reason: str, count: int = 1) -> Messages:
        """Return the degraded states with this reason, each once, once there are so many."""

        def found(seen: Messages) -> Messages:
            degraded = [one for one in seen if reason in one["reasons"]]
            return list({one["since_utc"]: one for one in degraded}.values())

        return found(self._collect("/state", lambda seen: len(found(seen)) >= count))

    def verdicts(self, count: int) -> Messages:
        """Return the verdicts so far in the order of their arrival, once there are so many."""
        return self._collect(
            "/verdict", lambda seen: len({(one["journal"], one["seq"]) for one in seen}) >= count
        )

    def events(self, kind: str, count: int = 1) -> Messages:
        """Return the events of a kind, once there are so many."""
        seen = self._collect(
            "/event", lambda seen: sum(one["kind"] == kind for one in seen) >= count
        )
        return [one for one in seen if one["kind"] == kind]

    def phases(self, phase: str, count: int) -> Messages:
        """Return the hand-shakes so far, once this phase was said so often."""
        return self._collect(
            "/handshake", lambda seen: sum(one["phase"] == phase for one in seen) >= count
        )

    def trigger(self, trigger_id: str, part_id: str, **more: Any) -> None:
        """Send a trigger as a PLC gateway does."""
        self.publish("trigger", {"trigger_id": trigger_id, "part_id": part_id, **more})

    def publish(self, suffix: str, content: dict[str, Any]) -> None:
        """Send a message to the station and wait until the broker has it."""
        self.publish_soon(suffix, content).wait_for_publish(GENEROUS_S)

    def publish_soon(self, suffix: str, content: dict[str, Any]) -> paho.MQTTMessageInfo:
        """Send a message to the station and wait for nothing."""
        if self._sender is None:
            self._sender = paho.Client(CallbackAPIVersion.VERSION2, client_id="test-plc")
            self._sender.connect("127.0.0.1", self.broker.port)
            self._sender.loop_start()
        return self._sender.publish(f"{ROOT}/{suffix}", json.dumps(content), qos=1)

    def cut_off(self) -> None:
        """Push the station off its broker, and wait until it is there again."""
        session = self._collect("/state", bool)[-1]["session"]
        client_id = StationTopic.parse(STATION).client_id
        intruder = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        intruder.connect("127.0.0.1", self.broker.port)
        self._collect("/state", lambda seen: seen[-1]["will"])
        intruder.disconnect()
        self._collect(
            "/state", lambda seen: seen[-1]["session"] != session and not seen[-1]["will"]
        )

    def close(self) -> None:
        """Kill what runs."""
        if self._sender is not None:
            self._sender.disconnect()
            self._sender.loop_stop()
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _collect(self, suffix: str, until: Callable[[Messages], bool]) -> Messages:
        try:
            return self.broker.collect(suffix, until)
        except AssertionError as error:
            error.add_note(f"the station's log ends so:\n{self.log[-3000:]}")
            raise

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def until(condition: Any, what: str, within_s: float | None = None) -> None:
    """Wait until a condition holds.

    Args:
        within_s: ``GENEROUS_S`` where it is left out.

    Raises:
        AssertionError: it does not in that time.
    """
    within_s = within_s or GENEROUS_S
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)
