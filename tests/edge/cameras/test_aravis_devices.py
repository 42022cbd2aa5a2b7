"""How GenICam cameras are named, found and asked; what happens where Aravis is missing."""

import socket
import subprocess
import sys
import time
from contextlib import closing, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.cameras.genicam import gvcp
from edge.cameras.genicam.camera import list_cameras, open_aravis
from edge.cameras.genicam.discovery import CameraName, SeenCamera, Transport, parse_uri
from edge.cameras.genicam.library import AravisMissing, Library
from edge.errors import CameraNotOpened, CameraUriInvalid
from edge.settings.camera import SensorSettings, TriggerSettings
from tests.support.aravis_fixtures import GENEROUS_S, numbered_images, opened
from tests.support.gige_camera import GigECamera
from tests.support.stalls import Stalls

# Loopback answers at every address of 127.0.0.0/8, and nobody listens at these.
EMPTY_ADDRESS, SILENT_ADDRESS = "127.15.0.1", "127.15.0.2"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("gige://192.168.3.7", CameraName(Transport.GIGE, address="192.168.3.7")),
        ("GIGE://21345678", CameraName(Transport.GIGE, serial="21345678")),
        ("gige://SN-00:11:1c", CameraName(Transport.GIGE, serial="SN-00:11:1c")),
        ("usb3://4108729", CameraName(Transport.USB3, serial="4108729")),
        # An address is no address where there is no network.
        ("usb3://10.0.0.1", CameraName(Transport.USB3, serial="10.0.0.1")),
        ("aravis://fake", CameraName(Transport.FAKE)),
    ],
)
def test_a_uri_names_a_camera_by_address_or_serial_number(uri: str, name: CameraName) -> None:
    assert parse_uri(uri) == name


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gige://", "nothing stands after gige://"),
        ("gige://10.0.0.256", "not an IP address"),
        ("gige://10.0.0.1/stream", "no name of a camera"),
        ("usb3://a b", "no name of a camera"),
        ("aravis://other", "aravis://fake"),
        ("u3v://123", "Known are gige://"),
        ("gige:10.0.0.1", "not the address of a GenICam camera"),
    ],
)
def test_a_uri_that_names_none_is_refused_with_the_known_forms(uri: str, words: str) -> None:
    with pytest.raises(CameraUriInvalid) as raised:
        parse_uri(uri)

    assert words in str(raised.value) and raised.value.exit_code == 78


@given(st.text(max_size=30))
def test_any_text_is_a_name_or_a_typed_error(text: str) -> None:
    try:
        name = parse_uri(f"gige://{text}")
    except CameraUriInvalid as error:
        assert "gige://" in str(error)
    else:
        assert bool(name.address) != bool(name.serial)


def test_the_list_shows_every_camera_and_who_controls_it() -> None:
    with (
        GigECamera(numbered_images(1)) as free,
        GigECamera(numbered_images(1)) as taken,
        opened(taken.uri),
    ):
        deadline = time.monotonic() + GENEROUS_S
        seen: dict[str, SeenCamera] = {}
        # A machine that stands still misses an answer.
        while any(
            one.serial not in seen or seen[one.serial].controlled is None for one in (free, taken)
        ):
            assert time.monotonic() < deadline, seen
            seen = {camera.serial: camera for camera in list_cameras()}

    assert seen[free.serial].controlled is False
    assert seen[taken.serial].controlled is True
    camera = seen[free.serial]
    assert (camera.uri, camera.address) == (f"gige://{free.serial}", free.address)
    assert (camera.vendor, camera.model, camera.protocol) == ("Aravis", "Fake", "GigE Vision")


