"""Signatures of bundles: ed25519 over the manifest, whose hashes name the other two files.

``NAME.sig`` holds the 64 bytes of the signature of ``NAME.json``. Keys are PEM files as openssl
makes them, and openssl signs and verifies the same::

    openssl genpkey -algorithm ed25519 -out release.pem
    openssl pkey -in release.pem -pubout -out release.pub.pem
    python -m edge.signature sign bottle.xml --key release.pem
    python -m edge.signature verify bottle.xml --public-key release.pub.pem
"""

import argparse
import getpass
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import BundleError, ConfigurationError, StationError
from edge.files import open_regular, write_whole
from edge.process_start import prepare_process

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PROGRAM = "python -m edge.signature"
SIGNATURE_BYTES = 64
_MOST_KEY_BYTES = 64 * 1024


class SignatureMissing(BundleError):
    """The station asks for signed bundles, and this one has no signature."""


class SignatureInvalid(BundleError):
    """The signature is not one of this manifest by this key."""


class PublicKeyUnusable(ConfigurationError):
    """The file named by ``model.public_key`` is no ed25519 public key."""


class PrivateKeyUnusable(ConfigurationError):
    """The file to sign with is no ed25519 private key, or open to others."""


class SigningNotInstalled(ConfigurationError):
    """The library that checks signatures is not installed."""


def verify_signature(manifest: bytes, signature_path: Path, public_key_path: Path) -> None:
    """Check that the owner of a key signed these bytes.

    Raises:
        SignatureMissing: there is no signature to read.
        SignatureInvalid: it is not a signature of these bytes by this key.
        PublicKeyUnusable: the key cannot be read, or is of another kind.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    key = _public_key(public_key_path)
    try:
        with open_regular(signature_path) as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except OSError as error:
        raise SignatureMissing(
            f"{signature_path}: cannot be read ({error.strerror}), and model.public_key asks for "
            f"signed bundles. Copy it from the release, or sign the bundle with `{PROGRAM} sign`."
        ) from error
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, manifest)
    except InvalidSignature:
        raise SignatureInvalid(
            f"{signature_path}: is not a signature of {signature_path.with_suffix('.json').name} "
            f"by the key {public_key_path}. Copy all four files of the release again; if it stays, "
            "the bundle comes from somebody else or was changed: do not use it."
        ) from None


def sign_bundle(xml_path: Path, private_key_path: Path, password: bytes | None = None) -> Path:
    """Write ``NAME.sig`` beside a bundle and return its path.

    Raises:
        BundleError: the bundle is not whole; nothing is signed.
        PrivateKeyUnusable: no ed25519 key, or readable by others.
        OutputNotWritable: folder or disk refused the file.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    from edge.manifest import load_bundle

    key = _private_key(private_key_path, password)
    path = load_bundle(xml_path).path
    manifest = path.with_suffix(".json").read_bytes()
    write_whole(path.with_suffix(".sig"), key.sign(manifest))
    return path.with_suffix(".sig")


def main(arguments: list[str] | None = None) -> int:
    """Sign or verify a bundle from the command line; return the exit code."""
    if arguments is None:
        prepare_process()
    parser = argparse.ArgumentParser(PROGRAM, description="Sign a model bundle, or check it.")
    commands = parser.add_subparsers(dest="command", required=True)
    sign = commands.add_parser("sign", help="write BUNDLE.sig")
    sign.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    sign.add_argument("--key", type=Path, required=True, help="ed25519 private key, PEM")
    verify = commands.add_parser("verify", help="check hashes and signature")
    verify.add_argument("bundle", type=Path, metavar="BUNDLE.xml")
    verify.add_argument("--public-key", type=Path, required=True, help="ed25519 public key, PEM")
    options = parser.parse_args(arguments)
    try:
        if options.command == "sign":
            password = _asked_password(options.key)
            print(f"{sign_bundle(options.bundle, options.key, password)}: written")
        else:
            from edge.manifest import load_bundle

            bundle = load_bundle(options.bundle, options.public_key)
            print(f"{options.bundle}: {bundle.manifest.identity.name}, signed and whole")
    except StationError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _public_key(path: Path) -> "Ed25519PublicKey":
    serialization, kinds = _library()
    text = _key_file(path, PublicKeyUnusable)
    try:
        key = serialization.load_pem_public_key(text)
    except Exception as error:  # the library names no common base of what it raises
        raise PublicKeyUnusable(
            f"{path}: no public key in PEM form ({type(error).__name__}). Make it with "
            f"`openssl pkey -in release.pem -pubout -out {path.name}`."
        ) from error
    if not isinstance(key, kinds.Ed25519PublicKey):
        raise PublicKeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.strip('_')}). Bundles are "
            "signed with ed25519: `openssl genpkey -algorithm ed25519`."
        )
    return key


def _private_key(path: Path, password: bytes | None) -> "Ed25519PrivateKey":
    serialization, kinds = _library()
    text = _key_file(path, PrivateKeyUnusable)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise PrivateKeyUnusable(
            f"{path}: the private key is open to others (mode {mode:04o}). Run: chmod 600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(text, password)
    except Exception as error:  # wrong password, no PEM, no key
        raise PrivateKeyUnusable(
            f"{path}: no private key in PEM form, or not of this password "
            f"({type(error).__name__}). Make one with "
            f"`openssl genpkey -algorithm ed25519 -out {path.name}`."
        ) from error
    if not isinstance(key, kinds.Ed25519PrivateKey):
        raise PrivateKeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.strip('_')}). Bundles are "
            "signed with ed25519: `openssl genpkey -algorithm ed25519`."
        )
    return key


def _asked_password(path: Path) -> bytes | None:
    """Ask for the password of an encrypted key: on the command line everybody could read it."""
    if b"ENCRYPTED" not in _key_file(path, PrivateKeyUnusable):
        return None
    return getpass.getpass(f"password of {path}: ").encode()


def _key_file(path: Path, refusal: type[ConfigurationError]) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise refusal(
            f"{path}: the key cannot be read ({error.strerror}). Check its path and its owner."
        ) from error


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SigningNotInstalled(
            f"signatures cannot be checked: {error}. Install the extra: "
            "pip install 'inspection-station[signing]', or leave model.public_key out."
        ) from error
    return serialization, ed25519


if __name__ == "__main__":
    sys.exit(main())
