"""Whether the OPC UA server can be started; without its library, which takes a second to load."""

import socket
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.atomic_files import read_regular
from edge.errors import ConfigurationError
from edge.settings.credentials import OPCUA_PASSWORD_KEY, granted_path, read_secret
from edge.settings.opcua import OpcUaSettings

# Of Basic256Sha256 (OPC 10000-7).
MIN_KEY_BITS, MAX_KEY_BITS = 2048, 4096
# Somebody should know by then that it expires.
EXPIRES_SOON = timedelta(days=30)


class OpcUaNotInstalled(ConfigurationError):
    """The library that speaks OPC UA is not installed."""


class OpcUaUnusable(ConfigurationError):
    """Address, certificate or key that the settings name cannot be used."""


def check_usable(settings: OpcUaSettings) -> tuple[str, ...]:
    """Try the address, and read password, certificate and key.

    Returns:
        What clients may refuse the certificate for.

    Raises:
        OpcUaNotInstalled, OpcUaUnusable, ConfigurationInvalid: one cannot be used; names the key.
    """
    check_installed()
    read_password(settings)
    certificate = read_certificate(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        raise OpcUaUnusable(
            f"opcua: nothing can listen at {settings.host}:{settings.port} ({error.strerror}). "
            "Set opcua.host to an address of this PC, and opcua.port to a free port."
        ) from error
    return certificate_doubts(certificate, datetime.now(UTC))


def check_installed() -> None:
    """Look for the library.

    Raises:
        OpcUaNotInstalled: it is missing.
    """
    if find_spec("asyncua") is None:
        raise OpcUaNotInstalled(
            "opcua needs asyncua, which is not installed. Install the extra: "
            "pip install 'inspection-station[opcua]'"
        )


def read_certificate(settings: OpcUaSettings) -> Any:
    """Return the server's certificate, once its key is seen to fit; None without one.

    Raises:
        OpcUaUnusable: one of them cannot be used; names the key.
    """
    if settings.certificate_file is None or settings.key_file is None:
        return None
    # cryptography: a station without OPC UA has none
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    certificate, key = settings.certificate_file, settings.key_file
    try:
        read = _load_certificate(certificate)
        content, form = file_content(key)
        pem = form == "pem"
        load_key = serialization.load_pem_private_key if pem else serialization.load_der_private_key
        private = load_key(content, None)
    except (OSError, ValueError, TypeError) as error:
        raise OpcUaUnusable(
            f"{certificate}, {key}: no certificate with its key could be read ({error}). "
            "opcua.certificate_file and opcua.key_file are PEM or DER, the key without passphrase."
        ) from error
    if read.public_key() != private.public_key():
        raise OpcUaUnusable(
            f"{certificate}, {key}: do not belong together. Set opcua.key_file to the key "
            "of that certificate."
        )
    if not isinstance(private, RSAPrivateKey):
        raise OpcUaUnusable(
            f"{key}: is no RSA key, and no client could connect (Basic256Sha256). Set "
            "opcua.certificate_file and opcua.key_file to a certificate with an RSA key of "
            f"{MIN_KEY_BITS} to {MAX_KEY_BITS} bits."
        )
    return read


def certificate_doubts(certificate: Any, now: datetime) -> tuple[str, ...]:
    """Return what clients may refuse a server's certificate for (OPC 10000-4, 6.1.3).

    Args:
        certificate: None for a server without one.
    """
    if certificate is None:
        return ()
    # cryptography: a station without OPC UA has none
    from cryptography.x509.oid import ExtendedKeyUsageOID

    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    bits = certificate.public_key().key_size
    usage = _extension(certificate, "KeyUsage")
    purposes = _extension(certificate, "ExtendedKeyUsage")
    doubts = (
        (now < begins, f"is valid only from {begins:%Y-%m-%d}"),
        (now > ends, f"expired on {ends:%Y-%m-%d}"),
        (now <= ends < now + EXPIRES_SOON, f"expires on {ends:%Y-%m-%d}"),
        (application_uri(certificate) is None, "has no application URI among its subjectAltName"),
        (
            usage is not None
            and not (
                usage.digital_signature and usage.key_encipherment and usage.data_encipherment
            ),
            "is not for digitalSignature, keyEncipherment and dataEncipherment (keyUsage)",
        ),
        (
            purposes is not None and ExtendedKeyUsageOID.SERVER_AUTH not in purposes,
            "is not for serverAuth (extendedKeyUsage)",
        ),
        (
            not MIN_KEY_BITS <= bits <= MAX_KEY_BITS,
            f"has a key of {bits} bits, not {MIN_KEY_BITS} to {MAX_KEY_BITS}",
        ),
    )
    return tuple(text for holds, text in doubts if holds)


def installed_certificate_doubts(settings: OpcUaSettings) -> tuple[str, ...]:
    """Return them of the certificate that the settings name; none of one that we may not read."""
    try:
        named = settings.certificate_file
        return certificate_doubts(_load_certificate(named) if named else None, datetime.now(UTC))
    except (OSError, ValueError, ConfigurationError):
        return ()


def application_uri(certificate: Any) -> str | None:
    """Return the URI of a certificate, which clients compare with the server's."""
    # cryptography: a station without OPC UA has none
    from cryptography.x509 import UniformResourceIdentifier

    names = _extension(certificate, "SubjectAlternativeName")
    if names is None:
        return None
    return next(iter(names.get_values_for_type(UniformResourceIdentifier)), None)


def _extension(certificate: Any, name: str) -> Any:
    """Return what an extension holds; None where the certificate has none of this name."""
    # cryptography: a station without OPC UA has none
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(getattr(x509, name)).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    except ValueError:  # it holds nonsense
        return None


def _load_certificate(file: str) -> Any:
    # cryptography: a station without OPC UA has none
    from cryptography import x509

    content, form = file_content(file)
    load = x509.load_pem_x509_certificate if form == "pem" else x509.load_der_x509_certificate
    return load(content)


def read_password(settings: OpcUaSettings) -> str | None:
    """Return the password of the account; None without one.

    Raises:
        ConfigurationInvalid: its file cannot be used.
    """
    if settings.password_file is None:
        return None
    return read_secret(Path(settings.password_file), OPCUA_PASSWORD_KEY)


def file_content(file: str) -> tuple[bytes, str]:
    """Return what a certificate or key holds, and in which format."""
    content = read_regular(granted_path(Path(file))[0])
    # Programs that make certificates write about them above them.
    return content, "pem" if b"-----BEGIN " in content else "der"


def server_url(settings: OpcUaSettings) -> str:
    """Return where the server is."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"opc.tcp://{host}:{settings.port}/"
