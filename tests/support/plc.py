"""A PLC at the registers of a station: pymodbus' own client, and values by their names."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

from pymodbus.client import ModbusTcpClient

from edge.plc import registers as table
from edge.plc.registers import Kind, Order

GENEROUS_S = 60.0


class Plc:
    """One master; every write of the command block counts the heartbeat up.

    Attributes:
        client: pymodbus' own.
        command: what the next write holds, by name.
    """

    def __init__(self, port: int, order: Order = Order(), address: str = "127.0.0.1") -> None:
        self.client = ModbusTcpClient(
            "127.0.0.1", port=port, timeout=20, source_address=(address, 0)
        )
        self.command: dict[str, int | bytes] = {one.name: 0 for one in table.COMMAND}
        self.command["part_id"] = b""
        self._order = order

    def __enter__(self) -> Self:
        deadline = time.monotonic() + GENEROUS_S
        while not self.client.connect():  # refused until the station inspects
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def write(self, **values: int | bytes) -> None:
        """Write the whole command block in one request."""
        response = self.client.write_registers(0, self.words(**values), device_id=1)
        assert not response.isError(), response

    def words(self, **values: int | bytes) -> list[int]:
        """Return the next command block."""
        self.command |= values
        self.command["master_heartbeat"] = int(self.command["master_heartbeat"]) + 1 & 0xFFFF
        return [
            word
            for one in table.COMMAND
            for word in table.encoded(self.command[one.name], one.kind, self._order)
        ]

    def read(self) -> dict[str, Any]:
        """Return the whole status block of one moment: values and bits by name."""
        response = self.client.read_input_registers(0, count=table.STATUS_WORDS, device_id=1)
        assert not response.isError(), response
        return read_status(response.registers, self._order)

    def wait(self, condition: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Read until a condition holds, with a heartbeat at each turn."""
        deadline = time.monotonic() + GENEROUS_S
        while not condition(seen := self.read()):
            assert time.monotonic() < deadline, f"not within {GENEROUS_S:g} s: {what}: {seen}"
            self.write()
        return seen

    def inspect(self, number: int, part_id: str = "") -> dict[str, Any]:
        """Trigger, wait for the result, acknowledge it; returns the status with the result."""
        self.wait(lambda seen: seen["ready"], "ready")
        self.write(control=table.TRIGGER.mask, trigger_id=number, part_id=part_id.encode())
        seen = self.wait(lambda seen: seen["taken"] and seen["taken_id"] == number, "taken")
        if not seen["rejected"]:
            seen = self.wait(lambda seen: seen["result_valid"], "a result")
            self.acknowledge(seen)
        else:
            self.write(control=0)
        return seen

    def acknowledge(self, seen: dict[str, Any]) -> None:
        """Acknowledge the result that stands, and wait for its end."""
        self.write(control=table.ACK.mask, ack_seq=seen["seq"])
        self.wait(lambda now: not now["result_valid"], "the end of the result")
        self.write(control=0)


def read_status(words: Sequence[int], order: Order = Order()) -> dict[str, Any]:
    """Return the values and bits of a status block by name."""
    values: dict[str, Any] = {}
    for one in table.STATUS:
        raw = list(words[one.address : one.end])
        if one.kind is Kind.TEXT:
            values[one.name] = table.decoded_text(raw, order)
        else:
            values[one.name] = table.decoded_number(raw, one.kind, order)
        values |= {bit.name: bool(raw[0] & bit.mask) for bit in one.bits}
    return values


def station_settings(folder: Path, bundle: Path, **more: Any) -> dict[str, Any]:
    """Return the settings of a station whose parts a PLC triggers; images come from files."""
    modbus = {"host": "127.0.0.1", "port": 0, "master_timeout_ms": 1500}
    return {
        "camera": {
            "uri": str(folder / "images"),
            "loop": True,
            "trigger": {"mode": "software", "frame_timeout_ms": 20_000},
        },
        "model": {"path": str(bundle)},
        "journal": {"folder": str(folder / "journal")},
        "modbus": modbus | more.pop("modbus", {}),
        **more,
    }
