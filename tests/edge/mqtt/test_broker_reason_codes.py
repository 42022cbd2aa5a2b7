"""Every code that a broker can send, and every certificate that is wrong, is told as what it is."""

import logging
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from edge.doctor.finding import Grade
from edge.doctor.station import broker_finding
from edge.listen.file_store import FileStore
from edge.listen.listener import Listener, ListenOptions
from edge.mqtt.broker_reason_codes import (
    MEANINGS,
    SESSION_TAKEN_OVER,
    Packet,
    describe_code,
    find_meaning,
)
from edge.mqtt.connection import Broker, Connection, ConnectionRefused, Subscriptions, WakeUp
from edge.mqtt.tls import tls_context
from edge.settings.mqtt import MqttSettings
from tests.support.relaying import STATION, Relaying, relayed_journals
from tests.support.scripted_broker import Published, ScriptedBroker, disconnect, soon

V5, V3 = MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311
QUICK = {"back_off_s": (0.001, 0.002)}


def codes(packet: Packet) -> list[int]:
    """Return the failures that MQTT 5 knows in a packet."""
    kind = getattr(PacketTypes, packet.value)
    return [
        code
        for code, names in ReasonCode.names.items()
        if code >= 0x80 and any(kind in packets for packets in names.values())
    ]


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


def connected(
    broker: ScriptedBroker, version: MQTTProtocolVersion = V5, *topics: str
) -> Connection:
    there = Broker(host="127.0.0.1", port=broker.port, client_id="station")
    return Connection(
        broker=there,
        version=version,
        will=None,
        wake_up=WakeUp(),
        stopping=lambda: False,
        subscriptions=Subscriptions(patterns=topics, named=topics),
    )


def listen_until(
    broker: ScriptedBroker, folder: Path, done: Callable[[], bool], ca_file: str | None = None
) -> None:
    settings = MqttSettings(url=broker.url, ca_file=ca_file)
    with closing(FileStore(folder / "verdicts.db", None, None)) as store:
        Listener(
            settings=settings, wanted=ListenOptions(), store=store, back_off_s=(0.001, 0.002)
        ).run(done)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


def test_every_code_of_mqtt_5_has_cause_and_next_step() -> None:
    for packet in Packet:
        for code in codes(packet):
            meaning = find_meaning(code, packet)
            assert code in MEANINGS, f"{packet} 0x{code:02X}"
            assert meaning.cause and meaning.next_step
    advice = {find_meaning(code, Packet.CONNACK).next_step for code in (0x86, 0x9A, 0x9B, 0x95)}
    assert len(advice) == 4  # a wrong password is something else than the rest


# Of a CONNACK of MQTT 3.1.1, as those of MQTT 5 that say the same.
RETURN_CODES_3_1_1 = {1: 0x84, 2: 0x85, 3: 0x88, 4: 0x86, 5: 0x87}


@pytest.mark.parametrize("version", [V5, V3])
def test_a_refused_connect_is_reported_as_such_by_station_doctor_and_listener(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: MQTTProtocolVersion
) -> None:
    sent = codes(Packet.CONNACK) if version is V5 else list(RETURN_CODES_3_1_1)
    meant = sent if version is V5 else list(RETURN_CODES_3_1_1.values())
    current = [0]

    def refuse(one: object) -> int:
        if version is V3 and getattr(one, "level", 0) == 5:
            return 0x84
        return current[0]

    with ScriptedBroker(on_connect=refuse) as refusing:
        settings = MqttSettings(url=refusing.url, station=STATION)
        for code, meaning in zip(sent, meant, strict=True):
            current[0] = code
            with pytest.raises(ConnectionRefused) as error:
                connected(refusing, version)
            assert describe_code(meaning, Packet.CONNACK) in str(error.value)
            found = broker_finding(settings)
            assert found.grade is Grade.FAULT
            assert code == 0x84 or describe_code(meaning, Packet.CONNACK) in found.found
        refusals = chain([code for code in sent if code != 0x84], repeat(0))

        def refuse_each(one: object) -> int:
            if version is V3 and getattr(one, "level", 0) == 5:
                return 0x84
            return next(refusals)

        refusing.on_connect = refuse_each
        caplog.set_level(logging.WARNING)
        listen_until(refusing, tmp_path, lambda: bool(refusing.subscribed))
    for meaning in meant:
        assert (meaning == 0x84 and version is V5) or describe_code(
            meaning, Packet.CONNACK
        ) in logged(caplog)


def is_answered(connection: Connection) -> bool:
    connection.turn(0.01)
    return connection.subscribed is not None


def is_acknowledged(connection: Connection, count: int) -> bool:
    connection.turn(0.01)
    return len(connection.acks) == count


