"""Whether the OPC UA server can be started; without its library, which takes a second to load."""

import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edge.errors import ConfigurationError
from edge.settings.credentials import OPCUA_PASSWORD_KEY, granted_path, read_secret
from edge.settings.opcua import OpcUaSettings


class OpcUaNotInstalled(ConfigurationError):
    """The library that speaks OPC UA is not installed."""


class OpcUaUnusable(ConfigurationError):
    """Address, certificate or key that the settings name cannot be used."""


def check_usable(settings: OpcUaSettings) -> None:
    """Try the address, and read password, certificate and key.

    Raises:
        OpcUaNotInstalled, OpcUaUnusable, ConfigurationInvalid: one cannot be used; names the key.
    """
    check_installed()
    read_password(settings)
    read_certificate(settings)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        raise OpcUaUnusable(
            f"opcua: nothing can listen at {settings.host}:{settings.port} ({error.strerror}). "
            "Set opcua.host to an address of this PC, and opcua.port to a free port."
        ) from error


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
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    certificate, key = settings.certificate_file, settings.key_file
    try:
        content, form = file_content(certificate)
        load = x509.load_pem_x509_certificate if form == "pem" else x509.load_der_x509_certificate
        read = load(content)
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
    return read


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
    content = granted_path(Path(file))[0].read_bytes()
    return content, "pem" if content.lstrip().startswith(b"-----BEGIN") else "der"


def server_url(settings: OpcUaSettings) -> str:
    """Return where the server is."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"opc.tcp://{host}:{settings.port}/"
