"""What each flood of ``tests/attacks`` costs the line: verdict rate and p99, beside quiet.

[PAIRS=9] python -m tests.bench.floods [FLOOD …]

A real station with broker, page and Modbus, on the demo's frames at a fixed rate, with the priority
and the broker's limits that ``systemd/`` gives them. A flood and quiet take turns; of each pair the
ratios, of all pairs their medians. Whoever floods is a process of the lowest priority, as it would
sit at another PC, and sends no more than a network of 1 Gbit/s carries.
"""

import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from tests.attacks.neighbours import mangled
from tests.edge.imaging.test_image_header import make_bmp, make_png, make_tiff
from tests.support.broker import Broker, free_port
from tests.support.page_load import DEMO, last_seq, verdicts
from tests.support.page_station import PageStation

PAIRS = 9
BLOCK_S = 10.0
# Between two blocks: what the flood left is done.
PAUSE_S = 2.0
STATION = "site/line/cell/top"
PART_RATE = 10.0
# Of edge-run@.service.
NICENESS = -5
# Of systemd/mosquitto/edge.conf.
BROKER = "allow_anonymous true\nmax_inflight_messages 2000"
# What 1 Gbit/s carries.
BODY_BYTES_PER_S = 110e6
PART = "part-"
ROOT = f"vi/v1/{STATION}"
HELD = 250
READERS = 12
# What one neighbour sends of messages, and at most; more, the broker's own limits have to stop.
MESSAGES_PER_S = 2000.0
# 9,120 in 20 s were once seen to push real parts out of a journal.
TRIGGERS_PER_S = 500.0
BOMBS_PER_S = 5.0


@dataclass(frozen=True, slots=True)
class Target:
    """What is flooded.

    Attributes:
        page, broker, modbus: ports of 127.0.0.1; no Modbus where parts are not triggered.
        folder: that is watched; empty where files are looped.
    """

    page: int
    broker: int
    modbus: int
    folder: str


