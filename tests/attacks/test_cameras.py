"""Whoever answers in place of a network camera, and a camera that leads elsewhere."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from edge.cameras.capture.network_stream import open_stream
from edge.cameras.capture.stream_login import CameraLoginRefused
from edge.cameras.factory import checked_kind, open_camera
from edge.errors import CameraNotOpened, CameraUriInvalid, ConfigurationInvalid
from edge.settings.camera import CameraSettings, SensorSettings, SupervisionSettings
from tests.support.network_camera import PASSWORD, NetworkCamera
from tests.support.rtsp_camera import RtspCamera
from tests.support.supervised_line import GENEROUS_S
from tests.support.tls_front import Authority, TlsFront

PATIENT = SupervisionSettings(lost_after_s=GENEROUS_S)
OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class Service:
    """Anything that listens: gives everybody the same answer and keeps what it was asked."""

    def __init__(self, answer: bytes = b"") -> None:
        self.requests: list[bytes] = []
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                with suppress(OSError), one:
                    if request := one.recv(65_536):  # nothing comes of who only knocks
                        self.requests.append(request)
                        one.sendall(self._answer)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The plant's authority; its folder's name holds what FFmpeg's options are parted by."""
    folder = tmp_path_factory.mktemp("ours") / "it's; a|name\\"
    folder.mkdir()
    return Authority(folder, "ours").create()


@pytest.fixture(scope="module")
def good(ours: Authority) -> Path:
    return ours.issue("camera", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture(scope="module")
def impostors(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> dict[str, Path]:
    foreign = Authority(tmp_path_factory.mktemp("foreign"), "foreign").create()
    return {
        "another authority": foreign.issue("impostor", "DNS:localhost"),
        "another name": ours.issue("other-device", "DNS:other-device"),
    }


@pytest.fixture(params=["https", "rtsps"])
def encrypted(request: pytest.FixtureRequest) -> Iterator["Encrypted"]:
    with ExitStack() as stack:
        yield Encrypted(request.param, stack)


class Encrypted:
    """A camera behind TLS."""

    def __init__(self, scheme: str, stack: ExitStack) -> None:
        self.scheme, self._stack = scheme, stack
        self.camera: NetworkCamera | RtspCamera = stack.enter_context(
            closing(NetworkCamera() if scheme == "https" else RtspCamera())
        )
        # To knock, and over RTSP to ask; FFmpeg comes after them.
        self.connections_before_ffmpeg = 1 if scheme == "https" else 2

    def behind(self, *certificates: Path) -> tuple[TlsFront, str]:
        place, _, path = self.camera.uri.partition("@")[2].partition("/")
        front = self._stack.enter_context(
            closing(TlsFront(int(place.partition(":")[2]), *certificates))
        )
        return front, f"{self.scheme}://me:{PASSWORD}@localhost:{front.port}/{path}"


def test_an_encrypted_camera_gives_images_to_who_knows_its_authority(
    encrypted: Encrypted, ours: Authority, good: Path
) -> None:
    _, uri = encrypted.behind(good)
    settings = CameraSettings(uri=uri, ca_file=str(ours.certificate), supervision=PATIENT)
    with closing(open_camera(uri, settings)) as camera:
        assert camera.read(GENEROUS_S) is not None


def test_a_wrong_password_is_reported_over_tls_too(
    encrypted: Encrypted, ours: Authority, good: Path
) -> None:
    _, uri = encrypted.behind(good)
    encrypted.camera.password = "another"
    with pytest.raises(CameraLoginRefused, match="does not accept user and password"):
        open_stream(uri, SensorSettings(), PATIENT, str(ours.certificate))


@pytest.mark.parametrize("kind", ["another authority", "another name"])
def test_an_impostor_gets_no_login(
    encrypted: Encrypted, ours: Authority, impostors: dict[str, Path], kind: str
) -> None:
    front, uri = encrypted.behind(impostors[kind])
    with pytest.raises(CameraNotOpened, match="has no valid certificate of this camera"):
        open_stream(uri, SensorSettings(), PATIENT, str(ours.certificate))
    assert not front.passed


@pytest.mark.parametrize("kind", ["another authority", "another name"])
def test_an_impostor_who_comes_between_the_first_look_and_ffmpeg_gets_no_login(
    encrypted: Encrypted,
    ours: Authority,
    good: Path,
    impostors: dict[str, Path],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(OPTIONS, "rtsp_transport;tcp|tls_verify;0|verifyhost;other-device")
    sound = [good] * encrypted.connections_before_ffmpeg
    front, uri = encrypted.behind(*sound, impostors[kind])
    with pytest.raises(CameraNotOpened, match="sends no stream"):
        open_stream(uri, SensorSettings(), PATIENT, str(ours.certificate))
    assert front.connections > len(sound)
    assert front.passed[impostors[kind]] == 0


def test_without_a_file_of_ours_the_authorities_of_the_system_count(
    encrypted: Encrypted, ours: Authority, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, uri = encrypted.behind(good)
    with pytest.raises((CameraNotOpened, ConfigurationInvalid), match=r"camera\.ca_file"):
        open_stream(uri, SensorSettings(), PATIENT)
    assert not front.passed
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.certificate))
    open_stream(uri, SensorSettings(), PATIENT).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "127.1", "2130706433", "0x7f000001"])