def test_an_address_without_a_camera_is_reported_at_once() -> None:
    with closing(Stalls()) as stalls:
        start_s = time.monotonic()
        with pytest.raises(CameraNotOpened, match="no camera answers at this address") as raised:
            open_aravis(f"gige://{EMPTY_ADDRESS}", SensorSettings(), TriggerSettings())
        elapsed_s = time.monotonic() - start_s

    assert elapsed_s < 2.0 + stalls.lasted_s
    assert "ip addr" in str(raised.value) and raised.value.exit_code == 69


def test_a_serial_number_that_nobody_has_is_reported_with_those_there_are() -> None:
    reported = ""
    deadline = time.monotonic() + GENEROUS_S
    with GigECamera(numbered_images(1)) as other:
        # A machine that stands still misses an answer.
        while f"gige://{other.serial}" not in reported:
            assert time.monotonic() < deadline, reported
            with pytest.raises(CameraNotOpened, match="no camera of this serial number") as raised:
                open_aravis("gige://no-such", SensorSettings(), TriggerSettings())
            reported = str(raised.value)


def test_a_camera_says_who_it_is_when_asked_directly() -> None:
    with GigECamera(numbered_images(1)) as device:
        assert gvcp.discover(device.address, 5.0) == gvcp.DiscoveryAnswer(
            "Aravis", "Fake", device.serial, ""
        )
        assert gvcp.discover(device.address, 5.0, "127.0.0.1") is not None
        assert gvcp.control(device.address, 5.0) == gvcp.CameraControl(controlled=False, by=None)


def test_the_question_is_bounded_where_somebody_listens_and_says_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT_ADDRESS, gvcp.PORT))
        silent.settimeout(0.0)
        # On a machine that stands still the time is over before it asks a second time.
        for _ in range(10):
            with closing(Stalls()) as stalls:
                start_s = time.monotonic()
                answer = gvcp.discover(SILENT_ADDRESS, 0.4)
                elapsed_s = time.monotonic() - start_s
            asked = _waiting(silent)
            assert answer is None and 0.3 < elapsed_s < 2.0 + stalls.lasted_s
            if len(asked) > 1:
                break

    # A DISCOVERY_CMD that wants an acknowledgement, asked more than once with one number.
    assert all(packet[:6] == bytes.fromhex("42 01 0002 0000") for packet in asked)
    assert asked[0] == asked[1] and asked[0][6:] != b"\0\0"


def _waiting(listener: socket.socket) -> list[bytes]:
    packets = []
    with suppress(BlockingIOError):
        while True:
            packets.append(listener.recv(100))
    return packets


def test_answers_to_other_questions_and_rubbish_are_no_answer() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar:
        liar.bind((SILENT_ADDRESS, gvcp.PORT))
        liar.settimeout(GENEROUS_S)
        script = (
            f"from edge.cameras.genicam import gvcp; print(gvcp.discover('{SILENT_ADDRESS}', 0.4))"
        )
        asking = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        packet, address = liar.recvfrom(100)
        number = int.from_bytes(packet[6:8], "big")
        other = (number % 65535 + 1).to_bytes(2, "big")
        liar.sendto(b"", address)
        liar.sendto(b"\0\0\0", address)
        liar.sendto(b"\0\0\0\3\0\xf8" + other + b"x" * 0xF8, address)
        liar.sendto(b"\0\0\0\x81\0\xf8" + packet[6:8] + b"x" * 0xF8, address)
        output, _ = asking.communicate(timeout=GENEROUS_S)

    assert output == "None\n"


def test_a_missing_binding_and_a_missing_library_name_the_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(AravisMissing, match=r"inspection-station\[gige\]") as raised:
        Library()
    assert raised.value.exit_code == 78
    monkeypatch.undo()

    monkeypatch.setitem(sys.modules, "gi.repository.Aravis", None)
    with pytest.raises(AravisMissing, match=r"gir1\.2-aravis-0\.8"):
        Library()


def test_edge_run_starts_without_the_binding() -> None:
    script = (
        "import sys, edge.cli.main, edge.cameras.genicam.camera\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'gi'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )

    assert done.stdout == "[]\n"
