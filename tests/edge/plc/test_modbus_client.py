"""The PLC is the server: the station visits its registers, as the same hand-shake."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge.doctor.finding import Grade
from edge.doctor.modbus import modbus_finding
from edge.plc import registers as table
from edge.settings import modbus as sizes
from edge.settings.modbus import ModbusSettings
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
        while "heartbeat has not changed" not in station.log:
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
