"""Addresses of brokers and cameras: the scheme is read here, once, whatever its case."""

import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Scheme(StrEnum):
    """How brokers and cameras are spoken to."""

    MQTT = "mqtt"
    MQTTS = "mqtts"
    RTSP = "rtsp"
    RTSPS = "rtsps"
    HTTP = "http"
    HTTPS = "https"
    GIGE = "gige"
    USB3 = "usb3"
    ARAVIS = "aravis"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens.

    Attributes:
        scheme: MQTT or MQTTS; only this decides about TLS.
        host: a name in lower case, or an address.
        port: the one of the scheme where none was given.
    """

    scheme: Scheme
    host: str
    port: int

    @property
    def encrypted(self) -> bool:
        return self.scheme is Scheme.MQTTS


_BROKER_PORTS = {Scheme.MQTT: 1883, Scheme.MQTTS: 8883}


def parse_scheme(uri: str) -> str | None:
    """Return the scheme of an address in lower case; None of a path, an index or a device."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else None


def with_plain_scheme(uri: str) -> str:
    """Return the address with its scheme in lower case, as libraries and comparisons expect it."""
    scheme = parse_scheme(uri)
    return uri if scheme is None else scheme + uri[len(scheme) :]


def broker_address(url: str) -> BrokerAddress:
    """Read ``mqtt://HOST[:PORT]`` or ``mqtts://HOST[:PORT]``.

    Raises:
        ValueError: another form; says what is wrong.
    """
    scheme = parse_scheme(url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"is not mqtt://HOST:PORT ({error})") from error
    # urlsplit drops blanks and control characters: what it reads is not what was written.
    strange = any(character.isspace() or not character.isprintable() for character in url)
    if strange or scheme not in _BROKER_PORTS or not host or port == 0:
        raise ValueError("must be mqtt://HOST:PORT or mqtts://HOST:PORT")
    if "@" in parts.netloc:
        raise ValueError("must not contain credentials; use username and password_file")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must end after the port; topics come from the station name")
    read = Scheme(scheme)
    return BrokerAddress(read, host, port or _BROKER_PORTS[read])
