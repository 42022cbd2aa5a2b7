"""What the operating system grants a station: network, USB, processor, disk, clock.

Everything is read below ``root``, so that a saved ``/proc`` and ``/sys`` can be looked at, too.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from edge.doctor.finding import Finding, advice, fault, good, not_seen

MIN_MTU = 8192
# Room for one large image and a stall of the receiving thread.
MIN_RECEIVE_BUFFER_BYTES = 16 * 2**20
MIN_USBFS_MIB = 256
MIN_FREE_BYTES = 2**30
_SIOCGIFADDR = 0x8915


def network_interface(camera_address: str) -> tuple[str, str] | None:
    """Return name and address of the interface that leads to an address; None without a route."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((camera_address, 3956))  # sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    for _, name in socket.if_nameindex():
        if _interface_address(name) == own:
            return name, own
    # Any address of 127.0.0.0/8 is the loopback's, which has only the first by name.
    return ("lo", own) if own.startswith("127.") else None


def interface_findings(camera_address: str, root: Path = Path("/")) -> list[Finding]:
    """Look at the network interface that a GigE camera is on."""
    interface = network_interface(camera_address)
    if interface is None:
        return [
            fault(
                "network interface",
                f"no route to {camera_address}",
                "give the camera's port of this PC an address in the camera's subnet",
            )
        ]
    name, own = interface
    return [
        good("network interface", f"{name} ({own}) leads to {camera_address}"),
        _mtu(name, root),
    ]


def _mtu(name: str, root: Path) -> Finding:
    subject = f"MTU of {name}"
    mtu = _number(root / "sys/class/net" / name / "mtu")
    if mtu is None:
        return not_seen(subject, "cannot be read")
    if mtu < MIN_MTU:
        return advice(
            subject,
            f"{mtu} bytes; large packets need at least {MIN_MTU}",
            f"ip link set {name} mtu 9000, and the same on the switch and for good",
        )
    return good(subject, f"{mtu} bytes")


def receive_buffer_finding(root: Path = Path("/")) -> Finding:
    """Look at the largest socket buffer that a GigE stream may ask for."""
    subject = "receive buffer"
    max_bytes = _number(root / "proc/sys/net/core/rmem_max")
    if max_bytes is None:
        return not_seen(subject, "net.core.rmem_max cannot be read")
    if max_bytes < MIN_RECEIVE_BUFFER_BYTES:
        return advice(
            subject,
            f"net.core.rmem_max is {max_bytes} bytes; a short stall of this PC loses packets",
            f"sysctl -w net.core.rmem_max={2 * MIN_RECEIVE_BUFFER_BYTES}",
        )
    return good(subject, f"{max_bytes} bytes")


def usb_memory_finding(root: Path = Path("/")) -> Finding:
    """Look at the memory that the kernel gives to USB transfers."""
    subject = "USB memory"
    path = root / "sys/module/usbcore/parameters/usbfs_memory_mb"
    memory = _number(path)
    if memory is None:
        return not_seen(subject, "this machine has no USB", "plug the camera into a USB 3 port")
    if 0 < memory < MIN_USBFS_MIB:
        return advice(
            subject,
            f"usbfs_memory_mb is {memory}; large images do not fit",
            "echo 1000 > /sys/module/usbcore/parameters/usbfs_memory_mb",
        )
    return good(subject, f"{memory} MiB" if memory else "not limited")


def governor_finding(root: Path = Path("/")) -> Finding:
    """Look at how the processor clock is governed; slow clocks make late verdicts."""
    subject = "processor clock"
    paths = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    governors = {text for path in paths if (text := _text(path))}
    if not governors:
        return not_seen(subject, "this machine has no frequency control")
    if governors != {"performance"}:
        return advice(
            subject,
            f"governed by {', '.join(sorted(governors))}; the first parts after a pause are late",
            "cpupower frequency-set -g performance",
        )
    return good(subject, "performance")


def disk_finding(subject: str, folder: Path, min_bytes: int = MIN_FREE_BYTES) -> Finding:
    """Look at the space where a folder is, or will be."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        space = os.statvfs(place)
    except OSError as error:
        return fault(subject, f"{folder}: {error.strerror}", "mount or choose another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        return fault(
            subject,
            f"{folder}: not writable for this user",
            "run as the user of the service, or give it the folder",
        )
    free = space.f_bavail * space.f_frsize
    found = f"{folder}: {free / 2**30:.1f} GiB free"
    if free < min_bytes:
        return advice(
            subject, found, f"make room; less than {min_bytes / 2**30:.1f} GiB is not enough"
        )
    return good(subject, found)


def shared_subnet_finding(root: Path = Path("/")) -> Finding | None:
    """Tell of two interfaces in one subnet, whose packets take turns; None when there are none."""
    routes: dict[str, list[str]] = {}
    try:
        lines = (root / "proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return None
    for fields in _fields(lines):
        name, destination, gateway, mask = fields[0], fields[1], fields[2], fields[7]
        if gateway == "00000000" and destination != "00000000":
            routes.setdefault(f"{destination}/{mask}", []).append(name)
    for network, names in routes.items():
        if len(set(names)) > 1:
            subnet = socket.inet_ntoa(struct.pack("<I", int(network.partition("/")[0], 16)))
            return advice(
                "subnets",
                f"{' and '.join(sorted(set(names)))} are both in {subnet}",
                "give each camera port a subnet of its own",
            )
    return None


def _fields(lines: Iterable[str]) -> Iterable[list[str]]:
    return (fields for fields in map(str.split, lines) if len(fields) >= 8)


def _interface_address(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdecimal() else None


def _text(path: Path) -> str:
    """Return what a file of the kernel says; nothing where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
