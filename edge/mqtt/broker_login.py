"""Password and certificates of a connection, read from their files whenever one is made."""

import hashlib
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge.atomic_files import read_regular
from edge.mqtt.tls import make_tls
from edge.settings.credentials import PASSWORD_KEY, granted_path, read_secret
from edge.settings.mqtt import MqttSettings


@dataclass(frozen=True, slots=True)
class BrokerLogin:
    """What the files of the settings held at one moment; the representation shows no secret.

    Attributes:
        password: None without a file.
        tls: None for a broker without TLS.
        sha256: of all the files; another one means that something was exchanged.
    """

    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None
    sha256: str = ""


def read_broker_login(settings: MqttSettings, password_key: str = PASSWORD_KEY) -> BrokerLogin:
    """Read the files that the settings name.

    Args:
        password_key: of the setting, or the option, that names the password's file.

    Raises:
        ConfigurationInvalid: one cannot be read or used; names it.
    """
    # The hash first: what is exchanged in between differs from it, and is noticed the next time.
    sha256 = _sha256(settings)
    file = settings.password_file
    password = read_secret(Path(file), password_key) if file else None
    return BrokerLogin(password, make_tls(settings), sha256)


def _sha256(settings: MqttSettings) -> str:
    whole = hashlib.sha256()
    for name in ("password_file", "ca_file", "certificate_file", "key_file"):
        content = b""
        if file := getattr(settings, name):
            with suppress(OSError):  # who reads it as what it is tells it better
                content = read_regular(granted_path(Path(file))[0])
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
