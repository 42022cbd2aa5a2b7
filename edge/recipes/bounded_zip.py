"""Zip files of somebody else: bounded before they are read, plain files only, by size and hash."""

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

from edge.errors import StationError
from edge.validation import in_words

# What opening or reading one may raise beyond OSError; zipfile has NotImplementedError for ways to
# pack that it does not know.
DAMAGED = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    UnicodeDecodeError,
    struct.error,
    zlib.error,
)
# Of the list at the end of a zip; so many files with long names have less.
MAX_DIRECTORY_BYTES = 16 * 2**20
# Text of a graph shrinks to a tenth; what shrinks to a thousandth is made to fill a disk.
MAX_RATIO = 200
_CHUNK_BYTES = 2**20
_END = struct.Struct("<4s4H2LH")
_WIDE_LOCATOR_BYTES = 20


Manifest = TypeVar("Manifest", bound=BaseModel)


class _Header(BaseModel):
    schema_version: str


@dataclass(frozen=True, slots=True)
class BoundedZip:
    """How one kind of file is read.

    Attributes:
        what: the kind, for messages: ``recipe``.
        max_files: so many entries.
        refused: makes the error of what is wrong, as in ``is damaged``.
    """

    what: str
    max_files: int
    refused: Callable[[str], StationError]

    def check_directory(self, file: IO[bytes]) -> int:
        """Demand a plain zip with a list of bounded length, before the library reads all of it.

        Returns:
            The file's size in bytes.
        """
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes < _END.size:
            raise self.refused(f"is damaged or not a {self.what}")
        file.seek(max(0, size_bytes - _END.size - _WIDE_LOCATOR_BYTES))
        tail = file.read()
        mark, disk, first_disk, here, entries, directory_bytes, _, comment = _END.unpack(
            tail[-_END.size :]
        )
        if mark != b"PK\5\6" or comment or disk or first_disk or here != entries:
            raise self.refused(f"is damaged or not a {self.what}")
        if b"PK\6\7" in tail or entries > self.max_files or directory_bytes > MAX_DIRECTORY_BYTES:
            raise self.refused(f"holds more files than a {self.what} has")
        file.seek(0)
        return size_bytes

    def parse_manifest(self, text: bytes, model: type[Manifest], *schemas: str) -> Manifest:
        """Read the text of a manifest, which is of one of these schemas and no other."""
        try:
            found = _Header.model_validate_json(text).schema_version
            if found not in schemas:
                known = " and ".join(map(repr, schemas))
                raise self.refused(f"has schema {found[:50]!r}, this version reads {known}")
            return model.model_validate_json(text)
        except ValidationError as error:
            fault = error.errors()[0]
            key = ".".join(str(part) for part in fault["loc"])[:100]
            raise self.refused(f"has a manifest whose {key or 'text'} {in_words(fault)}") from error

    def check_entries(
        self, archive: zipfile.ZipFile, named: Set[str], unnamed: Set[str] = frozenset()
    ) -> None:
        """Demand exactly these files, each a plain one and once.

        Args:
            unnamed: may be there, too.
        """
        found = archive.infolist()
        names = [one.filename for one in found]
        if len(set(names)) != len(names):
            raise self.refused("holds a file twice")
        differ = (set(names) - named - unnamed) | (named - set(names))
        if differ:
            raise self.refused(f"and its manifest disagree about {min(differ)[:100]!r}")
        for one in found:
            kind = stat.S_IFMT(one.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or one.is_dir() or one.flag_bits & 1:
                raise self.refused(f"holds {one.filename[:100]!r}, which is not a plain file")
            if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise self.refused(f"holds {one.filename[:100]!r} in an unknown compression")

    def small(self, archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
        """Return the content of a file of at most so many bytes."""
        try:
            with archive.open(name) as file:
                content = file.read(max_bytes + 1)
        except KeyError:
            raise self.refused(f"is not a {self.what}: it has no {name}") from None
        if len(content) > max_bytes:
            raise self.refused(f"has a {name} of more than {max_bytes} bytes")
        return content

    def unpack(
        self, archive: zipfile.ZipFile, place: str, target: Path, size_and_hash: tuple[int, str]
    ) -> None:
        """Unpack one file; no more than its manifest says, and of that hash."""
        target.parent.mkdir(parents=True, exist_ok=True)
        sha256, size = hashlib.sha256(), 0
        with archive.open(place) as source, target.open("xb") as file:
            for chunk in chunks(source):
                size += len(chunk)
                if size > size_and_hash[0]:
                    break
                sha256.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if (size, sha256.hexdigest()) != size_and_hash:
            raise self.refused(f"holds {place[:100]!r}, which is not what the manifest says of it")


def pack(archive: zipfile.ZipFile, place: str, source: IO[bytes], stored: bool) -> tuple[int, str]:
    """Pack a file; return its size and SHA-256.

    Args:
        stored: without compression, for what is compressed already.
    """
    info = zipfile.ZipInfo(place)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    sha256, size = hashlib.sha256(), 0
    with archive.open(info, "w") as target:
        for chunk in chunks(source):
            sha256.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return size, sha256.hexdigest()


def chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Give a file's content in pieces that fit into memory."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
