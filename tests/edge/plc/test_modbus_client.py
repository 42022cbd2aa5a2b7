"""The PLC is the server: the station visits its registers, as the same hand-shake."""

import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.doctor.finding import Grade
from edge.doctor.modbus import modbus_finding
from edge.mqtt.command_queue import CommandQueue
from edge.plc import registers as table
from edge.settings import modbus as sizes
from edge.settings.modbus import ModbusSettings
from edge.station.handshake.coordinator import HandshakeCoordinator
from edge.station.handshake.modbus_client import ModbusClientThread
from edge.station.handshake.modbus_link import LinkServices, modbus_port
from edge.station.handshake.part import INPUTS, Input, Pairing, Rules
from edge.station.handshake.state_machine import HandshakeMachine
from edge.station.monitoring.health import Health
from edge.station.threads import Failures, Worker
from tests.edge.plc.test_modbus import Station
from tests.support.plc import Plc, read_status, station_settings
from tests.support.remote_io import RemoteIoModule

STATUS_ADDRESS = 120


class PlcProgram(Plc):
    """A PLC whose memory the station visits: it reads the status from its own registers."""

    def read(self) -> dict[str, Any]:
        response = self.client.read_holding_registers(STATUS_ADDRESS, count=table.STATUS_WORDS)
        assert not response.isError(), response
        return read_status(response.registers)


def test_a_plc_that_is_the_server_triggers_parts_and_reads_results_in_its_own_registers(
    tmp_path: Path, bundle: Path
) -> None:
    with RemoteIoModule() as memory:
        settings = station_settings(tmp_path, bundle)
        plc = {"host": "127.0.0.1", "port": memory.port, "status_address": STATUS_ADDRESS}
        settings["modbus"] = {"plc": plc, "master_timeout_ms": 1500}
        station = Station(tmp_path, settings)
        with PlcProgram(memory.port) as program:
            found = {}
            for number in range(1, 4):
                seen = program.inspect(number, part_id=f"Teil-ä-{number}")
                found[number] = seen
                assert (seen["taken_id"], seen["result_id"]) == (number, number)
                assert seen["order_check"] == 16909060 and not seen["error"]
            # A trigger stands in the registers while nobody is there to read it.
            program.wait(lambda seen: seen["ready"], "ready")
        memory.stop()
        deadline_s = time.monotonic() + 60
        while "cannot be reached" not in station.log:
            assert time.monotonic() < deadline_s, station.log
            time.sleep(0.05)
        memory.start()
        with PlcProgram(memory.port) as program:
            words = program.words(control=table.TRIGGER.mask, trigger_id=99)
            program.client.write_registers(0, words)  # written once, with no heartbeat behind it
            time.sleep(1.5)
            program.write(control=table.RESET.mask)
            program.write(control=0)
            found[4] = program.inspect(4, part_id="Teil-ä-4")
        station.close()
    records = _verdicts(tmp_path)
    assert [one["part_id"] for one in records][: len(found) - 1] == [
        f"Teil-ä-{number}" for number in (1, 2, 3)
    ]
    for record in records:
        if record["part_id"] is None:  # the one that was written once
            assert record["result"] == "ERROR"
    by_part = {record["part_id"]: record for record in records}
    for number, seen in found.items():
        record = by_part[f"Teil-ä-{number}"]
        assert seen["result"] == {"OK": 1, "NOK": 2}[record["result"]]
        assert (seen["reason"], seen["result_part_id"]) == (
            record["reason_code"],
            record["part_id"],
        )


