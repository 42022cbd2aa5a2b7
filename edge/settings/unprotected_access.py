"""What the settings leave open: plain-text logins and ports to the network, keys to this PC."""

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from edge.settings.addresses import Scheme, parse_scheme
from edge.settings.camera import CameraSettings
from edge.settings.hmi import HmiSettings
from edge.settings.mqtt import MqttSettings
from edge.settings.station import Settings
from edge.system.file_access import who_else_may_exchange


def unprotected_access(settings: Settings) -> Iterator[str]:
    """Yield what others may read or do, each with what to do about it."""
    camera, mqtt, hmi = settings.camera, settings.mqtt, settings.hmi
    if login_in_plain_sight(camera):
        yield (
            f"camera.uri: the password is sent to {urlsplit(camera.uri).hostname} "
            "unencrypted; anyone on that network can read it and take over the camera. "
            "Use rtsps:// or https:// with camera.ca_file, or give the camera a network "
            "of its own."
        )
    if mqtt is not None and mqtt.password_file and in_plain_sight(mqtt):
        yield (
            f"mqtt.url: the password is sent to {mqtt.host} unencrypted; anyone on that "
            "network can read it and act as this station. Use mqtts:// with mqtt.ca_file."
        )
    served_at = settings.modbus.host if settings.modbus is not None else None
    if served_at is not None and ipaddress.ip_address(served_at).is_unspecified:
        yield (
            f"modbus.host {served_at} listens on every network of this PC, and Modbus has "
            "no passwords. Set it to this PC's address in the machine's network."
        )
    opcua = settings.opcua
    if opcua is not None and opcua.username is None and not _is_here(opcua.host):
        yield (
            f"opcua.host: anyone who reaches {opcua.host} can read the verdicts. Set "
            "opcua.username and opcua.certificate_file, or keep others out of that "
            "network."
        )
    if hmi is not None and hmi.enabled and page_in_plain_sight(hmi):
        yield (
            f"hmi.host: the page's token is sent to {hmi.host} unencrypted; anyone on "
            "that network can read it and make changes. Let the page listen on "
            "127.0.0.1, behind a reverse proxy with TLS (docs/operate.md)."
        )
    for name, key in public_keys(settings):
        if who := who_else_may_exchange(key):
            yield (
                f"{name}: {key} can be exchanged by {who}: whoever does that decides which models "
                "and releases this station accepts. Let it, and its folder, belong to root, and "
                "let nobody else write there."
            )


def public_keys(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Yield the keys that decide what is accepted, each behind its name in the settings."""
    if settings.model.public_key is not None:
        yield "model.public_key", Path(settings.model.public_key)
    if settings.fleet is not None:
        yield "fleet.public_key", Path(settings.fleet.public_key)


def login_in_plain_sight(camera: CameraSettings) -> bool:
    """Return whether the password of a network camera leaves this PC unencrypted."""
    if parse_scheme(camera.uri) not in (Scheme.RTSP, Scheme.HTTP):
        return False
    parts = urlsplit(camera.uri)
    return bool(parts.password) and not _is_here(parts.hostname or "")


def in_plain_sight(mqtt: MqttSettings) -> bool:
    """Return whether messages to the broker leave this PC unencrypted."""
    return not mqtt.tls and not _is_here(mqtt.host)


def page_in_plain_sight(hmi: HmiSettings) -> bool:
    """Return whether the page takes its token from other PCs, and unencrypted."""
    return hmi.token_file is not None and not _is_here(hmi.host)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
