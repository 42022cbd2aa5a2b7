"""Many stations in one process: journal, publisher and fleet agent are the product's own.

Only the line is left out: parts are drawn by chance, and a recipe's ``image_threshold`` says how
many of a thousand are NOK. ``python -m tests.support.fleet_stations FOLDER URL PUBLIC ADDRESS
FIRST COUNT`` runs until it is killed.
"""

import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from edge.bundle.loading import load_bundle
from edge.contract.fleet import InForce
from edge.contract.state import Condition
from edge.errors import ConfigurationInvalid
from edge.recipes.folder import RecipeFolder
from edge.settings.fleet import FleetSettings
from edge.settings.overrides import PageSettings
from edge.settings.released import ReleasedSettings
from edge.settings.released_archive import SettingsManifest
from edge.station.fleet.agent import AgentServices, FleetAgent
from edge.station.fleet.download import ReleaseDownload, free_bytes
from edge.station.fleet.inbox import DesiredInbox
from edge.station.fleet.memory import Before, MemoryFile
from tests.support.relaying import RelayedJournal

PARTS_PER_S = 20.0


class FolderProducts:
    """Products of a folder of recipes, with the live one's name in a file."""

    def __init__(self, folder: Path, public_key: Path) -> None:
        self.recipes = RecipeFolder(folder / "recipes")
        self._live = folder / "live"
        self._key = public_key

    @property
    def live(self) -> str | None:
        return (self._live.read_text() or None) if self._live.exists() else None

    def before(self, name: str, rollout: str) -> Before:
        version = self.recipes.in_force(name)
        return Before(rollout=rollout, name=name, version=version, choice=self.live)

    def put_in_force(self, name: str, version: int, _change_product: bool) -> None:
        load_bundle(self.recipes.load(name, version).model, self._key)
        self.recipes.put_in_force(name, version)
        self._live.write_text(name)

    def put_back(self, before: Before) -> None:
        self.recipes.restore(before.name, before.version)
        self._live.write_text(before.choice or "")

    def page_settings(self, _name: str, _version: int) -> PageSettings:
        return PageSettings()

    def page_settings_left(self, _name: str, _before: int, _now: int) -> PageSettings:
        return PageSettings()

    def page_settings_beside_release(self) -> tuple[PageSettings, PageSettings]:
        return PageSettings(), PageSettings()

    def released(self) -> ReleasedSettings | None:
        return None

    def make_release(self, manifest: SettingsManifest, sha256: str) -> ReleasedSettings:
        raise ConfigurationInvalid(f"{manifest.name} {sha256}: these stations have no settings.")

    def release_settings(self, released: ReleasedSettings | None) -> None:
        raise ConfigurationInvalid(f"{released}: these stations have no settings.")

    def in_force(self, name: str | None) -> InForce:
        name = name or self.live
        version = self.recipes.in_force(name) if name is not None else None
        return InForce(name=name, version=version)


class SimulatedStation:
    """One station; its threads end with the process."""

    def __init__(
        self, folder: Path, url: str, *, public_key: Path, address: Path, name: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._products = FolderProducts(folder, public_key)
        self._products.recipes.path.mkdir(exist_ok=True)
        self._inbox = DesiredInbox()
        self.relayed = RelayedJournal(
            folder / "journal", url, station=name, publisher={"on_desired": self._inbox.put}
        )
        fleet = {"addresses": [str(address)], "public_key": str(public_key)}
        journal = self.relayed.journal
        self._agent = FleetAgent(
            AgentServices(
                station=name,
                journal=(journal.journal,),
                journal_path=journal.path,
                recipes=self._products.recipes,
                products=self._products,
                download=ReleaseDownload(
                    settings=FleetSettings.model_validate(fleet),
                    clock_s=time.monotonic,
                    free_bytes=free_bytes,
                    ending=lambda: False,
                ),
                memory=MemoryFile(journal.path.parent),
                inbox=self._inbox,
                publish=self.relayed.publisher.set_fleet_report,
                record_event=self.relayed.record_event,
            )
        )

    def start(self) -> None:
        self.relayed.start()
        self.relayed.publisher.set_state(Condition.ONLINE)
        for body in (lambda: self._agent.run(lambda: False), self._inspect):
            threading.Thread(target=body, daemon=True).start()

    def _inspect(self) -> None:
        chance = random.Random(self.relayed.journal.journal)
        while True:
            time.sleep(chance.expovariate(PARTS_PER_S))
            live = self._products.live
            version = self._products.recipes.in_force(live) if live else None
            recipe: dict[str, Any] | None = None
            rate = 0.0
            if live is not None and version is not None:
                content = self._products.recipes.load(live, version).content
                recipe = {"id": live, "version": version}
                rate = (content.decision.image_threshold or 0.0) / 1000.0
            result = "NOK" if chance.random() < rate else "OK"
            self.relayed.submit(recipe=recipe, result=result)


def main(folder: Path, url: str, public_key: Path, address: Path) -> None:
    first, count = int(sys.argv[5]), int(sys.argv[6])
    for number in range(first, first + count):
        SimulatedStation(
            folder / f"s{number:02}",
            url,
            public_key=public_key,
            address=address,
            name=f"plant/line/s{number:02}/top",
        ).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
