"""Why a path is closed to this process, or open to others, in words that lead to the cure."""

import grp
import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

_HIDDEN = ("/home/", "/root/", "/run/user/")


def why_closed() -> str:
    """Return whom the path is closed to, and what else closes it to a service."""
    user = _user_name(os.geteuid())
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


def who_else_may_exchange(path: Path) -> str:
    """Return who beside this user and root decides what a file holds, and by what; often nobody.

    Of a link it counts where it lies, too, and of both every folder on the way.
    """
    try:
        target = path.resolve(strict=True)
        status = target.stat()
        if status.st_uid not in (0, os.geteuid()):
            return f"{_user_name(status.st_uid)}, who owns {target}"
        if writers := _other_writers(status):
            return f"{writers}, who may write to {target}"
        way = path.absolute()
        for folder in dict.fromkeys((*target.parents, *_folders_of_links(way))):
            status = folder.stat()
            # In a sticky folder, such as /tmp, nobody renames what is somebody else's.
            if not status.st_mode & stat.S_ISVTX and (writers := _other_writers(status)):
                return f"{writers}, who may write to the folder {folder}"
    except OSError:
        return ""  # not there, or closed: reading says so
    return ""


def whose_beside_root(folder: Path) -> str:
    """Return whose folder root is about to write into; empty for its own, and for other users.

    Of one that is not there yet it is that of the folder in which it will be.
    """
    if os.geteuid() != 0:
        return ""
    place = next((one for one in (folder, *folder.absolute().parents) if one.exists()), folder)
    owner = place.stat().st_uid if place.exists() else 0
    return _user_name(owner) if owner else ""


def _folders_of_links(way: Path) -> Iterator[Path]:
    """Yield the folders, each with those above it, in which links on the way lie."""
    for place in (way, *way.parents):
        if place.is_symlink():
            yield from place.parent.resolve().parents
            yield place.parent.resolve()


def _other_writers(status: os.stat_result) -> str:
    """Return who may write beside owner and root; the group that a user has is nobody else's."""
    if status.st_mode & stat.S_IWOTH:
        return "everybody on this PC"
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (0, os.getegid()):
        return f"the group {_group_name(status.st_gid)}"
    return ""


def _user_name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
