"""edge-run --list-cameras: every camera that this PC sees, by the URI that the settings take."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.cameras.genicam.discovery import SeenCamera, list_cameras
from edge.cameras.genicam.library import AravisMissing
from edge.wording import counted

# linux/videodev2.h: struct v4l2_capability is 104 bytes.
VIDIOC_QUERYCAP = 0x80685600
CAPABILITY_BYTES = 104
_CARD = slice(16, 48)
_CAPABILITIES, _DEVICE_CAPABILITIES = slice(84, 88), slice(88, 92)
_HAS_DEVICE_CAPABILITIES = 0x8000_0000
_CAPTURES = 0x0000_0001 | 0x0000_1000  # one plane, or several


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """A V4L2 device that gives images.

    Attributes:
        uri: the name that stays the same after a restart, where there is one.
        node: ``/dev/videoN``, as it is now.
        card: what the driver calls it; why it cannot be asked, where it cannot.
    """

    uri: str
    node: str
    card: str


def video_devices(
    root: Path = Path("/"), capability: "Callable[[Path], bytes] | None" = None
) -> list[VideoDevice]:
    """List the V4L2 devices that give images; those for metadata are left out.

    Args:
        root: where ``dev`` is.
        capability: asks a device; returns its ``struct v4l2_capability`` or raises OSError.
    """
    asked = capability or query_capability
    stable = {
        link.resolve(): link
        for link in sorted((root / "dev/v4l/by-id").glob("*"), reverse=True)
        if link.is_symlink()
    }
    found = []
    for node in sorted((root / "dev").glob("video[0-9]*"), key=_number):
        try:
            answer = asked(node)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.ENODEV, errno.ENXIO):
                continue  # no device of V4L2, or one that has just gone
            card = f"cannot be queried ({error.strerror})"
            if error.errno in (errno.EACCES, errno.EPERM):
                card += "; add this user to the group 'video' and log in again"
        else:
            if not _gives_images(answer):
                continue
            card = answer[_CARD].split(b"\0", 1)[0].decode("utf-8", "replace").strip()
        name = stable.get(node.resolve(), node)
        found.append(VideoDevice(str(name), str(node), card))
    return found


def query_capability(node: Path) -> bytes:
    """Ask a device what it is; changes nothing, also while another program uses it."""
    answer = bytearray(CAPABILITY_BYTES)
    descriptor = os.open(node, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, VIDIOC_QUERYCAP, answer)
    finally:
        os.close(descriptor)
    return bytes(answer)


def camera_lines(root: Path = Path("/")) -> Iterator[str]:
    """Yield what ``--list-cameras`` prints; searching the network takes about a second."""
    try:
        genicam = list_cameras()
    except AravisMissing as error:
        yield f"GigE and USB3 Vision: not searched. {error}"
    else:
        found = counted(len(genicam), "camera") if genicam else "no cameras"
        yield f"GigE and USB3 Vision: {found}"
        yield from (f"  uri: {camera.uri:<40} {genicam_text(camera)}" for camera in genicam)
        if not genicam:
            yield (
                "  Check power and cable, that an interface of this PC is in the camera's subnet "
                "(`ip addr`), and that no firewall drops UDP port 3956."
            )
    devices = video_devices(root)
    yield f"USB and other V4L2: {counted(len(devices), 'device') if devices else 'no devices'}"
    for device in devices:
        now = "" if device.uri == device.node else f", now {device.node}"
        yield f"  uri: {device.uri:<40} {device.card}{now}"
        if not now:
            yield "    (has no name in /dev/v4l/by-id; this one may change at the next start)"


def genicam_text(camera: SeenCamera) -> str:
    """Return what is known of a camera that answered, and who controls it."""
    words = [camera.protocol, f"{camera.vendor} {camera.model}".strip()]
    if camera.address:
        words.append(f"at {camera.address} (uri gige://{camera.address} is the same)")
    if camera.controlled:
        words.append(f"in use by {camera.controller}" if camera.controller else "in use")
    elif camera.controlled is not None:
        words.append("free")
    return ", ".join(words)


def _gives_images(capability: bytes) -> bool:
    of_driver = int.from_bytes(capability[_CAPABILITIES], "little")
    # The driver's are those of all its devices together.
    own = capability[_DEVICE_CAPABILITIES] if of_driver & _HAS_DEVICE_CAPABILITIES else None
    return bool((of_driver if own is None else int.from_bytes(own, "little")) & _CAPTURES)


def _number(node: Path) -> int:
    digits = node.name.removeprefix("video")
    return int(digits) if digits.isdecimal() else 0
