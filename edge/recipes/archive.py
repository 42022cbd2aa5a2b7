"""One file per version, to bring a recipe to the next station: a zip with a manifest of hashes.

::

    manifest.json       name, version, and of each other file its size and SHA-256
    manifest.sig        ed25519 over manifest.json, where it was signed
    version/…           recipe.yaml, the bundle, and the mask where there is one
    images/…            what it was taught with, where asked for

A file comes from somebody else: it is bounded before it is read, nothing is unpacked that the
manifest does not name, and nothing is on offer before all of it was checked.

What was set at the page of the station that exports lies beside the station's journal, and in no
version. ``CarriedVersion`` has it: the file then holds it in place of what the version says, so
that the next station judges parts as this one does.
"""

import io
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from edge.atomic_files import check_writable, open_regular, whole_file
from edge.bundle.bounds import MAX_BIN_BYTES, MAX_BUNDLE_MANIFEST_BYTES, MAX_XML_BYTES
from edge.bundle.input_spec import Areas
from edge.bundle.loading import load_bundle, manifest_sha256
from edge.bundle.manifest_types import Sha256
from edge.bundle.mask_file import mask_content, painted_beside, read_mask_file
from edge.bundle.signature import (
    SIGNATURE_BYTES,
    SignatureInvalid,
    SignatureMissing,
    check_public_key,
    is_signed_by,
)
from edge.errors import BundleError, ConfigurationError, OutputNotWritable
from edge.recipes.bounded_zip import DAMAGED, MAX_RATIO, BoundedZip, pack
from edge.recipes.content import (
    PAGE_SCHEMA,
    PUBLISH_AGAIN,
    RECIPE_FILE,
    RecipeContent,
    read_recipe,
    recipe_yaml,
)
from edge.recipes.errors import ArchiveRefused, RecipeDamaged
from edge.recipes.folder import (
    MASK_FILE,
    MASK_IMAGE,
    MODEL,
    RecipeFolder,
    RecipeVersion,
    hidden_folder,
)
from edge.recipes.recipients import ReleaseManifest, check_patterns
from edge.recipes.taught import MAX_TAUGHT_BYTES, TAUGHT_FILE
from edge.section import Section

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log = logging.getLogger(__name__)

SCHEMA: Literal["recipe-archive/1"] = "recipe-archive/1"
# Of what stations of before cannot read: a painted mask, or a recipe.yaml of ``PAGE_SCHEMA``.
SECOND_SCHEMA: Literal["recipe-archive/2"] = "recipe-archive/2"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
VERSION_FOLDER, IMAGES_FOLDER = "version", "images"

MAX_FILES = 20_000
MAX_IMAGE_BYTES = 256 * 2**20
MAX_TOTAL_BYTES = 8 * 2**30
MAX_MANIFEST_BYTES = 16 * 2**20
_VERSION_FILES = {
    RECIPE_FILE: 1_000_000,
    f"{MODEL}.xml": MAX_XML_BYTES,
    f"{MODEL}.bin": MAX_BIN_BYTES,
    f"{MODEL}.json": MAX_BUNDLE_MANIFEST_BYTES,
    f"{MODEL}.sig": SIGNATURE_BYTES,
    MASK_FILE: 16 * 2**20,
    MASK_IMAGE: 16 * 2**20,
    TAUGHT_FILE: MAX_TAUGHT_BYTES,
}


class ArchivedFile(Section):
    """Size and hash of a file."""

    bytes: int = Field(ge=0, le=MAX_TOTAL_BYTES)
    sha256: Sha256


Place = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class ArchiveManifest(ReleaseManifest):
    """What an archive holds.

    Attributes:
        files: by their path in it.
    """

    schema_version: Literal["recipe-archive/1", "recipe-archive/2"] = SCHEMA
    files: dict[Place, ArchivedFile] = Field(max_length=MAX_FILES)


@dataclass(frozen=True, slots=True)
class CarriedVersion:
    """A version with what was set for it at the page of a station.

    Attributes:
        content: goes into the file in place of its ``recipe.yaml``.
        areas: mask and zones, in place of its own; None leaves those.
    """

    content: RecipeContent
    areas: Areas | None = None


