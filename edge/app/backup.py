"""A station in one file, and back on another PC: ``edge-run --backup`` and ``--restore``.

::

    manifest.json           schema, station, the journal's numbers; of each file size and SHA-256
    station.yaml            the settings
    state/…                 what is kept beside the journal: thresholds and masks of the page, the
                            recipe that was chosen, releases that were in use, released settings
    files/SECTION.KEY…      the files that the settings name; passwords and keys where asked for
    recipes/NNNN.recipe     each version of each recipe, as ``--recipe export`` writes it

Records and images stay where they are: the broker and who listens to it have the records.
"""

import re
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

import edge
from edge.atomic_files import check_writable, open_regular, whole_file
from edge.bundle.bounds import MAX_BIN_BYTES, MAX_BUNDLE_MANIFEST_BYTES, MAX_XML_BYTES
from edge.bundle.manifest_types import Sha256
from edge.bundle.mask_file import painted_beside
from edge.bundle.signature import SIGNATURE_BYTES
from edge.contract.encoding import utc_text
from edge.contract.verdict import Recipe
from edge.errors import ConfigurationError, OutputNotWritable
from edge.journal.database import FILE_NAME as JOURNAL_FILE
from edge.journal.last_numbers import JournalNumbers, begin_behind, read_numbers
from edge.recipes.archive import export_recipe, import_recipe
from edge.recipes.bounded_zip import DAMAGED, MAX_RATIO, BoundedZip, pack
from edge.recipes.errors import RecipeError
from edge.recipes.folder import RecipeFolder
from edge.recipes.names import RecipeName
from edge.section import Section
from edge.settings.credentials import CREDENTIALS
from edge.settings.layers import CHOICE_FILE
from edge.settings.loading import load_settings
from edge.settings.mask_overrides import FILE_NAME as MASKS_FILE
from edge.settings.mask_overrides import FOLDER_NAME as MASKS_FOLDER
from edge.settings.mask_overrides import MaskOverrides
from edge.settings.overrides import FILE_NAME as OVERRIDES_FILE
from edge.settings.overrides import Overrides
from edge.settings.released import FILE_NAME as RELEASED_FILE
from edge.settings.station import Settings
from edge.station.fleet.memory import FILE_NAME as FLEET_FILE
from edge.station.model.releases import FILE_NAME as RELEASES_FILE
from edge.station.recording.journal_folder import (
    SERVICE_SETTINGS,
    SERVICE_STATE,
    journal_folder_seen_from,
)

SCHEMA: Literal["station-backup/1"] = "station-backup/1"
MANIFEST, SETTINGS = "manifest.json", "station.yaml"
MAX_FILES = 5000
MAX_TOTAL_BYTES = 64 * 2**30
_MAX_MANIFEST_BYTES = 16 * 2**20
_MAX_SMALL_BYTES = 16 * 2**20
_STATE = (OVERRIDES_FILE, CHOICE_FILE, RELEASES_FILE, RELEASED_FILE, FLEET_FILE)
_DRAWN = re.compile(rf"state/{MASKS_FOLDER}/([A-Za-z0-9_-]{{1,80}}\.(yaml|png)|{MASKS_FILE})")
# Of a mask in YAML: the image beside it.
_PAINTED = "decision.mask.painted"
# Files that the settings name, and those of them that open something.
NAMED = (
    *("camera.ca_file", "mqtt.ca_file", "mqtt.certificate_file", "model.public_key"),
    *("mqtt.sparkplug.certificate_file", "opcua.certificate_file", "fleet.public_key"),
    "decision.mask",
)
SECRET = (
    *("mqtt.password_file", "mqtt.key_file", "mqtt.sparkplug.password_file"),
    *("mqtt.sparkplug.key_file", "hmi.token_file", "opcua.key_file", "opcua.password_file"),
    "teach.key",
)
# Each names the ``.xml`` of a bundle.
BUNDLES = ("model.path", "teach.teacher")
_BUNDLE_FILES = {
    ".xml": MAX_XML_BYTES,
    ".bin": MAX_BIN_BYTES,
    ".json": MAX_BUNDLE_MANIFEST_BYTES,
    ".sig": SIGNATURE_BYTES,
}


class BackupRefused(ConfigurationError):
    """The file is no backup that may be restored here; nothing of it was."""


class BackedUpFile(Section):
    """Size and hash of a file."""

    bytes: int = Field(ge=0, le=MAX_TOTAL_BYTES)
    sha256: Sha256