class Flood:
    """One flood that goes on until ``over`` is set.

    Attributes:
        sent: how many requests, messages, connections or files.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.over = threading.Event()
        self.sent = 0

    def run(self, threads: int, attack: "Attack") -> list[threading.Thread]:
        made = [
            threading.Thread(target=attack, args=(self, number), daemon=True)
            for number in range(threads)
        ]
        for one in made:
            one.start()
        return made

    def paced(self, per_s: float) -> Iterator[int]:
        """Count up at a rate, until it is over."""
        began_s, number = time.monotonic(), 0
        while not self.over.is_set():
            while number < (time.monotonic() - began_s) * per_s:
                yield number
                number += 1
                self.sent += 1
            time.sleep(0.002)

    def connected(self, address: str) -> socket.socket:
        return socket.create_connection(
            ("127.0.0.1", self.target.page), timeout=30.0, source_address=(address, 0)
        )

    def ask(self, address: str, request: bytes) -> bytes:
        """Send a request on a connection of its own, and return the begin of the answer."""
        with suppress(OSError), self.connected(address) as guest:
            guest.sendall(request)
            answer = guest.recv(65_536)
            while guest.recv(65_536):
                pass
            self.sent += 1
            return answer
        return b""


Attack = Callable[[Flood, int], None]


def _sender(flood: Flood, name: str) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name)
    client.max_inflight_messages_set(1000)
    client.connect("127.0.0.1", flood.target.broker)
    client.loop_start()
    return client


def triggers(flood: Flood, number: int, per_s: float = TRIGGERS_PER_S) -> None:
    """Triggers with new ids, old ids and a recipe that is not live."""
    client = _sender(flood, f"flood-{number}")
    for count in flood.paced(per_s):
        content: dict[str, Any] = {"trigger_id": f"t{count % 700}"}
        if count % 2:
            content["recipe"] = {"id": "can"}
        client.publish(f"{ROOT}/trigger", json.dumps(content), count % 3 > 0)
    client.disconnect()


def refused_triggers(flood: Flood, number: int, per_s: float = TRIGGERS_PER_S) -> None:
    """Triggers for a recipe that is not live, and malformed ones."""
    client = _sender(flood, f"flood-{number}")
    for count in flood.paced(per_s):
        content = {"trigger_id": f"t{count}", "recipe": {"id": "can"}, "deadline_ms": count % 2}
        client.publish(f"{ROOT}/trigger", json.dumps(content), count % 3 > 0)
    client.disconnect()


def messages(flood: Flood, number: int) -> None:
    """Wild messages: well-formed commands, broken ones, large ones, retained ones."""
    client, chance = _sender(flood, f"flood-{number}"), random.Random(number)
    names = ("resend", "reload", "selftest", "snapshot", "set_recipe", "none", "x/y")
    contents = (
        b'{"kind": "verdict", "from_seq": 1, "to_seq": 100000}',
        b"{}",
        b"{" * 2000,
        chance.randbytes(60_000),
        b'{"seq": 1e308}',
        b"",
    )
    for _ in flood.paced(MESSAGES_PER_S / 4):
        topic = chance.choice([f"cmd/{chance.choice(names)}", "trigger", "ack"])
        client.publish(f"{ROOT}/{topic}", chance.choice(contents), chance.randrange(2))
    client.disconnect()


def readers(flood: Flood, number: int) -> None:
    """Anonymous readers of what costs most, from many addresses."""
    paths = ("/api/parts", "/metrics", "/api/parts/1", "/api/feedback", "/api/numbers", "/")
    count = number
    while not flood.over.is_set():
        count += 1
        path = paths[count % len(paths)]
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        flood.ask(f"127.0.5.{number + 1}", request.encode())


def held(flood: Flood, _number: int) -> None:
    """Sockets that are held, and requests that drip."""
    guests: list[socket.socket] = []
    text = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 1000
    step = 0
    while not flood.over.wait(0.1):
        while len(guests) < HELD:
            with suppress(OSError):
                guests.append(flood.connected(f"127.0.6.{len(guests) % 8 + 1}"))
                flood.sent += 1
                continue
            break
        step += 1
        for guest in list(guests):
            try:
                guest.sendall(text[step % len(text) :][:1])
            except OSError:
                guest.close()
                guests.remove(guest)
    for guest in guests:
        guest.close()


def tokens(flood: Flood, number: int) -> None:
    """Guesses of the token, from many addresses."""
    count = number
    while not flood.over.is_set():
        count += READERS
        flood.ask(
            f"127.0.3.{count % 200 + 1}",
            b"POST /api/actions/unlock HTTP/1.1\r\nHost: localhost\r\nX-Edge-Request: 1\r\n"
            b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: 2\r\n"
            + f"Authorization: Bearer {count:08}\r\n\r\n".encode()
            + b"{}",
        )


def bodies(flood: Flood, number: int) -> None:
    """Large bodies."""
    head = (
        b"POST /api/actions/capture HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000000\r\n\r\n"
    )
    while not flood.over.is_set():
        with suppress(OSError), flood.connected(f"127.0.2.{number + 1}") as guest:
            flood.sent += 1
            guest.sendall(head)
            for _ in range(300):
                guest.sendall(b"x" * 65_536)
                time.sleep(65_536 * READERS / BODY_BYTES_PER_S)


def no_http(flood: Flood, number: int) -> None:
    """What is no HTTP."""
    chance = random.Random(number)
    whole = b"GET /api/parts?result=NOK&limit=5 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
    while not flood.over.is_set():
        with suppress(OSError), flood.connected(f"127.0.4.{chance.randint(1, 250)}") as guest:
            flood.sent += 1
            guest.sendall(mangled(whole, chance))
            guest.shutdown(socket.SHUT_WR)
            guest.settimeout(0.5)
            guest.recv(65_536)


def registers(flood: Flood, _number: int) -> None:
    """A Modbus master that reads without pause."""
    request = bytes.fromhex("000100000006010300000022")
    while not flood.over.is_set():
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", flood.target.modbus), timeout=5.0) as master,
        ):
            while not flood.over.is_set():
                master.sendall(request)
                if not master.recv(4096):
                    break
                flood.sent += 1


def bombs(flood: Flood, _number: int) -> None:
    """Images that say they are huge, sparse files of terabytes, and what is no image."""
    folder = Path(flood.target.folder)
    kinds = (
        (".png", make_png(32_768, 32_768), 0),
        (".tif", make_tiff(64, 64), 12 * 10**9),
        (".tif", make_tiff(110_000, 110_000), 12 * 10**9),
        (".bmp", make_bmp(577_350, 577_350), 10**12),
        (".jpg", b"\xff\xd8" + random.Random(0).randbytes(10**6), 0),
    )
    for number in flood.paced(BOMBS_PER_S):
        suffix, content, size = kinds[number % len(kinds)]
        part = folder / "bomb.tmp"
        with part.open("wb") as file:
            file.write(content)
            file.truncate(max(size, len(content)))
        part.rename(folder / f"bomb_{time.monotonic_ns()}{suffix}")


class Line(StrEnum):
    """How parts come to the station that is flooded."""

    FREE = "files in a loop"
    WATCHED = "a watched folder"
    TRIGGERED = "triggers over MQTT"


@dataclass(frozen=True, slots=True)
class Kind:
    """How a flood is made."""

    attack: Attack
    threads: int = 1
    line: Line = Line.FREE


FLOODS = {
    "triggers": Kind(partial(triggers, per_s=MESSAGES_PER_S)),
    "handshake": Kind(triggers, line=Line.TRIGGERED),
    "refused": Kind(refused_triggers, line=Line.TRIGGERED),
    "refused_2000": Kind(partial(refused_triggers, per_s=MESSAGES_PER_S), line=Line.TRIGGERED),
    "messages": Kind(messages),
    "readers": Kind(readers, READERS),
    "held": Kind(held),
    "tokens": Kind(tokens, READERS),
    "bodies": Kind(bodies, READERS),
    "no_http": Kind(no_http, READERS),
    "registers": Kind(registers, 4, Line.TRIGGERED),
    "bombs": Kind(bombs, line=Line.WATCHED),
}


@dataclass(frozen=True, slots=True)
class Block:
    """What the line did for some seconds.

    Attributes:
        per_s: verdicts of real parts in a second.
        p99_ms: from the image to the verdict.
        cores: what the station's process took, without the page's.
    """

    per_s: float
    p99_ms: float
    cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FloodFigures:
    """What a flood cost: medians over pairs, flooded / quiet.

    Attributes:
        attacks_per_s: what the flood sent.
    """

    name: str
    attacks_per_s: float
    quiet: Block
    flooded: Block
    rate_ratio: float
    p99_ratio: float

    def __str__(self) -> str:
        return (
            f"{self.name:12} {self.attacks_per_s:7.0f}/s: {self.quiet.per_s:.2f} verdicts/s quiet, "
            f"{self.flooded.per_s:.2f} flooded, ratio {self.rate_ratio:.3f}; p99 "
            f"{self.quiet.p99_ms:.1f} ms and {self.flooded.p99_ms:.1f} ms, ratio "
            f"{self.p99_ratio:.2f}; cores {self.quiet.cores:.2f} and {self.flooded.cores:.2f}"
        )


class Attacker:
    """A process that floods when it is told to."""

    def __init__(self, name: str, target: Target) -> None:
        command = [sys.executable, "-m", "tests.bench.floods", "--attack", name]
        words = [str(target.page), str(target.broker), str(target.modbus), target.folder]
        self._process = subprocess.Popen(
            [*command, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def begin(self) -> None:
        self._report("begin")

    def end(self) -> int:
        """Return how much was sent."""
        return int(self._report("end"))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _report(self, word: str) -> str:
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the attacker has ended"
        return line


def attack(name: str, target: Target) -> None:
    """Flood from ``begin`` to ``end`` on standard input."""
    os.nice(19)
    kind = FLOODS[name]
    flood, running = Flood(target), list[threading.Thread]()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "begin":
            flood = Flood(target)
            running = flood.run(kind.threads, kind.attack)
            print("begun", flush=True)
        else:
            flood.over.set()
            for one in running:
                one.join(30.0)
            print(flood.sent, flush=True)


@contextmanager
def feeding(give: Callable[[int], object]) -> Iterator[None]:
    """Give the next part at the rate, whatever else happens."""
    over = threading.Event()

    def feed() -> None:
        began_s = time.monotonic()
        for number in range(10**9):
            if over.wait(max(began_s + number / PART_RATE - time.monotonic(), 0.0)):
                return
            give(number)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def put(folder: Path, images: Sequence[bytes], number: int) -> None:
    """Let a part's image arrive in a watched folder."""
    (folder / "part.tmp").write_bytes(images[number % len(images)])
    (folder / "part.tmp").rename(folder / f"part_{number:06d}.jpg")