def test_what_a_plc_announced_while_it_was_away_for_a_moment_is_doubted() -> None:
    """What it announced meanwhile nobody read, and its edge came all the same."""
    frame_timeout_s, ended, asked = 0.3, threading.Event(), CommandQueue()
    with RemoteIoModule() as memory:
        settings = ModbusSettings.model_validate(
            {
                "plc": {"host": "127.0.0.1", "port": memory.port, "status_address": STATUS_ADDRESS},
                "master_timeout_ms": 60_000,
            }
        )
        assert settings.plc is not None
        port, health = modbus_port(settings, accepts_triggers=True, max_results=2), Health()
        rules = Rules(
            pairing=Pairing.ANNOUNCED,
            frame_timeout_ms=frame_timeout_s * 1e3,
            inputs=INPUTS | {Input.MASTER},
        )
        handshake = HandshakeCoordinator(
            handshake=HandshakeMachine(rules),
            ports=[port],
            expose=lambda: None,
            record_event=lambda _: None,
        )
        for name in INPUTS:
            handshake.set_ready(name, True)
        services = LinkServices(
            port=port,
            accepts_triggers=True,
            handshake=handshake,
            put=asked.put,
            health=health,
            record_event=lambda _: None,
        )
        link = ModbusClientThread(settings, services, settings.plc)

        def keep_time() -> None:
            while not ended.is_set():
                handshake.wait_until_due(0.1)
                handshake.tick()

        bodies = [keep_time, lambda: link.run(ended.is_set)]
        threads = [Worker("line", body, Failures()) for body in bodies]
        for thread in threads:
            thread.start()
        with PlcProgram(memory.port) as program:
            program.wait(lambda seen: seen["ready"], "ready")
            program.write(control=table.TRIGGER.mask, trigger_id=4)
            assert asked.get(60) is not None
        memory.stop()
        memory.start()
        with PlcProgram(memory.port) as program:
            deadline_s = time.monotonic() + 60
            while not (seen := program.read())["order_check"]:  # nothing is written yet
                assert time.monotonic() < deadline_s
            assert not seen["ready"] and seen["master_missing"]
            assert "cannot be reached" in health.reasons["modbus_master_away"]
            heard_s = time.monotonic()
            program.write(control=table.TRIGGER.mask, trigger_id=5)  # in place of the other
            assert asked.get(60) is not None
            program.wait(lambda seen: seen["ready"], "ready")
            assert time.monotonic() - heard_s >= 2 * frame_timeout_s
            assert asked.get(0) is None
        ended.set()
        for thread in threads:
            assert thread.join(60)


def _verdicts(folder: Path) -> list[dict[str, Any]]:
    database = sqlite3.connect(f"file:{folder / 'journal' / 'journal.db'}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT payload FROM record WHERE kind = 'verdict' ORDER BY seq")
        return [json.loads(payload) for (payload,) in rows]
    finally:
        database.close()


def test_the_doctor_reads_the_command_block_of_the_plc_and_writes_nothing() -> None:
    with RemoteIoModule() as memory:

        def finding(command_address: int) -> tuple[Grade, str]:
            plc = {
                "host": "127.0.0.1",
                "port": memory.port,
                "command_address": command_address,
                "status_address": 120,
                "timeout_ms": 10_000,
            }
            found = modbus_finding(ModbusSettings.model_validate({"plc": plc}), running=False)
            return found.grade, found.found

        assert finding(0)[0] is Grade.GOOD
        assert finding(190)[0] is Grade.FAULT and "no registers from 190 on" in finding(190)[1]
    assert finding(0)[0] is Grade.FAULT and "does not answer" in finding(0)[1]


@pytest.mark.parametrize(
    ("modbus", "message"),
    [
        ({}, "give either host"),
        ({"host": "127.0.0.1", "plc": {"host": "plc"}}, "give either host"),
        ({"plc": {"host": "plc", "command_address": 90}}, "overlap"),
    ],
)
def test_what_cannot_be_is_refused(modbus: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ModbusSettings.model_validate(modbus)
    assert message in str(refused.value)


def test_the_settings_know_how_long_the_blocks_are() -> None:
    found = (sizes.COMMAND_WORDS, sizes.STATUS_WORDS)
    assert found == (table.COMMAND_WORDS, table.STATUS_WORDS)
