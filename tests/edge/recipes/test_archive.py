"""Recipes in one file: exported, taken in elsewhere, and refused where the file is hostile."""

import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge.bundle.input_spec import Areas
from edge.bundle.loading import load_bundle
from edge.bundle.mask_file import painted_png
from edge.bundle.signature import SignatureInvalid, SignatureMissing
from edge.bundle.signing import load_private_key, sign_bundle
from edge.cli.main import main
from edge.errors import StationError
from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.content import RecipeDecision
from edge.recipes.errors import ArchiveRefused
from edge.recipes.folder import RecipeFolder, RecipeVersion
from tests.support.recipes import add_recipe

DECISION = RecipeDecision(image_threshold=12.5)
PAINTED = painted_png(Areas(width=4, height=2, ignored_runs=(3, 5)))


@pytest.fixture
def recipes(tmp_path: Path, bundle: Path) -> RecipeFolder:
    recipes = RecipeFolder(tmp_path / "here")
    add_recipe(recipes, "너트 M8", bundle, decision=DECISION)
    (recipes.images("너트 M8") / "good").mkdir(parents=True)
    (recipes.images("너트 M8") / "good" / "a.png").write_bytes(b"image a")
    return recipes


@pytest.fixture
def archive(recipes: RecipeFolder, tmp_path: Path) -> Path:
    path = tmp_path / "nut.recipe"
    export_recipe(recipes, recipes.load("너트 M8"), path, images=True)
    return path


@pytest.fixture
def elsewhere(tmp_path: Path) -> RecipeFolder:
    folder = tmp_path / "there"
    folder.mkdir()
    return RecipeFolder(folder)


def test_a_version_is_carried_to_another_folder_with_its_images(
    recipes: RecipeFolder, archive: Path, elsewhere: RecipeFolder
) -> None:
    made = import_recipe(elsewhere, archive)

    assert (made.name, made.version, made.content.decision) == ("너트 M8", 1, DECISION)
    assert elsewhere.in_force("너트 M8") is None
    assert load_bundle(made.model).sha256 == load_bundle(recipes.load("너트 M8").model).sha256
    assert (elsewhere.images("너트 M8") / "good" / "a.png").read_bytes() == b"image a"
    assert import_recipe(elsewhere, archive) == made
    assert elsewhere.versions("너트 M8") == (1,)
    assert [entry.name for entry in elsewhere.path.iterdir()] == ["너트 M8"]


def masked(archive: Path, mask: bytes | None) -> None:
    """Write an archive anew with another mask; None has it without."""

    def change(files: dict[str, bytes]) -> None:
        files.pop("version/mask.yaml", None)
        if mask is not None:
            files["version/mask.yaml"] = mask

    rewritten(archive, change)


def test_a_version_that_differs_only_in_its_mask_is_taken_in(
    archive: Path, elsewhere: RecipeFolder
) -> None:
    ignoring = b"size: [160, 120]\nignore: [[[0, 0], [80, 0], [80, 60]]]\n"
    for number, mask in enumerate((None, ignoring, ignoring.replace(b"80", b"9")), start=1):
        masked(archive, mask)
        made = import_recipe(elsewhere, archive)
        assert made.version == number
        assert (made.mask.read_bytes() if made.mask is not None else None) == mask
        assert import_recipe(elsewhere, archive).version == number
    masked(archive, ignoring)
    assert import_recipe(elsewhere, archive).version == 2