class BackedUpRecipe(Section):
    """A version of a recipe, and whether it was in force."""

    name: RecipeName
    version: int = Field(ge=1)
    in_force: bool


Place = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class BackupManifest(Section):
    """What a backup holds.

    Attributes:
        station: its name at the broker; None without a broker.
        journal: None where the station keeps none.
        files: by their place in the file.
        recipes: by their place, in the order in which they were published.
        left_out: files of the settings that are not in it.
    """

    schema_version: Literal["station-backup/1"] = SCHEMA
    created_utc: str = Field(max_length=40)
    software: str = Field(max_length=100)
    station: str | None = Field(default=None, max_length=200)
    journal: JournalNumbers | None = None
    files: dict[Place, BackedUpFile] = Field(max_length=MAX_FILES)
    recipes: dict[Place, BackedUpRecipe] = Field(default={}, max_length=MAX_FILES)
    left_out: tuple[Annotated[str, StringConstraints(max_length=500)], ...] = Field(
        default=(), max_length=100
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that goes into a backup."""

    place: str
    path: Path
    stored: bool = False


def back_up(
    settings: Settings, config: Path, path: Path, *, with_keys: bool = False
) -> BackupManifest:
    """Write a station into one file, whole or not at all; it may run meanwhile.

    Args:
        config: the file of the settings.
        with_keys: also passwords, tokens and private keys.

    Raises:
        BackupRefused: a file that the settings name cannot be read.
        OutputNotWritable: the file cannot be written.
    """
    check_writable(path)
    folder = journal_folder_seen_from(config, settings)
    numbers = read_numbers(folder) if folder is not None else None
    named, left_out = _named_files(settings, with_keys)
    sources = [_Source(SETTINGS, config), *named, *_bundle_files(settings)]
    if folder is not None:
        sources += [
            _Source(f"state/{name}", folder / name)
            for name in _STATE
            if name != OVERRIDES_FILE and (folder / name).exists()
        ]
    try:
        with (
            # Whoever may read it may read the settings, and keys where they were asked for.
            whole_file(path, 0o600) as file,
            TemporaryDirectory(dir=path.absolute().parent, prefix=".backup-") as scratch,
        ):
            recipes, exported = _exported(settings, Path(scratch))
            if folder is not None:
                exported += _page_settings(settings, folder, Path(scratch))
            files: dict[str, BackedUpFile] = {}
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive:
                for source in [*sources, *exported]:
                    files[source.place] = _packed(archive, source)
                manifest = BackupManifest(
                    created_utc=utc_text(time.time_ns()),
                    software=f"edge {edge.__version__}",
                    station=settings.mqtt.station if settings.mqtt else None,
                    journal=numbers,
                    files=files,
                    recipes=recipes,
                    left_out=tuple(left_out),
                )
                archive.writestr(MANIFEST, manifest.model_dump_json(indent=1))
    except zipfile.LargeZipFile as error:
        raise OutputNotWritable(
            f"{path}: the station is larger than one file may be (4 GB). Export recipes one by one "
            "with --recipe export, and back up without recipes.folder."
        ) from error
    return manifest


def restore(path: Path, config: Path, *, allowed: Sequence[Path] = ()) -> BackupManifest:
    """Put a station where its settings say, all of it or nothing; what is there stays.

    Args:
        config: where the settings go; relative paths in them count from its folder.
        allowed: folders into which files may go, besides that of ``config`` and the service's.

    Raises:
        BackupRefused: it is no backup, damaged, hostile, of another schema, or names places
            outside of these folders.
        OutputNotWritable: something is there already, or the disk refused it.
    """
    check_writable(config)
    try:
        with (
            open_regular(path) as file,
            TemporaryDirectory(dir=config.absolute().parent, prefix=".restore-") as scratch,
        ):
            unpacked = Path(scratch)
            unpacked.chmod(0o700)
            bounded = BoundedZip("backup", MAX_FILES + 1, lambda why: _refused(path, why))
            size_bytes = bounded.check_directory(file)
            with zipfile.ZipFile(file) as archive:
                text = bounded.small(archive, MANIFEST, _MAX_MANIFEST_BYTES)
                manifest = bounded.parse_manifest(text, BackupManifest, SCHEMA)
                bounded.check_entries(archive, manifest.files.keys() | {MANIFEST})
                _check_places(manifest, size_bytes, path)
                for place, one in manifest.files.items():
                    bounded.unpack(archive, place, unpacked / place, (one.bytes, one.sha256))
            _place(manifest, unpacked, config, allowed)
            return manifest
    except DAMAGED as error:
        raise _refused(path, f"is damaged or not a backup ({error})") from error
    except OSError as error:
        raise BackupRefused(
            f"{path}: cannot be restored to {config} ({error.strerror or error}). Check the file, "
            "the folders, free space and permissions."
        ) from error


def _named_files(settings: Settings, with_keys: bool) -> tuple[list[_Source], list[str]]:
    """Return the files that the settings name, and which of them are left out."""
    sources, left_out = [], []
    for key in (*NAMED, *SECRET):
        named = _value(settings, key)
        if named is None:
            continue
        if named.startswith(CREDENTIALS) or (key in SECRET and not with_keys):
            left_out.append(f"{key} {named}"[:500])
            continue
        if not Path(named).is_file():
            raise BackupRefused(
                f"{named}: the file of {key} does not exist or cannot be read. Run the backup "
                "as the station's user, or with sudo."
            )
        sources.append(_Source(f"files/{key}", Path(named)))
        painted = painted_beside(Path(named)) if key == "decision.mask" else None
        if painted is not None:
            sources.append(_Source(f"files/{_PAINTED}", painted))
    return sources, left_out


def _bundle_files(settings: Settings) -> list[_Source]:
    named = {key: Path(value) for key in BUNDLES if (value := _value(settings, key)) is not None}
    return [
        _Source(f"files/{key}{suffix}", xml.with_suffix(suffix))
        for key, xml in named.items()
        for suffix in _BUNDLE_FILES
        if xml.with_suffix(suffix).exists()
    ]


def _exported(settings: Settings, scratch: Path) -> tuple[dict[str, BackedUpRecipe], list[_Source]]:
    """Export each version of each recipe; without the images that it was taught with."""
    if settings.recipes is None:
        return {}, []
    folder = RecipeFolder(Path(settings.recipes.folder))
    recipes: dict[str, BackedUpRecipe] = {}
    sources = []
    for listing in folder.listing():
        for version in listing.versions:
            found = folder.load(listing.name, int(version))
            file = scratch / f"{len(recipes) + 1:04d}.recipe"
            export_recipe(folder, found, file)
            place = f"recipes/{file.name}"
            recipes[place] = BackedUpRecipe(
                name=found.name, version=found.version, in_force=version == listing.in_force
            )
            sources.append(_Source(place, file, stored=True))
    return recipes, sources


def _page_settings(settings: Settings, folder: Path, scratch: Path) -> list[_Source]:
    """Return thresholds and masks of the page as they belong together; nobody changes them."""
    overrides = Overrides.beside(folder)
    with overrides.unchanging():
        sources = _drawn_masks(settings, folder / MASKS_FOLDER, scratch)
        if overrides.path.exists():
            kept = scratch / OVERRIDES_FILE
            shutil.copyfile(overrides.path, kept)
            sources.append(_Source(f"state/{OVERRIDES_FILE}", kept))
    return sources


def _drawn_masks(settings: Settings, folder: Path, scratch: Path) -> list[_Source]:
    """Return the masks of the page that count: a new list of them, and the files that it names."""
    counting = [
        one
        for one in MaskOverrides(folder).drawn()
        if one.instead_of == _mask_without_drawing(settings, one.recipe)
    ]
    if not counting:
        return []
    beside = MaskOverrides(scratch / MASKS_FOLDER)
    beside.folder.mkdir()
    sources = []
    for one in counting:
        beside.write(one, one.recipe)
        files = (folder / one.file, (folder / one.file).with_suffix(".png"))
        sources += [
            _Source(f"state/{MASKS_FOLDER}/{file.name}", file) for file in files if file.exists()
        ]
    return [*sources, _Source(f"state/{MASKS_FOLDER}/{MASKS_FILE}", beside.folder / MASKS_FILE)]


def _mask_without_drawing(settings: Settings, recipe: Recipe | None) -> str | None:
    """Return what ``decision.mask`` says where nothing is drawn; "" of a recipe that is gone."""
    if recipe is None:
        return settings.decision.mask
    if settings.recipes is None or not isinstance(recipe.version, int):
        return ""
    try:
        found = RecipeFolder(Path(settings.recipes.folder)).load(recipe.id, recipe.version)
    except RecipeError:
        return ""
    return str(found.mask) if found.mask is not None else None


def _packed(archive: zipfile.ZipFile, source: _Source) -> BackedUpFile:
    try:
        with open_regular(source.path) as file:
            size, sha256 = pack(archive, source.place, file, source.stored)
    except (FileNotFoundError, PermissionError) as error:
        raise BackupRefused(
            f"{source.path}: cannot be read ({error.strerror}). Run the backup as the station's "
            "user, or with sudo."
        ) from error
    return BackedUpFile(bytes=size, sha256=sha256)


def _check_places(manifest: BackupManifest, size_bytes: int, path: Path) -> None:
    """Demand known places, each within its bound."""
    bounds = {SETTINGS: _MAX_SMALL_BYTES}
    bounds |= {f"state/{name}": _MAX_SMALL_BYTES for name in _STATE}
    bounds |= {place: _MAX_SMALL_BYTES for place in manifest.files if _DRAWN.fullmatch(place)}
    bounds |= {f"files/{key}": _MAX_SMALL_BYTES for key in (*NAMED, *SECRET, _PAINTED)}
    bounds |= {
        f"files/{key}{suffix}": max_bytes
        for key in BUNDLES
        for suffix, max_bytes in _BUNDLE_FILES.items()
    }
    recipes = {f"recipes/{number:04d}.recipe" for number in range(1, len(manifest.recipes) + 1)}
    if recipes != manifest.recipes.keys() or not recipes <= manifest.files.keys():
        raise _refused(path, "and its manifest differ in their recipes")
    for place, one in manifest.files.items():
        max_bytes = MAX_TOTAL_BYTES if place in recipes else bounds.get(place, -1)
        if one.bytes > max_bytes:
            why = (
                "which does not belong to a backup"
                if max_bytes < 0
                else f"larger than {max_bytes} bytes"
            )
            raise _refused(path, f"holds {place!r}, {why}")
    total = sum(one.bytes for one in manifest.files.values())
    if total > MAX_TOTAL_BYTES or total > MAX_RATIO * size_bytes:
        raise _refused(path, "unpacks to far more than a station has")
    if SETTINGS not in manifest.files:
        raise _refused(path, f"lacks {SETTINGS}")


def _place(manifest: BackupManifest, unpacked: Path, config: Path, allowed: Sequence[Path]) -> None:
    """Put everything to its place, the settings last; what fails on the way is taken back."""
    beside = unpacked / config.name
    (unpacked / SETTINGS).rename(beside)
    # Relative paths count from the file, which is not at its place yet.
    settings = _moved(load_settings(beside), unpacked, config.absolute().parent)
    beside.rename(unpacked / SETTINGS)
    roots = [config.parent, SERVICE_SETTINGS, SERVICE_STATE, *allowed]
    state = journal_folder_seen_from(config, settings)
    targets: dict[str, Path] = {}
    for place in manifest.files:
        top, _, rest = place.partition("/")
        if place == f"files/{_PAINTED}":
            targets[place] = _painted_target(settings, unpacked, roots)
        elif top == "files":
            targets[place] = _target(settings, rest, roots)
        elif top == "state" and state is not None:
            targets[place] = state / rest
    targets[SETTINGS] = config
    recipes = Path(settings.recipes.folder) if settings.recipes and manifest.recipes else None
    if recipes is not None:
        _check_root(recipes, "recipes.folder", roots)
    if state is not None and settings.journal is not None and settings.journal.folder is not None:
        _check_root(state, "journal.folder", roots)
    wanted = list(targets.values())
    if state is not None and manifest.journal is not None:
        wanted.append(state / JOURNAL_FILE)
    there = [target for target in wanted if target.exists() or target.is_symlink()]
    if recipes is not None and RecipeFolder(recipes).listing():
        there.append(recipes)
    if there:
        raise OutputNotWritable(
            f"{there[0]}: exists already and is not overwritten. Move it away, or restore "
            "to another place with --config."
        )
    with _undone_on_failure() as placed:
        if recipes is not None:
            placed.append(recipes)
            _import(manifest, unpacked, recipes)
        if state is not None and manifest.journal is not None:
            placed.append(state / JOURNAL_FILE)
            begin_behind(state, manifest.journal, time.time_ns())
        _replace_mask_paths(unpacked / "state" / MASKS_FOLDER, settings)
        for place, target in targets.items():
            secret = place.removeprefix("files/") in SECRET
            placed.append(target)
            _copied(unpacked / place, target, 0o600 if secret else 0o640)


def _target(settings: Settings, key: str, roots: Sequence[Path]) -> Path:
    suffix = ""
    for bundle in BUNDLES:
        if key.startswith(bundle):
            key, suffix = bundle, key.removeprefix(bundle)
    named = _value(settings, key)
    if named is None or named.startswith(CREDENTIALS):
        raise BackupRefused(f"the backup contains a file of {key} that its settings do not name.")
    target = Path(named).with_suffix(suffix) if suffix else Path(named)
    _check_root(target, key, roots)
    return target


def _painted_target(settings: Settings, unpacked: Path, roots: Sequence[Path]) -> Path:
    mask = settings.decision.mask
    packed = unpacked / "files" / "decision.mask"
    painted = painted_beside(packed) if mask is not None and packed.exists() else None
    if mask is None or painted is None:
        raise BackupRefused("the backup contains a painted mask that its settings do not name.")
    target = painted  # named with its whole path
    if painted.is_relative_to(packed.parent):
        target = Path(mask).parent / painted.relative_to(packed.parent)
    _check_root(target, "decision.mask", roots)
    return target


def _replace_mask_paths(folder: Path, settings: Settings) -> None:
    """Have drawn masks count here: they name the mask that they replace by its place."""
    masks = MaskOverrides(folder)
    for one in masks.drawn():
        instead_of = _mask_without_drawing(settings, one.recipe)
        masks.write(one.model_copy(update={"instead_of": instead_of}), one.recipe)


def _check_root(target: Path, key: str, roots: Sequence[Path]) -> None:
    """Demand that a file goes into a folder of the station: the backup may be anybody's."""
    resolved = target.absolute().resolve()
    if not any(resolved.is_relative_to(root.absolute().resolve()) for root in roots):
        raise BackupRefused(
            f"{target}: the backup's {key} lies outside of the folder of --config and of "
            f"{SERVICE_STATE}. If it is right, allow its folder with --allow {target.parent}."
        )


def _moved(settings: Settings, source: Path, target: Path) -> Settings:
    """Return the settings with paths below one folder moved below another."""
    text = settings.model_dump(mode="json", exclude_unset=True)

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: moved(one) for key, one in value.items()}
        if isinstance(value, list):
            return [moved(one) for one in value]
        if isinstance(value, str) and str(source) in value:
            return value.replace(str(source), str(target))
        return value

    return Settings.model_validate(moved(text))


