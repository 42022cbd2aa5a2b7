"""TLS with certificates on both sides, a password and access rules, on a real mosquitto."""

import logging
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import ConfigurationInvalid
from edge.mqtt.tls import tls_context
from tests.support.broker import GENEROUS_S, Broker, Messages
from tests.support.relaying import (
    LogCollector,
    Relaying,
    has_all,
    listening_to_logs,
    relayed_journals,
    write_secret,
)
from tests.support.small_bundle import write_images
from tests.support.station_process import STATION, StationProcess, until


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def certificate(folder: Path, name: str, signed_by: str | None) -> None:
    """Make ``name.key`` and ``name.pem`` for 127.0.0.1; without a signer, an authority."""
    key, request, made = (folder / f"{name}.{ending}" for ending in ("key", "csr", "pem"))
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    if signed_by is None:
        openssl(
            "req", "-x509", "-new", "-key", key, "-days", 2, "-subj", f"/CN={name}", "-out", made
        )
        return
    names = folder / f"{name}.ext"
    names.write_text("subjectAltName = IP:127.0.0.1\n")
    openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    authority = ("-CA", folder / f"{signed_by}.pem", "-CAkey", folder / f"{signed_by}.key")
    signing = ("-CAcreateserial", "-days", 2, "-extfile", names, "-out", made)
    openssl("x509", "-req", "-in", request, *authority, *signing)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    certificate(folder, "plant", None)
    certificate(folder, "stranger", None)
    for name in ("broker", "station", "observer"):
        certificate(folder, name, "plant")
    certificate(folder, "foreign", "stranger")
    return folder


@pytest.fixture
def strict_broker(tmp_path: Path, certificates: Path) -> Iterator[Broker]:
    """A broker that asks for certificate and password, and lets a station into its own root."""
    folder = tmp_path / "strict"
    folder.mkdir()
    passwords, access = folder / "passwords", folder / "access"
    passwords.touch(mode=0o600)
    for user in ("station", "observer"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, "geheim"], check=True)
    root = "vi/v1/site/line/cell/top"
    access.write_text(
        f"user station\ntopic write {root}/#\ntopic read {root}/trigger\ntopic read {root}/ack\n"
        f"topic read {root}/cmd/+\nuser observer\ntopic read vi/#\n"
    )
    own = files(certificates, "observer")
    tls = tls_context(own["ca_file"], own["certificate_file"], own["key_file"])
    copy_files(files(certificates, "broker"), folder)
    one = Broker(
        folder,
        f"cafile {folder}/ca_file\ncertfile {folder}/certificate_file\n"
        f"keyfile {folder}/key_file\nrequire_certificate true\n"
        f"password_file {passwords}\nacl_file {access}\nallow_anonymous false",
        tls,
    )
    one.start()
    one.subscribe("observer", "geheim")
    yield one
    one.close()


@pytest.fixture
def relaying(tmp_path: Path) -> Iterator[Relaying]:
    with relayed_journals(tmp_path) as begin:
        yield begin


def files(folder: Path, name: str, authority: str = "plant") -> dict[str, str]:
    return {
        "ca_file": str(folder / f"{authority}.pem"),
        "certificate_file": str(folder / f"{name}.pem"),
        "key_file": str(folder / f"{name}.key"),
    }


def copy_files(given: dict[str, str], folder: Path) -> dict[str, str]:
    """Copy files, each under the name of its key, over those of another set."""
    for name, path in given.items():
        write_secret(folder / name, Path(path).read_text())
    return {name: str(folder / name) for name in given}


def set_password(broker: Broker, folder: Path, user: str, password: str) -> None:
    """Let the broker take another password of a user; who has the old one is thrown out."""
    subprocess.run(
        ["mosquitto_passwd", "-b", folder / "strict" / "passwords", user, password], check=True
    )
    broker.reload()


