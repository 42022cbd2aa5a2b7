"""The hand-shake over Modbus: a station's process, and pymodbus' client as its PLC."""

import asyncio
import contextlib
import json
import random
import re
import socket
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import cv2
import pytest
import yaml

from edge.doctor.finding import Grade
from edge.doctor.modbus import modbus_finding
from edge.errors import ConfigurationError
from edge.plc import registers as table
from edge.plc.modbus_server import ModbusServer, bound_socket
from edge.plc.registers import Kind, Order
from edge.plc.structured_text import function_block
from edge.settings.loading import load_settings
from edge.settings.modbus import ModbusSettings
from tests.edge.conftest import EdgeRun, edge_run_command
from tests.soak import times
from tests.support.plc import GENEROUS_S, Plc, read_status, station_settings
from tests.support.small_bundle import defective_image, good_image
from tests.support.structured_text import FunctionBlock

ROOT = Path(__file__).parents[3]
# The station gives these images one after the other, and starts over.
DEFECTIVE = (False, True, False, False, True)


class Station:
    """``edge-run`` with Modbus at a free port; its verdicts are lines of a file."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], defective: Sequence[bool] = DEFECTIVE
    ) -> None:
        self.journal = folder / "journal" / "journal.db"
        self._folder = folder
        (folder / "station.yaml").write_text(yaml.safe_dump(settings))
        (folder / "images").mkdir()
        for number, is_defective in enumerate(defective):
            image = (defective_image if is_defective else good_image)(number)
            cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it inspects; its log begins anew."""
        config = self._folder / "station.yaml"
        with (self._folder / "out").open("ab") as out, (self._folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                edge_run_command("--config", config), stdout=out, stderr=log
            )
        self.port = int(self._logged(r"Modbus at 127\.0\.0\.1:(\d+)"))
        self._logged(r"(inspecting)")

    @property
    def page(self) -> str:
        return self._logged(r"(http://127\.0\.0\.1:\d+)")

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what is on record, in order."""
        database = sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)
        try:
            rows = database.execute(
                "SELECT seq, payload FROM record WHERE kind = 'verdict' ORDER BY seq"
            ).fetchall()
        finally:
            database.close()
        return [{**json.loads(payload), "seq": seq} for seq, payload in rows]

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(GENEROUS_S) == 0, self.log

    def _logged(self, pattern: str) -> str:
        deadline = time.monotonic() + GENEROUS_S
        while (found := re.search(pattern, self.log)) is None:
            assert self.process.poll() is None and time.monotonic() < deadline, self.log
            time.sleep(0.05)
        return found[1]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Station]:
    folder = tmp_path_factory.mktemp("modbus")
    modbus = {"connections": 4, "requests_per_s": 10_000}
    settings = station_settings(folder, bundle, modbus=modbus, hmi={"port": 0})
    one = Station(folder, settings)
    yield one
    one.close()


@pytest.fixture
def plc(station: Station) -> Iterator[Plc]:
    """The master, after its own start."""
    with Plc(station.port) as one:
        one.write(control=table.RESET.mask)
        one.write(control=0)
        yield one


def test_each_part_has_its_own_result_which_is_on_record_before_it_is_valid(
    station: Station, plc: Plc
) -> None:
    before = len(station.verdicts())
    for number in range(1, 7):
        plc.wait(lambda seen: seen["ready"] and not seen["result_valid"], "ready")
        plc.write(
            control=table.TRIGGER.mask, trigger_id=number, part_id=f"Teil-ä-{number}".encode()
        )
        seen = plc.wait(lambda seen: seen["result_valid"], "a result")

        record = station.verdicts()[before + number - 1]  # read only now: it was there before
        assert (seen["taken_id"], seen["exposed_id"], seen["result_id"]) == (number,) * 3
        assert seen["exposed"] and not seen["rejected"] and not seen["busy"]
        assert seen["result_part_id"] == record["part_id"] == f"Teil-ä-{number}"
        assert seen["seq"] == record["seq"] & 0xFFFF
        assert seen["result"] == {"OK": 1, "NOK": 2}[record["result"]]
        assert seen["result_ok"] == (record["result"] == "OK")
        assert seen["reason"] == record["reason_code"]
        assert seen["score_milli"] == pytest.approx(record["anomaly_score"] * 1000, abs=1)
        assert seen["order_check"] == 16909060
        plc.acknowledge(seen)
    results = {one["result"] for one in station.verdicts()[before:]}
    assert results == {"OK", "NOK"}


def test_a_trigger_that_is_sent_again_is_the_same_part_and_its_result_is_shown_again(
    station: Station, plc: Plc
) -> None:
    first = plc.inspect(41)
    records = len(station.verdicts())

    plc.write(control=table.TRIGGER.mask, trigger_id=41)
    again = plc.wait(lambda seen: seen["result_valid"], "the result again")

    assert {name: again[name] for name in ("result_id", "result", "seq", "score_milli")} == {
        name: first[name] for name in ("result_id", "result", "seq", "score_milli")
    }
    plc.acknowledge(again)
    assert len(station.verdicts()) == records
    plc.inspect(42)
    assert len(station.verdicts()) == records + 1


def test_a_master_whose_heartbeat_stops_takes_ready_away_until_it_is_back(
    station: Station, plc: Plc
) -> None:
    plc.wait(lambda seen: seen["ready"], "ready")
    began_s = time.monotonic()
    while plc.read()["ready"]:
        assert time.monotonic() - began_s < GENEROUS_S
    lost = plc.read()
    assert lost["master_missing"] and lost["error"] and lost["online"]
    # What a gateway writes without a PLC behind it is refused, and on record.
    plc.client.write_register(3, 77, device_id=1)
    plc.client.write_coil(0, True, device_id=1)
    deadline_s = time.monotonic() + GENEROUS_S
    while not plc.read()["rejected"]:
        assert time.monotonic() < deadline_s
    assert plc.read()["rejection"] == 2
    assert plc.wait(lambda seen: seen["ready"], "ready again")["master_missing"] is False
    assert "modbus_master_away" in station.log


def test_a_second_master_reads_is_refused_and_named_and_takes_over_with_ids_of_its_own(
    station: Station, plc: Plc
) -> None:
    first = plc.inspect(51, "first")
    before = len(station.verdicts())
    with Plc(station.port, address="127.0.0.2") as second:
        # It counts its parts as the first one does, and would take the result of that part.
        words = second.words(control=table.TRIGGER.mask, trigger_id=51, part_id=b"second")
        answers = (
            second.client.write_registers(0, words, device_id=1),
            second.client.write_register(5, 1, device_id=1),
            second.client.write_coil(1, True, device_id=1),
            second.client.mask_write_register(address=0, or_mask=4, device_id=1),
            second.client.readwrite_registers(
                read_address=100, read_count=1, write_address=1, values=[7], device_id=1
            ),
        )
        plc.write()
        assert [one.exception_code for one in answers] == [6] * 5
        assert second.read()["taken_id"] == 51 and not second.read()["result_valid"]
        assert "127.0.0.2 writes commands while 127.0.0.1 is the master" in station.log
        assert "modbus_second_master" in station.log

        deadline_s = time.monotonic() + GENEROUS_S
        while second.client.write_registers(0, second.words(control=0), device_id=1).isError():
            assert time.monotonic() < deadline_s  # until the first one is silent
            time.sleep(0.05)
        own = second.inspect(51, "second")
    assert own["result_part_id"] == "second" and own["seq"] != first["seq"]
    assert [one["part_id"] for one in station.verdicts()[before:]] == ["second"]
    time.sleep(1.6)  # and so it goes on with the first one


def test_what_a_master_may_not_do_is_answered_with_the_exception_of_the_specification(
    plc: Plc,
) -> None:
    client = plc.client
    heartbeat = client.read_holding_registers(1, count=1).registers
    wrong = {
        "status, as holding register": client.write_register(100, 1, device_id=1),
        "behind the command block": client.write_register(table.COMMAND_WORDS, 1, device_id=1),
        # a part id longer than its registers; nothing of it is written
        "over its end": client.write_registers(1, [7] * table.COMMAND_WORDS, device_id=1),
        "read over the end": client.read_input_registers(0, count=table.STATUS_WORDS + 1),
        "between the blocks": client.read_holding_registers(50, count=1),
        "coils over the end": client.write_coils(10, [True] * 7, device_id=1),
        "reads and writes": client.readwrite_registers(
            read_address=200, read_count=1, write_address=1, values=[7], device_id=1
        ),
        "mask": client.mask_write_register(address=100, or_mask=1, device_id=1),
    }
    assert {what: answer.exception_code for what, answer in wrong.items()} == dict.fromkeys(
        wrong, 2
    )
    assert client.read_holding_registers(1, count=1).registers == heartbeat
    assert client.read_holding_registers(0, count=1, device_id=7).exception_code == 0x0B
    assert client.read_exception_status(device_id=1).exception_code == 1
    assert client.read_holding_registers(0, count=1, device_id=255).registers == [0]
    # The same by coils and holding registers, for masters that have nothing else.
    assert client.read_coils(0, count=3).bits[:3] == [False] * 3
    bits = client.read_discrete_inputs(0, count=32).bits
    words = client.read_holding_registers(table.STATUS_IN_HOLDING, count=2).registers
    assert [bits[9], bits[16:23]] == [
        bool(words[0] & 1 << 9),
        [bool(words[1] & 1 << n) for n in range(7)],
    ]


def test_requests_that_come_together_are_answered_in_order_and_noise_ends_the_connection(
    station: Station,
) -> None:
    def request(transaction: int, content: bytes) -> bytes:
        return struct.pack(">HHHB", transaction, 0, len(content) + 1, 1) + content

    with socket.create_connection(("127.0.0.1", station.port), timeout=GENEROUS_S) as raw:
        read = struct.pack(">BHH", 4, 32, 2)
        raw.sendall(
            b"".join(request(number, read) for number in range(20)) + request(20, b"\x05\0\0\1\1")
        )
        answers = raw.makefile("rb")
        for number in range(20):
            assert answers.read(13) == struct.pack(">HHHBBBHH", number, 0, 7, 1, 4, 4, 0x102, 0x304)
        # a coil that is neither on nor off
        assert answers.read(9) == struct.pack(">HHHBBB", 20, 0, 3, 1, 0x85, 3)
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert answers.read() == b""


def test_connections_are_bounded_and_one_that_is_silent_makes_room(
    station: Station, plc: Plc
) -> None:
    plc.read()
    silent = [socket.create_connection(("127.0.0.1", station.port)) for _ in range(3)]
    time.sleep(0.2)
    one_more = socket.create_connection(("127.0.0.1", station.port), timeout=GENEROUS_S)
    with one_more, contextlib.suppress(ConnectionResetError):
        assert one_more.recv(1) == b""
    assert plc.read()["order_check"] == 16909060
    deadline_s = time.monotonic() + GENEROUS_S
    while True:  # half-open sockets say nothing for two seconds
        plc.read()
        with Plc(station.port) as new:
            response = None
            try:
                response = new.client.read_input_registers(32, count=2)
            except Exception as error:  # pymodbus raises whatever the closed socket gives
                assert time.monotonic() < deadline_s, error
        if response is not None and not response.isError():
            break
        time.sleep(0.2)
    for one in silent:
        one.close()


def test_a_thousand_connections_keep_the_master_from_nothing(station: Station, plc: Plc) -> None:
    plc.read()
    crowd = [socket.create_connection(("127.0.0.1", station.port)) for _ in range(1000)]
    try:
        assert plc.read()["order_check"] == 16909060
        seen = plc.inspect(71)
        assert seen["result_id"] == 71
    finally:
        for one in crowd:
            one.close()


def test_a_master_that_is_too_fast_waits_and_misses_no_answer() -> None:
    class Words:
        def read(self, function: int, address: int, count: int) -> list[int]:
            return [7] * count

        def may_write(self, master: str) -> bool:
            return False

        def write(self, function: int, address: int, values: list[int], master: str) -> bool:
            return False

    async def ask() -> tuple[bytes, float]:
        bound, ended = bound_socket("127.0.0.1", 0), asyncio.Event()
        bound.listen()
        server = ModbusServer(registers=Words(), unit=1, max_connections=1, requests_per_s=20)
        serving = asyncio.create_task(server.serve(bound, ended))
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        began_s = time.monotonic()
        for number in range(40):  # 20 at once, the others at their pace
            writer.write(struct.pack(">HHHBBHH", number, 0, 6, 1, 4, 0, 1))
        answers = await reader.readexactly(40 * 11)
        elapsed_s = time.monotonic() - began_s
        writer.close()
        ended.set()
        await serving
        return answers, elapsed_s

    answers, elapsed_s = asyncio.run(ask())
    assert answers == b"".join(
        struct.pack(">HHHBBBH", number, 0, 5, 1, 4, 2, 7) for number in range(40)
    )
    assert elapsed_s > 0.5  # the last 20 need a second; a machine that stands still makes it longer


def test_lost_doubled_late_and_cut_requests_give_each_part_one_verdict_and_its_own(
    station: Station, plc: Plc
) -> None:
    chance = random.Random(19)
    before = len(station.verdicts())
    parts = times(15, 1000)
    plc.client.close()

    def send_badly(words: list[int]) -> bool:
        """Send a command block as a bad network does: never, twice, late, or without an answer.

        Returns:
            Whether the station has acted on it by now, if it ever will.
        """
        content = struct.pack(">BHHB", 16, 0, len(words), 2 * len(words))
        content += struct.pack(f">{len(words)}H", *words)
        whole = struct.pack(">HHHB", 1, 0, len(content) + 1, 1) + content
        fault = chance.choice(("lost", "doubled", "late", "cut", "unanswered"))
        with socket.create_connection(("127.0.0.1", station.port), timeout=GENEROUS_S) as raw:
            match fault:
                case "doubled":
                    raw.sendall(whole * 2)
                    raw.recv(64)
                case "late":
                    raw.sendall(whole[:9])
                    time.sleep(0.02)
                    raw.sendall(whole[9:])
                    raw.recv(64)
                case "cut":
                    raw.sendall(whole[: chance.randrange(len(whole))])
                case "unanswered":
                    raw.sendall(whole)
        return fault != "unanswered"

    seen = {}
    for number in range(1001, 1001 + parts):
        part_id = f"part {number}".encode()
        with Plc(station.port) as now:
            now.command = plc.command
            now.wait(lambda seen: seen["ready"], "ready")
        trigger = plc.words(control=table.TRIGGER.mask, trigger_id=number, part_id=part_id)
        if (
            send_badly(trigger) and chance.random() < 0.25
        ):  # the master is killed; a new one knows nothing of that part
            with Plc(station.port) as now:
                now.write(control=table.RESET.mask)
                now.write(control=0)
            plc.command = now.command
            continue
        with Plc(station.port) as now:
            now.command = plc.command
            now.write(control=0)
            now.write(control=table.TRIGGER.mask)  # whatever arrived: the same part again
            result = now.wait(lambda status: status["result_valid"], "its result")
            assert result["result_id"] == number
            seen[number] = result
        send_badly(plc.words(control=table.ACK.mask, ack_seq=result["seq"]))
        with Plc(station.port) as now:
            now.command = plc.command
            now.acknowledge(result)
    assert 0 < len(seen) < parts
    by_part = {one["part_id"]: one for one in station.verdicts()[before:]}
    assert len(by_part) == len(station.verdicts()) - before  # one verdict a part
    for number, result in seen.items():
        record = by_part[f"part {number}"]
        assert result["result_part_id"] == record["part_id"]
        assert table.CODES["result"][result["result"]] == record["result"]
        assert result["seq"] == record["seq"] & 0xFFFF


def test_the_function_block_passes_on_what_is_ok_and_nothing_while_the_station_is_silent(
    station: Station, plc: Plc
) -> None:
    block = FunctionBlock(function_block())
    words = [0] * table.STATUS_WORDS
    before = len(station.verdicts())

    def cycle(reading: bool = True, **inputs: Any) -> None:
        nonlocal words
        if reading:
            answer = plc.client.read_input_registers(0, count=table.STATUS_WORDS)
            words = list(answer.registers)
        # The clock wraps within the first seconds.
        now_ms = (time.monotonic_ns() // 1_000_000 - began_ms + 2**32 - 300) % 2**32
        block.cycle(status=words, now_ms=now_ms, **inputs)
        assert not plc.client.write_registers(0, block.values["command"]).isError()

    def wait(name: str, **inputs: Any) -> None:
        deadline_s = time.monotonic() + GENEROUS_S
        while not block.values[name]:
            assert time.monotonic() < deadline_s, block.values
            cycle(**inputs)

    began_ms = time.monotonic_ns() // 1_000_000
    passed = []
    block.values["timeout_ms"] = 30_000
    for number in range(4):
        wait("ready", start=False)
        assert not block.values["done"]
        part_id = table.encoded(f"st {number}".encode(), Kind.TEXT, Order())
        wait("done", start=True, part_id=part_id)
        passed.append((f"st {number}", bool(block.values["passed"])))
    records = station.verdicts()[before:]
    assert passed == [(one["part_id"], one["result"] == "OK") for one in records]

    wait("ready", start=False)
    cycle(start=True)  # and the answer never comes
    deadline_s = time.monotonic() + GENEROUS_S
    while not block.values["done"]:
        assert time.monotonic() < deadline_s
        cycle(reading=False, start=True)
    assert not block.values["passed"] and block.values["result"] == 0
    assert not block.values["alive"]
    wait("ready", start=False)  # it resets, and goes on
    wait("done", start=True)
    assert block.values["result"] in (1, 2)


def test_a_station_that_is_killed_gives_no_good_part_and_after_its_start_each_has_its_own(
    station: Station,
) -> None:
    before = len(station.verdicts())
    block = FunctionBlock(function_block())
    block.values["timeout_ms"] = 30_000
    given: list[tuple[str, bool]] = []

    def cycle(words: Sequence[int], **inputs: Any) -> None:
        block.cycle(status=list(words), now_ms=time.monotonic_ns() // 1_000_000, **inputs)

    def inspect(plc: Plc, part_id: str, lives: bool) -> None:
        """Give one part; of a station that is to be killed, kill it once it has the trigger."""
        deadline_s = time.monotonic() + GENEROUS_S
        words: Sequence[int] = [0] * table.STATUS_WORDS
        raw = table.encoded(part_id.encode(), Kind.TEXT, Order())
        while not block.values["done"] and station.process.poll() is None:
            assert time.monotonic() < deadline_s, block.values
            words = plc.client.read_input_registers(0, count=table.STATUS_WORDS).registers
            cycle(words, start=block.values["ready"] or block.values["step"] > 1, part_id=raw)
            plc.client.write_registers(0, block.values["command"])
            if not lives and block.values["step"] == 2:
                station.process.kill()
                station.process.wait()
        while not block.values["done"]:  # nobody answers any more
            assert time.monotonic() < deadline_s
            cycle(words, start=True)
        given.append((part_id, bool(block.values["passed"])))
        cycle(words, start=False)

    for turn in range(times(1, 20)):
        with Plc(station.port) as plc:
            inspect(plc, f"killed {turn}", lives=False)
        assert given[-1] == (f"killed {turn}", False)
        station.start()
        with Plc(station.port) as plc:
            inspect(plc, f"after {turn}", lives=True)
    records = station.verdicts()[before:]
    names = [one["part_id"] for one in records]
    assert len(set(names)) == len(names)  # one verdict a part, at most
    results = {one["part_id"]: one["result"] == "OK" for one in records}
    after = [(name, passed) for name, passed in given if name.startswith("after")]
    assert after == [(name, results[name]) for name, _ in after]


def test_page_metrics_and_doctor_know_the_master_and_its_last_trigger(
    station: Station, plc: Plc
) -> None:
    plc.inspect(4711)

    def page() -> dict[str, Any]:
        status = json.loads(urlopen(f"{station.page}/api/status").read())["status"]
        return (status or {}).get("modbus") or {}  # none before the page has heard of it

    deadline_s = time.monotonic() + GENEROUS_S
    while page().get("last_trigger") != 4711:
        assert time.monotonic() < deadline_s
        plc.read()
        plc.write()
        time.sleep(0.1)
    assert page()["address"] == f"127.0.0.1:{station.port}" and page()["connections"] >= 1
    metrics = urlopen(f"{station.page}/metrics").read().decode()
    counted = dict(re.findall(r"^(edge_modbus_\w+) (\S+)$", metrics, re.MULTILINE))
    assert float(counted["edge_modbus_triggers_total"]) >= 1
    assert float(counted["edge_modbus_exceptions_total"]) <= float(
        counted["edge_modbus_requests_total"]
    )
    plc.write()
    settings = ModbusSettings(host="127.0.0.1", port=station.port)
    there = modbus_finding(settings, running=True)
    assert (there.grade, "last trigger 4711" in there.found) == (Grade.GOOD, True), there
    assert modbus_finding(settings, running=False).grade is Grade.FAULT  # it is in use
    free = modbus_finding(ModbusSettings(host="127.0.0.1", port=0), running=False)
    assert free.grade is Grade.GOOD


def test_the_plc_of_the_document_passes_on_what_is_ok(station: Station) -> None:
    text = (ROOT / "docs" / "modbus.md").read_text("utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    before = len(station.verdicts())

    done = subprocess.run(
        [sys.executable, "-c", program.replace("port=1502", f"port={station.port}")],
        capture_output=True,
        text=True,
        timeout=GENEROUS_S,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert re.findall(r"(part \d): (\w+), verdict (\d+)", done.stdout) == [
        (one["part_id"], "pass" if one["result"] == "OK" else "reject", str(one["seq"]))
        for one in station.verdicts()[before:]
    ]
    assert done.stdout.count("reject") in (2, 3)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mqtt": {"url": "mqtt://h", "leads": True}}, "mqtt.leads and modbus.leads are both true"),
        ({"modbus": {"leads": False}}, "no port leads the hand-shake"),
        (
            {"camera": {"trigger": {"mode": "free_run"}}},
            "carries the hand-shake of triggered parts",
        ),
        ({"journal": None}, "modbus shows what the journal holds"),
        ({"modbus": {"host": "plc.example"}}, "modbus.host"),
        ({"modbus": {"unit": 0}}, "modbus.unit"),
    ],
)
def test_what_cannot_work_is_a_configuration_error(
    tmp_path: Path, bundle: Path, settings: dict[str, Any], named: str
) -> None:
    chosen = station_settings(tmp_path, bundle)
    for section, keys in settings.items():
        old = chosen.get(section)
        chosen[section] = keys if keys is None or not isinstance(old, dict) else {**old, **keys}
    (tmp_path / "station.yaml").write_text(
        yaml.safe_dump({name: one for name, one in chosen.items() if one is not None})
    )
    with pytest.raises(ConfigurationError, match=re.escape(named)) as refused:
        load_settings(tmp_path / "station.yaml")
    assert refused.value.exit_code == 78


def test_without_the_library_the_start_ends_and_names_what_to_install(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, edge_run: EdgeRun
) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png"), good_image(1))
    config = tmp_path / "station.yaml"
    config.write_text(yaml.safe_dump(station_settings(tmp_path, bundle)))
    (tmp_path / "absent" / "pymodbus").mkdir(parents=True)
    (tmp_path / "absent" / "pymodbus" / "__init__.py").write_text("raise ImportError('none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "absent"))

    missing = edge_run("--config", config)

    assert missing.returncode == 78
    assert "pip install 'inspection-station[modbus]'" in missing.stderr


def test_an_address_that_cannot_be_had_is_a_configuration_error_with_its_next_step() -> None:
    with pytest.raises(ConfigurationError, match="must be an address of this PC"):
        bound_socket("192.0.2.1", 1502)
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match="Another program uses it"):
            bound_socket("127.0.0.1", number)


def test_a_block_is_of_one_moment_however_fast_it_changes_and_is_read(
    station: Station, plc: Plc
) -> None:
    stop = time.monotonic() + times(1, 60)
    with Plc(station.port) as watcher:
        number, torn = 501, 0
        while time.monotonic() < stop:
            number += 1
            plc.wait(lambda seen: seen["ready"] and not seen["result_valid"], "ready")
            plc.write(control=table.TRIGGER.mask, trigger_id=number, part_id=str(number).encode())
            while True:
                response = watcher.client.read_input_registers(0, count=table.STATUS_WORDS)
                seen = read_status(response.registers)
                if not seen["result_valid"]:
                    torn += any(seen[name] for name in ("seq", "result", "result_id"))
                    continue
                torn += seen["result_part_id"] != str(seen["result_id"])
                break
            plc.acknowledge(seen)
    assert torn == 0