def export_recipe(
    recipes: RecipeFolder,
    version: RecipeVersion,
    path: Path,
    *,
    carried: CarriedVersion | None = None,
    images: bool = False,
    key: "Ed25519PrivateKey | None" = None,
    stations: Sequence[str] | None = None,
) -> ArchiveManifest:
    """Write a version into one file, whole or not at all.

    Args:
        carried: the version with what was set at the page; None as it lies in the folder.
        images: also those that it was taught with, and no others of its recipe.
        key: signs the manifest.
        stations: patterns of those that it is meant for; None for all.

    Raises:
        ArchiveRefused: a pattern names no stations.
        OutputNotWritable: the file cannot be written.
        RecipeDamaged: a file of the version cannot be read.
    """
    check_writable(path)
    check_patterns(stations or ())
    replaced = {} if carried is None else _carried_files(carried)
    files: dict[str, Path | bytes] = {
        f"{VERSION_FOLDER}/{name}": version.folder / name
        for name in _VERSION_FILES
        if (version.folder / name).exists()
    }
    if f"{VERSION_FOLDER}/{MASK_FILE}" in replaced:
        files.pop(f"{VERSION_FOLDER}/{MASK_IMAGE}", None)  # of the mask that is replaced
    files |= replaced
    if images:
        files |= _find_images(recipes, version)
    named: dict[str, ArchivedFile] = {}
    try:
        with (
            whole_file(path) as written,
            zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, allowZip64=False) as archive,
        ):
            for place, file in files.items():
                named[place] = _packed(archive, place, file)
            second = f"{VERSION_FOLDER}/{MASK_IMAGE}" in files or (
                (carried.content if carried is not None else version.content).schema_version
                == PAGE_SCHEMA
            )
            manifest = ArchiveManifest(
                schema_version=SECOND_SCHEMA if second else SCHEMA,
                name=version.name,
                version=version.version,
                stations=tuple(stations) if stations is not None else None,
                files=named,
            )
            text = manifest.model_dump_json(indent=1, exclude_none=True).encode()
            archive.writestr(MANIFEST, text)
            if key is not None:
                archive.writestr(SIGNATURE, key.sign(text))
    except zipfile.LargeZipFile as error:
        raise OutputNotWritable(
            f"{path}: the recipe is larger than one file may be (4 GB). Export it without images."
        ) from error
    return manifest


def import_recipe(
    recipes: RecipeFolder,
    path: Path,
    public_key: Path | None = None,
    *,
    max_images: int | None = None,
    number: int | None = None,
) -> RecipeVersion:
    """Take a version in from a file; it is not in force yet.

    One that is there already and whole, whatever its number, is returned and not taken in again,
    but for its images.

    Args:
        public_key: that must have signed file and bundle; None asks for no signature.
        max_images: that the recipe keeps of all its versions; None removes none.
        number: that the version gets, also where an equal one is there; None is the next free one.

    Raises:
        ArchiveRefused: it is no archive, damaged, hostile, or of another schema.
        BundleError: its bundle is not whole, or not signed by that key.
        OutputNotWritable: the disk refused it.
    """
    try:
        with open_regular(path) as file, hidden_folder(recipes.path) as unpacked:
            size_bytes = _zip(path).check_directory(file)
            with zipfile.ZipFile(file) as archive:
                manifest = _manifest(archive, path, public_key)
                _check_entries(archive, manifest, path)
                if sum(one.bytes for one in manifest.files.values()) > MAX_RATIO * size_bytes:
                    raise _refused(path, "unpacks to far more than a recipe does")
                for place, named in manifest.files.items():
                    _zip(path).unpack(archive, place, unpacked / place, (named.bytes, named.sha256))
            content = _read_content(unpacked / VERSION_FOLDER, manifest, path)
            # Of a version that is restored as it was, the mask is judged when it is put in force.
            _check_mask(unpacked / VERSION_FOLDER, path, whole=number is None)
            with recipes.importing():
                return _import(
                    recipes, content, unpacked, public_key, max_images=max_images, number=number
                )
    except DAMAGED as error:
        raise _refused(path, f"is damaged or not a recipe ({error})") from error
    except OSError as error:
        raise ArchiveRefused(
            f"{path}: cannot be imported into {recipes.path} ({error.strerror}). Check "
            "the file, the folder, free space and permissions."
        ) from error


def read_archive_manifest(path: Path, public_key: Path | None = None) -> ArchiveManifest:
    """Return what a file says that it holds, without unpacking it.

    Args:
        public_key: that must have signed it; None asks for no signature.

    Raises:
        ArchiveRefused: it is no archive, or damaged.
        BundleError: it is not signed by that key.
    """
    try:
        with open_regular(path) as file:
            _zip(path).check_directory(file)
            with zipfile.ZipFile(file) as archive:
                manifest = _manifest(archive, path, public_key)
                _check_entries(archive, manifest, path)
                return manifest
    except DAMAGED as error:
        raise _refused(path, f"is damaged or not a recipe ({error})") from error
    except OSError as error:
        raise ArchiveRefused(
            f"{path}: cannot be read ({error.strerror}). Check the file."
        ) from error


def is_signed(path: Path) -> bool:
    """Tell whether an archive brings a signature, whoever's it is."""
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        return SIGNATURE in archive.namelist()