def _import(manifest: BackupManifest, unpacked: Path, folder: Path) -> None:
    recipes = RecipeFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for place in sorted(manifest.recipes):
        wanted = manifest.recipes[place]
        made = import_recipe(recipes, unpacked / place, number=wanted.version)
        if made.name != wanted.name:
            raise BackupRefused(f"{place} is recipe {made.name!r}, not {wanted.name!r}.")
        if wanted.in_force:
            recipes.put_in_force(made.name, made.version)


def _copied(source: Path, target: Path, mode: int) -> None:
    """Put a file to its place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, mode) as file, source.open("rb") as content:
        shutil.copyfileobj(content, file, 2**20)


@contextmanager
def _undone_on_failure() -> Iterator[list[Path]]:
    placed: list[Path] = []
    try:
        yield placed
    except BaseException:
        for path in reversed(placed):
            _remove(path)
        raise


def _remove(path: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return
    if not is_folder:
        path.unlink(missing_ok=True)
        return
    for one in sorted(path.rglob("*"), key=lambda inner: -len(inner.parts)):
        if one.is_dir() and not one.is_symlink():
            one.rmdir()
        else:
            one.unlink()
    path.rmdir()


def _value(settings: Settings, key: str) -> str | None:
    found: Any = settings
    for name in key.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, str) and found else None


def _refused(path: Path, why: str) -> BackupRefused:
    return BackupRefused(
        f"{path}: {why}. Take a file that `edge-run --backup` of this version has written."
    )


def summary(manifest: BackupManifest, emit: Callable[[str], None]) -> None:
    """Say what a backup holds, and what not."""
    emit(f"station  {manifest.station or 'without a broker'}, {manifest.created_utc}")
    if manifest.journal is not None:
        numbers = manifest.journal
        emit(
            f"journal  {numbers.journal} up to verdict {numbers.verdict_seq} and event "
            f"{numbers.event_seq}; continues under a new UUID after these"
        )
    for one in manifest.recipes.values():
        emit(f"recipe   {one.name} version {one.version}{', in force' if one.in_force else ''}")
    for place, file in manifest.files.items():
        if place not in manifest.recipes:
            emit(f"file     {place}, {file.bytes} bytes")
    for one_left in manifest.left_out:
        emit(f"left out {one_left}")