def test_a_refused_subscription_is_reported_as_such(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    current = [0]
    with ScriptedBroker(on_subscribe=lambda _: current[0]) as refusing:
        for code in codes(Packet.SUBACK):
            current[0] = code
            connection = connected(refusing, V5, "some/topic")
            soon(partial(is_answered, connection))
            connection.disconnect()
            caplog.clear()
            answer = connection.subscribed
            assert answer is not None
            connection._on_suback(answer)
            assert describe_code(code, Packet.SUBACK) in logged(caplog)
            caplog.clear()
            listen_until(refusing, tmp_path, lambda: "does not let" in logged(caplog))
            assert describe_code(code, Packet.SUBACK) in logged(caplog)


def test_a_refused_message_is_reported_as_such() -> None:
    refusals = iter(codes(Packet.PUBACK))
    with ScriptedBroker(on_publish=lambda _: next(refusals)) as refusing:
        connection = connected(refusing)
        for _ in codes(Packet.PUBACK):
            connection.publish("some/topic", b"{}", "verdict/1")
        soon(partial(is_acknowledged, connection, len(codes(Packet.PUBACK))))
        connection.disconnect()
    for code, (_, reason) in zip(codes(Packet.PUBACK), connection.acks, strict=True):
        assert reason is not None
        assert (
            describe_code(reason, Packet.PUBACK)
            == f"PUBACK 0x{code:02X}, {find_meaning(code, Packet.PUBACK)}"
        )


def test_an_ended_connection_is_reported_as_such_by_station_and_listener(
    relaying: Relaying, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    all_codes = [code for code in codes(Packet.DISCONNECT) if code != SESSION_TAKEN_OVER]
    endings = iter(all_codes)

    def end(one: Published) -> int | bytes:
        code = next(endings, None) if one.kind in ("meta", "state") else None
        return 0 if code is None else disconnect(code)

    with ScriptedBroker(on_publish=end) as ending:
        station = relaying(ending.url, publisher=QUICK)
        station.record(1)
        assert station.delivered()
        station.close()
        for code in all_codes:
            assert describe_code(code, Packet.DISCONNECT) in logged(caplog)
        (unstable,) = [e for e in station.events if e.kind == "connection_unstable"][:1]
        assert "DISCONNECT 0x" in unstable.detail
        caplog.clear()
        caplog.set_level(logging.INFO)
        listened = iter(all_codes)

        def end_subscriber(_topic: str) -> int | bytes:
            code = next(listened, None)
            return 1 if code is None else disconnect(code)

        ending.on_subscribe = end_subscriber
        listen_until(ending, tmp_path, lambda: "listening to" in logged(caplog))
    for code in all_codes:
        assert describe_code(code, Packet.DISCONNECT) in logged(caplog)


def openssl(*arguments: object, folder: Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, cwd=folder)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a broker on 127.0.0.1 that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("wrong")
    for name in ("plant", "stranger"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", 2,
                "-subj", f"/CN={name}", folder=folder)  # fmt: skip
    (folder / "ca.conf").write_text(
        "[ca]\ndefault_ca=one\n[one]\ndatabase=index\nserial=serial\nnew_certs_dir=.\n"
        "default_md=sha256\npolicy=any\nunique_subject=no\nemail_in_dn=no\ncopy_extensions=copy\n"
        "[any]\ncommonName=supplied\n"
    )
    (folder / "serial").write_text("01\n")
    (folder / "index").touch()
    good = ("20200101000000Z", "21000101000000Z")
    for name, authority, host, (begins, ends) in (
        ("good", "plant", "IP:127.0.0.1", good),
        ("early", "plant", "IP:127.0.0.1", ("20990101000000Z", "21000101000000Z")),
        ("late", "plant", "IP:127.0.0.1", ("20200101000000Z", "20210101000000Z")),
        ("foreign", "stranger", "IP:127.0.0.1", good),
        ("elsewhere", "plant", "DNS:elsewhere", good),
    ):
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                "-addext", f"subjectAltName={host}", folder=folder)  # fmt: skip
        openssl("ca", "-batch", "-config", "ca.conf", "-cert", f"{authority}.pem", "-keyfile",
                f"{authority}.key", "-in", f"{name}.csr", "-out", f"{name}.pem", "-notext",
                "-startdate", begins, "-enddate", ends, folder=folder)  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("good", ""),
        (
            "early",
            "not yet valid: the broker's certificate is not valid yet. Set",
        ),
        ("late", "expired: the broker's certificate has expired. Renew it"),
        ("foreign", "untrusted authority: this PC does not know its issuer. Put the"),
        ("stranger", "self-signed: the broker's certificate is self-signed. Put the"),
        ("elsewhere", "other host: the broker's certificate is not issued to this address."),
        ("wants ours", "mqtt.certificate_file"),
        ("no TLS", "no TLS there: what answers on this port does not speak TLS. Check the port"),
    ],
)
def test_a_wrong_certificate_is_reported_as_such(
    certificates: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, words: str
) -> None:
    caplog.set_level(logging.WARNING)
    ca_file = str(certificates / "plant.pem")
    server = None
    if name != "no TLS":
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown = certificates / f"{'good' if name == 'wants ours' else name}"
        server.load_cert_chain(shown.with_suffix(".pem"), shown.with_suffix(".key"))
        if name == "wants ours":
            server.load_verify_locations(ca_file)
            server.verify_mode = ssl.CERT_REQUIRED
    with ScriptedBroker(tls=server) as broker:
        broker.url = f"mqtts://127.0.0.1:{broker.port}"
        secured = Broker(
            host="127.0.0.1",
            port=broker.port,
            client_id="station",
            tls=tls_context(ca_file, None, None),
        )
        found = broker_finding(MqttSettings(url=broker.url, station=STATION, ca_file=ca_file))
        if not words:
            Connection(
                broker=secured, version=V5, will=None, wake_up=WakeUp(), stopping=lambda: False
            ).disconnect()
            assert found.grade is Grade.GOOD
            return
        with pytest.raises(ConnectionRefused) as error:
            Connection(
                broker=secured, version=V5, will=None, wake_up=WakeUp(), stopping=lambda: False
            )
        assert words in str(error.value)
        assert found.grade is Grade.FAULT and words in found.found
        listen_until(broker, tmp_path, lambda: "TLS with" in logged(caplog), ca_file)
        assert words in logged(caplog)


def test_bytes_that_are_no_mqtt_do_not_end_a_listener(tmp_path: Path) -> None:
    garbage = b"\x20\x03\x00\x00\x00" + b"\x30\x02\xff\xff"
    with ScriptedBroker(on_connect=lambda _: garbage) as liar:
        listen_until(liar, tmp_path, lambda: len(liar.connects) > 2)