def give_trigger(client: paho.Client, number: int) -> None:
    """Trigger a part, as a PLC gateway does."""
    client.publish(f"{ROOT}/trigger", json.dumps({"trigger_id": f"{PART}{number}"}), 1)


def block(station: PageStation) -> Block:
    """Return what the line does for ``BLOCK_S``."""
    process = psutil.Process(station.pid)
    begin, began_s, used_s = last_seq(station), time.monotonic(), sum(process.cpu_times()[:2])
    time.sleep(BLOCK_S)
    end, ended_s = last_seq(station), time.monotonic()
    cores = (sum(process.cpu_times()[:2]) - used_s) / (ended_s - began_s)
    found = verdicts(station, f"seq > {begin} AND seq <= {end}")
    real = [one["duration_ms"]["total"] for one in found if of_the_line(one)]
    return Block(len(real) / (ended_s - began_s), float(np.quantile(real, 0.99)), cores)


def of_the_line(verdict: Mapping[str, Any]) -> bool:
    """Tell whether a verdict is about a part, and not about what a flood sent."""
    trigger = verdict["trigger_id"]
    if trigger is not None:
        return str(trigger).startswith(PART) and verdict["result"] in ("OK", "NOK")
    return "bomb" not in (verdict["image"]["source_uri"] or "")


