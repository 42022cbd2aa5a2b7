"""Signing a bundle: ed25519 over its manifest, with a private key that only its owner can read.

Keys are PEM files as openssl makes them, and openssl signs the same::

    openssl genpkey -algorithm ed25519 -out release.pem
    openssl pkey -in release.pem -pubout -out release.pub.pem
"""

import getpass
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from edge.atomic_files import write_whole
from edge.bundle.keys import read_key_file, signing_library
from edge.bundle.teacher import load_signable
from edge.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class PrivateKeyUnusable(ConfigurationError):
    """The file to sign with is no ed25519 private key, or open to others."""


def sign_bundle(xml_path: Path, private_key_path: Path, password: bytes | None = None) -> Path:
    """Write ``NAME.sig`` beside a bundle or a teacher and return its path.

    Raises:
        BundleError: the bundle is not whole; nothing is signed.
        PrivateKeyUnusable: no ed25519 key, or readable by others.
        OutputNotWritable: folder or disk refused the file.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    key = load_private_key(private_key_path, password)
    path = load_signable(xml_path).path
    manifest = path.with_suffix(".json").read_bytes()
    write_whole(path.with_suffix(".sig"), key.sign(manifest))
    return path.with_suffix(".sig")


def is_encrypted(private_key_path: Path) -> bool:
    """Whether a private key asks for a password.

    Raises:
        PrivateKeyUnusable: the file cannot be read.
    """
    return b"ENCRYPTED" in read_key_file(private_key_path, PrivateKeyUnusable)


def ask_password(private_key_path: Path) -> bytes | None:
    """Ask for the password of an encrypted key: on the command line everybody could read it.

    Raises:
        PrivateKeyUnusable: the file cannot be read, or nobody answers.
    """
    if not is_encrypted(private_key_path):
        return None
    try:
        return getpass.getpass(f"password of {private_key_path}: ").encode()
    except (EOFError, OSError) as error:
        raise PrivateKeyUnusable(
            f"{private_key_path}: its password is asked for, and there is no terminal to answer at."
            " Run this at a terminal, or use a key without a password."
        ) from error


def load_private_key(path: Path, password: bytes | None = None) -> "Ed25519PrivateKey":
    """Read what signs.

    Raises:
        PrivateKeyUnusable: no ed25519 key, or readable by others.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    serialization, kinds = signing_library()
    text = read_key_file(path, PrivateKeyUnusable)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise PrivateKeyUnusable(
            f"{path}: the private key can be read by others (mode {mode:04o}). Run: chmod "
            f"600 {path}"
        )
    try:
        key = serialization.load_pem_private_key(text, password)
    except Exception as error:  # wrong password, no PEM, no key
        raise PrivateKeyUnusable(
            f"{path}: not a private key in PEM format, or the password is wrong "
            f"({type(error).__name__}). Make one with `openssl genpkey -algorithm ed25519 "
            f"-out {path.name}`."
        ) from error
    if not isinstance(key, kinds.Ed25519PrivateKey):
        raise PrivateKeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.strip('_')}). Bundles are "
            "signed with ed25519: `openssl genpkey -algorithm ed25519`."
        )
    return key
