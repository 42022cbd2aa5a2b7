"""One signed file that brings a part of the settings to many stations; made by ``edge-sign``.

::

    manifest.json       name, version, whom it is meant for, and the settings
    manifest.sig        ed25519 over manifest.json
"""

import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from edge.atomic_files import open_regular, write_whole
from edge.recipes.archive import MANIFEST, SIGNATURE, read_verified_manifest
from edge.recipes.bounded_zip import DAMAGED, BoundedZip
from edge.recipes.errors import ArchiveRefused
from edge.recipes.recipients import ReleaseManifest, check_patterns
from edge.settings.released import Fragment, demand_releasable
from edge.validation import in_words

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCHEMA: Literal["settings-release/1"] = "settings-release/1"
MAX_MANIFEST_BYTES = 2**20


class SettingsManifest(ReleaseManifest):
    """What the file says.

    Attributes:
        settings: section → key → value.
    """

    schema_version: Literal["settings-release/1"] = SCHEMA
    settings: Fragment


class _Header(BaseModel):
    schema_version: str


def write_settings_archive(
    path: Path,
    settings: dict[str, Any],
    *,
    name: str,
    version: int,
    key: "Ed25519PrivateKey",
    stations: Sequence[str] | None = None,
) -> SettingsManifest:
    """Write settings into one signed file, whole or not at all.

    Args:
        settings: section → key → value, as read from somebody's file.

    Raises:
        ArchiveRefused: name, version or a pattern of stations is none.
        ConfigurationInvalid: a release does not set one of these keys.
        OutputNotWritable: the file cannot be written.
    """
    check_patterns(stations or ())
    try:
        manifest = SettingsManifest(
            name=name,
            version=version,
            stations=tuple(stations) if stations is not None else None,
            settings=settings,
        )
    except ValidationError as error:
        raise ArchiveRefused(f"{path}: {_fault(error)}. Nothing is written.") from error
    demand_releasable(manifest.settings)
    text = manifest.model_dump_json(indent=1, exclude={"stations"} if stations is None else None)
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MANIFEST, text)
        archive.writestr(SIGNATURE, key.sign(text.encode()))
    write_whole(path, packed.getvalue())
    return manifest


def is_settings_archive(path: Path) -> bool:
    """Tell whether a file says that it brings settings; whether it is sound is another matter."""
    try:
        with open_regular(path) as file:
            _zip(path).check_directory(file)
            with zipfile.ZipFile(file) as archive:
                text = _zip(path).small(archive, MANIFEST, MAX_MANIFEST_BYTES)
        return _Header.model_validate_json(text).schema_version.startswith("settings-release/")
    except (*DAMAGED, OSError, ValidationError, ArchiveRefused):
        return False


def read_settings_archive(path: Path, public_key: Path | None = None) -> SettingsManifest:
    """Return what a file brings.

    Args:
        public_key: that must have signed it; None demands a signature, whoever's it is.

    Raises:
        ArchiveRefused: it is no such file, damaged, of another schema, or sets what no release may.
        BundleError: it is not signed by that key.
    """
    bounded = _zip(path)
    try:
        with open_regular(path) as file:
            bounded.check_directory(file)
            with zipfile.ZipFile(file) as archive:
                bounded.check_entries(archive, {MANIFEST}, frozenset({SIGNATURE}))
                text = read_verified_manifest(
                    path, bounded, archive, max_bytes=MAX_MANIFEST_BYTES, public_key=public_key
                )
                if SIGNATURE not in archive.namelist():
                    raise _refused(path, "is not signed")
    except DAMAGED as error:
        raise _refused(path, f"is damaged, or no release of settings ({error})") from error
    except OSError as error:
        raise ArchiveRefused(
            f"{path}: cannot be read ({error.strerror}). Check the file."
        ) from error
    manifest = bounded.parse_manifest(text, SettingsManifest, SCHEMA)
    demand_releasable(manifest.settings)
    return manifest


def _fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])[:100]
    return f"{key or 'text'} {in_words(fault)}"


def _zip(path: Path) -> BoundedZip:
    return BoundedZip("release of settings", 2, lambda why: _refused(path, why))


def _refused(path: Path, why: str) -> ArchiveRefused:
    return ArchiveRefused(f"{path}: {why}. Take a file that `edge-sign settings` has written.")
