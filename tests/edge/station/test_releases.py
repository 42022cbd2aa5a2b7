"""A signed bundle that is older than one in use is refused, unless it is asked for."""

import json
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.signing import sign_bundle
from edge.contract.event import Event
from edge.settings.layers import SettingsLayers
from edge.settings.station import Settings
from edge.station.model.manager import ModelExchangeFailed, ModelManager
from edge.station.model.releases import OlderRelease, Releases
from tests.edge.bundle.test_signature import make_keys
from tests.edge.conftest import EdgeRun
from tests.support.small_bundle import write_bundle, write_images


class Plant:
    """A station with a key, and its maker's releases.

    Attributes:
        sections: of its settings, beside camera and model.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sections: dict[str, Any] = {}
        self.private, self.public = make_keys(folder)
        self.journal = folder / "journal"
        self.journal.mkdir()
        self.written: Settings

    def release(self, version: str, name: str = "part") -> Path:
        """Return a signed bundle that was made at a time."""
        folder = self.folder / f"{name}-{version}"
        folder.mkdir()
        path = write_bundle(folder, name)
        manifest = path.with_suffix(".json")
        content = json.loads(manifest.read_bytes())
        content["identity"]["created"] = f"{version}T00:00:00Z"
        manifest.write_text(json.dumps(content))
        sign_bundle(path, self.private)
        return path

    def settings(self, model: Path, **keys: Any) -> Settings:
        section = {"path": str(model), "public_key": str(self.public), **keys}
        content = {"camera": {"uri": "0"}, "model": section, **self.sections}
        return Settings.model_validate(content)

    def start(self, model: Path, **keys: Any) -> ModelManager:
        self.written = self.settings(model, **keys)
        events: list[Event] = []
        layers = SettingsLayers(self.written, lambda: self.written, self.journal)
        return ModelManager(
            settings=layers.first(),
            tuning=self.folder / "tuning.json",
            simulated=True,
            trial=lambda: None,
            reread=layers.reread,
            record_event=events.append,
            releases=Releases(self.journal),
            layers=layers,
        )


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def test_an_older_release_is_refused_at_a_reload_and_at_a_start(plant: Plant) -> None:
    older, newer = plant.release("2026-01-01"), plant.release("2026-02-01")
    model = plant.start(older)
    plant.written = plant.settings(newer)
    model.reload()

    plant.written = plant.settings(older)
    with pytest.raises(ModelExchangeFailed, match=r"2026-01-01.*is older than.*2026-02-01"):
        model.reload()
    assert model.store.current.bundle.path == newer
    with pytest.raises(OlderRelease, match=r"model\.allow_downgrade"):
        plant.start(older)


@pytest.mark.parametrize("with_recipes", [False, True])
def test_another_recipe_in_the_settings_lets_no_older_release_pass(
    plant: Plant, with_recipes: bool
) -> None:
    if with_recipes:
        plant.sections["recipes"] = {"folder": str(plant.folder / "recipes")}
        plant.sections["journal"] = {"folder": str(plant.journal)}
    older, newer = plant.release("2026-01-01"), plant.release("2026-02-01")
    plant.sections["recipe"] = {"id": "part", "version": 1}
    model = plant.start(older)
    plant.sections["recipe"] = {"id": "part", "version": 2}
    plant.written = plant.settings(newer)
    model.reload()

    plant.sections["recipe"] = {"id": "part", "version": 3}
    plant.written = plant.settings(older)
    with pytest.raises(ModelExchangeFailed, match=r"2026-01-01.*is older than.*2026-02-01"):
        model.reload()
    assert model.store.current.bundle.path == newer


def test_one_that_is_asked_for_is_taken_and_counts_from_then_on(plant: Plant) -> None:
    older, newer = plant.release("2026-01-01"), plant.release("2026-02-01")
    plant.start(newer)
    plant.start(older, allow_downgrade=True)
    plant.start(older)  # the key may go again
    plant.start(newer)
    with pytest.raises(OlderRelease):
        plant.start(older)


def test_models_of_other_names_have_releases_of_their_own(plant: Plant) -> None:
    plant.start(plant.release("2026-02-01", "bottle"))
    plant.start(plant.release("2026-01-01", "can"))


def test_without_a_key_any_release_is_taken(plant: Plant) -> None:
    older, newer = plant.release("2026-01-01"), plant.release("2026-02-01")
    plant.start(newer)
    plant.start(older, public_key=None)
    with pytest.raises(OlderRelease):
        plant.start(older)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"part": 1e999}', b"\xff" * 100])
def test_a_damaged_memory_is_reported_and_keeps_no_station_from_starting(
    plant: Plant, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (plant.journal / "releases.json").write_bytes(content)
    Releases(plant.journal)
    assert "releases.json: not used (damaged)" in caplog.text


def test_the_check_refuses_what_the_station_would(plant: Plant, edge_run: EdgeRun) -> None:
    older, newer = plant.release("2026-01-01"), plant.release("2026-02-01")
    frames = write_images(plant.folder / "frames")
    config = plant.folder / "station.yaml"

    def printed(model: Path, *arguments: str) -> tuple[int, str]:
        section = {"path": str(model), "public_key": str(plant.public)}
        journal = {"folder": str(plant.journal)}
        content = {"camera": {"uri": str(frames)}, "model": section, "journal": journal}
        config.write_text(json.dumps(content))
        done = edge_run("--config", config, *arguments)
        return done.returncode, done.stderr

    assert printed(newer, "--once")[0] == 0
    code, message = printed(older, "--check")
    assert (code, "is older than" in message) == (78, True)
