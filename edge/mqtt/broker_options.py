"""Options of commands that connect to a broker as no station does."""

import argparse
from pathlib import Path

from pydantic import ValidationError

from edge.errors import ConfigurationInvalid
from edge.settings.mqtt import MqttSettings
from edge.validation import in_words

PASSWORD_OPTION = "--password-file"


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Add where the broker is and how to log in."""
    parser.add_argument("--mqtt", required=True, metavar="URL", help="mqtt[s]://HOST[:PORT]")
    parser.add_argument("--username")
    parser.add_argument("--password-file", type=Path, metavar="FILE", help="mode 0600, one line")
    parser.add_argument("--ca-file", type=Path, metavar="FILE")
    parser.add_argument("--certificate-file", type=Path, metavar="FILE")
    parser.add_argument("--key-file", type=Path, metavar="FILE")


def broker_settings(options: argparse.Namespace) -> MqttSettings:
    """Return what the options say.

    Raises:
        ConfigurationInvalid: names the option.
    """
    given = {
        "url": options.mqtt,
        "username": options.username,
        "password_file": options.password_file,
        "ca_file": options.ca_file,
        "certificate_file": options.certificate_file,
        "key_file": options.key_file,
    }
    texts = {name: str(value) for name, value in given.items() if value is not None}
    try:
        return MqttSettings.model_validate(texts)
    except ValidationError as error:
        faults = "; ".join(
            f"--{'-'.join(str(part) for part in fault['loc']).replace('_', '-') or 'mqtt'}: "
            + in_words(fault)
            for fault in error.errors()
        )
        raise ConfigurationInvalid(faults.replace("--url", "--mqtt")) from error