def measured(name: str, pairs: int = PAIRS) -> FloodFigures:
    """Measure one flood."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "broker").mkdir()
        (folder / "in").mkdir()
        broker = Broker(folder / "broker", BROKER)
        broker.start()
        line = FLOODS[name].line
        camera: dict[str, Any] = {"uri": str(DEMO / "frames"), "rate_fps": PART_RATE, "loop": True}
        settings: dict[str, Any] = {"mqtt": {"url": broker.url, "station": STATION}}
        modbus, watched = 0, ""
        with ExitStack() as stack:
            if line is Line.WATCHED:
                watched = str(folder / "in")
                camera = {"uri": f"watch://{watched}"}
                images = [one.read_bytes() for one in sorted((DEMO / "frames").glob("*.jpg"))]
                stack.enter_context(feeding(partial(put, folder / "in", images)))
            elif line is Line.TRIGGERED:
                modbus = free_port()
                camera = {"uri": camera["uri"], "loop": True, "trigger": {"mode": "software"}}
                settings["modbus"] = {"host": "127.0.0.1", "port": modbus, "leads": False}
                client = paho.Client(CallbackAPIVersion.VERSION2, client_id="plc")
                client.connect("127.0.0.1", broker.port)
                client.loop_start()
                stack.callback(client.loop_stop)
                stack.enter_context(feeding(partial(give_trigger, client)))
            station = PageStation(folder / "station", camera, DEMO / "bottle.xml")
            station.settings |= settings
            station.settings["snapshots"]["every_nth_ok"] = 0
            stack.callback(broker.close)
            stack.enter_context(station)
            _as_the_unit_does(station)
            page = int(station.address.rpartition(":")[2])
            attacker = Attacker(name, Target(page, broker.port, modbus, watched))
            stack.callback(attacker.close)
            return _in_pairs(name, station, attacker, pairs)


def _as_the_unit_does(station: PageStation) -> None:
    """Give the station its priority, where whoever measures may."""
    with suppress(PermissionError):
        for thread in psutil.Process(station.pid).threads():
            os.setpriority(os.PRIO_PROCESS, thread.id, NICENESS)


def _in_pairs(name: str, station: PageStation, attacker: Attacker, pairs: int) -> FloodFigures:
    block(station)
    quiet, flooded, sent = [], [], 0
    for _ in range(pairs):
        quiet.append(block(station))
        attacker.begin()
        flooded.append(block(station))
        sent += attacker.end()
        time.sleep(PAUSE_S)
    assert "Traceback" not in station.log, station.log[-4000:]
    return FloodFigures(
        name=name,
        attacks_per_s=sent / (pairs * BLOCK_S),
        quiet=_median(quiet),
        flooded=_median(flooded),
        rate_ratio=statistics.median(
            f.per_s / q.per_s for q, f in zip(quiet, flooded, strict=True)
        ),
        p99_ratio=statistics.median(
            f.p99_ms / q.p99_ms for q, f in zip(quiet, flooded, strict=True)
        ),
    )


def _median(blocks: Sequence[Block]) -> Block:
    return Block(
        statistics.median(one.per_s for one in blocks),
        statistics.median(one.p99_ms for one in blocks),
        statistics.median(one.cores for one in blocks),
    )


def main() -> None:
    if sys.argv[1:2] == ["--attack"]:
        name, page, broker, modbus, folder = sys.argv[2:]
        attack(name, Target(int(page), int(broker), int(modbus), folder))
        return
    cv2.setNumThreads(1)
    pairs = int(os.environ.get("PAIRS", PAIRS))
    for name in sys.argv[1:] or FLOODS:
        print(measured(name, pairs), flush=True)


if __name__ == "__main__":
    main()
