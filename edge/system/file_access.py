"""Why a path is closed to this process, in words that lead to the cure."""

import os
import pwd
from collections.abc import Iterator, Mapping
from pathlib import Path

_HIDDEN = ("/home/", "/root/", "/run/user/")


def why_closed() -> str:
    """Return whom the path is closed to, and what else closes it to a service."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return (
        f"permission denied for user {user!r}. The service sees nothing of /home, /root and "
        "/run/user (ProtectHome= of its unit): choose another folder, such as one below "
        f"/var/lib/edge, and let {user!r} read it"
    )


def hidden_from_service(value: object) -> Iterator[str]:
    """Return every path among nested settings that ``ProtectHome=`` of the unit hides."""
    if isinstance(value, str):
        if any(value.startswith((place, f"watch://{place}")) for place in _HIDDEN):
            yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from hidden_from_service(one)


def is_folder(path: Path) -> bool:
    """Tell whether a path is a folder that can be seen; False also where nothing can be."""
    try:
        return path.is_dir()
    except PermissionError:
        return False
