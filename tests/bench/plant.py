"""A plant at the database: stations at mosquitto, two listeners at PostgreSQL, one killed by turns.

python -m tests.bench.plant STATIONS RATE SECONDS

Stations are simulated: processes that publish the contract's verdicts and states of many stations
each over one connection, and answer ``cmd/resend``. Listeners, broker and PostgreSQL are the real
ones; PostgreSQL commits to the disk. The lag of a verdict is from its decision to the commit of the
transaction that holds it, as PostgreSQL notes it.
"""

import json
import multiprocessing
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.contract.encoding import utc_text
from tests.support.broker import GENEROUS_S, Broker
from tests.support.postgres import PostgreSql, postgresql
from tests.support.relaying import VERDICT

PUBLISHERS = 2
LISTENERS = 2
KILL_EVERY_S = 30.0
STATE_EVERY_S = 10.0
# Without one verdict more for so long, what is missing is lost.
QUIET_S = 180.0
BROKER = "allow_anonymous true\nmax_inflight_messages 2000\nmax_queued_bytes 0"
DATABASE = "track_commit_timestamp = on\nshared_buffers = 256MB\nmax_wal_size = 2GB\n"


@dataclass(frozen=True, slots=True)
class PlantFigures:
    """What a run carried.

    Attributes:
        published: verdicts that the stations decided.
        rate_per_s: verdicts that were decided in a second of the run.
        lost, doubled: verdicts that are not in the database, and rows too many.
        p50_s, p99_s: from decision to commit.
        kills: of listeners.
    """

    published: int
    rate_per_s: float
    lost: int
    doubled: int
    p50_s: float
    p99_s: float
    kills: int

    def __str__(self) -> str:
        return (
            f"{self.published} verdicts at {self.rate_per_s:.0f}/s, {self.kills} listeners killed: "
            f"{self.lost} lost, {self.doubled} doubled; decision to commit p50 {self.p50_s:.2f} s, "
            f"p99 {self.p99_s:.2f} s"
        )


class SimulatedStations:
    """Many stations on one connection; each verdict can be made again by its number."""

    def __init__(self, url_port: int, first: int, count: int, rate: float) -> None:
        self._names = [f"plant/line{n % 10}/cell{n}/top" for n in range(first, first + count)]
        self._journals = [str(UUID(int=n + 1, version=4)) for n in range(first, first + count)]
        self._number = {name: place for place, name in enumerate(self._names)}
        self._rate = rate
        self._began_ns = 0
        self._last = [0] * count
        self._asked: list[tuple[int, int, int]] = []
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"stations-{first}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )
        self._client.max_inflight_messages_set(2000)
        self._client.on_message = self._on_resend
        self._client.connect("127.0.0.1", url_port, 60)
        self._client.subscribe("vi/v1/plant/+/+/+/cmd/resend", 1)
        self._client.loop_start()

    def run(self, seconds: float) -> int:
        """Decide verdicts at the rate; return how many."""
        self._began_ns = time.time_ns()
        began_s = time.monotonic()
        states_due_s = 0.0
        while (now_s := time.monotonic() - began_s) < seconds:
            due = int(now_s * self._rate)
            for place, last in enumerate(self._last):
                for seq in range(last + 1, due + 1):
                    self._publish(place, seq, replayed=False)
                self._last[place] = max(last, due)
            if now_s >= states_due_s:
                states_due_s = now_s + STATE_EVERY_S
                self._publish_states()
            self._answer()
            time.sleep(0.02)
        return sum(self._last)

    def answer_until(self, done: "multiprocessing.synchronize.Event") -> None:
        """Go on answering, and saying how far each is, until all was found."""
        while not done.wait(0.5):
            self._publish_states()
            self._answer()
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self, place: int, seq: int, replayed: bool) -> None:
        decided_ns = self._began_ns + int(seq / self._rate * 1e9)
        milliseconds = decided_ns // 1_000_000 & 0xFFFF_FFFF_FFFF
        own = hash((self._journals[place], seq)) & (1 << 62) - 1
        identity = UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | own)
        content = {
            **VERDICT,
            "id": str(identity),
            "seq": seq,
            "journal": self._journals[place],
            "replayed": replayed,
            "simulated": False,
            "time": {**VERDICT["time"], "decided_utc": utc_text(decided_ns)},
        }
        if seq % 50 == 0:
            content |= {"result": "NOK", "reason": "score_above", "anomaly_score": 0.7}
        payload = json.dumps(content, separators=(",", ":"))
        self._client.publish(f"vi/v1/{self._names[place]}/verdict", payload, 1)

    def _publish_states(self) -> None:
        for place, name in enumerate(self._names):
            journal = {"journal": self._journals[place], "last_seq": self._last[place]}
            content = {
                "schema": "state/1",
                "state": "online",
                "session": name,
                "will": False,
                "since_utc": utc_text(self._began_ns),
                "reasons": [],
                "journal": {**journal, "backlog": 0, "oldest_age_s": None, "bytes": 0},
            }
            self._client.publish(f"vi/v1/{name}/state", json.dumps(content), 1, retain=True)

    def _on_resend(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        place = self._number.get("/".join(message.topic.split("/")[2:6]))
        if place is not None:
            wanted = json.loads(message.payload)
            self._asked.append((place, wanted["from_seq"], wanted["to_seq"]))

    def _answer(self) -> None:
        while self._asked:
            place, first, last = self._asked.pop()
            for seq in range(first, min(last, self._last[place]) + 1):
                self._publish(place, seq, replayed=True)


def stations_process(
    port: int, share: tuple[int, int], pace: tuple[float, float], signals: Any
) -> None:
    """Run a share of the stations in a process of its own."""
    counted, done = signals
    stations = SimulatedStations(port, share[0], share[1], pace[0])
    counted.put(stations.run(pace[1]))
    stations.answer_until(done)


class Listeners:
    """Two edge-listen that share the records; one is killed at a time, and started again."""

    def __init__(self, broker_url: str, database_url: str, log: Path) -> None:
        self._arguments = ["--mqtt", broker_url, "--database", database_url, "--share", "plant"]
        self._log = log
        self._running = [self._start(number) for number in range(LISTENERS)]
        self.kills = 0
        deadline_s = time.monotonic() + GENEROUS_S
        while log.read_text().count("listening to") < LISTENERS:
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.1)

    def kill_one(self) -> None:
        number = self.kills % LISTENERS
        self._running[number].kill()
        self._running[number].wait()
        self._running[number] = self._start(number)
        self.kills += 1

    def stop(self) -> None:
        for one in self._running:
            one.send_signal(signal.SIGTERM)
        for one in self._running:
            one.wait(GENEROUS_S)

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "edge.listen.cli", *self._arguments]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--client-id", f"listener-{number}"], stdout=log, stderr=log
            )


