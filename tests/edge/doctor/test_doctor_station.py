"""The whole examination as its users see it, with a real broker and the small bundle."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import yaml

from edge.contract.clock_sync import ClockSource, ClockSync
from edge.doctor.finding import Grade
from edge.doctor.station import broker_finding, clock_finding, private_key_findings
from edge.settings.loading import load_settings
from edge.settings.mqtt import MqttSettings
from tests.edge.conftest import EdgeRun
from tests.support.broker import Broker, free_port
from tests.support.small_bundle import good_image, write_bundle, write_images
from tests.support.station_process import STATION


def graded(output: str) -> dict[str, str]:
    """Return the grade of each subject."""
    lines = [line for line in output.splitlines() if line[8:10] == "  "]
    return {line[10:33].strip(): line[:8].strip() for line in lines}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "frames", good=2)


@pytest.fixture
def guarded_broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that wants the password ``geheim``."""
    folder = tmp_path / "guarded"
    folder.mkdir()
    passwords = folder / "passwords"
    passwords.touch(mode=0o600)
    subprocess.run(["mosquitto_passwd", "-b", passwords, "edge", "geheim"], check=True)
    one = Broker(folder, f"password_file {passwords}\nallow_anonymous false")
    one.start()
    yield one
    one.close()


def test_a_station_that_can_start_is_good_from_its_settings_to_its_broker(
    edge_run: EdgeRun, images: Path, bundle: Path, running_broker: Broker, tmp_path: Path
) -> None:
    config, journal = tmp_path / "station.yaml", tmp_path / "journal"
    settings = {
        "camera": {"uri": str(images)},
        "model": {"path": str(bundle)},
        "decision": {"deadline_ms": 60_000.0},
        "mqtt": {"url": running_broker.url, "station": STATION},
        "journal": {"folder": str(journal)},
        "snapshots": {"folder": str(tmp_path / "snapshots"), "free_space_floor_bytes": 1},
    }
    config.write_text(yaml.safe_dump(settings))

    run = edge_run("--doctor", "--config", config)

    found = graded(run.stdout)
    good = ("settings", "camera", "model", "self-test", "image and model", "latency", "broker")
    assert [found[subject] for subject in good] == ["good"] * len(good), run.stdout
    assert {"clock", "processor clock", "journal's disk", "snapshots' disk"} <= found.keys()
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1].startswith(f"{len(found)} checks: ")
    # It looked, and changed nothing: no folder was made, and nobody was told of a station.
    assert not journal.exists() and not (tmp_path / "snapshots").exists()
    running_broker.catch_up()
    assert running_broker.messages() == []


