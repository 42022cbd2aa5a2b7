"""Signatures of bundles: ed25519 over the manifest, whose hashes name the other two files.

``NAME.sig`` holds the 64 bytes of the signature of ``NAME.json``; openssl verifies the same.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from edge.atomic_files import open_regular
from edge.bundle.keys import read_key_file, signing_library
from edge.errors import BundleError, ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_BYTES = 64


class SignatureMissing(BundleError):
    """The station asks for signed bundles, and this one has no signature."""


class SignatureInvalid(BundleError):
    """The signature is not one of this manifest by this key."""


class PublicKeyUnusable(ConfigurationError):
    """The file named by ``model.public_key`` is no ed25519 public key."""


def verify_signature(manifest: bytes, signature_path: Path, public_key_path: Path) -> None:
    """Check that the owner of a key signed these bytes.

    Raises:
        SignatureMissing: there is no signature to read.
        SignatureInvalid: it is not a signature of these bytes by this key.
        PublicKeyUnusable: the key cannot be read, or is of another kind.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    check_public_key(public_key_path)
    try:
        with open_regular(signature_path) as file:
            signature = file.read(SIGNATURE_BYTES + 1)
    except OSError as error:
        raise SignatureMissing(
            f"{signature_path}: cannot be read ({error.strerror}), and model.public_key asks for "
            f"signed bundles. Copy it from the release, or sign the bundle with `edge-sign sign`."
        ) from error
    if not is_signed_by(manifest, signature, public_key_path):
        raise SignatureInvalid(
            f"{signature_path}: is not a signature of "
            f"{signature_path.with_suffix('.json').name} by the key {public_key_path}. "
            "Copy all four files of the release again; if the error remains, the bundle "
            "comes from somebody else or was changed: do not use it."
        )


def is_signed_by(content: bytes, signature: bytes, public_key_path: Path) -> bool:
    """Tell whether the owner of a key signed these bytes.

    Raises:
        PublicKeyUnusable: the key cannot be read, or is of another kind.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    key = _public_key(public_key_path)
    # cryptography is there by now: the key was read with it.
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


def check_public_key(path: Path) -> None:
    """Find out before the first signature whether a key can be used.

    Raises:
        PublicKeyUnusable: it cannot be read, or is of another kind.
        SigningNotInstalled: ``cryptography`` is missing.
    """
    _public_key(path)


def _public_key(path: Path) -> "Ed25519PublicKey":
    serialization, kinds = signing_library()
    text = read_key_file(path, PublicKeyUnusable)
    try:
        key = serialization.load_pem_public_key(text)
    except Exception as error:  # the library names no common base of what it raises
        raise PublicKeyUnusable(
            f"{path}: not a public key in PEM format ({type(error).__name__}). Make it "
            f"with `openssl pkey -in release.pem -pubout -out {path.name}`."
        ) from error
    if not isinstance(key, kinds.Ed25519PublicKey):
        raise PublicKeyUnusable(
            f"{path}: is a key of another kind ({type(key).__name__.strip('_')}). Bundles are "
            "signed with ed25519: `openssl genpkey -algorithm ed25519`."
        )
    return key
