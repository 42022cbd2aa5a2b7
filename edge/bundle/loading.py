"""The model bundle: IR plus manifest, verified as one thing.

``bottle.xml`` and ``bottle.bin`` are the OpenVINO IR, ``bottle.json`` is the manifest. OpenVINO
itself loads an IR with flipped or zeroed bytes without a word, so both files are read once, checked
against the manifest, and compiled from those very bytes.

A bundle comes from somebody else. Nothing of it is believed before it is bounded: the signature is
checked first, over the manifest; the manifest names sizes and hashes; only then the files are read.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from edge.atomic_files import open_regular
from edge.bundle.bounds import MAX_BIN_BYTES, MAX_BUNDLE_MANIFEST_BYTES, MAX_XML_BYTES
from edge.bundle.manifest import Identity, Manifest, manifest_here, parse_manifest, precision_text
from edge.bundle.signature import verify_signature
from edge.errors import BundleDamaged, BundleError, BundleMissing
from edge.system.file_access import why_closed
from edge.system.processor import processor_features


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle in memory.

    Attributes:
        manifest: the parsed manifest.
        sha256: of the manifest file; it contains the other two hashes, so it names all three.
        xml, weights: the bytes that were hashed, private to this process.
        path: the ``.xml`` it was read from, symbolic links resolved.
        made_for: arithmetic that it was made for, where this processor does not compute in it and
            the manifest here is that of the fallback; else None.
    """

    manifest: Manifest
    sha256: str
    xml: bytes
    weights: bytes
    path: Path
    made_for: str | None = None


def load_bundle(xml_path: Path, public_key: Path | None = None) -> Bundle:
    """Read and verify ``NAME.xml``, ``NAME.bin`` and ``NAME.json``.

    Args:
        xml_path: may lead through symbolic links, such as ``models/bottle/current/bottle.xml``;
            they are resolved once, so that all files are of one version.
        public_key: PEM file of an ed25519 key that must have signed the manifest; None asks for
            no signature.

    Raises:
        BundleMissing: a file is not there or not readable.
        BundleDamaged: a hash does not match, or the manifest is not a manifest.
        BundleVersionUnsupported: the manifest has another schema version.
        SignatureMissing, SignatureInvalid: the bundle is not signed by that key.
        PublicKeyUnusable, SigningNotInstalled: signatures cannot be checked here.
    """
    files = read_verified(xml_path, public_key, parse_manifest)
    here = manifest_here(files.manifest, processor_features())
    return Bundle(
        manifest=here,
        sha256=files.sha256,
        xml=files.xml,
        weights=files.weights,
        path=files.path,
        made_for=None if here is files.manifest else precision_text(files.manifest),
    )


class Identified(Protocol):
    """A manifest, of whatever schema."""

    @property
    def identity(self) -> Identity:
        """What names the files."""
        ...


_Manifest = TypeVar("_Manifest", bound=Identified)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFiles(Generic[_Manifest]):
    """The files of a bundle or a teacher: see ``Bundle``."""

    manifest: _Manifest
    sha256: str
    xml: bytes
    weights: bytes
    path: Path


