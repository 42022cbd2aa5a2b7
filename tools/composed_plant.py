"""Runs the services of ``compose.yaml`` on this machine, without a container engine.

``python -m tools.composed_plant FOLDER``, after ``tools.image_steps FOLDER``. Station and listener
run in the roots of their images; broker, database and Prometheus are Debian's programs of these
names. All have the files, commands, names and ports of the composition, in a network of their own.
Ends with 0 once the station is well, its verdicts are in the database, and Prometheus has its
figures. Grafana is in no Debian: it is not run. Needs root.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tools.image_steps import DOCKERFILE, Stage, chrooted, described

CONTAINER = DOCKERFILE.parent
PASSWORD = "database-password"
WELL_WITHIN_S = 300.0
APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child")
# A process of its own network has this to tell it.
INSIDE = "EDGE_COMPOSED"


class Plant:
    """The services of the composition; all of them end with this process.

    Attributes:
        services: as ``compose.yaml`` has them.
        work: folder of broker, database and Prometheus.
    """

    def __init__(self, services: dict[str, Any], work: Path) -> None:
        self.services = services
        self.work = work
        self.password = secrets.token_urlsafe(12)
        self._hosts = work / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {' '.join(services)}\n")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        subprocess.run(["mount", "--bind", self._hosts, "/etc/hosts"], check=True)

    def start_broker(self) -> None:
        folder = self.work / "broker"
        folder.mkdir()
        text = self._mounted("broker", "/mosquitto/config/mosquitto.conf").read_text()
        (folder / "mosquitto.conf").write_text(text.replace("/mosquitto/data/", f"{folder}/"))
        shutil.chown(folder, "mosquitto")
        self._start("broker", [_program("mosquitto"), "-c", str(folder / "mosquitto.conf")])

    def start_database(self) -> None:
        folder, wanted = self.work / "database", self.services["database"]["environment"]
        folder.mkdir()
        (folder / PASSWORD).write_text(self.password)
        for one in (folder, folder / PASSWORD):
            shutil.chown(one, "postgres")
        as_postgres = ["runuser", "-u", "postgres", "--"]
        options = f"--auth=scram-sha-256 --username={wanted['POSTGRES_USER']} --no-sync".split()
        made = [_program("initdb"), "-D", f"{folder}/data", f"--pwfile={folder}/{PASSWORD}"]
        run = [_program("postgres"), "-D", f"{folder}/data", "-k", str(folder)]
        subprocess.run(
            [*as_postgres, *made, *options], check=True, stdout=subprocess.DEVNULL, cwd="/"
        )
        self._start("database", [*as_postgres, *run])
        wait_for(lambda: self._sql("postgres", "SELECT 1") == "1", "the database answers")
        self._sql("postgres", f"CREATE DATABASE {wanted['POSTGRES_DB']}")

    def start_prometheus(self) -> None:
        folder = self.work / "prometheus"
        folder.mkdir()
        for name in ("prometheus.yml", "alerts.yaml"):
            shutil.copy(self._mounted("prometheus", f"/etc/prometheus/{name}"), folder / name)
        options = [
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            "--web.listen-address=127.0.0.1:9090",
        ]
        self._start("prometheus", [_program("prometheus"), *options])

    def start_image(self, name: str, stage: Stage) -> None:
        """Start one of our services in the root of its image."""
        service = self.services[name]
        for volume in service.get("volumes", ()):
            source, place = volume.split(":")[:2]
            if source.startswith("."):
                _lay(CONTAINER / source, stage.root / place.lstrip("/"))
        shutil.copy(self._hosts, stage.root / "etc" / "hosts")
        for secret in service.get("secrets", ()):
            place = stage.root / "run" / "secrets" / secret
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(self.password)
        words = [
            *service.get("entrypoint", stage.entrypoint),
            *service.get("command", stage.command),
        ]
        command = shlex.join(word.replace("$$", "$") for word in words)
        self._start(name, chrooted(stage, command, read_only=service["read_only"]))

    def verdicts(self) -> int:
        """Return how many verdicts of the station are in the database."""
        found = self._sql(
            self.services["database"]["environment"]["POSTGRES_DB"], "SELECT count(*) FROM verdict"
        )
        return int(found or 0)

    def _sql(self, database: str, statement: str) -> str:
        user = self.services["database"]["environment"]["POSTGRES_USER"]
        given = ["psql", "-h", "database", "-U", user, "-d", database, "-Atc", statement]
        password = {**os.environ, "PGPASSWORD": self.password}
        done = subprocess.run(given, capture_output=True, text=True, env=password, check=False)
        return done.stdout.strip()

    def _mounted(self, service: str, place: str) -> Path:
        """Return the file that the composition lays to a place."""
        volumes = (volume.split(":") for volume in self.services[service]["volumes"])
        return next(CONTAINER / one[0] for one in volumes if one[1] == place)

    def _start(self, name: str, command: list[str]) -> None:
        with (self.work / f"{name}.log").open("wb") as log:
            subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        print(f"started {name}", flush=True)


def figures() -> dict[str, str]:
    """Return by address whether Prometheus reaches what it asks; empty before it answers."""
    try:
        with urllib.request.urlopen(
            "http://prometheus:9090/api/v1/query?query=up", timeout=5
        ) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return {}
    return {one["metric"]["instance"]: one["value"][1] for one in found}


def wait_for(done: Callable[[], bool], what: str) -> None:
    """Wait until it holds; end all of it where it does not in time."""
    until_s = time.monotonic() + WELL_WITHIN_S
    while not done():
        if time.monotonic() > until_s:
            sys.exit(f"not within {WELL_WITHIN_S:.0f} s: {what}")
        time.sleep(1)
    print(what, flush=True)


def run_plant(folder: Path) -> None:
    """Start everything, and wait until all of it works together."""
    services = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]
    stages = described(folder)
    with TemporaryDirectory() as name:
        work = Path(name)
        work.chmod(0o755)
        plant = Plant(services, work)
        try:
            plant.start_broker()
            plant.start_database()
            plant.start_image("listener", stages["listener"])
            plant.start_image("station", stages["edge"])
            plant.start_prometheus()
            health = chrooted(stages["edge"], stages["edge"].health)
            wait_for(
                lambda: subprocess.run(health, capture_output=True).returncode == 0,
                "the station is well: user edge, root file system read only",
            )
            wait_for(lambda: plant.verdicts() >= 10, "its verdicts are in the database")
            wait_for(lambda: figures() == {"station:8080": "1"}, "Prometheus has its figures")
        except SystemExit:
            for log in sorted(work.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}", flush=True)
            raise


def _program(name: str) -> str:
    """Return where a program lies; Debian keeps servers off the PATH."""
    places = [Path("/usr/sbin", name), *Path("/usr/lib/postgresql").glob(f"*/bin/{name}")]
    found = shutil.which(name) or next((str(one) for one in places if one.exists()), None)
    return found or sys.exit(f"{name} is not installed: run `make packages`")


def _lay(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, place, dirs_exist_ok=True)
    else:
        shutil.copy(source, place)


if __name__ == "__main__":
    if INSIDE in os.environ:
        run_plant(Path(sys.argv[1]).resolve())
    else:
        again = [*APART, sys.executable, "-m", "tools.composed_plant", sys.argv[1]]
        sys.exit(subprocess.run(again, env={**os.environ, INSIDE: "1"}, check=False).returncode)
