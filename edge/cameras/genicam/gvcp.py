"""The GigE Vision control protocol, as far as asking a camera whether it is there.

Aravis asks too, but repeats a question for 2.5 s before it gives up; a station wants to know
sooner. Questions change nothing in the camera and need no control over it.
"""

import ipaddress
import os
import socket
import struct
import time
from dataclasses import dataclass

PORT = 3956

_ASK_AGAIN_S = 0.15
_COMMAND, _ACKNOWLEDGE_WANTED = 0x42, 0x01
_DISCOVERY, _DISCOVERY_ACK = 0x0002, 0x0003
_READ_REGISTER, _READ_REGISTER_ACK = 0x0080, 0x0081

_CONTROL_PRIVILEGE, _CONTROLLED = 0x0A00, 0b11
_CONTROLLER_ADDRESS = 0x0A14

_HEADER = struct.Struct(">HHHH")


@dataclass(frozen=True, slots=True)
class DiscoveryAnswer:
    """What a camera says when it is discovered."""

    vendor: str
    model: str
    serial: str
    name: str


@dataclass(frozen=True, slots=True)
class CameraControl:
    """Who controls a camera; ``by`` is None where the camera does not tell."""

    controlled: bool
    by: str | None


def discover(address: str, limit_s: float, interface: str = "") -> DiscoveryAnswer | None:
    """Ask the camera at an IP address who it is; None when it did not answer in time.

    Args:
        interface: address of this machine to ask from; the routing table's choice if empty.
    """
    data = _ask(address, _DISCOVERY, b"", _DISCOVERY_ACK, limit_s=limit_s, interface=interface)
    if data is None or len(data) < 0xF8:
        return None
    return DiscoveryAnswer(
        vendor=_text(data[0x48:0x68]),
        model=_text(data[0x68:0x88]),
        serial=_text(data[0xD8:0xE8]),
        name=_text(data[0xE8:0xF8]),
    )


def control(address: str, limit_s: float) -> CameraControl | None:
    """Ask who controls the camera; None when it did not answer in time."""
    privilege = _read_register(address, _CONTROL_PRIVILEGE, limit_s)
    if privilege is None:
        return None
    controlled = bool(privilege & _CONTROLLED)
    return CameraControl(controlled, controller(address, limit_s) if controlled else None)


def controller(address: str, limit_s: float) -> str | None:
    """Ask for the IP address of the controlling program; older cameras do not tell."""
    value = _read_register(address, _CONTROLLER_ADDRESS, limit_s)
    return str(ipaddress.IPv4Address(value)) if value else None


def _read_register(address: str, register: int, limit_s: float) -> int | None:
    question = struct.pack(">I", register)
    data = _ask(
        address, _READ_REGISTER, question, _READ_REGISTER_ACK, limit_s=limit_s, interface=""
    )
    return int.from_bytes(data[:4], "big") if data is not None and len(data) >= 4 else None


def _ask(
    address: str, command: int, question: bytes, expected: int, *, limit_s: float, interface: str
) -> bytes | None:
    number = int.from_bytes(os.urandom(2), "big") or 1  # 0 is no request number
    packet = struct.pack(">BBHHH", _COMMAND, _ACKNOWLEDGE_WANTED, command, len(question), number)
    deadline = time.monotonic() + limit_s
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.bind((interface, 0))
            asking.connect((address, PORT))
            while (left_s := deadline - time.monotonic()) > 0:
                asking.send(packet + question)
                data = _answer(asking, expected, number, min(left_s, _ASK_AGAIN_S))
                if data is not None:
                    return data
        except OSError:
            return None  # no route, or the machine at the address says that nobody listens
    return None


def _answer(asking: socket.socket, expected: int, number: int, limit_s: float) -> bytes | None:
    deadline = time.monotonic() + limit_s
    while (left_s := deadline - time.monotonic()) > 0:
        asking.settimeout(left_s)
        try:
            packet = asking.recv(2048)
        except TimeoutError:
            return None
        if len(packet) < _HEADER.size:
            continue
        status, command, _, answered = _HEADER.unpack_from(packet)
        if (command, answered) == (expected, number):
            return packet[_HEADER.size :] if status == 0 else None
    return None


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
