"""The file that is released: looked at, and put where stations fetch it."""

import hashlib
import shutil
from pathlib import Path

from edge.atomic_files import open_regular, whole_file
from edge.contract.fleet import RECIPE, SETTINGS, ReleaseFile
from edge.errors import OutputNotWritable
from edge.fleet.errors import ReleaseUnusable
from edge.fleet.plan import Plan
from edge.recipes.archive import ArchiveManifest, is_signed, read_archive_manifest
from edge.settings.released_archive import (
    SettingsManifest,
    is_settings_archive,
    read_settings_archive,
)

ENDINGS = {RECIPE: ".recipe", SETTINGS: ".settings"}


def read_release(
    path: Path, plan: Plan, public_key: Path | None
) -> tuple[ReleaseFile, ArchiveManifest | SettingsManifest]:
    """Return what is released, and what the file says of itself.

    Args:
        public_key: the stations' one; None demands a signature and cannot tell whose it is.

    Raises:
        ReleaseUnusable, ArchiveRefused, BundleError, ConfigurationInvalid: no station would take
            it.
    """
    kind = SETTINGS if is_settings_archive(path) else RECIPE
    manifest: ArchiveManifest | SettingsManifest
    if kind == SETTINGS:
        manifest = read_settings_archive(path, public_key)
    else:
        manifest = read_archive_manifest(path, public_key)
    if kind == RECIPE and not is_signed(path):
        raise ReleaseUnusable(
            f"{path}: is not signed, so no station accepts it. Export it with --key."
        )
    sha256, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while chunk := file.read(2**20):
            sha256.update(chunk)
            size += len(chunk)
    name = f"{sha256.hexdigest()}{ENDINGS[kind]}"
    release = ReleaseFile(
        kind=kind,
        name=manifest.name,
        version=manifest.version,
        sha256=sha256.hexdigest(),
        bytes=size,
        address=f"{plan.address.rstrip('/')}/{name}",
    )
    return release, manifest


def put_release(path: Path, release: ReleaseFile, plan: Plan) -> None:
    """Put the file where stations fetch it, under its hash; what is there whole stays.

    Raises:
        ReleaseUnusable: it cannot be put there.
    """
    place = f"{(plan.put or plan.address).rstrip('/')}/{release.address.rpartition('/')[2]}"
    try:
        if "://" in place:
            # fsspec is an extra, which a folder does not need.
            import fsspec

            with path.open("rb") as source, fsspec.open(place, "wb") as target:
                shutil.copyfileobj(source, target)
            return
        target_path = Path(place)
        if target_path.is_file() and target_path.stat().st_size == release.bytes:
            with target_path.open("rb") as kept:
                if hashlib.file_digest(kept, "sha256").hexdigest() == release.sha256:
                    return
        with path.open("rb") as source, whole_file(target_path) as written:
            shutil.copyfileobj(source, written, 2**20)
    except OutputNotWritable as error:
        raise ReleaseUnusable(
            f"{error} The release is written there; the plan can name another folder "
            "(put, address)."
        ) from error
    except Exception as error:  # the libraries of the schemes name no common base
        cause = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise ReleaseUnusable(
            f"{place}: the release cannot be written there ({cause}). Make the folder, or "
            "name another one in the plan: put, address."
        ) from error
