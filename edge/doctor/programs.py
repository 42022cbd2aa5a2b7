"""Which programs of this PC use a camera, as /proc tells; some of it only to their own user."""

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

STATION = "edge-run"
# What an edge-run may be asked for in place of running a station: without the camera, and with it.
WITHOUT_CAMERA = frozenset(
    {
        *("--check", "--doctor", "--list-cameras", "--settings-template", "--settings-schema"),
        *("--modbus-table", "--make-token", "--journal", "--backup", "--restore", "--recipe"),
        *("--teach", "--tune", "--lamp-test", "--help", "-h", "--version"),
    }
)
WITH_CAMERA = frozenset({"--capture", "--benchmark", "--challenge"})
# By their whole names; the last begins as another one does.
_KNOWN = WITHOUT_CAMERA | WITH_CAMERA | {"--config", "--settings"}


def running_stations(root: Path = Path("/"), own: int | None = None) -> list[int]:
    """Return the process ids of the stations on this PC, and of those who use a camera like one.

    Args:
        own: a process that is none; this one by default.
    """
    own = os.getpid() if own is None else own
    return [
        process for process in _processes(root) if process != own and _is_station(root, process)
    ]


def stations_with(config: Path, stations: list[int], root: Path = Path("/")) -> list[int]:
    """Return those of the stations that run with a file of settings, and serve what it names."""
    wanted = os.path.realpath(config)
    return [
        process
        for process in stations
        if wanted in _configs(root, process) and not WITH_CAMERA & _options(_words(root, process))
    ]


def holders(device: str, root: Path = Path("/")) -> list[int]:
    """Return the processes that have a device open, as far as this user may see them."""
    wanted = os.path.realpath(device)
    found = []
    for process in _processes(root):
        try:
            files = list((root / "proc" / str(process) / "fd").iterdir())
        except OSError:  # another user's, or ended
            continue
        if any(_target(file) == wanted for file in files):
            found.append(process)
    return found


def named(processes: list[int], root: Path = Path("/")) -> str:
    """Return processes in words: ``cheese (process 12), process 13``."""
    return ", ".join(_name(process, root) for process in processes)


def _is_station(root: Path, process: int) -> bool:
    words = _words(root, process)
    # An interpreter, perhaps with options of its own, stands before a script's name; of another
    # program, as of journalctl -u edge-run, a word behind its options is none.
    script = 1
    if words and Path(words[0]).name.startswith("python"):
        script = next((at for at, word in enumerate(words) if at and word[:1] != "-"), 1)
    called = [Path(word).name for word in (words[:1] + words[script : script + 1])]
    is_ours = STATION in called or "edge.cli.main" in words[script : script + 1]
    return is_ours and not WITHOUT_CAMERA & _options(words)


def _options(words: list[str]) -> set[str]:
    return {_option(word) for word in words if word.startswith("-")}


def _is_config(word: str) -> bool:
    return word.startswith("--") and _option(word) == "--config"


def _option(word: str) -> str:
    """Return the option of a word, which may be as short as it is the only one of its kind."""
    given = word.partition("=")[0]
    if given in _KNOWN or not given.startswith("--") or given == "--":
        return given
    return next((one for one in sorted(_KNOWN) if one.startswith(given)), given)


def _configs(root: Path, process: int) -> list[str]:
    words = _words(root, process)
    folder = _target(root / "proc" / str(process) / "cwd")
    given = [word for option, word in pairwise(words) if _is_config(option) and "=" not in option]
    given += [word.partition("=")[2] for word in words if _is_config(word) and "=" in word]
    return [os.path.realpath(Path(folder, one)) for one in given]


def _name(process: int, root: Path) -> str:
    try:
        called = (root / "proc" / str(process) / "comm").read_text().strip()
    except OSError:
        return f"process {process}"
    return f"{called} (process {process})"


def _processes(root: Path) -> Iterator[int]:
    for folder in sorted((root / "proc").glob("[0-9]*")):
        if folder.name.isdecimal():
            yield int(folder.name)


def _words(root: Path, process: int) -> list[str]:
    try:
        line = (root / "proc" / str(process) / "cmdline").read_bytes()
    except OSError:
        return []
    return line.decode(errors="replace").split("\0")


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