def rewritten(archive: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Write an archive anew, with a manifest that is true of the changed files."""
    with zipfile.ZipFile(archive) as old:
        files = {name: old.read(name) for name in old.namelist()}
    change(files)
    manifest = json.loads(files.pop("manifest.json"))
    manifest["files"] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in files.items():
            new.writestr(name, content)
        new.writestr("manifest.json", json.dumps(manifest))


def edited(archive: Path, old: bytes, new: bytes) -> None:
    """Change bytes of the manifest, whatever they then are not true of."""
    with zipfile.ZipFile(archive) as before:
        files = {name: before.read(name) for name in before.namelist()}
    assert old in files["manifest.json"]
    files["manifest.json"] = files["manifest.json"].replace(old, new)
    with zipfile.ZipFile(archive, "w") as after:
        for name, content in files.items():
            after.writestr(name, content)


def with_recipe_yaml(archive: Path, old: bytes, new: bytes) -> None:
    """Change what a version says of its product."""
    name = "version/recipe.yaml"
    rewritten(archive, lambda files: files.update({name: files[name].replace(old, new)}))


def linked(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as file:
        link = zipfile.ZipInfo("images/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        file.writestr(link, "/etc/passwd")


def many(archive: Path) -> None:
    """Let the end of the zip speak of more files than there may be."""
    content = bytearray(archive.read_bytes())
    struct.pack_into("<HH", content, len(content) - 14, 60_000, 60_000)
    archive.write_bytes(content)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "no zip": lambda path: path.write_bytes(b"PK" * 500),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "bytes changed": lambda path: path.write_bytes(
        path.read_bytes().replace(b"image a", b"image b")
    ),
    "path upwards": lambda path: rewritten(path, lambda f: f.update({"images/../../x": b"x"})),
    "absolute path": lambda path: rewritten(path, lambda f: f.update({"/tmp/x": b"x"})),
    "other file of a version": lambda path: rewritten(
        path, lambda f: f.update({"version/run.sh": b"x"})
    ),
    "hidden": lambda path: rewritten(path, lambda f: f.update({"images/.x": b"x"})),
    "no model": lambda path: rewritten(path, lambda f: f.pop("version/model.xml")),
    "bomb": lambda path: rewritten(path, lambda f: f.update({"images/x.png": bytes(40_000_000)})),
    "file within a file": lambda path: rewritten(
        path, lambda f: f.update({"images/x": b"x", "images/x/y": b"y"})
    ),
    "not in the manifest": lambda path: zipfile.ZipFile(path, "a").writestr("images/x", b"x"),
    "link": linked,
    "too many files": many,
    "newer schema": lambda path: edited(path, b"recipe-archive/1", b"recipe-archive/3"),
    "recipe of a newer schema": lambda path: with_recipe_yaml(path, b"recipe/1", b"recipe/3"),
    "set at the page, of a schema without": lambda path: with_recipe_yaml(
        path, b"recipe/1", b"recipe/1\nset_at_page: {mask: {by: Kim, utc: now}}"
    ),
    "set at the page by control characters": lambda path: with_recipe_yaml(
        path, b"recipe/1", b'recipe/2\nset_at_page: {mask: {by: "\\e[2J", utc: now}}'
    ),
    "painted mask without its file": lambda path: rewritten(
        path, lambda f: f.update({"version/mask.png": PAINTED})
    ),
    "painted elsewhere": lambda path: rewritten(
        path, lambda f: f.update({"version/mask.yaml": b"painted: /etc/hostname\n"})
    ),
    "painted upwards": lambda path: rewritten(
        path, lambda f: f.update({"version/mask.yaml": b"painted: ../images/good/a.png\n"})
    ),
    "painted by what is no image": lambda path: rewritten(
        path,
        lambda f: f.update(
            {"version/mask.yaml": b"painted: mask.png\n", "version/mask.png": b"none"}
        ),
    ),
    "mask that crosses itself": lambda path: masked(
        path, b"size: [160, 120]\nignore: [[[0, 0], [9, 9], [9, 0], [0, 9]]]\n"
    ),
    "mask of too many bytes": lambda path: masked(path, os.urandom(16 * 2**20 + 1)),
    "name with a slash": lambda path: edited(path, '"너트 M8"'.encode(), b'"../x"'),
    "another name": lambda path: edited(path, '"너트 M8"'.encode(), b'"bolt"'),
    "bundle of other bytes": lambda path: rewritten(
        path, lambda f: f.update({"version/model.bin": b"none"})
    ),
    "recipe of other keys": lambda path: rewritten(
        path, lambda f: f.update({"version/recipe.yaml": f["version/recipe.yaml"] + b"model: x\n"})
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_file_is_refused_and_leaves_nothing(
    attack: str, archive: Path, elsewhere: RecipeFolder, tmp_path: Path
) -> None:
    HOSTILE[attack](archive)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(elsewhere.path)}
    with pytest.raises(StationError) as refused:
        import_recipe(elsewhere, archive)
    assert refused.value.exit_code == 78
    assert elsewhere.listing() == []
    after = [path for path in elsewhere.path.rglob("*") if path.is_file()]
    assert after == []
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(elsewhere.path)}
    assert outside == before


def test_where_a_key_is_set_only_what_it_signed_is_taken_in(
    recipes: RecipeFolder, archive: Path, elsewhere: RecipeFolder, tmp_path: Path
) -> None:
    key, public = tmp_path / "k.pem", tmp_path / "k.pub"
    for command in (
        f"openssl genpkey -algorithm ed25519 -out {key}",
        f"openssl pkey -in {key} -pubout -out {public}",
    ):
        subprocess.run(command.split(), check=True)
    key.chmod(0o600)
    with pytest.raises(SignatureMissing, match=r"^\S*/nut\.recipe: is not signed"):
        import_recipe(elsewhere, archive, public)

    version = recipes.load("너트 M8")
    private = load_private_key(key)
    export_recipe(recipes, version, archive, key=private)
    with pytest.raises(SignatureMissing):  # the file is signed, its bundle is not
        import_recipe(elsewhere, archive, public)

    sign_bundle(version.model, key)
    export_recipe(recipes, version, archive, key=private)
    signed = tmp_path / "signed.recipe"
    shutil.copyfile(archive, signed)
    edited(archive, b'"version": 1', b'"version": 2')
    with pytest.raises(SignatureInvalid, match=r"^\S*/nut\.recipe: is not signed by the key"):
        import_recipe(elsewhere, archive, public)
    assert elsewhere.listing() == []
    assert import_recipe(elsewhere, signed, public).version == 1


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "model.json", "recipe.yaml"])
@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"no"), Path.unlink])
def test_a_file_brings_again_what_was_damaged_here(
    archive: Path, elsewhere: RecipeFolder, name: str, damage: Callable[[Path], None]
) -> None:
    first = import_recipe(elsewhere, archive)
    damage(first.folder / name)

    again = import_recipe(elsewhere, archive)

    assert (first.version, again.version) == (1, 2)
    load_bundle(again.model)
    assert import_recipe(elsewhere, archive) == again


def test_a_file_that_exists_with_other_content_is_never_replaced(
    archive: Path, elsewhere: RecipeFolder
) -> None:
    place = elsewhere.images("너트 M8") / "good" / "a.png"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"another")
    with pytest.raises(ArchiveRefused, match="differs from the image"):
        import_recipe(elsewhere, archive)
    assert place.read_bytes() == b"another"
    assert elsewhere.versions("너트 M8") == ()


def test_edge_run_lists_exports_imports_and_puts_recipes_in_force(
    recipes: RecipeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, file = tmp_path / "there", tmp_path / "nut.recipe"

    def run(*words: object) -> str:
        assert main(["--recipe", *map(str, words)]) == 0
        return capsys.readouterr().out

    run("export", "너트 M8", file, "--recipes", recipes.path, "--images")
    assert "imported, not in force" in run("import", file, "--recipes", there)
    run("use", "너트 M8@1", "--recipes", there)
    made = run("add", "너트 M8", recipes.load("너트 M8").model, "--recipes", there)
    assert "recipe 너트 M8 version 2" in made
    assert run("list", "--recipes", there) == "너트 M8: version 1*, 2\n"
    assert "image_threshold: 12.5" in run("show", "너트 M8", "--recipes", there)
    config = tmp_path / "station.yaml"
    config.write_text(
        f"camera: {{uri: '0'}}\nmodel: {{path: {recipes.load('너트 M8').model}}}\n"
        f"recipes: {{folder: {there}}}\njournal: {{folder: {tmp_path / 'journal'}}}\n"
    )
    assert main(["--check", "--config", str(config)]) == 0
    assert f"recipes  너트 M8 1 in {there}\n" in capsys.readouterr().out
    assert main(["--recipe", "show", "bolt", "--recipes", str(there)]) == 78
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "there: 너트 M8" in refused.err


@pytest.fixture
def imported_together(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """Import files at the same moment: none is published before all were compared, or wait."""

    def run(recipes: RecipeFolder, *files: Path) -> list[object]:
        met, publish = threading.Barrier(len(files)), RecipeFolder.publish

        def publish_after_the_others(*given: Any, **named: Any) -> RecipeVersion:
            with suppress(threading.BrokenBarrierError):
                met.wait(0.5)
            return publish(*given, **named)

        monkeypatch.setattr(RecipeFolder, "publish", publish_after_the_others)
        with ThreadPoolExecutor(len(files)) as pool:
            imports = [pool.submit(import_recipe, recipes, file) for file in files]
        return [one.exception() or one.result() for one in imports]

    return run


def test_a_file_that_is_imported_twice_at_the_same_moment_is_one_version(
    archive: Path, elsewhere: RecipeFolder, imported_together: Callable[..., list[object]]
) -> None:
    first, second = imported_together(elsewhere, archive, archive)

    assert first == second == elsewhere.load("너트 M8", 1)
    assert elsewhere.versions("너트 M8") == (1,)


def test_of_two_files_with_other_images_of_one_name_one_is_refused_also_at_the_same_moment(
    recipes: RecipeFolder,
    archive: Path,
    elsewhere: RecipeFolder,
    bundle: Path,
    imported_together: Callable[..., list[object]],
) -> None:
    other = archive.with_name("other.recipe")
    add_recipe(recipes, "너트 M8", bundle, decision=RecipeDecision(image_threshold=13.5))
    (recipes.images("너트 M8") / "good" / "a.png").write_bytes(b"image b")
    export_recipe(recipes, recipes.load("너트 M8"), other, images=True)

    found = imported_together(elsewhere, archive, other)

    refused = [one for one in found if isinstance(one, ArchiveRefused)]
    assert len(refused) == 1 and "differs from the image of that name" in str(refused[0])
    kept = (elsewhere.images("너트 M8") / "good" / "a.png").read_bytes()
    assert kept == (b"image b" if found[0] in refused else b"image a")
