"""Schemes are compared whatever their case, and encryption that was asked for is never dropped."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from edge.cameras.capture.network_stream import open_stream
from edge.cameras.factory import open_camera
from edge.doctor.station import broker_finding
from edge.listen.cli import main as edge_listen
from edge.settings.addresses import broker_address
from edge.settings.camera import CameraSettings, SensorSettings, SupervisionSettings
from edge.settings.loading import load_settings
from edge.settings.mqtt import MqttSettings
from tests.support.broker import GENEROUS_S
from tests.support.network_camera import NetworkCamera
from tests.support.relaying import relayed_journals
from tests.support.rtsp_camera import RtspCamera

TLS_HANDSHAKE = b"\x16\x03"
SPELLINGS = ("MQTTS", "Mqtts", "mQTTS", "mqtts")
PATIENT = SupervisionSettings(lost_after_s=GENEROUS_S)


class Wire:
    """A server that keeps the first bytes of each connection, and hangs up.

    Attributes:
        heard: the first bytes of every connection.
    """

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self._changed = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def first_bytes(self) -> bytes:
        with self._changed:
            assert self._changed.wait_for(lambda: self.heard, GENEROUS_S)
            return self.heard[0]

    def close(self) -> None:
        self._server.close()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(GENEROUS_S)
                first = connection.recv(4096)
            with self._changed:
                self.heard.append(first)
                self._changed.notify_all()


@pytest.fixture
def wire() -> Iterator[Wire]:
    with closing(Wire()) as one:
        yield one


@pytest.mark.parametrize("scheme", SPELLINGS)
def test_mqtts_is_tls_however_it_is_written(scheme: str) -> None:
    settings = MqttSettings(url=f"{scheme}://Broker.Plant", ca_file="ca.pem")

    assert (settings.tls, settings.host, settings.port) == (True, "broker.plant", 8883)
    assert not MqttSettings(url="MQTT://broker").tls


def test_what_no_scheme_is_is_refused() -> None:
    for url in (" mqtts://broker", "mq\ttts://broker", "mqtts ://broker", "mqtts:broker", "//b"):
        with pytest.raises(ValueError, match="must be mqtt"):
            broker_address(url)
        with pytest.raises(ValidationError):
            MqttSettings(url=url)


@pytest.mark.parametrize("scheme", SPELLINGS[:2])
def test_station_listener_and_doctor_speak_tls_where_mqtts_is_asked_for(
    wire: Wire, tmp_path: Path, scheme: str
) -> None:
    url = f"{scheme}://127.0.0.1:{wire.port}"
    password = tmp_path / "password"
    password.write_text("geheim")
    password.chmod(0o600)
    with relayed_journals(tmp_path) as relaying:
        relaying(url, password="geheim", username="station")
        assert wire.first_bytes().startswith(TLS_HANDSHAKE)
    broker_finding(MqttSettings(url=url, username="station", password_file=str(password)))
    login = ("--username", "station", "--password-file", str(password))
    edge_listen(("--mqtt", url, "--sqlite", str(tmp_path / "l.db"), "--timeout", "5", *login))

    assert len(wire.heard) >= 3
    assert all(first.startswith(TLS_HANDSHAKE) for first in wire.heard if first)


@pytest.mark.parametrize("kind", [NetworkCamera, RtspCamera])
def test_a_stream_opens_however_its_scheme_is_written(
    kind: type[NetworkCamera] | type[RtspCamera],
) -> None:
    with closing(kind()) as network_camera:
        scheme, _, rest = network_camera.uri.partition("://")
        uri = f"{scheme.upper()}://{rest}"
        for camera in (
            open_stream(uri, SensorSettings(), PATIENT),
            open_camera(uri, CameraSettings(uri=uri, supervision=PATIENT)),
        ):
            with closing(camera):
                assert camera.read(GENEROUS_S) is not None


def test_a_watched_folder_is_relative_to_the_file_however_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "station.yaml"
    for written in ("WATCH://incoming", "watch://incoming"):
        file.write_text(f"camera: {{uri: {written}}}\nmodel: {{path: a.xml, device: cpu}}\n")
        settings = load_settings(file)
        assert settings.camera.uri == f"watch://{tmp_path / 'incoming'}"
        assert settings.model.device == "CPU"
