"""A release's file: from an allowed address onto the station's disk, bounded and of its hash."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from edge.atomic_files import create_new, open_regular
from edge.contract.fleet import ReleaseFile
from edge.settings.fleet import FleetSettings
from edge.station.fleet.errors import ReleaseNotFetched, ReleaseRefused

CHUNK_BYTES = 2**20
# What the station needs itself while a release is taken in.
RESERVED_BYTES = 64 * 2**20
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDownload:
    """Where a release may come from and go to.

    Attributes:
        clock_s: monotonic.
        free_bytes: of the disk of a folder.
        ending: the station stops, and so does the download.
    """

    settings: FleetSettings
    clock_s: Callable[[], float]
    free_bytes: Callable[[Path], int]
    ending: Callable[[], bool]

    def fetch(self, release: ReleaseFile, target: Path) -> None:
        """Bring the file to the disk; its signature is not looked at here.

        Raises:
            ReleaseRefused: it may not come from there, is too large, is another file, or the disk
                does not take it.
            ReleaseNotFetched: it cannot be reached, or not within ``fleet.fetch_s``.
        """
        check_allowed(release.address, self.settings.addresses)
        max_bytes = self.settings.max_mb * 10**6
        if release.bytes > max_bytes:
            raise ReleaseRefused(
                "too_large",
                f"{release} has {release.bytes} bytes, fleet.max_mb allows {max_bytes}. Raise it.",
            )
        self.demand_room(release.bytes, target.parent)
        try:
            with _opened(release.address, self.settings.fetch_s) as source:
                self._copy(source, release, target)
        except ReleaseRefused:
            raise
        except ImportError as error:
            raise ReleaseNotFetched(
                f"{release.address}: cannot be fetched ({error}). Install the extra: "
                "pip install 'inspection-station[fleet]'."
            ) from error
        except Exception as error:  # the libraries of the schemes name no common base
            raise ReleaseNotFetched(
                f"{release.address}: cannot be fetched ({_cause(error)}). Check that it is there, "
                "and that this station reaches it."
            ) from error

    def demand_room(self, size_bytes: int, folder: Path) -> None:
        """Demand that the disk takes so much more.

        Raises:
            ReleaseRefused: it does not.
        """
        free = self.free_bytes(folder)
        if free < size_bytes + RESERVED_BYTES:
            raise ReleaseRefused(
                "disk_full",
                f"{folder}: {free} bytes are free, the release needs {size_bytes} and the station "
                f"keeps {RESERVED_BYTES}. Make room, or remove recipes that are not used.",
            )

    def _copy(self, source: IO[bytes], release: ReleaseFile, target: Path) -> None:
        until_s = self.clock_s() + self.settings.fetch_s
        sha256, size = hashlib.sha256(), 0
        with ExitStack() as held:
            with _onto_disk(target.parent):
                file = held.enter_context(create_new(target, 0o600))
            while chunk := source.read(CHUNK_BYTES):
                size += len(chunk)
                if size > release.bytes:
                    break
                sha256.update(chunk)
                with _onto_disk(target.parent):
                    file.write(chunk)
                    file.flush()
                if self.ending():
                    raise ReleaseNotFetched(
                        "the station is stopping; the release will be fetched again."
                    )
                if self.clock_s() > until_s:
                    raise ReleaseNotFetched(
                        f"{release.address}: not fetched within {self.settings.fetch_s:g} s "
                        "(fleet.fetch_s). Check the network."
                    )
        if size != release.bytes or sha256.hexdigest() != release.sha256:
            raise ReleaseRefused(
                "other_file",
                f"{release.address}: is incomplete or not the released file. Copy it there "
                "again, and release it again.",
            )


def check_allowed(address: str, allowed: Sequence[str]) -> None:
    """Demand that an address lies below one of those that the site allows.

    Raises:
        ReleaseRefused: it does not.
    """
    if "://" in address:
        plain = unquote(address)
        hidden = ".." in plain.split("/") or "\\" in plain or not plain.isprintable()
        below = not hidden and any(
            "://" in one and address.startswith(one + "/") for one in allowed
        )
    else:
        place = Path(os.path.realpath(address))
        below = Path(address).is_absolute() and any(
            "://" not in one and place.is_relative_to(os.path.realpath(one)) for one in allowed
        )
    if not below:
        raise ReleaseRefused(
            "address_not_allowed",
            f"{address!r} is not below any of fleet.addresses. Put the release where this "
            "station may fetch it, or add the address to its settings.",
        )


@contextmanager
def _onto_disk(folder: Path) -> Iterator[None]:
    """Name the disk where it refuses what is written in the block."""
    try:
        yield
    except OSError as error:
        full = error.errno in DISK_FULL
        raise ReleaseRefused(
            "disk_full" if full else "not_writable",
            f"{folder}: the release cannot be written ({error.strerror}). "
            + ("Make room" if full else "Check the disk and its permissions")
            + ", and resume the roll-out.",
        ) from error


def free_bytes(folder: Path) -> int:
    """Return how much the disk of a folder takes."""
    return shutil.disk_usage(folder).free


def _opened(address: str, limit_s: float) -> AbstractContextManager[IO[bytes]]:
    scheme, marked, _ = address.partition("://")
    if not marked:
        return open_regular(Path(address))
    # fsspec is an extra, which a folder does not need.
    import fsspec

    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        # aiohttp comes with fsspec's HTTP.
        import aiohttp

        # Nowhere else than the settings allow; and one request, not one a block.
        options = {
            "allow_redirects": False,
            "client_kwargs": {"timeout": aiohttp.ClientTimeout(total=limit_s)},
            "block_size": 0,
        }
    opened: AbstractContextManager[IO[bytes]] = fsspec.open(address, "rb", **options)
    return opened


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"[:200]
