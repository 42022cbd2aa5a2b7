"""What a plant installs: the Debian package's scripts, the images' recipe, the composed services.

That they build and run is shown by ``make deb-test`` and ``make images-test``.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.listen.listener import MAX_UNACKNOWLEDGED
from edge.settings.station import Settings
from tests.support.broker import free_port
from tools.image_steps import instructions

PROJECT = Path(__file__).parents[2]
CONTAINER = PROJECT / "deploy" / "container"
DEBIAN = PROJECT / "deploy" / "debian"
BROKER = PROJECT / "systemd" / "mosquitto" / "edge.conf"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    content = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
    return dict(content["services"])


@pytest.mark.parametrize(
    "script", [*DEBIAN.glob("*.sh"), *DEBIAN.glob("p*")], ids=lambda path: path.name
)
def test_shellcheck_finds_nothing_in_a_script_of_the_package(script: Path) -> None:
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_whatever_the_images_copy_is_there_and_not_ignored() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    for word, rest in instructions((CONTAINER / "Dockerfile").read_text()):
        if word == "COPY" and not rest.startswith("--from="):
            for source in rest.split()[:-1]:
                assert (PROJECT / source).exists(), source
                assert f"!{source}" in ignored


def test_no_image_runs_as_root() -> None:
    user: dict[str, str] = {}
    name = ""
    for word, rest in instructions((CONTAINER / "Dockerfile").read_text()):
        if word == "FROM":
            before, _, name = rest.partition(" AS ")
            user[name] = user.get(before, "root")
        elif word == "USER":
            user[name] = rest
    assert (user["edge"], user["listener"]) == ("edge", "edge")


def test_our_services_write_nowhere_but_where_their_records_are(services: dict[str, Any]) -> None:
    ours = [service for service in services.values() if "build" in service]
    assert len(ours) == 2
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]


def test_every_port_is_of_this_machine_alone(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_file_that_is_handed_to_a_service_is_there(services: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume.startswith(".")
    ]
    assert len(mounted) > 5
    assert [path for path in mounted if not (CONTAINER / path).exists()] == []


def test_the_station_of_the_composition_has_settings_that_hold() -> None:
    content = yaml.safe_load((CONTAINER / "station.yaml").read_text())
    settings = Settings.model_validate(content)
    assert settings.hmi is not None
    assert settings.hmi.allowed_hosts == ["station"]  # under which Prometheus asks


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copy(CONTAINER / "prometheus.yaml", tmp_path)
    shutil.copy(PROJECT / "configs" / "prometheus-alerts.yaml", tmp_path / "alerts.yaml")
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", [CONTAINER / "mosquitto.conf", BROKER], ids=str)
def test_a_broker_sends_as_far_ahead_as_a_listener_takes(file: Path) -> None:
    assert f"\nmax_inflight_messages {MAX_UNACKNOWLEDGED}\n" in file.read_text()


def test_the_broker_takes_its_configuration(tmp_path: Path) -> None:
    text = (CONTAINER / "mosquitto.conf").read_text()
    text = text.replace("listener 1883", f"listener {free_port()} 127.0.0.1")
    config = tmp_path / "mosquitto.conf"
    config.write_text(text.replace("/mosquitto/data/", f"{tmp_path}/"))
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    broker = subprocess.Popen([program, "-c", config], stderr=subprocess.PIPE, text=True)
    try:
        assert broker.stderr is not None
        lines = iter(broker.stderr.readline, "")
        assert any("running" in line for line in lines), "it ended"
    finally:
        broker.kill()
        broker.wait(30)
