"""Files of passwords, tokens and keys: the site's own, or handed over by systemd."""

import os
import stat
from pathlib import Path

from edge.errors import ConfigurationInvalid
from edge.system.file_access import why_closed

# In settings: systemd's folder of credentials (``LoadCredential=``).
CREDENTIALS = "${CREDENTIALS_DIRECTORY}/"
PASSWORD_KEY = "mqtt.password_file"
SPARKPLUG_PASSWORD_KEY = "mqtt.sparkplug.password_file"
OPCUA_PASSWORD_KEY = "opcua.password_file"
TOKEN_KEY = "hmi.token_file"

_NEXT_STEP = "Make it, or name the right one"


def read_secret(path: Path, key: str, next_step: str = _NEXT_STEP) -> str:
    """Read the file of a password or token: one line, readable by its owner only.

    Args:
        path: may lie in systemd's folder of credentials.
        key: of the setting, or the option, that names the file.
        next_step: where there is no such file, or nothing in it.

    Raises:
        ConfigurationInvalid: missing, empty, open to others, or another user's; names ``key``.
    """
    path, guarded = granted_path(path)
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077 and not guarded:
            raise ConfigurationInvalid(
                f"{path}: the file of {key} can be read by others (mode {mode:04o}). Run: "
                f"chmod 600 {path}"
            )
        secret = path.read_text("utf-8-sig").rstrip("\r\n")  # some editors begin with a mark
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path}: the file of {key} cannot be read: {_cause(error, next_step)}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationInvalid(f"{path}: the file of {key} is not UTF-8 text.") from error
    if not secret:
        raise ConfigurationInvalid(f"{path}: the file of {key} is empty. {next_step}.")
    return secret


def _cause(error: OSError, next_step: str) -> str:
    if isinstance(error, PermissionError):
        return f"{why_closed()}, or hand the file over by LoadCredential="
    return f"{error.strerror}. {next_step}"


def granted_path(path: Path) -> tuple[Path, bool]:
    """Return where a secret lies, and whether systemd guards it (``LoadCredential=``).

    Raises:
        ConfigurationInvalid: it names systemd's folder of credentials, and there is none.
    """
    folder = granted()
    name = str(path)
    if name.startswith(CREDENTIALS):
        if not folder:
            raise ConfigurationInvalid(
                f"{path}: no systemd credentials here. Start the station as edge-run@NAME, or "
                "name a file."
            )
        path = Path(folder) / name.removeprefix(CREDENTIALS)
    return path, bool(folder) and path.is_relative_to(folder)


def read_by_everybody(path: Path) -> bool:
    """Tell whether every user of this PC can read, or change, the file of a key.

    Its group may: that is how certificates of a system are handed to its services.
    """
    try:
        path, guarded = granted_path(path)
        return not guarded and bool(path.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH))
    except (OSError, ConfigurationInvalid):
        return False


def waits_for_credentials(*secrets: str | None) -> bool:
    """Tell whether one of these files is what systemd gives to the service alone, not to us."""
    return not granted() and any(str(name).startswith(CREDENTIALS) for name in secrets)


def granted() -> str:
    """Return systemd's folder of credentials; empty outside of a service that has some."""
    return os.environ.get("CREDENTIALS_DIRECTORY", "")