def _find_images(recipes: RecipeFolder, version: RecipeVersion) -> dict[str, Path]:
    """Return the images of a version, by their place in the file."""
    folder, found = recipes.images(version.name), dict[str, Path]()
    for file in recipes.version_images(version):
        place = f"{IMAGES_FOLDER}/{file.relative_to(folder).as_posix()}"
        if file.is_file() and not file.is_symlink() and not _place_fault(place):
            found[place] = file
    return found


def _carried_files(carried: CarriedVersion) -> dict[str, bytes]:
    """Return the files that differ from those of the version, by their place."""
    files = {RECIPE_FILE: recipe_yaml(carried.content)}
    if carried.areas is not None:
        drawn = mask_content(carried.areas, Path(MASK_FILE))
        files |= {path.name: content for path, content in drawn}
    return {f"{VERSION_FOLDER}/{name}": content for name, content in files.items()}


def _packed(archive: zipfile.ZipFile, place: str, file: Path | bytes) -> ArchivedFile:
    """Pack a file, or what goes in its place; images are compressed already."""
    if isinstance(file, bytes):
        size, sha256 = pack(archive, place, io.BytesIO(file), stored=False)
        return ArchivedFile(bytes=size, sha256=sha256)
    try:
        with open_regular(file) as source:
            size, sha256 = pack(archive, place, source, place.startswith(f"{IMAGES_FOLDER}/"))
    except FileNotFoundError as error:
        raise RecipeDamaged(f"{file}: was removed during the export. Export again.") from error
    return ArchivedFile(bytes=size, sha256=sha256)


def _zip(path: Path) -> BoundedZip:
    return BoundedZip("recipe", MAX_FILES + 2, lambda why: _refused(path, why))


def _manifest(archive: zipfile.ZipFile, path: Path, public_key: Path | None) -> ArchiveManifest:
    text = read_verified_manifest(
        path, _zip(path), archive, max_bytes=MAX_MANIFEST_BYTES, public_key=public_key
    )
    return _zip(path).parse_manifest(text, ArchiveManifest, SCHEMA, SECOND_SCHEMA)


def read_verified_manifest(
    path: Path,
    bounded: BoundedZip,
    archive: zipfile.ZipFile,
    *,
    max_bytes: int,
    public_key: Path | None,
) -> bytes:
    """Return the text of a manifest, its signature checked before anybody parses it.

    Args:
        path: of the file, for messages.
        bounded: how this kind of file is read.
        max_bytes: of the text.
        public_key: that must have signed it; None asks for no signature.

    Raises:
        BundleError: it is not signed by that key.
    """
    text = bounded.small(archive, MANIFEST, max_bytes)
    if public_key is None:
        return text
    check_public_key(public_key)
    if SIGNATURE not in archive.namelist():
        raise SignatureMissing(
            f"{path}: is not signed, and model.public_key or fleet.public_key asks for it. Export "
            "it with --key."
        )
    if not is_signed_by(text, bounded.small(archive, SIGNATURE, SIGNATURE_BYTES), public_key):
        raise SignatureInvalid(
            f"{path}: is not signed by the key {public_key}. Fetch it again; if the error remains, "
            "it comes from somebody else or was changed: do not use it."
        )
    return text


def _check_entries(archive: zipfile.ZipFile, manifest: ArchiveManifest, path: Path) -> None:
    """Demand exactly the files that the manifest names, each a plain one at a plain place."""
    _zip(path).check_entries(archive, manifest.files.keys() | {MANIFEST}, frozenset({SIGNATURE}))
    for place, named in manifest.files.items():
        if fault := _place_fault(place):
            raise _refused(path, f"holds {place[:100]!r}, {fault}")
        max_bytes = _VERSION_FILES.get(place.removeprefix(f"{VERSION_FOLDER}/"), MAX_IMAGE_BYTES)
        if named.bytes > max_bytes:
            raise _refused(
                path, f"holds {place[:100]!r} with {named.bytes} bytes, {max_bytes} may be"
            )
    if sum(one.bytes for one in manifest.files.values()) > MAX_TOTAL_BYTES:
        raise _refused(path, f"holds more than {MAX_TOTAL_BYTES} bytes")
    needed = [RECIPE_FILE, f"{MODEL}.xml", f"{MODEL}.bin", f"{MODEL}.json"]
    if f"{VERSION_FOLDER}/{MASK_IMAGE}" in manifest.files:
        needed.append(MASK_FILE)
    for name in needed:
        if f"{VERSION_FOLDER}/{name}" not in manifest.files:
            raise _refused(path, f"lacks {name}")