def test_the_doctor_does_not_take_a_running_stations_place_at_the_broker(
    edge_run: EdgeRun, running_broker: Broker, tmp_path: Path
) -> None:
    config, program = tmp_path / "station.yaml", tmp_path / "edge-run"
    model = {"path": str(tmp_path / "absent.xml")}
    mqtt = {"url": running_broker.url, "station": STATION}
    config.write_text(yaml.safe_dump({"camera": {"uri": "9"}, "model": model, "mqtt": mqtt}))
    program.write_text("import sys\nprint(flush=True)\nsys.stdin.read()\n")
    for given, grade in ((["--config", "station.yaml"], "not seen"), (["--config=b"], "good")):
        with subprocess.Popen(
            [sys.executable, program, *given],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as running:
            assert running.stdout is not None and running.stdout.readline()
            run = edge_run("--doctor", "--config", config)
            running.terminate()
        assert graded(run.stdout)["broker"] == grade, run.stdout


def test_each_part_is_optional(edge_run: EdgeRun, bundle: Path) -> None:
    nothing = edge_run("--doctor")
    model = edge_run("--doctor", "--model", bundle)

    assert nothing.returncode == model.returncode == 0
    missing = {"camera": "not seen", "model": "not seen", "broker": "not seen"}
    assert missing.items() <= graded(nothing.stdout).items()
    assert graded(model.stdout)["self-test"] == graded(model.stdout)["latency"] == "good"


def test_every_fault_is_reported_and_the_exit_code_is_one(
    edge_run: EdgeRun, tmp_path: Path
) -> None:
    damaged = write_bundle(tmp_path)
    damaged.with_suffix(".bin").write_bytes(b"\0")

    run = edge_run(
        *("--doctor", "--camera", tmp_path / "none", "--model", damaged),
        *("--mqtt", f"mqtt://127.0.0.1:{free_port()}"),
    )

    assert run.returncode == 1
    found = graded(run.stdout)
    assert found["camera"] == found["model"] == found["broker"] == "fault"
    assert "1 bytes, which does not match" in run.stdout and "Connection refused" in run.stdout
    assert "Traceback" not in run.stderr


def test_settings_that_cannot_be_read_are_a_configuration_error(
    edge_run: EdgeRun, tmp_path: Path
) -> None:
    (tmp_path / "station.yaml").write_text("camera: {uri: x, rate_fsp: 1}\n")

    run = edge_run("--doctor", "--config", tmp_path / "station.yaml")

    assert run.returncode == 78
    assert "Did you mean 'rate_fps'?" in run.stderr


def test_a_model_that_is_too_slow_or_takes_other_images_is_at_fault(
    edge_run: EdgeRun, bundle: Path, images: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.yaml"
    settings = {
        "camera": {"uri": str(images)},
        "model": {"path": str(bundle)},
        "decision": {"deadline_ms": 0.001},
    }
    slow.write_text(yaml.safe_dump(settings))

    too_slow = edge_run("--doctor", "--config", slow)
    cv2.imwrite(str(tmp_path / "grey.png"), good_image()[:, :, 0])
    grey = edge_run("--doctor", "--camera", tmp_path / "grey.png", "--model", bundle)

    assert too_slow.returncode == grey.returncode == 1
    assert "the deadline is 0.001 ms → tune this PC" in too_slow.stdout
    assert graded(grey.stdout)["image and model"] == "fault"
    assert "the frame is grey8" in grey.stdout


def test_a_broker_that_wants_a_password_gets_the_one_of_the_settings(
    guarded_broker: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "mqtt.password"
    file.touch(mode=0o600)
    settings = MqttSettings(
        url=guarded_broker.url, station=STATION, username="edge", password_file=str(file)
    )

    file.write_text("geheim")
    right = broker_finding(settings)
    file.write_text("falsch-falsch")
    wrong = broker_finding(settings)
    file.chmod(0o644)
    open_to_all = broker_finding(settings)

    assert right.grade is Grade.GOOD and "as edge: MQTT 5" in right.found
    assert (
        wrong.grade is Grade.FAULT and "Check mqtt.username and mqtt.password_file" in wrong.found
    )
    assert open_to_all.grade is Grade.FAULT and "chmod 600" in open_to_all.found
    reported = (right.found, wrong.found, open_to_all.found)
    assert not any("geheim" in text or "falsch" in text for text in reported)


def test_secrets_that_only_the_service_is_given_are_no_fault_of_the_broker(
    running_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    asked = {"url": running_broker.url, "station": STATION}
    secret = "${CREDENTIALS_DIRECTORY}/mqtt.password"
    mqtt = MqttSettings.model_validate({**asked, "username": "edge", "password_file": secret})

    found = broker_finding(mqtt)

    assert found.grade is Grade.NOT_SEEN
    assert "only to the service" in found.found
    assert "systemctl status" in found.advice


def test_a_private_key_that_everybody_can_read_is_named(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.key" for name in ("mqtt", "sparkplug", "opcua")}
    for file, mode in zip(files.values(), (0o640, 0o644, 0o666), strict=True):
        file.touch()
        file.chmod(mode)
    pairs = {
        name: {"certificate_file": str(tmp_path / "any.pem"), "key_file": str(file)}
        for name, file in files.items()
    }
    node = {"group": "line", "node": "cell", **pairs["sparkplug"]}
    content = {
        "camera": {"uri": str(tmp_path)},
        "model": {"path": "part.xml"},
        "journal": {"folder": str(tmp_path / "journal")},
        "mqtt": {
            "url": "mqtts://localhost",
            "station": STATION,
            "sparkplug": node,
            **pairs["mqtt"],
        },
        "opcua": {"host": "127.0.0.1", **pairs["opcua"]},
    }
    (tmp_path / "station.yaml").write_text(yaml.safe_dump(content))

    found = [*private_key_findings(load_settings(tmp_path / "station.yaml"))]
    assert [one.grade for one in found] == [Grade.ADVICE] * 2
    assert str(files["sparkplug"]) in found[0].found
    assert "mqtt.sparkplug.key_file" in found[0].found
    assert found[1].advice == f"chmod o= {files['opcua']}"


@pytest.mark.parametrize(
    ("sync", "grade", "words"),
    [
        (ClockSync(ClockSource.NTP, 12.5), Grade.GOOD, "NTP, off by 12.5 ms at most"),
        (ClockSync(ClockSource.PTP), Grade.GOOD, "PTP"),
        (ClockSync(ClockSource.NTP, 4000.0), Grade.ADVICE, "off by 4000 ms"),
        (ClockSync(ClockSource.FREE), Grade.ADVICE, "nothing synchronizes it"),
        (ClockSync(), Grade.NOT_SEEN, "does not report it"),
    ],
)
def test_a_clock_that_nothing_keeps_right_is_reported(
    sync: ClockSync, grade: Grade, words: str
) -> None:
    finding = clock_finding(sync)

    assert finding.grade is grade
    assert words in finding.found
