"""What the doctor says of the OPC UA server: whether it can be served, or that it answers."""

import socket
import struct

from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.errors import StationError
from edge.plc.opcua.startup_check import (
    check_installed,
    check_usable,
    installed_certificate_doubts,
    server_url,
)
from edge.settings.credentials import waits_for_credentials
from edge.settings.opcua import OpcUaSettings

LIMIT_S = 5.0
_HEAD = struct.Struct("<4sI")


def opcua_finding(settings: OpcUaSettings, running: bool) -> Finding:
    """Try address and certificate, or greet the station that runs with these settings."""
    subject, where = "opcua", f"{settings.host}:{settings.port}"
    account = f"as {settings.username}" if settings.username else "without an account"
    secured = "encrypted" if settings.certificate_file else "not encrypted"
    try:
        check_installed()
        if not running:
            files = (settings.certificate_file, settings.key_file, settings.password_file)
            if waits_for_credentials(*files):
                found = (
                    f"{where}: systemd gives its certificate, key or password to the service alone"
                )
                return not_seen(subject, found, "systemctl status edge-run@NAME")
            doubts = check_usable(settings)
            return _judged(f"can listen at {where}, {secured}; clients read {account}", doubts)
    except StationError as error:
        return fault(subject, str(error), "")
    try:
        _greet(settings)
    except OSError as error:
        return fault(subject, f"{where} does not answer: {error}", "see the station's log")
    doubts = installed_certificate_doubts(settings)
    return _judged(f"answers at {where}, {secured}; clients read {account}", doubts)


def _judged(found: str, doubts: tuple[str, ...]) -> Finding:
    if not doubts:
        return good("opcua", found)
    why = f"clients may refuse its certificate, which {', and '.join(doubts)}"
    return advice("opcua", f"{found}; {why}", "make a new one, and set opcua.certificate_file")


def _greet(settings: OpcUaSettings) -> None:
    """Exchange Hello and Acknowledge (OPC 10000-6, 7.1.2), and open nothing."""
    url = server_url(settings).encode()
    body = struct.pack("<IIIIII", 0, 65536, 65536, 0, 0, len(url)) + url
    with socket.create_connection((settings.host, settings.port), LIMIT_S) as connection:
        connection.sendall(_HEAD.pack(b"HELF", _HEAD.size + len(body)) + body)
        kind, _ = _HEAD.unpack(connection.makefile("rb").read(_HEAD.size).ljust(_HEAD.size))
    if kind != b"ACKF":
        raise ConnectionError("it is not an OPC UA server")