def _check_mask(version: Path, path: Path, *, whole: bool) -> None:
    """Demand a mask that names no file but the one beside it, and that can be read.

    Args:
        whole: False demands the first alone.
    """
    mask = version / MASK_FILE
    if not mask.exists():
        return
    try:
        painted = painted_beside(mask)
        if painted is not None and painted != version / MASK_IMAGE:
            raise _refused(path, f"has a mask that is painted elsewhere than in {MASK_IMAGE}")
        if whole:
            read_mask_file(mask)
    except ArchiveRefused:
        raise
    except ConfigurationError as error:
        cause = " ".join(str(error).replace(f"{version}/", "").splitlines())
        raise ArchiveRefused(
            f"{path}: its mask cannot be used: {cause} Draw it again at the station that exported "
            "it, and export again."
        ) from error


def _place_fault(place: str) -> str:
    """Return why no file may lie there; empty where it may."""
    top, _, rest = place.partition("/")
    if top == VERSION_FOLDER:
        return "" if rest in _VERSION_FILES else "which does not belong to a version"
    parts = rest.split("/")
    if top != IMAGES_FOLDER or len(parts) > 3:
        return "which is not a valid path in a recipe"
    for part in parts:
        hidden = not part or part.startswith(".")
        if hidden or not part.isprintable() or "\\" in part or len(part.encode()) > 200:
            return "which is not a plain image name"
    return ""


def _read_content(version: Path, manifest: ArchiveManifest, path: Path) -> RecipeContent:
    """Return what a version says of its product, which is the one of the manifest."""
    try:
        content = read_recipe(version)
    except RecipeDamaged as error:
        cause = " ".join(str(error).replace(f"{version}/", "").splitlines())
        cause = cause.removesuffix(PUBLISH_AGAIN)
        raise ArchiveRefused(f"{path}: cannot be used: {cause}Export it again.") from error
    if (content.name, content.version) != (manifest.name, manifest.version):
        raise ArchiveRefused(
            f"{path}: its recipe.yaml is of recipe {content.name!r} version {content.version}, its "
            f"manifest of {manifest.name!r} version {manifest.version}. Export it again."
        )
    origin = content.set_at_page
    if origin is not None and origin.mask is not None and not (version / MASK_FILE).exists():
        raise ArchiveRefused(
            f"{path}: its recipe.yaml names who drew its mask, and it has none. Export it again."
        )
    return content


def _import(
    recipes: RecipeFolder,
    content: RecipeContent,
    unpacked: Path,
    public_key: Path | None,
    *,
    max_images: int | None,
    number: int | None,
) -> RecipeVersion:
    source = unpacked / VERSION_FOLDER
    images = sorted(file for file in (unpacked / IMAGES_FOLDER).rglob("*") if file.is_file())
    own = recipes.images(content.name)
    for file in images:
        place = own / file.relative_to(unpacked / IMAGES_FOLDER)
        if place.exists() and place.read_bytes() != file.read_bytes():
            raise ArchiveRefused(
                f"{place}: differs from the image of that name in the file. Rename the recipe "
                "here first."
            )
    brought = RecipeVersion(content, source)
    places = {file.relative_to(unpacked / IMAGES_FOLDER).as_posix(): file for file in images}
    for kept in recipes.versions(content.name) if number is None else ():
        there = _equal(recipes, brought, kept, public_key)
        if there is not None:
            if places:
                recipes.add_images(there, places, max_images)
            return there

    def build(folder: Path) -> None:
        for file in source.iterdir():
            file.rename(folder / file.name)

    return recipes.publish(
        content, build, public_key, images=places, max_images=max_images, number=number
    )


def _equal(
    recipes: RecipeFolder, brought: RecipeVersion, kept: int, public_key: Path | None
) -> RecipeVersion | None:
    """Return a version that is here if it inspects alike; None also of one that was damaged."""
    try:
        there = recipes.load(brought.name, kept)
        if not _inspects_like(there, brought):
            return None
        load_bundle(there.model, public_key)
    except (BundleError, RecipeDamaged) as error:
        log.warning("recipe %s version %d is of no use: %s", brought.name, kept, error)
        return None
    return there


def _inspects_like(first: RecipeVersion, second: RecipeVersion) -> bool:
    """Tell whether two versions differ in nothing but their number."""
    return (
        first.content.inspects_like(second.content)
        and manifest_sha256(first.model) == manifest_sha256(second.model)
        and _areas(first) == _areas(second)
    )


def _areas(version: RecipeVersion) -> Areas | bytes | None:
    """Return mask and zones; of a file that cannot be read, its bytes."""
    if version.mask is None:
        return None
    try:
        return read_mask_file(version.mask)
    except ConfigurationError:
        return version.mask.read_bytes()


def _refused(path: Path, why: str) -> ArchiveRefused:
    return ArchiveRefused(
        f"{path}: {why}. Take a file that `edge-run --recipe export` of this version has written."
    )