def plant_figures(stations: int, rate: float, seconds: float) -> PlantFigures:
    """Run a plant for so long, and count what is in its database."""
    with tempfile.TemporaryDirectory() as name, postgresql(DATABASE) as server:
        folder = Path(name)
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker", access=BROKER)
        broker.start()
        url = server.create("plant")
        listeners = Listeners(broker.url, url, folder / "listeners.log")
        context = multiprocessing.get_context("spawn")
        counted, done = context.Queue(), context.Event()
        each = [
            (place * stations // PUBLISHERS, (place + 1) * stations // PUBLISHERS)
            for place in range(PUBLISHERS)
        ]
        processes = [
            context.Process(
                target=stations_process,
                args=(broker.port, (first, last - first), (rate, seconds), (counted, done)),
            )
            for first, last in each
            if last > first
        ]
        for one in processes:
            one.start()
        published = _collect(counted, len(processes), listeners)
        rows = _wait(server, published)
        if rows != published:
            print((folder / "listeners.log").read_text()[-4000:], file=sys.stderr)
        done.set()
        for one in processes:
            one.join(GENEROUS_S)
        listeners.stop()
        broker.close()
        found = server.query(
            "plant",
            "SELECT count(DISTINCT (journal, seq)), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP"
            " (ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - decided_utc))"
            " FROM verdict",
        )
        row: Any = found[0]
        distinct = int(row[0])
        lags = [float(value) for value in row[1] or (0.0, 0.0)]
        return PlantFigures(
            published=published,
            rate_per_s=published / seconds,
            lost=published - distinct,
            doubled=rows - distinct,
            p50_s=lags[0],
            p99_s=lags[1],
            kills=listeners.kills,
        )


def _collect(counted: Any, processes: int, listeners: Listeners) -> int:
    """Wait for what each process decided; meanwhile kill a listener from time to time."""
    counts: list[int] = []
    kill_due_s = time.monotonic() + KILL_EVERY_S
    while len(counts) < processes:
        time.sleep(0.2)
        if time.monotonic() >= kill_due_s:
            kill_due_s += KILL_EVERY_S
            listeners.kill_one()
        while not counted.empty():
            counts.append(counted.get())
    return sum(counts)


def _wait(server: PostgreSql, published: int) -> int:
    """Wait until all is there, or nothing comes any more; return how many rows there are."""
    rows, changed_s = -1, time.monotonic()
    while time.monotonic() - changed_s < QUIET_S:
        found = int(str(server.query("plant", "SELECT count(*) FROM verdict")[0][0]))
        if found != rows:
            rows, changed_s = found, time.monotonic()
            print(f"{rows} of {published} verdicts are in the database", file=sys.stderr)
        if rows >= published:
            time.sleep(2.0)  # what would be doubled comes, too
            return int(str(server.query("plant", "SELECT count(*) FROM verdict")[0][0]))
        time.sleep(0.5)
    return rows


if __name__ == "__main__":
    wanted = [float(word) for word in sys.argv[1:4]]
    if len(wanted) != 3:
        sys.exit(__doc__)
    print(plant_figures(int(wanted[0]), wanted[1], wanted[2]))
