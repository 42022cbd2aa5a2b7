"""Whether the files of secrets that the settings name can be used, before anything is opened."""

from pathlib import Path

from edge.hmi.page_token import read_token
from edge.mqtt.tls import make_tls
from edge.settings.credentials import (
    OPCUA_PASSWORD_KEY,
    PASSWORD_KEY,
    SPARKPLUG_PASSWORD_KEY,
    read_secret,
    waits_for_credentials,
)
from edge.settings.mqtt import MqttSettings
from edge.settings.station import Settings


def check_secrets(settings: Settings) -> bool:
    """Read every file of a password, token, key or certificate that the settings name.

    Returns:
        False where some are systemd's credentials, which the running service alone can read.

    Raises:
        ConfigurationInvalid: one cannot be used; names its key.
    """
    all_read = True
    mqtt, hmi = settings.mqtt, settings.hmi
    if mqtt is not None:
        all_read = _check_login(mqtt, PASSWORD_KEY)
        if mqtt.sparkplug is not None:
            all_read = _check_login(mqtt.of_sparkplug, SPARKPLUG_PASSWORD_KEY) and all_read
    opcua = settings.opcua
    if opcua is not None and opcua.password_file:
        if waits_for_credentials(opcua.password_file):
            all_read = False
        else:
            read_secret(Path(opcua.password_file), OPCUA_PASSWORD_KEY)
    if hmi is not None and hmi.enabled and hmi.token_file:
        if waits_for_credentials(hmi.token_file):
            all_read = False
        else:
            read_token(Path(hmi.token_file))
    return all_read


def _check_login(mqtt: MqttSettings, password_key: str) -> bool:
    if waits_for_credentials(mqtt.password_file, mqtt.key_file):
        return False
    if mqtt.password_file:
        read_secret(Path(mqtt.password_file), password_key)
    make_tls(mqtt)
    return True
