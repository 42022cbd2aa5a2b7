"""What is told of passwords and tokens that travel unencrypted, and of files for everybody."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.contract.commands import CommandAnswer, CommandRequest, Status, answer_payloads
from edge.doctor.camera import camera_findings
from edge.doctor.finding import Grade
from edge.doctor.station import key_findings, page_finding
from edge.settings.hmi import HmiSettings
from edge.settings.loading import load_settings
from edge.settings.unprotected_access import unprotected_access
from tests.edge.conftest import edge_run_command
from tests.support.fleet import make_key
from tests.support.small_bundle import write_images

PASSWORD = "username: me, password_file: p"
TRIGGERED = "camera: {uri: '0', trigger: {mode: software}}\n"


@pytest.mark.parametrize(
    ("section", "reported"),
    [
        (f"mqtt: {{url: 'mqtt://broker', {PASSWORD}}}", "mqtt.url: the password is sent"),
        (f"mqtt: {{url: 'mqtt://127.0.0.1', {PASSWORD}}}", None),
        (f"mqtt: {{url: 'mqtts://broker', {PASSWORD}}}", None),
        ("mqtt: {url: 'mqtt://broker'}", None),
        (f"{TRIGGERED}modbus: {{host: 0.0.0.0}}", "modbus.host 0.0.0.0 listens on every network"),
        (f"{TRIGGERED}modbus: {{host: 192.168.0.10}}", None),
        ("hmi: {host: 0.0.0.0, token_file: t}", "hmi.host: the page's token is sent"),
        ("hmi: {host: '::', token_file: t}", "hmi.host: the page's token is sent"),
        ("hmi: {host: '::1', token_file: t}", None),
        ("hmi: {host: 0.0.0.0}", None),
        ("camera: {uri: 'rtsp://me:secret@10.0.0.9/line'}", "camera.uri: the password is sent to"),
        ("camera: {uri: 'HTTP://me:secret@camera/mjpg'}", "camera.uri: the password is sent to"),
        ("camera: {uri: 'rtsps://me:secret@10.0.0.9/line'}", None),
        ("camera: {uri: 'rtsp://me:secret@127.0.0.1/line'}", None),
        ("camera: {uri: 'rtsp://10.0.0.9/line'}", None),
    ],
)
def test_a_secret_that_is_sent_unencrypted_is_reported_with_what_to_do(
    tmp_path: Path, section: str, reported: str | None
) -> None:
    path = tmp_path / "station.yaml"
    camera = "" if section.startswith("camera") else "camera: {uri: '0'}\n"
    path.write_text(f"{camera}model: {{path: x.xml}}\njournal: {{}}\n{section}\n")

    found = list(unprotected_access(load_settings(path)))

    assert [text[: len(reported or "")] for text in found] == ([reported] if reported else [])
    assert "secret" not in "".join(found)


def test_a_check_warns_of_a_page_whose_token_can_be_read_in_the_network(
    tmp_path: Path, bundle: Path
) -> None:
    token, config = tmp_path / "token", tmp_path / "station.yaml"
    subprocess.run(edge_run_command("--make-token", token), check=True)
    config.write_text(
        f"camera: {{uri: '0'}}\nmodel: {{path: {bundle}}}\njournal: {{folder: {tmp_path}}}\n"
        f"hmi: {{host: 0.0.0.0, token_file: {token}}}\n"
    )

    done = subprocess.run(
        edge_run_command("--check", "--config", config), capture_output=True, text=True, check=True
    )

    assert "WARNING" in done.stderr and "reverse proxy with TLS" in done.stderr


def test_the_doctor_calls_a_page_that_sends_its_token_unencrypted_not_good() -> None:
    assert page_finding(HmiSettings(host="0.0.0.0", token_file="t")).grade is Grade.ADVICE
    assert page_finding(HmiSettings(token_file="t")).grade is Grade.GOOD


def test_the_doctor_and_a_check_name_a_cameras_password_that_is_sent_unencrypted(
    tmp_path: Path, bundle: Path
) -> None:
    # An address that nobody has (RFC 5737): the advice needs no camera.
    uri = "rtsp://me:secret@192.0.2.1/line"
    settings = load_settings(None, {"camera": {"uri": uri}, "model": {"path": str(bundle)}})
    found = next(camera_findings(settings.camera, []))
    assert found.grade is Grade.ADVICE and "password is sent unencrypted" in found.found

    config = tmp_path / "station.yaml"
    config.write_text(f"camera: {{uri: '{uri}'}}\nmodel: {{path: {bundle}}}\n")
    done = subprocess.run(
        edge_run_command("--check", "--config", config), capture_output=True, text=True, check=True
    )
    assert "WARNING" in done.stderr and "camera.uri: the password is sent" in done.stderr
    assert "secret" not in done.stderr + done.stdout


@pytest.mark.parametrize(("umask", "not_for_them"), [(0o022, 0o007), (0o077, 0o077)])
def test_what_a_station_writes_is_not_for_everybody_whoever_starts_it(
    tmp_path: Path, bundle: Path, umask: int, not_for_them: int
) -> None:
    images = write_images(tmp_path / "pictures", good=1, defective=1)
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: {images}}}\nmodel: {{path: {bundle}}}\n"
        f"journal: {{folder: {tmp_path}/journal}}\nsnapshots: {{folder: {tmp_path}/snapshots}}\n"
        f"save: {{folder: {tmp_path}/overlays}}\n"
    )

    done = subprocess.run(
        edge_run_command("--config", config, "--once"), check=False, umask=umask, timeout=120
    )

    assert done.returncode == 0
    folders = [tmp_path / name for name in ("journal", "snapshots", "overlays")]
    written = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    assert len(written) > 8
    assert {oct(path.stat().st_mode & not_for_them) for path in written} == {"0o0"}


def test_an_answer_is_bounded_whatever_name_it_holds() -> None:
    request = CommandRequest(name="snapshot", sender="me")
    answer = CommandAnswer(
        request=request,
        status=Status.FAILED,
        detail="x" * 200_000,
        reason="why",
        data={"name": "y" * 200_000},
    )

    whole, _ = answer_payloads(answer)

    assert len(json.dumps(whole)) < 2000
    assert whole["detail"].startswith("xxx") and os.linesep not in whole["detail"]


def open_to_all(key: Path) -> None:
    key.chmod(0o666)


def in_a_folder_of_all(key: Path) -> None:
    key.parent.chmod(0o777)


def of_a_foreign_group(key: Path) -> None:
    os.chown(key, -1, 12345)
    key.chmod(0o664)


def of_another_user(key: Path) -> None:
    os.chown(key, 12345, -1)


def linked_from_a_folder_of_all(key: Path) -> None:
    own = key.parent.with_name("own")
    own.mkdir()
    key.rename(own / key.name)
    key.symlink_to(own / key.name)
    key.parent.chmod(0o777)


def of_nobody_else(key: Path) -> None:
    key.chmod(0o664)  # as a user with a group of their own writes it
    key.parent.chmod(0o1777)  # as /tmp


AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")


@pytest.mark.parametrize(
    ("make", "who"),
    [
        (open_to_all, "everybody on this PC, who may write to {key}"),
        (in_a_folder_of_all, "everybody on this PC, who may write to the folder {key.parent}"),
        (
            linked_from_a_folder_of_all,
            "everybody on this PC, who may write to the folder {key.parent}",
        ),
        pytest.param(of_a_foreign_group, "the group 12345, who may write to {key}", marks=AS_ROOT),
        pytest.param(of_another_user, "12345, who owns {key}", marks=AS_ROOT),
        (of_nobody_else, None),
    ],
)
def test_a_key_that_others_may_exchange_is_named_by_a_check_and_by_the_doctor(
    tmp_path: Path, make: Callable[[Path], None], who: str | None
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    _, key = make_key(folder)
    make(key)
    settings = load_settings(
        None,
        {
            "camera": {"uri": "0"},
            "model": {"path": "x.xml", "public_key": str(key)},
            "mqtt": {"url": "mqtt://127.0.0.1", "station": "a/b/c/d"},
            "recipes": {"folder": str(tmp_path)},
            "journal": {"folder": str(tmp_path)},
            "fleet": {"addresses": ["/srv"], "public_key": str(key)},
        },
    )

    found, doctors = list(unprotected_access(settings)), list(key_findings(settings))

    names = ["model.public_key", "fleet.public_key"]
    assert [one.subject for one in doctors] == names
    assert {one.grade for one in doctors} == {Grade.ADVICE if who else Grade.GOOD}
    assert [text.partition(":")[0] for text in found] == (names if who else [])
    assert all((who or "").format(key=key) in text for text in found)


def test_the_doctor_names_a_key_of_releases_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("none")
    model = {"path": "x.xml", "public_key": str(tmp_path / "key")}
    settings = load_settings(None, {"camera": {"uri": "0"}, "model": model})

    assert [one.grade for one in key_findings(settings)] == [Grade.FAULT]
