"""A plant for roll-outs: a signing key, releases of one product, stations, and ``edge-fleet``."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.input_spec import Crop
from edge.bundle.signing import load_private_key, sign_bundle
from edge.cli.sign import main as sign
from edge.fleet.cli import main
from edge.recipes.archive import export_recipe
from edge.recipes.content import RecipeCamera, RecipeContent, RecipeDecision
from edge.recipes.folder import RecipeFolder
from tests.support.broker import Broker
from tests.support.recipes import copied_bundle
from tests.support.station_process import StationProcess, until


def make_key(folder: Path, name: str = "release") -> tuple[Path, Path]:
    """Write a key pair; return the files of the private and the public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.touch(mode=0o600)
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return private, public


class Plant:
    """Where releases are made, and stations that may take them.

    Attributes:
        address: folder from which stations fetch.
        private, public: the release key.
    """

    def __init__(self, folder: Path, bundle: Path, broker: Broker) -> None:
        self.folder, self.broker, self.bundle = folder, broker, bundle
        self.private, self.public = make_key(folder)
        self.address = folder / "releases"
        self.address.mkdir()
        self._workshop = RecipeFolder(folder / "workshop")

    def release(
        self,
        name: str = "nut",
        *,
        threshold: float = 20.0,
        key: Path | None = None,
        signed: bool = True,
        stations: list[str] | None = None,
        crop: Crop | None = None,
    ) -> Path:
        """Export the next version of a recipe, signed with a key; return the file."""
        used = key or self.private

        def build(folder: Path) -> None:
            copied_bundle(self.bundle)(folder)
            sign_bundle(folder / "model.xml", used)

        content = RecipeContent(
            name=name,
            version=1,
            camera=RecipeCamera(crop=crop),
            decision=RecipeDecision(image_threshold=threshold),
        )
        made = self._workshop.publish(content, build)
        path = self.folder / f"{name}-{made.version}.recipe"
        private = load_private_key(used) if signed else None
        export_recipe(self._workshop, made, path, key=private, stations=stations)
        return path

    def settings(self, settings: dict[str, Any], *, version: int = 1, **signed: Any) -> Path:
        """Sign a release of settings by the command; return the file."""
        part, file = self.folder / "part.yaml", self.folder / f"guard-band-{version}.settings"
        part.write_text(yaml.safe_dump(settings))
        stations = signed.get("stations")
        command = ["settings", part, file, "--name", "guard-band", "--version", version]
        command += ["--key", signed.get("key", self.private)]
        assert sign([*map(str, command), *(["--for", *stations] if stations else [])]) == 0
        return file

    def plan(self, **changes: Any) -> Path:
        """Write a plan without waiting; return the file."""
        plan = {
            "stations": ["plant/line/+/top"],
            "address": str(self.address),
            "canary": {"share": 0.01, "minutes": 0, "parts": 0},
            "wave_minutes": 0,
            **changes,
        }
        path = self.folder / "plan.yaml"
        path.write_text(yaml.safe_dump(plan))
        return path

    def fleet_settings(self) -> dict[str, Any]:
        return {"addresses": [str(self.address)], "public_key": str(self.public)}

    def station(self, name: str, frames: Path, **settings: Any) -> StationProcess:
        """Return a station, plant/line/NAME/top, that is not running yet."""
        folder = self.folder / name
        folder.mkdir()
        camera = {"uri": str(frames), "loop": True, "rate_fps": 5}
        return StationProcess(
            folder,
            self.broker,
            {
                "camera": camera,
                "model": {"path": str(self.bundle)},
                "mqtt": {"url": self.broker.url, "station": f"plant/line/{name}/top"},
                "recipes": {"folder": str(folder / "recipes")},
                "fleet": self.fleet_settings(),
                **settings,
            },
        )

    def start_fleet(self, command: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start ``edge-fleet``."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "edge.fleet.cli", command),
                *(*map(str, arguments), "--mqtt", self.broker.url),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def fleet(self, command: str, *arguments: object) -> tuple[int, str]:
        """Run ``edge-fleet`` to its end in this process; return exit code and standard output."""
        output = io.StringIO()
        with redirect_stdout(output):
            code = main([command, *map(str, arguments), "--mqtt", self.broker.url])
        return code, output.getvalue()

    def reports(self) -> dict[str, dict[str, Any]]:
        """Return the newest report of each station that the broker has."""
        self.broker.catch_up()
        return {
            topic.split("/")[4]: content
            for topic, content in self.broker.messages()
            if topic.endswith("/fleet/report")
        }

    def until_reported(
        self,
        name: str,
        wanted: Callable[[dict[str, Any]], bool],
        within_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the report of a station once it is as wanted."""
        what = f"{name}: {json.dumps(self.reports())}"
        until(lambda: wanted(self.reports().get(name, {})), what, within_s)
        return self.reports()[name]