def test_an_address_in_place_of_a_name_is_refused_as_ffmpeg_would_not_verify_it(
    host: str, ours: Authority
) -> None:
    for scheme in ("https", "rtsps"):
        settings = CameraSettings(uri=f"{scheme}://{host}/1", ca_file=str(ours.certificate))
        with pytest.raises(CameraUriInvalid, match="Use the name") as raised:
            checked_kind(settings)
        assert raised.value.exit_code == 78


def test_a_file_without_certificates_is_a_configuration_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    for file in (empty, tmp_path / "absent.pem"):
        settings = CameraSettings(uri="https://camera/1", ca_file=str(file))
        with pytest.raises(ConfigurationInvalid, match=r"camera\.ca_file"):
            checked_kind(settings)
    with pytest.raises(ValueError, match="ca_file needs a uri that starts with https"):
        CameraSettings(uri="http://camera/1", ca_file=str(empty))


def test_a_redirect_is_reported_and_not_followed() -> None:
    with closing(NetworkCamera()) as other:
        head = f"Location: {other.uri}\r\nContent-Length: 0\r\n\r\n"
        with closing(Service(f"HTTP/1.1 302 Found\r\n{head}".encode())) as camera:
            uri = f"http://me:{PASSWORD}@127.0.0.1:{camera.port}/video"
            with pytest.raises(CameraNotOpened, match="redirects to another address") as raised:
                open_stream(uri, SensorSettings(), PATIENT)
        assert other.connections == 0
    assert PASSWORD not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)


def test_a_redirect_over_rtsp_is_reported_and_not_followed() -> None:
    with closing(Service()) as other:
        head = f"CSeq: 1\r\nLocation: rtsp://127.0.0.1:{other.port}/live\r\n\r\n"
        with closing(Service(f"RTSP/1.0 302 Moved\r\n{head}".encode())) as camera:
            uri = f"rtsp://me:{PASSWORD}@127.0.0.1:{camera.port}/live"
            with pytest.raises(CameraNotOpened, match="redirects to another address"):
                open_stream(uri, SensorSettings(), PATIENT)
        assert other.requests == []


ASKING = (
    b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Digest realm="a", nonce="b", qop="auth"\r\n'
    b"Content-Length: 0\r\n\r\n"
)


class Dripping:
    """Sends a byte now and then, for a while; it may ask for a login before that."""

    def __init__(self, asks_for_login: bool = False) -> None:
        self._asks = asks_for_login
        self.ended = threading.Event()  # one of its connections was left alone to the end
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listening.accept()
                threading.Thread(target=self._drip, args=(one,), daemon=True).start()

    def _drip(self, one: socket.socket) -> None:
        with suppress(OSError), one:
            if self._asks and b"Digest" not in one.recv(4096):
                one.sendall(ASKING)
                return
            one.sendall(b"HTTP/1.1 200 OK\r\nA: ")
            for _ in range(int(GENEROUS_S * 10)):
                one.sendall(b"a")
                time.sleep(0.1)  # a slow camera
            self.ended.set()


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_camera_that_drips_its_answer_is_not_waited_for(scheme: str) -> None:
    with closing(Dripping()) as camera:
        uri = f"{scheme}://127.0.0.1:{camera.port}/video"
        with pytest.raises(CameraNotOpened):
            open_stream(uri, SensorSettings(), SupervisionSettings(opening_limit_s=0.5))
        assert not camera.ended.is_set()


def test_a_camera_that_drips_after_it_asked_for_a_login_is_not_waited_for() -> None:
    with closing(Dripping(asks_for_login=True)) as camera:
        uri = f"http://user:word@127.0.0.1:{camera.port}/video"
        with pytest.raises(CameraNotOpened):
            open_stream(uri, SensorSettings(), SupervisionSettings(opening_limit_s=0.5))
        assert not camera.ended.is_set()


PLAYLISTS = {
    "HLS": (
        "application/vnd.apple.mpegurl",
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{0}/a.ts\n"
        "#EXTINF:2,\n{0}/b.ts\n#EXT-X-ENDLIST\n",
    ),
    "DASH": (
        "application/dash+xml",
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT4S"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1"><BaseURL>{0}/a.mp4</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
    ),
    "SDP": (
        "application/sdp",
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=video 5004 RTP/AVP 26\r\n",
    ),
    "concat": ("text/plain", "ffconcat version 1.0\nfile {0}/a.ts\n"),
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_no_playlist_is_followed(name: str) -> None:
    content_type, text = PLAYLISTS[name]
    with closing(Service()) as other:
        body = text.format(f"http://127.0.0.1:{other.port}")
        head = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        answer = f"HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n{body}"
        with closing(Service(answer.encode())) as camera:
            uri = f"http://127.0.0.1:{camera.port}/live.m3u8"
            with pytest.raises(
                CameraNotOpened, match="playlists such as HLS or DASH are not followed"
            ):
                open_stream(uri, SensorSettings(), PATIENT)
            assert camera.requests
        assert other.requests == []


def test_no_proxy_of_the_environment_gets_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Service()) as proxy, closing(NetworkCamera()) as camera:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}/")
        open_stream(camera.uri, SensorSettings(), PATIENT).close()
        assert proxy.requests == []