def test_a_station_with_certificate_and_password_delivers_and_says_neither(
    strict_broker: Broker,
    certificates: Path,
    relaying: Relaying,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    own = files(certificates, "station")
    station = relaying(strict_broker.url, password="geheim", username="station", **own)
    station.record(100)

    assert [m["seq"] for m in strict_broker.collect("/verdict", has_all(100))] == [*range(1, 101)]
    assert station.delivered()
    assert "geheim" not in caplog.text
    assert not any("geheim" in str(content) for _, content in strict_broker.messages())


def test_an_exchanged_password_is_used_at_the_next_connection(
    strict_broker: Broker,
    certificates: Path,
    relaying: Relaying,
    reported: LogCollector,
    tmp_path: Path,
) -> None:
    own = files(certificates, "station")
    station = relaying(strict_broker.url, password="geheim", username="station", **own)
    station.record(3)
    assert station.delivered()

    set_password(
        strict_broker, tmp_path, "station", "noch-geheimer"
    )  # who has the old one is thrown out
    reported.wait_for("refuses this station")
    station.record(3)
    write_secret(tmp_path / "journal" / "password", "noch-geheimer")

    assert station.delivered()
    strict_broker.collect("/verdict", has_all(6))


def test_a_station_takes_over_password_and_certificates_at_a_reload(
    strict_broker: Broker, certificates: Path, bundle: Path, tmp_path: Path
) -> None:
    secret, folder = tmp_path / "password", tmp_path / "own"
    folder.mkdir()
    write_secret(secret, "geheim")
    frames = write_images(tmp_path / "frames", good=1)
    settings = {
        "camera": {"uri": str(frames), "loop": True, "rate_fps": 5.0},
        "model": {"path": str(bundle)},
        "mqtt": {
            "url": strict_broker.url,
            "station": STATION,
            "username": "station",
            "password_file": str(secret),
            **copy_files(files(certificates, "station"), folder),
        },
    }

    def online_but_not_in(*sessions: str) -> str:
        def found(states: Messages) -> bool:
            return (
                bool(states) and states[-1]["state"] == "online" and newest(states) not in sessions
            )

        return newest(strict_broker.collect("/state", found))

    def newest(states: Messages) -> str:
        return str(states[-1]["session"])

    with StationProcess(tmp_path, strict_broker, settings) as station:
        first = online_but_not_in()

        other = files(certificates, "observer", "stranger")
        copy_files({"certificate_file": other["certificate_file"]}, folder)
        station.reload()  # half of a pair
        assert "are a pair" in station.events("reload_refused")[-1]["detail"]
        assert newest(strict_broker.collect("/state", bool)) == first

        # The broker's certificate is of another authority now: the old file does not trust it.
        copy_files(files(certificates, "foreign"), tmp_path / "strict")
        strict_broker.reload()
        copy_files(other, folder)
        station.reload()
        second = online_but_not_in(first)
        assert "password or certificates of mqtt" in station.log

        set_password(strict_broker, tmp_path, "station", "noch-geheimer")
        write_secret(secret, "noch-geheimer")
        station.reload()
        online_but_not_in(first, second)
        assert station.stop() == 0


def test_the_listener_takes_over_a_password_at_a_reload(
    strict_broker: Broker, certificates: Path, relaying: Relaying, tmp_path: Path
) -> None:
    secret = tmp_path / "listeners"
    write_secret(secret, "geheim")
    own = files(certificates, "observer")
    station = relaying(
        strict_broker.url, password="geheim", username="station", **files(certificates, "station")
    )
    options = [f"--{name.replace('_', '-')}={path}" for name, path in own.items()]
    log = tmp_path / "listen.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "edge.listen.cli", "--mqtt", strict_broker.url),
                *("--sqlite", str(tmp_path / "mes.db"), "--until-seq", "4", "--username"),
                *("observer", "--password-file", str(secret), *options),
            ],
            stderr=errors,
        )
    try:
        until(lambda: log.read_text().count("listening to") == 1, "the listener listens")
        process.send_signal(signal.SIGHUP)
        until(lambda: "are as they were" in log.read_text(), "nothing is new")
        station.record(2)
        assert station.delivered()

        write_secret(secret, "noch-geheimer")
        set_password(strict_broker, tmp_path, "observer", "noch-geheimer")
        process.send_signal(signal.SIGHUP)
        until(lambda: log.read_text().count("listening to") >= 2, "it listens again")
        station.record(2)
        assert process.wait(GENEROUS_S) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("name", "authority", "printed"),
    [
        ("station", "stranger", "TLS with the broker"),  # a broker that is not ours
        ("foreign", "plant", "mqtt.certificate_file"),  # a station that is not the broker's
        (None, "plant", "mqtt.certificate_file"),
    ],
)
def test_a_certificate_that_is_not_trusted_is_reported_and_nothing_is_sent(
    strict_broker: Broker,
    certificates: Path,
    relaying: Relaying,
    name: str | None,
    authority: str,
    printed: str,
) -> None:
    own = files(certificates, name or "", authority)
    if name is None:
        own = {"ca_file": own["ca_file"]}
    with listening_to_logs() as reported:
        station = relaying(strict_broker.url, password="geheim", username="station", **own)
        station.record(1)
        reported.wait_for(printed)
    assert station.publisher.delivery().acknowledged == 0


def test_a_broker_under_another_name_is_refused(
    strict_broker: Broker, certificates: Path, relaying: Relaying, reported: LogCollector
) -> None:
    url = strict_broker.url.replace("127.0.0.1", "localhost")
    relaying(url, password="geheim", username="station", **files(certificates, "station"))

    reported.wait_for("TLS with the broker")


@pytest.fixture
def reported() -> Iterator[LogCollector]:
    with listening_to_logs() as handler:
        yield handler


def test_tls_is_1_2_at_least() -> None:
    context = tls_context(None, None, None)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_files_that_are_no_certificates_end_with_78_and_are_named(
    certificates: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    plant, pem = str(certificates / "plant.pem"), str(certificates / "station.pem")
    for ca, made, key in (
        (str(empty), None, None),
        (str(tmp_path / "missing.pem"), None, None),
        (plant, str(empty), str(certificates / "station.key")),
        (plant, pem, str(tmp_path / "missing.key")),
        (plant, pem, str(certificates / "broker.key")),
    ):
        with pytest.raises(ConfigurationInvalid, match=r"\.(pem|key)") as error:
            tls_context(ca, made, key)
        assert error.value.exit_code == 78


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(
    certificates: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    openssl(
        "ec", "-in", certificates / "station.key", "-aes256", "-passout", "pass:x", "-out", locked
    )

    with pytest.raises(ConfigurationInvalid, match="without passphrase"):
        tls_context(None, str(certificates / "station.pem"), str(locked))
