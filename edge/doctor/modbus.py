"""What the doctor says of the registers: whether they can be served, or how they are."""

import socket
from contextlib import closing

from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.errors import StationError
from edge.plc import registers as table
from edge.plc.modbus_server import bound_socket, modbus_library
from edge.plc.registers import Order
from edge.plc.remote_io import modbus_client
from edge.settings.modbus import ModbusSettings, PlcSettings
from edge.wording import counted

LIMIT_S = 5.0
_ASKED = b"\0\1\0\0\0\6\xff\4\0\0" + table.STATUS_WORDS.to_bytes(2, "big")
_HEAD_BYTES = 9


def modbus_finding(settings: ModbusSettings, running: bool) -> Finding:
    """Try the address, or read the status block of the station that runs with these settings."""
    subject, where = "modbus", settings.where
    if settings.plc is not None:
        return _visited(settings, settings.plc, running)
    assert settings.host is not None
    try:
        modbus_library()
        if not running:
            bound_socket(settings.host, settings.port).close()
            leads = "leads the hand-shake" if settings.leads else "only watches"
            return good(subject, f"can listen at {where}, unit {settings.unit}; its PLC {leads}")
    except StationError as error:
        return fault(subject, str(error), "")
    if settings.port == 0:
        return not_seen(subject, "the station chooses a free port", "see its log")
    try:
        words = _status_block(settings.host, settings.port)
    except OSError as error:
        return fault(subject, f"{where} does not answer: {error}", "see the station's log")
    order = Order(settings.word_order == "little", settings.byte_order == "little")
    found = (
        f"answers at {where}; last trigger {_value(words, 'taken_id', order)}, "
        f"{counted(_value(words, 'results_missed', order), 'result was', 'results were')} not "
        "acknowledged"
    )
    if words[1] & table.MASTER_MISSING.mask:
        return advice(
            subject, f"{found}; no heartbeat from a master", "start the PLC, and check its cable"
        )
    return good(subject, f"{found}; the master is connected" if settings.leads else found)


def _visited(settings: ModbusSettings, plc: PlcSettings, running: bool) -> Finding:
    """Read the command block of a PLC, as the station does; writes nothing."""
    subject = "modbus"
    if running:
        return not_seen(
            subject, f"the station connects to the PLC at {settings.where}", "see its page"
        )
    try:
        client = modbus_client(plc.host, plc.port, plc.timeout_ms / 1e3)
        with closing(client):
            answer = client.read_holding_registers(
                plc.command_address, count=table.COMMAND_WORDS, device_id=settings.unit
            )
    except StationError as error:
        return fault(subject, str(error), "")
    except Exception as error:  # whatever the socket gives, and exceptions of pymodbus' own
        found = f"the PLC at {settings.where} does not answer: {error}"
        return fault(subject, found, "start its server, check the cable and modbus.plc")
    if answer.isError():
        found = f"the PLC at {settings.where} has no registers from {plc.command_address} on"
        return fault(subject, found, "set modbus.plc.command_address, or map them in the PLC")
    return good(subject, f"the PLC at {settings.where} answers; the station connects to it")


def _status_block(host: str, port: int) -> list[int]:
    """Read it as any master does; a connection that is open for a moment, and writes nothing."""
    with socket.create_connection((host, port), LIMIT_S) as connection:
        connection.sendall(_ASKED)
        answers = connection.makefile("rb")
        content = answers.read(_HEAD_BYTES + 2 * table.STATUS_WORDS)[_HEAD_BYTES:]
    if len(content) != 2 * table.STATUS_WORDS:
        raise ConnectionError("what answers there is not a station")
    return [int.from_bytes(content[at : at + 2], "big") for at in range(0, len(content), 2)]


def _value(words: list[int], name: str, order: Order) -> int:
    one = table.named(table.STATUS, name)
    return table.decoded_number(words[one.address : one.end], one.kind, order)
