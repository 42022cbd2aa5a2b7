"""Places that are closed to the station: a mistake of the settings, told by its key and cure."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.system.file_access import hidden_from_service
from tests.edge.conftest import edge_run_command
from tests.support.warm_start import WithoutCapabilities

# Root is let in everywhere by two capabilities; without them, root is a user like others.
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
AS_A_USER = WithoutCapabilities(CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def closed(tmp_path: Path, bundle: Path) -> Iterator[Path]:
    """A folder with images and a bundle that nobody may enter, as /home is to a service."""
    folder = tmp_path / "closed"
    folder.mkdir()
    for file in bundle.parent.iterdir():
        shutil.copy(file, folder)
    (folder / "pictures").mkdir()
    (folder / "pictures" / "part.png").write_bytes(b"")
    (folder / "secret").write_text("geheim\n")
    folder.chmod(0)
    yield folder
    folder.chmod(stat.S_IRWXU)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        edge_run_command(*arguments),
        preexec_fn=AS_A_USER if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_paths_that_the_unit_hides_from_the_service_are_found_wherever_they_stand() -> None:
    settings = {
        "camera": {"uri": "watch:///home/line/images", "trigger": {"mode": "free_run"}},
        "model": {"path": "/var/lib/edge/models/a.xml", "public_key": "/root/key.pem"},
        "journal": {"folder": "/homes/j"},
        "mqtt": None,
    }

    assert list(hidden_from_service(settings)) == ["watch:///home/line/images", "/root/key.pem"]


@pytest.mark.parametrize("uri", ["{}/pictures", "{}/pictures/part.png", "watch://{}/pictures"])
def test_a_camera_folder_that_is_closed_to_the_service_is_a_configuration_error(
    closed: Path, bundle: Path, uri: str
) -> None:
    done = run("--camera", uri.format(closed), "--model", bundle)

    assert done.returncode == 78, done.stderr
    assert "ProtectHome=" in done.stderr
    assert str(closed) in done.stderr
    assert "defect" not in done.stderr


@pytest.mark.parametrize(
    "section",
    [
        "model: {{path: {}/{}}}",
        "save: {{folder: {}/overlays}}",
        "hmi: {{token_file: {}/secret, port: 0}}",
        "mqtt: {{url: 'mqtt://localhost', username: me, password_file: {}/secret}}",
    ],
)
def test_whatever_the_settings_name_and_the_service_cannot_enter_is_reported_by_its_place(
    tmp_path: Path, closed: Path, bundle: Path, section: str
) -> None:
    images = tmp_path / "open"
    images.mkdir()
    shutil.copy(bundle, images / "part.png")
    text = f"camera: {{uri: {images}}}\njournal: {{folder: {tmp_path / 'journal'}}}\n"
    if not section.startswith("model"):
        text += f"model: {{path: {bundle}}}\n"
    config = tmp_path / "station.yaml"
    config.write_text(text + section.format(closed, bundle.name) + "\n")

    done = run("--config", config, "--once")

    assert done.returncode == 78, done.stderr
    assert str(closed) in done.stderr
    assert "ProtectHome=" in done.stderr
