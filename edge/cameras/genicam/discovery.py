"""Which GigE Vision and USB3 Vision cameras there are, and how a URI names one."""

import ipaddress
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from edge.cameras.genicam import gvcp
from edge.cameras.genicam.library import Library, library
from edge.errors import CameraNotOpened, CameraUriInvalid
from edge.redaction import redacted

ANSWER_LIMIT_S = 0.5

FORMS = "gige://IP-ADDRESS, gige://SERIAL, usb3://SERIAL or aravis://fake"
FAKE_ID = "Fake_1"

_PROTOCOLS = {"GigEVision": "gige", "USB3Vision": "usb3"}


class Transport(StrEnum):
    """How a camera is connected."""

    GIGE = "gige"
    USB3 = "usb3"
    FAKE = "aravis"


@dataclass(frozen=True, slots=True)
class CameraName:
    """What a URI says.

    Attributes:
        address: of a GigE camera that is named by it.
        serial: of one that is named by it; the simulated camera has neither.
    """

    transport: Transport
    address: str = ""
    serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCamera:
    """A camera that answered a search.

    Attributes:
        uri: what ``camera.uri`` takes.
        address: IP address of a GigE camera; empty for USB.
        protocol: ``GigE Vision`` or ``USB3 Vision``.
        controlled: whether a program controls it; None where nobody can tell.
        controller: IP address of that program where the camera tells.
    """

    uri: str
    vendor: str
    model: str
    serial: str
    address: str
    protocol: str
    controlled: bool | None = None
    controller: str | None = None


def parse_uri(uri: str) -> CameraName:
    """Read ``gige://…``, ``usb3://…`` or ``aravis://fake``.

    Raises:
        CameraUriInvalid: another form.
    """
    scheme, separator, name = uri.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in {transport.value for transport in Transport}:
        raise CameraUriInvalid(
            f"{redacted(uri)}: not the address of a GenICam camera. Known are {FORMS}."
        )
    if scheme == Transport.FAKE:
        if name.lower() != "fake":
            raise CameraUriInvalid(
                f"{redacted(uri)}: the only camera of aravis:// is aravis://fake."
            )
        return CameraName(Transport.FAKE)
    if not re.fullmatch(r"[\w.:+-]+", name):
        raise CameraUriInvalid(
            f"{redacted(uri)}: {'nothing' if not name else 'no name of a camera'} stands after "
            f"{scheme}://. Known are {FORMS}; `edge-run --list-cameras` shows the cameras."
        )
    if scheme == Transport.GIGE and re.fullmatch(r"\d+(\.\d+){3}", name):
        try:
            return CameraName(Transport.GIGE, address=str(ipaddress.IPv4Address(name)))
        except ValueError as error:
            raise CameraUriInvalid(f"{uri}: not an IP address ({error}).") from error
    return CameraName(Transport(scheme), serial=name)


def list_cameras() -> list[SeenCamera]:
    """Search all interfaces; takes about a second and changes nothing in any camera.

    Raises:
        AravisMissing: Aravis is not installed.
    """
    return [_with_control(camera) for camera, _ in _search(library())]


def device_id(name: CameraName, aravis: Library) -> str:
    """Return what Aravis opens the camera by.

    A GigE camera is opened by its address: by any other id, and without a search before it, Aravis
    may listen on an interface where no frame of this camera ever arrives.

    Raises:
        CameraNotOpened: no camera of that name answers.
    """
    if name.transport is Transport.FAKE:
        return FAKE_ID
    if name.address:
        if gvcp.discover(name.address, ANSWER_LIMIT_S) is None:
            raise CameraNotOpened(
                f"gige://{name.address}: no camera answers at this address. Check power and cable, "
                "that an interface of this machine is in its subnet (`ip addr`), and that no "
                "firewall drops UDP port 3956; `edge-run --list-cameras` shows who answers."
            )
        return name.address
    found = _search(aravis)
    scheme = f"{name.transport.value}://"
    for camera, identity in found:
        if camera.uri.lower() == f"{scheme}{name.serial}".lower():
            return camera.address or identity
    others = ", ".join(camera.uri for camera, _ in found if camera.uri.startswith(scheme))
    raise CameraNotOpened(
        f"{scheme}{name.serial}: no camera of this serial number answers; "
        f"{f'there are {others}' if others else 'no other does either'}. Check power and cable."
    )


def _search(aravis: Library) -> list[tuple[SeenCamera, str]]:
    api = aravis.api
    api.update_device_list()
    found = []
    for index in range(api.get_n_devices()):
        scheme = _PROTOCOLS.get(api.get_device_protocol(index))
        if scheme is None:
            continue
        serial = api.get_device_serial_nbr(index) or ""
        gige = scheme == Transport.GIGE
        camera = SeenCamera(
            uri=f"{scheme}://{serial}",
            vendor=api.get_device_vendor(index) or "",
            model=api.get_device_model(index) or "",
            serial=serial,
            address=(api.get_device_address(index) or "") if gige else "",
            protocol="GigE Vision" if gige else "USB3 Vision",
        )
        found.append((camera, api.get_device_id(index)))
    return sorted(found, key=lambda one: one[0].uri)


def _with_control(camera: SeenCamera) -> SeenCamera:
    control = gvcp.control(camera.address, ANSWER_LIMIT_S) if camera.address else None
    if control is None:
        return camera
    return replace(camera, controlled=control.controlled, controller=control.by)
