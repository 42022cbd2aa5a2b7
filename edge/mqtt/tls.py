"""TLS towards the broker: 1.2 at least, the broker's name checked, a certificate of our own."""

import ssl
from pathlib import Path

from edge.atomic_files import open_regular
from edge.errors import ConfigurationInvalid
from edge.settings.credentials import granted_path
from edge.settings.mqtt import MqttSettings


def make_tls(settings: MqttSettings) -> ssl.SSLContext | None:
    """Make the context that the settings ask for; None for a broker without TLS.

    Raises:
        ConfigurationInvalid: as ``tls_context``.
    """
    if not settings.tls:
        return None
    key = str(granted_path(Path(settings.key_file))[0]) if settings.key_file else None
    return tls_context(settings.ca_file, settings.certificate_file, key)


def tls_context(
    ca_file: str | None, certificate_file: str | None, key_file: str | None
) -> ssl.SSLContext:
    """Make the context of a connection.

    Args:
        ca_file: certificates that sign the broker's; None uses the system's.
        certificate_file, key_file: of this client; both None where the broker asks for none.

    Raises:
        ConfigurationInvalid: a file cannot be read, or key and certificate are no pair.
    """
    try:
        _refuse_fifos(ca_file)
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{ca_file}: no certificates could be read ({error.strerror or error}). "
            "mqtt.ca_file is a PEM file."
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate_file is not None:
        try:
            _refuse_fifos(certificate_file, key_file)
            # A key with a passphrase would make OpenSSL ask on the terminal.
            context.load_cert_chain(certificate_file, key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise ConfigurationInvalid(
                f"{certificate_file}, {key_file}: no certificate with its key could be read "
                f"({cause}). mqtt.certificate_file and mqtt.key_file are a pair of PEM files, "
                "the key without passphrase."
            ) from error
    return context


def _refuse_fifos(*files: str | None) -> None:
    """Refuse what OpenSSL would wait for, or read without end."""
    for file in files:
        if file is not None:
            open_regular(Path(file)).close()
