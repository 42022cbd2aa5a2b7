"""The newest release of each model that a station has worked with.

A signature says who made a bundle, not that it is still to be used: an older release may be the one
whose fault the newer one mends. The version is the bundle's time of creation, which is signed with
the rest of its manifest. Kept beside the journal; without one, for as long as the station runs.
"""

import logging
from pathlib import Path

from pydantic import AwareDatetime, TypeAdapter

from edge.atomic_files import write_whole
from edge.bundle.manifest import Manifest
from edge.errors import BundleError, OutputNotWritable
from edge.settings.small_record import read_record

FILE_NAME = "releases.json"
MAX_NAMES = 1000

_CONTENT = TypeAdapter(dict[str, AwareDatetime])

log = logging.getLogger(__name__)


class OlderRelease(BundleError):
    """A newer release of this model has been in use here, and nobody asked for the older one."""


class Releases:
    """What is remembered of one station."""

    def __init__(self, journal_folder: Path | None) -> None:
        """Read what is kept; None keeps nothing beyond this run."""
        self._path = journal_folder / FILE_NAME if journal_folder is not None else None
        self._newest = self._read()

    def check(self, manifest: Manifest, path: Path) -> None:
        """Refuse a release that is older than one that was in use.

        Raises:
            OlderRelease: names both.
        """
        identity = manifest.identity
        newest = self._newest.get(identity.name)
        if newest is not None and identity.created < newest:
            raise OlderRelease(
                f"{path}: {identity.name} of {identity.created.isoformat()} is older than the "
                f"release of {newest.isoformat()}, which was in use here. Install a newer "
                "release, or set model.allow_downgrade: true if this one is meant."
            )

    def remember(self, manifest: Manifest, downgrade: bool = False) -> None:
        """Remember a release that is in use now.

        Args:
            downgrade: an older one counts from here on as well, because it was asked for.
        """
        identity = manifest.identity
        newest = self._newest.get(identity.name)
        if newest == identity.created or (newest and newest > identity.created and not downgrade):
            return
        self._newest.pop(identity.name, None)
        self._newest[identity.name] = identity.created
        while len(self._newest) > MAX_NAMES:
            del self._newest[next(iter(self._newest))]
        if self._path is not None:
            try:
                write_whole(self._path, _CONTENT.dump_json(self._newest, indent=1) + b"\n")
            except OutputNotWritable as error:
                log.warning("%s Until then, a restart accepts older releases, too.", error)

    def _read(self) -> dict[str, AwareDatetime]:
        if self._path is None:
            return {}
        return read_record(
            self._path,
            _CONTENT,
            {},
            "older releases are accepted until a newer one has been in use.",
        )
