"""A station in one file, and back: what it brings, what it leaves out, and what is refused."""

import hashlib
import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.app import backup as backup_module
from edge.app.backup import BackupRefused, restore
from edge.bundle.input_spec import Areas
from edge.bundle.loading import manifest_sha256
from edge.cli.main import main
from edge.contract.verdict import Recipe
from edge.journal.entries import RecordKind
from edge.recipes.folder import RecipeFolder
from edge.settings import loading
from edge.settings.layers import SettingsLayers
from edge.settings.loading import load_settings
from edge.settings.mask_overrides import MaskOverride, MaskOverrides
from edge.station.fleet.memory import FleetMemory, InstalledRelease, MemoryFile
from tests.support.journaling import event, numbers, running_writer, verdict
from tests.support.recipes import add_recipe

Change = Callable[[dict[str, Any], dict[str, bytes]], None]


@pytest.fixture
def station(tmp_path: Path, bundle: Path) -> Path:
    """The settings of a station that has worked: 5 verdicts, a password, a recipe."""
    folder = tmp_path / "old"
    folder.mkdir()
    for suffix in (".xml", ".bin", ".json"):
        shutil.copy(bundle.with_suffix(suffix), folder / f"part{suffix}")
    secret = folder / "password"
    secret.touch(0o600)
    secret.write_text("secret-42\n")
    add_recipe(RecipeFolder(folder / "recipes"), "cap", bundle)
    with running_writer(folder / "journal") as writer:
        writer.write(*(verdict(n) for n in range(5)), event(1))
    (folder / "journal/overrides.json").write_text('{"overrides": []}')
    config = folder / "station.yaml"
    config.write_text(
        "camera: {uri: images}\nmodel: {path: part.xml}\njournal: {folder: journal}\n"
        "recipes: {folder: recipes}\n"
        "mqtt: {url: 'mqtt://127.0.0.1', username: s, password_file: password}\n"
    )
    return config


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_a_station_goes_on_elsewhere_behind_the_numbers_that_it_gave(
    station: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup, config = tmp_path / "s.backup", tmp_path / "new" / "station.yaml"
    config.parent.mkdir()
    assert run("--backup", backup, "--config", station) == 0
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert "left out mqtt.password_file" in capsys.readouterr().out
    assert b"secret-42" not in zipfile.ZipFile(backup).read("station.yaml")
    assert not any("password" in name for name in zipfile.ZipFile(backup).namelist())

    assert run("--restore", backup, "--config", config) == 0

    assert config.read_bytes() == station.read_bytes()
    assert (config.parent / "part.bin").read_bytes() == station.with_name("part.bin").read_bytes()
    assert (config.parent / "journal/overrides.json").exists()
    assert RecipeFolder(config.parent / "recipes").load("cap").version == 1
    # Both go on, as two PCs would: no number of one journal is given twice.
    journals = []
    for folder in (station.parent / "journal", config.parent / "journal"):
        with running_writer(folder) as writer:
            writer.write(verdict(6), event(2))
            journals.append((writer.journal.journal, writer.journal.former))
            assert numbers(writer.path)[-1] == 6
            assert numbers(writer.path, RecordKind.EVENT)[-1] == 2
    (old, _), (new, former) = journals
    assert former == old != new
    assert run("--journal", config.parent / "journal", "--verify") == 0
    # What is there is never written over.
    assert run("--restore", backup, "--config", config) == 78
    assert "exists already" in capsys.readouterr().err


def test_keys_go_along_where_they_are_asked_for_and_stay_closed_to_others(
    station: Path, tmp_path: Path
) -> None:
    backup, config = tmp_path / "s.backup", tmp_path / "new" / "station.yaml"
    config.parent.mkdir()
    assert run("--backup", backup, "--config", station, "--with-keys") == 0

    assert run("--restore", backup, "--config", config) == 0

    password = config.parent / "password"
    assert password.read_text() == "secret-42\n"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600


def restored(station: Path, folder: Path) -> Path:
    """Return the settings of a new PC that has the backup of a station."""
    backup, config = folder / "s.backup", folder / "new" / "station.yaml"
    config.parent.mkdir()
    assert run("--backup", backup, "--config", station) == 0
    assert run("--restore", backup, "--config", config) == 0
    return config


def test_masks_drawn_at_the_page_count_at_their_new_place(station: Path, tmp_path: Path) -> None:
    settings = load_settings(station)
    journal = station.with_name("journal")
    masks, cap = MaskOverrides(journal / "masks"), Recipe("cap", 1)
    areas = Areas(width=4, height=2, ignored_runs=(0, 4, 4))
    for recipe, replaced in ((None, settings.decision.mask), (cap, None)):
        sha256 = manifest_sha256(Path(settings.model.path))
        assert sha256 is not None
        file = masks.draw(areas, f"drawn-{recipe.id if recipe else 'own'}")
        drawn = MaskOverride(
            file=file, model_sha256=sha256, instead_of=replaced, by="Kim", utc="2026-11-30"
        )
        masks.write(drawn, recipe)
    masks.draw(areas, "former")

    config = restored(station, tmp_path)

    moved = load_settings(config)
    layers = SettingsLayers(moved, lambda: moved, config.with_name("journal"))
    new = config.with_name("journal") / "masks"
    for made, recipe in ((layers.first(), None), (layers.of(cap), cap)):
        name = f"drawn-{recipe.id if recipe else 'own'}.yaml"
        assert made.decision.mask == str(new / name), recipe
    assert sorted(one.name for one in new.iterdir()) == [
        *("drawn-cap.png", "drawn-cap.yaml", "drawn-own.png", "drawn-own.yaml", "masks.json"),
    ]


@pytest.mark.parametrize("absolute", [False, True])
def test_a_mask_of_the_settings_brings_what_is_painted(
    absolute: bool, station: Path, tmp_path: Path
) -> None:
    # With a whole path it has the same one at the new place.
    painted = tmp_path / "new" / "painted.png" if absolute else Path("painted.png")
    text = f"painted: {painted}\n"
    station.with_name("mask.yaml").write_text(text)
    if absolute:
        painted.parent.mkdir()
    (station.parent / painted).write_bytes(b"white")
    station.write_text(f"{station.read_text()}decision: {{mask: mask.yaml, image_threshold: 3}}\n")
    backup, config = tmp_path / "s.backup", tmp_path / "new" / "station.yaml"
    assert run("--backup", backup, "--config", station) == 0
    shutil.rmtree(config.parent, ignore_errors=True)
    config.parent.mkdir()

    assert run("--restore", backup, "--config", config) == 0

    assert config.with_name("mask.yaml").read_text() == text
    assert config.with_name("painted.png").read_bytes() == b"white"


def test_versions_keep_their_numbers_and_the_releases_that_brought_them(
    station: Path, tmp_path: Path, bundle: Path
) -> None:
    recipes = RecipeFolder(station.with_name("recipes"))
    for _ in range(2):  # equal ones, and one of them is gone
        last = add_recipe(recipes, "cap", bundle)
    shutil.rmtree(recipes.load("cap", 1).folder)
    release = InstalledRelease(release=7, sha256="0" * 64, local=last.version)
    MemoryFile(station.with_name("journal")).write(FleetMemory(taken={"cap": release}))

    config = restored(station, tmp_path)

    new = RecipeFolder(config.with_name("recipes"))
    assert (new.versions("cap"), new.in_force("cap")) == ((2, 3), 3)
    assert MemoryFile(config.with_name("journal")).read().installed("cap") == (release,)


def test_every_file_that_settings_may_name_is_in_a_backup() -> None:
    folders = {"camera.uri", "journal.folder", "recipes.folder", "snapshots.folder", "save.folder"}
    named = {".".join(place) for place in loading.PATHS} - folders
    packed = (*backup_module.NAMED, *backup_module.SECRET, *backup_module.BUNDLES)
    assert named == set(packed)


def changed(backup: Path, change: Change) -> Path:
    """Write a backup anew with another manifest or other files."""
    with zipfile.ZipFile(backup) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(files.pop("manifest.json"))
    change(manifest, files)
    made = backup.with_name("changed.backup")
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr("manifest.json", json.dumps(manifest))
    return made


def with_file(place: str, content: bytes) -> Change:
    def change(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
        files[place] = content
        manifest["files"][place] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }

    return change


def _newer(manifest: dict[str, Any], _files: dict[str, bytes]) -> None:
    manifest["schema_version"] = "station-backup/2"


def _altered(_manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["files/model.path.bin"] = files["files/model.path.bin"][:-1] + b"?"


def _unnamed(_manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    files["files/more"] = b""


def _outside(manifest: dict[str, Any], files: dict[str, bytes]) -> None:
    text = files["station.yaml"].replace(b"model: {path: part.xml}", b"model: {path: ../../p.xml}")
    with_file("station.yaml", text)(manifest, files)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_newer, "this version reads"),
        (_altered, "not what the manifest says"),
        (_unnamed, "and its manifest disagree"),
        (_outside, "lies outside"),
        (with_file("../../evil", b"x"), "does not belong to a backup"),
        (with_file("state/overrides.json", bytes(2**24)), "unpacks to far more"),
        (with_file("files/hmi.token_file", b"x"), "that its settings do not name"),
    ],
)
def test_a_file_that_is_no_backup_is_refused_and_leaves_nothing(
    station: Path, tmp_path: Path, change: Change, why: str
) -> None:
    config = tmp_path / "deep" / "new" / "station.yaml"
    config.parent.mkdir(parents=True)
    backup = tmp_path / "s.backup"
    assert run("--backup", backup, "--config", station) == 0

    with pytest.raises(BackupRefused, match=why):
        restore(changed(backup, change), config)

    assert [path for path in config.parent.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "p.xml").exists()


def test_a_cut_file_is_refused(station: Path, tmp_path: Path) -> None:
    backup = tmp_path / "s.backup"
    assert run("--backup", backup, "--config", station) == 0
    backup.write_bytes(backup.read_bytes()[:-1000])

    assert run("--restore", backup, "--config", tmp_path / "new.yaml") == 78
