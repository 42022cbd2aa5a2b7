"""The faults of a long run: each is injected, lasts a little, and is taken back."""

import os
import random
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.endurance.site import Site, pause
from tests.support.broken_network import Mood

Fault = Callable[[Site, random.Random], None]


def broker_restarted(site: Site, chance: random.Random) -> None:
    site.broker.stop()
    pause(chance.uniform(0, 5))
    site.broker.start()


def broker_killed(site: Site, chance: random.Random) -> None:
    site.broker.save()
    site.broker.kill()
    pause(chance.uniform(0, 5))
    site.broker.start()


def network_stalled(site: Site, chance: random.Random) -> None:
    _network(site, Mood.STALLED, chance)


def network_half_open(site: Site, chance: random.Random) -> None:
    _network(site, Mood.SWALLOWING, chance)


def network_reset(site: Site, chance: random.Random) -> None:
    for _ in range(3):
        site.network.reset()
        pause(chance.uniform(0, 1))


def camera_pulled(site: Site, chance: random.Random) -> None:
    site.camera.kill()
    pause(chance.uniform(0, 4))
    site.camera.start()


def camera_frozen(site: Site, chance: random.Random) -> None:
    site.camera.stop()
    pause(chance.uniform(0, 4))
    site.camera.go_on()


def packets_lost(site: Site, chance: random.Random) -> None:
    site.camera.set_loss(0.05)
    pause(chance.uniform(1, 5))
    site.camera.set_loss(0.0)


def station_killed(site: Site, chance: random.Random) -> None:
    site.driven.kill()
    pause(chance.uniform(0, 1))
    site.driven.start()


def station_restarted(site: Site, _: random.Random) -> None:
    assert site.driven.stop() == 0, "the driven station did not end in order"
    site.driven.start()


def stations_frozen(site: Site, chance: random.Random) -> None:
    for station in (site.steady, site.driven):
        os.kill(station.pid, signal.SIGSTOP)
    pause(chance.uniform(0, 3))
    for station in (site.steady, site.driven):
        os.kill(station.pid, signal.SIGCONT)


def settings_reloaded(site: Site, chance: random.Random) -> None:
    for station in (site.steady, site.driven):
        station.settings["decision"] = {"guard_band": chance.choice((0.0, 0.001, 0.002))}
        station.reload()


def settings_broken(site: Site, _: random.Random) -> None:
    right = site.steady.settings.get("decision", {})
    site.steady.settings["decision"] = {"guard_band": "much"}
    site.steady.reload()
    pause(1)
    site.steady.settings["decision"] = right
    site.steady.reload()


def model_swapped(site: Site, chance: random.Random) -> None:
    for station in (site.steady, site.driven):
        station.settings["model"] = {"path": str(chance.choice(site.models[:2]))}
        station.reload()


def model_damaged(site: Site, _: random.Random) -> None:
    right = site.steady.settings["model"]
    site.steady.settings["model"] = {"path": str(site.models[2])}
    site.steady.reload()
    pause(2)
    site.steady.settings["model"] = right
    site.steady.reload()


def disk_full(site: Site, chance: random.Random) -> None:
    with site.full_disk():
        pause(chance.uniform(1, 5))


def journal_locked(site: Site, chance: random.Random) -> None:
    """Somebody looks into the journal with a tool that locks it."""
    path = Path(site.steady.settings["journal"]["folder"]) / "journal.db"
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        pause(chance.uniform(0, 3))
        other.execute("ROLLBACK")


def _network(site: Site, mood: Mood, chance: random.Random) -> None:
    site.network.mood = mood
    pause(chance.uniform(0, 8))
    site.network.mood = Mood.FINE
    site.network.reset()


FAULTS: tuple[Fault, ...] = (
    broker_restarted,
    broker_killed,
    network_stalled,
    network_half_open,
    network_reset,
    camera_pulled,
    camera_frozen,
    packets_lost,
    station_killed,
    station_restarted,
    stations_frozen,
    settings_reloaded,
    settings_broken,
    model_swapped,
    model_damaged,
    disk_full,
    journal_locked,
)
