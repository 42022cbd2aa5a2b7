"""Carries out the steps of the Dockerfile in roots made by debootstrap, without a container engine.

``python3 -m tools.image_steps FOLDER`` makes each stage a root file system in FOLDER: RUN
in it (chroot, namespaces of its own), COPY from the project or another stage, ENV and USER for what
follows. ``tools.composed_plant`` then runs them. Needs root, and takes minutes.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
DOCKERFILE = PROJECT / "deploy" / "container" / "Dockerfile"
SUITE = "bookworm"
# How packages are reached from here; a build elsewhere has its own.
FROM_OUTSIDE = ("PIP_", "http_proxy", "https_proxy", "SSL_CERT", "REQUESTS_CA")
# Files that lead there: the resolver, pip's settings, the authorities that pip is to trust.
LENT = ("/etc/resolv.conf", "/etc/pip.conf")
AUTHORITIES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Stage:
    """An image that is being built.

    Attributes:
        root: its file system.
        command: ENTRYPOINT and CMD.
    """

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: str = ""


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with what follows them, lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined)]


def chrooted(stage: Stage, command: str, *, read_only: bool = False) -> list[str]:
    """Return the command line that runs a command of the shell within a stage."""
    root = shlex.quote(str(stage.root))
    pairs = (f"{name}={shlex.quote(value)}" for name, value in stage.environment.items())
    variables = " ".join(pairs)
    mounts = f"mount --bind {root} {root} && mount -t proc proc {root}/proc && "
    mounts += f"mount --bind /dev {root}/dev && "
    if read_only:
        mounts += f"mount -o remount,ro,bind {root} && mount -t tmpfs tmpfs {root}/tmp && "
        mounts += f"mount -t tmpfs -o mode=1777 tmpfs {root}/var/lib/edge && "
    within = f"{'env ' + variables + ' ' if variables else ''}sh -c {shlex.quote(command)}"
    entered = f"exec chroot --userspec={stage.user}:{stage.user} {root} {within}"
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts + entered]


def build(folder: Path) -> dict[str, Stage]:
    """Return the stages of the Dockerfile, built; what was built before is built anew."""
    base, name = folder / "debian", ""
    stages: dict[str, Stage] = {}
    if not (base / "made").exists():
        shutil.rmtree(base, ignore_errors=True)
        run(["debootstrap", "--variant=minbase", SUITE, str(base)])
        (base / "made").touch()
    for word, rest in instructions(DOCKERFILE.read_text()):
        print(f"{word} {rest}", flush=True)
        if word == "FROM":
            before, _, name = rest.partition(" AS ")
            above = stages.get(before, Stage(base))
            shutil.rmtree(folder / name, ignore_errors=True)
            run(["cp", "--archive", "--reflink=auto", str(above.root), str(folder / name)])
            stages[name] = replace(above, root=folder / name)
            continue
        stages[name] = carried_out(word, rest, stages[name], stages)
    return stages


def described(folder: Path) -> dict[str, Stage]:
    """Return the stages as ``build`` has left them in a folder."""
    stages: dict[str, Stage] = {}
    name = ""
    for word, rest in instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            before, _, name = rest.partition(" AS ")
            stages[name] = replace(stages.get(before, Stage(folder)), root=folder / name)
        else:
            stages[name] = settled(word, rest, stages[name])
    return stages


def carried_out(word: str, rest: str, stage: Stage, stages: dict[str, Stage]) -> Stage:
    """Carry one instruction out; return the stage that the next one finds."""
    match word:
        case "RUN":
            lend_access(stage.root)  # each time: a package of Debian may have replaced them
            run(chrooted(stage, rest))
        case "COPY":
            *sources, target = shlex.split(rest)
            root = PROJECT
            if sources[0].startswith("--from="):
                root = stages[sources.pop(0).removeprefix("--from=")].root
            place = stage.root / target.lstrip("/")
            for source in (root / each.lstrip("/") for each in sources):
                into = place / source.name if target.endswith("/") else place
                into.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)
                else:
                    shutil.copy(source, into)
        case "ENV" | "USER" | "ENTRYPOINT" | "CMD" | "HEALTHCHECK" | "EXPOSE":
            pass
        case _:
            sys.exit(f"{DOCKERFILE}: {word} is not known here")
    return settled(word, rest, stage)


def settled(word: str, rest: str, stage: Stage) -> Stage:
    """Return the stage with what an instruction says of its processes."""
    match word:
        case "ENV":
            pairs = dict(pair.split("=", 1) for pair in shlex.split(rest))
            return replace(stage, environment=stage.environment | pairs)
        case "USER":
            return replace(stage, user=rest)
        case "ENTRYPOINT":
            return replace(stage, entrypoint=tuple(json.loads(rest)))
        case "CMD":
            return replace(stage, command=tuple(json.loads(rest)))
        case "HEALTHCHECK":
            return replace(stage, health=rest.partition("CMD ")[2])
    return stage


def lend_access(root: Path) -> None:
    """Lay into a root what reaches packages from this machine."""
    named = (os.environ[name] for name in AUTHORITIES if name in os.environ)
    for given in map(Path, (*LENT, *named)):
        if given.is_file():
            place = root / given.relative_to("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(given, place)


def run(command: list[str]) -> None:
    """Run a command to its end, which has to be a good one."""
    kept = {n: v for n, v in os.environ.items() if n.startswith(FROM_OUTSIDE)}
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    done = subprocess.run(
        command, env={"PATH": path, "DEBIAN_FRONTEND": "noninteractive", **kept}, check=False
    )
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {shlex.join(command)}")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    built = build(target)
    run(chrooted(built["listener"], "edge-listen --help >/dev/null && python -c 'import psycopg'"))