def read_verified(
    xml_path: Path, public_key: Path | None, parse: Callable[[bytes, Path], _Manifest]
) -> VerifiedFiles[_Manifest]:
    """Read and verify three files, whatever the schema of their manifest.

    Args:
        parse: gives the manifest of its bytes, and refuses another schema.

    Raises:
        BundleError: as ``load_bundle``.
    """
    if xml_path.suffix != ".xml":
        raise BundleMissing(f"{xml_path}: --model takes the .xml of a bundle made by export-model.")
    xml_path = _resolved(xml_path)
    json_path, bin_path = xml_path.with_suffix(".json"), xml_path.with_suffix(".bin")
    with _opened(xml_path) as xml_file:  # what the user named is missed first
        with _opened(json_path) as file:
            text = _content(file, json_path, MAX_BUNDLE_MANIFEST_BYTES)
        if public_key is not None:
            # Before it is parsed, and the very bytes that are parsed.
            verify_signature(text, xml_path.with_suffix(".sig"), public_key)
        manifest = parse(text, json_path)
        identity = manifest.identity
        with _opened(bin_path) as bin_file:
            xml = _verified(
                xml_file,
                xml_path,
                max_bytes=MAX_XML_BYTES,
                named=identity.xml_bytes,
                sha256=identity.xml_sha256,
            )
            weights = _verified(
                bin_file,
                bin_path,
                max_bytes=MAX_BIN_BYTES,
                named=identity.bin_bytes,
                sha256=identity.bin_sha256,
            )
    return VerifiedFiles(
        manifest=manifest,
        sha256=hashlib.sha256(text).hexdigest(),
        xml=xml,
        weights=weights,
        path=xml_path,
    )


def fallback_sentence(bundle: Bundle) -> str | None:
    """Return what to know where a bundle runs in its fallback; None where it does not."""
    if bundle.made_for is None:
        return None
    return (
        f"{bundle.manifest.identity.name} was made for {bundle.made_for}, which this "
        f"processor cannot compute; it runs in {precision_text(bundle.manifest)}, in "
        "which it was validated, too, only slower"
    )


def manifest_sha256(xml_path: Path) -> str | None:
    """Return what names a bundle; None where it cannot be read, which its loading will tell."""
    try:
        path = _resolved(xml_path).with_suffix(".json")
        with _opened(path) as file:
            return hashlib.sha256(_content(file, path, MAX_BUNDLE_MANIFEST_BYTES)).hexdigest()
    except (BundleError, ValueError):  # also a path that is none
        return None


def _resolved(path: Path) -> Path:
    """Follow symbolic links; one that leads to a file of no bundle's name is left alone."""
    try:
        if not any(part.is_symlink() for part in (path, *path.parents)):
            return path
    except PermissionError:
        return path  # reading it says why
    real = Path(os.path.realpath(path))
    return real if real.suffix == ".xml" else Path(os.path.realpath(path.parent)) / path.name


def _opened(path: Path) -> BufferedReader:
    try:
        return open_regular(path)
    except PermissionError as error:
        raise BundleMissing(f"{path}: {why_closed()}.") from error
    except OSError as error:
        raise BundleMissing(
            f"{path}: cannot be read ({error.strerror}). A bundle is NAME.xml, NAME.bin and "
            "NAME.json in one folder; copy all three."
        ) from error


def _content(file: BufferedReader, path: Path, max_bytes: int, named: int | None = None) -> bytes:
    """Read a file of a bundle whose size is believed.

    Args:
        max_bytes: bytes that such a file may have.
        named: bytes that the manifest says it has; None where it does not say.
    """
    try:
        size = os.fstat(file.fileno()).st_size
        if named is not None and size != named:
            raise BundleDamaged(
                f"{path}: {size} bytes, which does not match {named} in the manifest. "
                "Copy all three files of the bundle again, or export it again."
            )
        if size > max_bytes:
            raise BundleDamaged(
                f"{path}: {size} bytes; such a file has at most {max_bytes}. It was not "
                "written by export-model: copy all three files of the bundle again."
            )
        return file.read(size)
    except OSError as error:
        raise BundleMissing(f"{path}: cannot be read ({error.strerror}). Copy it again.") from error


def _verified(
    file: BufferedReader, path: Path, *, max_bytes: int, named: int | None, sha256: str
) -> bytes:
    """Read a file that the manifest names."""
    content = _content(file, path, max_bytes, named)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BundleDamaged(
            f"{path}: SHA-256 {found[:12]}… does not match {sha256[:12]}… in the manifest "
            f"({len(content)} bytes read). Copy all three files of the bundle again, or "
            "export it again."
        )
    return content
