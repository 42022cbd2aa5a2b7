"""What a station takes and what it refuses, with real files, models and memory, without a line."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bundle.input_spec import Crop
from edge.bundle.signing import load_private_key
from edge.cli.sign import main as sign
from edge.contract.event import Event
from edge.contract.fleet import Action, Desired, FleetReport, ReleaseFile, payload
from edge.contract.verdict import Recipe
from edge.fleet.judgement import Seen
from edge.fleet.plan import read_plan
from edge.fleet.release_file import put_release, read_release
from edge.fleet.rollout import Rollout, Stage, advance, make_desired
from edge.imaging.frame import Frame
from edge.journal.entries import Entry, RecordKind
from edge.recipes.archive import import_recipe
from edge.recipes.folder import RecipeFolder
from edge.settings.fleet import FleetSettings
from edge.settings.layers import RecipeChoice, SettingsLayers
from edge.settings.released import RELEASABLE, ReleasedSettingsFile
from edge.settings.small_record import MAX_BYTES
from edge.station.fleet.agent import AgentServices, FleetAgent
from edge.station.fleet.download import ReleaseDownload
from edge.station.fleet.inbox import DesiredInbox
from edge.station.fleet.memory import FleetMemory, InstalledRelease, MemoryFile
from edge.station.fleet.products import StationProducts
from edge.station.model.manager import ModelManager
from edge.station.model.reloadable_settings import only_decision
from tests.support.broker import Broker
from tests.support.fleet import Plant, make_key
from tests.support.journaling import running_writer
from tests.support.page_drawer import OVER_DEFECT, Drawer
from tests.support.recipe_site import RecipeSite

STATION = "plant/line/a/top"
OWN, OTHER = "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a11", "7b1e8b0c-9f5e-4f1a-8a52-0c6d2c7f3a12"
GIB, HOUR_NS = 2**30, 3_600_000_000_000


class Killed(BaseException):
    """Nothing of ours catches it."""


class Station:
    """The agent of a station whose model is real, and what it reported."""

    def __init__(self, plant: Plant, bundle: Path) -> None:
        self.plant = plant
        self.site = RecipeSite(plant.folder, bundle)
        self.reports: list[Mapping[str, Any]] = []
        self.events: list[Event] = []
        self.free_bytes = GIB
        self.utc_ns = time.time_ns
        self._seconds = itertools.count(0.0, 10.0)
        with running_writer(self.site.journal) as writer:
            self._journal = writer.path
        self.order = (1, 0)
        self.settings = FleetSettings.model_validate(plant.fleet_settings())

    def agent(self) -> FleetAgent:
        """Begin with what is on the disk, as a process does."""
        self.site.start()
        self._inbox = DesiredInbox()
        return FleetAgent(
            AgentServices(
                station=STATION,
                journal=(OWN,),
                journal_path=self._journal,
                recipes=self.site.folder,
                products=StationProducts(
                    self.site.model, self.site.folder, lambda change: change()
                ),
                download=ReleaseDownload(
                    settings=self.settings,
                    clock_s=lambda: 0.0,
                    free_bytes=lambda _: self.free_bytes,
                    ending=lambda: False,
                ),
                memory=MemoryFile(self._journal.parent),
                inbox=self._inbox,
                publish=self.reports.append,
                record_event=self.events.append,
                clock_s=lambda: next(self._seconds),
                utc_ns=self.utc_ns,
            )
        )

    def inspect(self, version: int, *results: str) -> None:
        """Record parts of the product, by the station's own clock."""
        with running_writer(self.site.journal, utc_ns=self.utc_ns) as writer:
            for result in results:
                content = {"schema": "verdict/1", "result": result, "duration_ms": {"total": 40.0}}
                content |= {"recipe": {"id": "nut", "version": version}}
                writer.write(Entry(RecordKind.VERDICT, content, result))

    def ask(self, agent: FleetAgent, content: Desired | bytes) -> Mapping[str, Any]:
        """Let the agent follow a desired state; return its last report."""
        raw = content if isinstance(content, bytes) else json.dumps(payload(content)).encode()
        self._inbox.put(raw)
        return self.go_on(agent)

    def go_on(self, agent: FleetAgent) -> Mapping[str, Any]:
        """Let the agent do what is due; return its last report."""
        rounds = iter((False, True))
        agent.run(lambda: next(rounds))
        return self.reports[-1]

    def released(self, file: Path) -> ReleaseFile:
        plan = read_plan(self.plant.plan())
        release, _ = read_release(file, plan, None)
        put_release(file, release, plan)
        return release

    def desire(self, release: ReleaseFile | None, **changes: Any) -> Desired:
        """Return a desired state that is newer than those before."""
        self.order = (self.order[0], self.order[1] + 1)
        wanted = {
            "rollout": "one",
            "claim": self.order[0],
            "step": self.order[1],
            "action": Action.TAKE,
            "release": release,
            **changes,
        }
        return Desired.model_validate(wanted)


@pytest.fixture
def station(tmp_path: Path, bundle: Path) -> Iterator[Station]:
    # The broker is not started: these stations hear from the test.
    yield Station(Plant(tmp_path, bundle, Broker(tmp_path)), bundle)


def test_a_release_is_taken_survives_a_restart_and_goes_back_to_what_was(station: Station) -> None:
    first = station.released(station.plant.release())
    agent = station.agent()
    before = station.site.model.recipe
    report = station.ask(agent, station.desire(first, change_product=True))
    assert (report["phase"], report["in_force"]["name"]) == ("in_force", "nut")
    assert (report["in_force"]["release"], report["in_force"]["sha256"]) == (1, first.sha256)

    agent = station.agent()  # as after a kill
    assert station.ask(agent, b"{}")["phase"] == "in_force"  # what is no message changes nothing
    report = station.ask(agent, station.desire(None, action=Action.RETURN))
    assert (report["phase"], report["reason"]) == ("returned", None)
    assert station.site.model.recipe == before
    assert [one.kind for one in station.events] == ["release_in_force", "release_returned"]


def test_what_a_station_inspects_for_stays_where_the_release_is_of_another_product(
    station: Station,
) -> None:
    release = station.released(station.plant.release())
    report = station.ask(station.agent(), station.desire(release))
    assert report["phase"] == "in_force"
    assert (report["in_force"]["live"], report["in_force"]["release"]) == (False, 1)
    live = station.site.model.recipe
    assert live is not None and live.id == "bottle"


@pytest.mark.parametrize("ahead_h", [-9, 9])
def test_a_clock_that_is_hours_wrong_and_is_set_right_meanwhile_changes_no_roll_out(
    station: Station, ahead_h: int
) -> None:
    station.utc_ns = lambda: time.time_ns() + ahead_h * HOUR_NS
    station.inspect(1, *["OK"] * 19, "NOK")
    agent = station.agent()
    release = station.released(station.plant.release())
    plan = read_plan(station.plant.plan(canary={"share": 0.01, "minutes": 0, "parts": 4}))
    waves = ((STATION,),)
    rollout = Rollout(id="one", claim=1, release=release, plan=plan, waves=waves)
    desired = make_desired(rollout, Action.TAKE, OWN).model_copy(update={"change_product": True})
    report = station.ask(agent, desired)
    assert (report["phase"], report["week"]["ok"], report["week"]["nok"]) == ("in_force", 19, 1)

    station.utc_ns = time.time_ns  # the time server is found
    local = report["in_force"]["version"]
    station.inspect(local, "OK", "OK", "OK")
    for more, stage in ((0, Stage.RUNNING), (1, Stage.DONE)):
        station.inspect(local, *["NOK"] * more)
        report = station.go_on(station.agent())
        seen = Seen(report=FleetReport.model_validate(report), online=True)
        assert seen.report is not None and seen.report.since is not None
        assert seen.report.since.parts == 3 + more
        assert advance(rollout, {STATION: seen}).stage is stage


def test_an_older_release_is_taken_only_where_the_plan_says_so(station: Station) -> None:
    older, newer = (station.released(station.plant.release()) for _ in range(2))
    agent = station.agent()
    assert station.ask(agent, station.desire(newer))["phase"] == "in_force"
    report = station.ask(agent, station.desire(older, rollout="two"))
    assert (report["phase"], report["reason"]) == ("refused", "older")
    assert report["in_force"]["release"] == 2
    report = station.ask(agent, station.desire(older, rollout="two", older=True))
    assert (report["phase"], report["in_force"]["release"]) == ("in_force", 1)


@pytest.fixture
def released_twice(station: Station) -> tuple[Station, FleetAgent, ReleaseFile]:
    """A station that has two releases of a product, one after the other; the first of them."""
    agent, first = station.agent(), None
    for rollout, threshold in (("one", 20.0), ("two", 21.0)):
        release = station.released(station.plant.release(threshold=threshold))
        first = first or release
        wanted = station.desire(release, rollout=rollout, change_product=True)
        assert station.ask(agent, wanted)["in_force"]["release"] == release.version
    assert first is not None
    return station, agent, first


def test_after_a_rollback_the_report_names_the_release_before(
    released_twice: tuple[Station, FleetAgent, ReleaseFile],
) -> None:
    station, agent, first = released_twice

    report = station.ask(agent, station.desire(None, rollout="two", action=Action.RETURN))

    assert report["phase"] == "returned"
    assert (report["in_force"]["release"], report["in_force"]["sha256"]) == (1, first.sha256)
    agent = station.agent()  # as after a restart
    assert station.go_on(agent)["in_force"]["release"] == 1
    again = station.ask(agent, station.desire(first, rollout="three", change_product=True))
    assert (again["phase"], again["in_force"]["release"]) == ("in_force", 1)


def test_what_came_back_by_a_rollback_is_the_newest_again(station: Station) -> None:
    first, second, third = (station.released(station.plant.release()) for _ in range(3))
    agent = station.agent()
    assert station.ask(agent, station.desire(third, change_product=True))["phase"] == "in_force"
    report = station.ask(agent, station.desire(first, rollout="two", older=True))
    assert (report["phase"], report["in_force"]["release"]) == ("in_force", 1)
    report = station.ask(agent, station.desire(None, rollout="two", action=Action.RETURN))
    assert (report["phase"], report["in_force"]["release"]) == ("returned", 3)

    report = station.ask(agent, station.desire(second, rollout="three"))

    assert (report["phase"], report["reason"]) == ("refused", "older")
    assert report["in_force"]["release"] == 3


def test_a_version_that_somebody_here_chooses_is_reported_with_its_release(
    released_twice: tuple[Station, FleetAgent, ReleaseFile],
) -> None:
    station, agent, first = released_twice
    second = station.site.folder.in_force("nut")

    assert station.site.model.roll_back("Kim asked").changed
    report = station.go_on(agent)
    assert (report["phase"], report["in_force"]["release"]) == ("fell_back", 1)
    assert report["in_force"]["sha256"] == first.sha256

    station.site.model.choose_recipe("nut", second, release=True)
    assert station.go_on(agent)["in_force"]["release"] == 2
    station.site.model.choose_recipe("nut", 1, release=True)  # never released
    assert station.go_on(agent)["in_force"]["release"] is None


def test_the_memory_of_releases_is_bounded() -> None:
    memory = FleetMemory()
    for number in range(1, 1101):
        release = InstalledRelease(release=number, sha256="0" * 64, local=number)
        for key in (f"product-{number}", f"product-{number % 60}"):
            memory = memory.with_taken(key, release).with_newest(key, number)
    assert FleetMemory.model_validate_json(memory.model_dump_json(indent=1)) == memory
    assert len(memory.model_dump_json(indent=1)) < MAX_BYTES
    assert memory.installed("product-19")[0].release == 1099


@pytest.mark.parametrize("content", [b"", b"{", b'{"claim": "x"}', b"\xff" * 100])
def test_a_damaged_memory_is_reported_and_keeps_no_station_from_starting(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "fleet.json").write_bytes(content)
    assert MemoryFile(tmp_path).read().claim == 0
    assert "fleet.json: not used (damaged)" in caplog.text


@pytest.fixture
def releasing(station: Station) -> Station:
    """A station that takes releases of settings."""
    station.site.written |= {
        "mqtt": {"url": "mqtt://127.0.0.1", "station": STATION},
        "fleet": station.plant.fleet_settings(),
    }
    return station


def test_released_settings_lie_over_the_files_survive_a_restart_and_go_back(
    releasing: Station,
) -> None:
    station, site = releasing, releasing.site
    first = station.released(station.plant.settings({"decision": {"guard_band": 0.05}}))
    second = station.released(
        station.plant.settings({"decision": {"smallest_region_px": 9}}, version=2)
    )
    agent = station.agent()
    report = station.ask(agent, station.desire(first))
    assert (report["phase"], report["settings"]["version"]) == ("in_force", 1), report["detail"]
    assert report["in_force"]["name"] == "bottle"
    assert site.model.settings.decision.guard_band == 0.05

    agent = station.agent()  # as after a kill
    assert site.model.settings.decision.guard_band == 0.05
    assert station.ask(agent, station.desire(first))["phase"] == "in_force"
    report = station.ask(agent, station.desire(second, rollout="two"))
    assert (report["phase"], report["settings"]["version"]) == ("in_force", 2)
    decision = site.model.settings.decision
    assert (decision.guard_band, decision.smallest_region_px) == (0.0, 9)

    older = station.ask(agent, station.desire(first, rollout="three"))
    assert (older["phase"], older["reason"]) == ("refused", "older")
    report = station.ask(agent, station.desire(None, rollout="two", action=Action.RETURN))
    assert (report["phase"], report["settings"]["version"]) == ("returned", 1)
    assert "settings guard-band version 1" in report["detail"]
    assert site.model.settings.decision.guard_band == 0.05

    # The next version may have the number that was given up; and the file has the last word.
    again = station.released(station.plant.settings({"image": {"min_mean": 2.0}}, version=2))
    report = station.ask(agent, station.desire(again, rollout="four"))
    assert report["phase"] == "in_force", report["detail"]
    assert site.model.settings.image.min_mean == 2.0
    site.written["image"] = {"min_mean": 3.0}
    site.model.reload()
    assert site.model.settings.image.min_mean == 3.0
    report = station.go_on(agent)
    assert (report["phase"], report["settings"]) == ("fell_back", None)


def test_a_new_model_names_what_was_set_at_the_page_for_the_one_before(
    station: Station, caplog: pytest.LogCaptureFixture
) -> None:
    agent = station.agent()
    drawer = Drawer(station.site)
    drawer.change_over("nut", 1)
    drawer.draw(30.0, ignore=[OVER_DEFECT])

    report = station.ask(agent, station.desire(station.released(station.plant.release())))

    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")
    assert drawer.mask.origin == "none" and drawer.mask.threshold == 20.0  # what was released
    for text in (report["detail"], station.events[-1].detail, caplog.text):
        assert "not used any more is what was set at the page for version 1: the threshold " in text
        assert "30 set by Kim at " in text and "the mask and zones set by Kim at " in text
    assert station.events[-1].severity == "warning"
    assert "not used: the threshold 30 set by Kim" in station.site.events[-1].detail
    assert not FleetReport.model_validate(report).bad

    agent = station.agent()  # as after a kill
    report = station.go_on(agent)
    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")
    report = station.ask(agent, station.desire(None, action=Action.RETURN))
    assert report["phase"] == "returned"
    assert "what was set at the page for nut counts again: the threshold 30" in report["detail"]
    assert Drawer(station.site).mask.origin == "page"


def test_a_release_says_what_the_page_has_set_over_it(station: Station) -> None:
    agent = station.agent()
    release = station.released(station.plant.release())
    report = station.ask(agent, station.desire(release, change_product=True))
    assert (report["phase"], report["reason"]) == ("in_force", None)

    Drawer(station.site).draw(30.0, ignore=[OVER_DEFECT])
    report = station.go_on(agent)
    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")
    assert "in its place counts what was set at the page: the threshold 30" in report["detail"]
    # The same release once more adds no version: what was set for it counts on, and is named.
    report = station.ask(agent, station.desire(release, rollout="two"))
    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")

    drawer = Drawer(station.site)
    drawer.undo()
    drawer.set_threshold(None)
    report = station.go_on(agent)
    assert (report["reason"], report["detail"]) == (None, "recipe nut version 1 is in force")


def test_a_release_that_equals_a_version_with_a_mask_of_the_page_says_that_it_counts(
    station: Station,
) -> None:
    agent = station.agent()
    file = station.plant.release()
    made = import_recipe(station.site.folder, file)
    drawer = Drawer(station.site)
    drawer.change_over("nut", made.version)
    drawer.draw(30.0, ignore=[OVER_DEFECT])
    drawer.change_over("nut", 1)

    report = station.ask(agent, station.desire(station.released(file)))

    assert report["in_force"]["version"] == made.version
    assert report["reason"] == "page_settings"
    assert "in its place counts what was set at the page: the threshold 30" in report["detail"]
    assert station.events[-1].detail == report["detail"]


def test_a_released_threshold_names_that_of_the_page_which_it_replaces(releasing: Station) -> None:
    station, agent = releasing, releasing.agent()
    Drawer(station.site).set_threshold(30.0)
    threshold = station.released(station.plant.settings({"decision": {"image_threshold": 20.0}}))

    report = station.ask(agent, station.desire(threshold))

    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")
    assert "not used any more is what was set at the page: the threshold 30" in report["detail"]
    assert Drawer(station.site).mask.threshold == 20.0
    Drawer(station.site).set_threshold(35.0)  # later, and so over it
    report = station.go_on(agent)
    assert "in its place counts what was set at the page: the threshold 35" in report["detail"]
    assert Drawer(station.site).mask.threshold == 35.0
    band = station.released(station.plant.settings({"decision": {"guard_band": 0.1}}, version=2))
    report = station.ask(agent, station.desire(band, rollout="two"))
    assert (report["phase"], report["reason"]) == ("in_force", "page_settings")
    assert "not used any more is what was set at the page: the threshold 35" in report["detail"]
    Drawer(station.site).set_threshold(40.0)  # over no threshold that was released
    assert station.go_on(agent)["reason"] is None


def two_releases(station: Station) -> list[ReleaseFile]:
    """Return releases of settings, versions 1 and 2 with guard bands of 0.05 and 0.1."""
    return [
        station.released(station.plant.settings({"decision": {"guard_band": band}}, version=number))
        for number, band in ((1, 0.05), (2, 0.1))
    ]


def test_a_rollback_at_the_page_gives_released_settings_up(releasing: Station) -> None:
    station = releasing
    first, second = two_releases(station)
    agent = station.agent()
    for number, release in enumerate((first, second)):
        assert station.ask(agent, station.desire(release, rollout=str(number)))["reason"] is None
    outcome = station.site.model.roll_back("Kim")
    assert "settings guard-band version 2 is not in force any more" in outcome.detail
    report = station.go_on(agent)
    assert (report["phase"], report["settings"]["version"]) == ("fell_back", 1)
    station.agent()  # as after a restart
    assert station.site.model.settings.decision.guard_band == 0.05


def nuts_guard_band(station: Station) -> float:
    """Return by which guard band parts of another product are decided."""
    recipes, offered = station.site.model.recipes, station.site.layers.offered("nut", None)
    assert recipes is not None and offered is not None
    settings = recipes.load(offered).settings
    assert settings == station.site.layers.of(offered)
    return settings.decision.guard_band


def test_a_rollback_at_the_page_gives_them_up_for_other_products_too(releasing: Station) -> None:
    station, agent = releasing, releasing.agent()
    station.site.written["image"] = {"min_mean": 2.0}
    station.site.model.reload()
    for number, band in ((1, 0.05), (2, 0.1)):
        settings = {"decision": {"guard_band": band}}
        release = station.released(station.plant.settings(settings, version=number))
        assert station.ask(agent, station.desire(release, rollout=str(number)))["reason"] is None
        assert nuts_guard_band(station) == band
    station.site.written["image"] = {"min_mean": 3.0}  # nobody has reloaded that

    assert station.site.model.roll_back("Kim").changed

    assert nuts_guard_band(station) == 0.05
    assert station.site.layers.base.image.min_mean == 2.0


def test_a_model_that_gives_no_numbers_gives_them_up_for_other_products_too(
    releasing: Station,
) -> None:
    station, agent, site = releasing, releasing.agent(), releasing.site
    assert nuts_guard_band(station) == 0.0
    site.written["model"] = {"path": str(site.other)}
    release = station.released(station.plant.settings({"decision": {"guard_band": 0.1}}))
    assert station.ask(agent, station.desire(release))["reason"] is None
    assert nuts_guard_band(station) == 0.1

    site.three_parts_without_a_number()

    rounds = iter((False, True))
    assert site.model.recipes is not None
    site.model.recipes.run(lambda: next(rounds))  # the loader thread, which no part waits for
    assert nuts_guard_band(station) == 0.0
    assert "settings guard-band version 1 is not in force any more" in site.events[-1].detail


def of_a_restart(station: Station) -> Path:
    return packed(station, {"journal": {"max_rows": 1000}})


def of_no_such_value(station: Station) -> Path:
    return packed(station, {"decision": {"guard_band": 0.7}})


def of_another_camera(station: Station) -> Path:
    station.site.trial_frame = Frame(
        pixels=np.zeros((64, 64, 3), np.uint8), number=1, captured_ns=0, captured_utc_ns=0
    )
    crop = {"x": 500, "y": 0, "width": 100, "height": 100}
    return packed(station, {"camera": {"crop": crop}})


def of_a_foreign_key(station: Station) -> Path:
    key, _ = make_key(station.plant.folder, "foreign")
    return packed(station, {"decision": {"guard_band": 0.1}}, key=key)


def of_other_stations(station: Station) -> Path:
    return packed(station, {"decision": {"guard_band": 0.1}}, stations=("plant/line/b/top",))


def packed(station: Station, settings: dict[str, Any], **changes: Any) -> Path:
    """Write a release without the checks of the command, as somebody else's would be."""
    file, key = station.plant.folder / "made.settings", changes.get("key", station.plant.private)
    manifest = {"schema_version": "settings-release/1", "name": "made", "version": 1}
    manifest |= {"settings": settings}
    manifest |= {"stations": changes["stations"]} if "stations" in changes else {}
    text = json.dumps(manifest).encode()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", text)
        archive.writestr("manifest.sig", load_private_key(key).sign(text))
    return file


@pytest.mark.parametrize(
    ("make", "phase", "reason", "words"),
    [
        (of_a_restart, "refused", "unfit", "journal.max_rows: no release sets that"),
        (of_no_such_value, "refused", "unfit", "decision.guard_band: must be less than 0.5"),
        (of_another_camera, "failed", "unfit", "crop"),
        (of_a_foreign_key, "refused", "wrong_signature", "is not signed by the key"),
        (of_other_stations, "refused", "foreign", "is meant for plant/line/b/top"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_change_nothing(
    releasing: Station,
    make: Callable[[Station], Path],
    phase: str,
    reason: str,
    words: str,
) -> None:
    station, agent = releasing, releasing.agent()
    before = station.site.model.settings
    content = make(station).read_bytes()
    place = station.plant.address / "made.settings"
    place.write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    release = ReleaseFile(
        kind="settings",
        name="made",
        version=1,
        sha256=sha256,
        bytes=len(content),
        address=str(place),
    )
    report = station.ask(agent, station.desire(release))
    assert (report["phase"], report["reason"]) == (phase, reason), report["detail"]
    assert words in report["detail"]
    assert station.site.model.settings == before
    assert report["settings"] is None


def test_a_release_sets_nothing_that_a_running_station_does_not_take_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = [f"{section}.{key}" for section in RELEASABLE for key in RELEASABLE[section]]
    assert only_decision(keys)
    private, _ = make_key(tmp_path)
    for content, words in (
        ("model: {path: other.xml}", "model.path: no release sets that"),
        ("decision: {mask: mask.yaml}", "decision.mask: no release sets that"),
        ("decision: 7", "settings.decision must be a valid dictionary"),
        ("", "settings must have at least 1 item"),
        ("decision: {guard_band: -5}", "decision.guard_band: must be greater than or equal to 0"),
        ('decision: {guard_band: "0.05"}', "decision.guard_band: must be a valid number"),
        ("decision: {image_threshold: .nan}", "must be a finite number"),
        ("camera: {crop: {x: -1}}", "camera.crop.x: must be greater than or equal to 0"),
        ("image: {min_mean: 90, max_mean: 20}", "min_mean (90) must lie below max_mean (20)"),
    ):
        part, file = tmp_path / "part.yaml", tmp_path / "made.settings"
        part.write_text(content)
        command = ["settings", str(part), str(file), "--name", "a", "--version", "1"]
        assert sign([*command, "--key", str(private)]) == 78
        assert words in capsys.readouterr().err
        assert not file.exists()


def test_a_value_that_a_stations_own_settings_may_fit_is_signed(tmp_path: Path) -> None:
    private, _ = make_key(tmp_path)
    part, file = tmp_path / "part.yaml", tmp_path / "made.settings"
    part.write_text("image: {min_mean: 254}\ncamera: {crop: null}\n")  # max_mean is the station's
    command = ["settings", str(part), str(file), "--name", "a", "--version", "1"]
    assert sign([*command, "--key", str(private)]) == 0


@pytest.mark.parametrize("settings", [{"image": {"glare": 3}}, {"lens": {"zoom": 2}}])
def test_a_release_that_a_newer_version_kept_stops_no_station(
    releasing: Station, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    station, site = releasing, releasing.site
    now = {"name": "newer", "version": 3, "sha256": "0" * 64, "settings": settings}
    kept = {"now": {**now, "instead_of": {}}, "before": None}
    (site.journal / "released-settings.json").write_text(json.dumps(kept))

    agent = station.agent()

    assert "the released settings newer version 3 is left out: it sets" in caplog.text
    assert site.model.settings.decision.guard_band == 0.0
    assert station.go_on(agent)["settings"] is None
    site.written["decision"] = {"guard_band": 0.2}
    site.model.reload()
    site.model.roll_back("Kim")
    assert site.model.settings.decision.guard_band == 0.0
    release = station.released(station.plant.settings({"decision": {"guard_band": 0.1}}))
    assert station.ask(agent, station.desire(release))["settings"]["name"] == "guard-band"


def test_a_command_that_has_lost_the_lead_changes_nothing(station: Station) -> None:
    release = station.released(station.plant.release())
    agent = station.agent()
    wanted = station.desire(release)
    station.ask(agent, station.desire(None, action=Action.KEEP, claim=3))
    report = station.ask(agent, wanted)
    assert (report["phase"], report["claim"]) == ("kept", 3)


def cut(station: Station, release: ReleaseFile) -> Desired:
    path = Path(release.address)
    path.write_bytes(path.read_bytes()[:-100])
    return station.desire(release)


def changed(station: Station, release: ReleaseFile) -> Desired:
    path = Path(release.address)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    return station.desire(release)


def of_another_key(station: Station, _: ReleaseFile) -> Desired:
    other, _public = make_key(station.plant.folder, "other")
    return station.desire(station.released(station.plant.release(key=other)))


def foreign(station: Station, _: ReleaseFile) -> Desired:
    file = station.plant.release(stations=["plant/line/b/+"])
    return station.desire(station.released(file))


def too_large(station: Station, release: ReleaseFile) -> Desired:
    return station.desire(release.model_copy(update={"bytes": 3 * 10**9}))


def larger_than_the_disk(station: Station, release: ReleaseFile) -> Desired:
    station.free_bytes = 60 * 2**20
    return station.desire(release)


def elsewhere(station: Station, release: ReleaseFile) -> Desired:
    place = station.plant.folder / "other.recipe"
    shutil.copy(release.address, place)
    return station.desire(release.model_copy(update={"address": str(place)}))


def linked_elsewhere(station: Station, release: ReleaseFile) -> Desired:
    link = Path(release.address).with_name("link.recipe")
    link.symlink_to(station.plant.folder / f"nut-{release.version}.recipe")
    return station.desire(release.model_copy(update={"address": str(link)}))


def another_version(station: Station, release: ReleaseFile) -> Desired:
    return station.desire(release.model_copy(update={"version": 99}))


def gone(station: Station, release: ReleaseFile) -> Desired:
    Path(release.address).unlink()
    return station.desire(release)


def of_an_unknown_kind(station: Station, release: ReleaseFile) -> Desired:
    return station.desire(release.model_copy(update={"kind": "firmware"}))


def of_the_name_in_the_settings(station: Station, _: ReleaseFile) -> Desired:
    return station.desire(station.released(station.plant.release("bottle")))


def of_a_reused_name(station: Station, release: ReleaseFile) -> Desired:
    return station.desire(release, journal=OTHER)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> tuple[Station, FleetAgent]:
    """One station for all refusals: none of them changes it."""
    folder = tmp_path_factory.mktemp("refusing")
    station = Station(Plant(folder, bundle, Broker(folder)), bundle)
    return station, station.agent()


@pytest.mark.parametrize(
    ("make", "phase", "reason"),
    [
        (cut, "refused", "other_file"),
        (changed, "refused", "other_file"),
        (of_another_key, "refused", "wrong_signature"),
        (foreign, "refused", "foreign"),
        (too_large, "refused", "too_large"),
        (larger_than_the_disk, "refused", "disk_full"),
        (elsewhere, "refused", "address_not_allowed"),
        (linked_elsewhere, "refused", "address_not_allowed"),
        (another_version, "refused", "other_file"),
        (gone, "failed", "not_fetched"),
        (of_an_unknown_kind, "refused", "unknown_kind"),
        (of_the_name_in_the_settings, "refused", "name_of_settings"),
        (of_a_reused_name, "refused", "name_reused"),
    ],
)
def test_what_must_not_come_in_force_does_not(
    refusing: tuple[Station, FleetAgent],
    make: Callable[[Station, ReleaseFile], Desired],
    phase: str,
    reason: str,
) -> None:
    station, agent = refusing
    release, station.free_bytes = station.released(station.plant.release()), GIB
    before, versions = station.site.model.recipe, station.site.folder.versions("nut")
    report = station.ask(agent, make(station, release))
    assert (report["phase"], report["reason"]) == (phase, reason), report["detail"]
    assert station.site.model.recipe == before
    assert station.site.folder.versions("nut") == versions
    assert not list(station.site.journal.glob("fleet.download*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_disk_that_fills_while_a_release_is_unpacked_is_named(station: Station) -> None:
    release, agent = station.released(station.plant.release()), station.agent()
    recipes = station.site.folder.path
    aside = recipes.rename(recipes.with_name("aside"))
    recipes.mkdir()
    used = sum(file.stat().st_size for file in aside.rglob("*.*"))
    size = f"size={used + 64 * 1024}"
    mount = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(recipes)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        shutil.copytree(aside, recipes, symlinks=True, dirs_exist_ok=True)
        with (recipes / "others").open("wb", 0) as others, suppress(OSError):
            while others.write(bytes(4096)):
                pass
        report = station.ask(agent, station.desire(release))
    finally:
        subprocess.run(["umount", str(recipes)], check=True)
    assert (report["phase"], report["reason"]) == ("refused", "disk_full"), report["detail"]
    assert "No space left" in report["detail"]


def test_a_release_for_another_camera_fails_its_trial_and_the_station_goes_on(
    station: Station,
) -> None:
    release, agent = station.released(station.plant.release()), station.agent()
    tiny = np.zeros((2, 2, 3), np.uint8)
    station.site.trial_frame = Frame(pixels=tiny, number=1, captured_ns=0, captured_utc_ns=0)
    report = station.ask(agent, station.desire(release, change_product=True))
    assert (report["phase"], report["reason"]) == ("failed", "unfit")
    assert "this camera's" in report["detail"]
    live = station.site.model.recipe
    assert live is not None and live.id == "bottle"


def test_an_unsigned_file_is_refused_here_and_by_the_station(station: Station) -> None:
    signed = station.plant.release()
    release = station.released(signed)
    unsigned = station.plant.release(signed=False)
    with pytest.raises(Exception, match="is not signed"):
        station.released(unsigned)
    content = unsigned.read_bytes()
    Path(release.address).write_bytes(content)
    wanted = replace_file(release, content)
    report = station.ask(station.agent(), station.desire(wanted))
    assert (report["phase"], report["reason"]) == ("refused", "unsigned")


def replace_file(release: ReleaseFile, content: bytes) -> ReleaseFile:
    sha256 = hashlib.sha256(content).hexdigest()
    return release.model_copy(
        update={"sha256": sha256, "bytes": len(content), "version": release.version + 1}
    )


def test_a_kill_while_it_is_put_in_force_ends_with_one_version_and_the_way_back(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = station.released(station.plant.release())
    agent = station.agent()
    wanted = station.desire(release, change_product=True)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FleetAgent, "_in_force", killed)  # after the exchange, before it is kept
        with pytest.raises(Killed):
            station.ask(agent, wanted)
    agent = station.agent()
    report = station.ask(agent, wanted)
    assert (report["phase"], report["in_force"]["release"]) == ("in_force", 1)
    report = station.ask(agent, station.desire(None, action=Action.RETURN))
    assert report["phase"] == "returned"
    live = station.site.model.recipe
    assert live is not None and live.id == "bottle"


def end_before_the_trial(station: Station, wanted: Desired, patch: pytest.MonkeyPatch) -> None:
    """Let the process end once what is wanted lies in force, as SIGKILL does: nothing tidies up."""

    def killed(*_: object) -> None:
        raise Killed

    keep = RecipeChoice.keep
    with patch.context() as ending:
        ending.setattr(ModelManager, "_reload", killed)
        ending.setattr(SettingsLayers, "restore_release", lambda *_: None)
        ending.setattr(RecipeFolder, "restore", lambda *_: None)
        ending.setattr(RecipeChoice, "keep", lambda own, choice: choice and keep(own, choice))
        with pytest.raises(Killed):
            station.ask(station.agent(), wanted)


def inspected_for(station: Station) -> tuple[Recipe | None, Crop | None]:
    settings = station.site.model.settings
    return station.site.model.recipe, settings.camera.crop


CROP = {"x": 500, "y": 0, "width": 100, "height": 100}


@pytest.mark.parametrize("kind", ["settings", "recipe"])
def test_a_kill_before_the_trial_leaves_no_release_in_force_that_does_not_fit(
    releasing: Station, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station, site = releasing, releasing.site
    site.trial_frame = Frame(
        pixels=np.zeros((64, 64, 3), np.uint8), number=1, captured_ns=0, captured_utc_ns=0
    )
    if kind == "settings":
        release = station.released(station.plant.settings({"camera": {"crop": CROP}}))
    else:
        release = station.released(station.plant.release(crop=Crop(**CROP)))
    wanted = station.desire(release, change_product=True)
    end_before_the_trial(station, wanted, monkeypatch)

    agent = station.agent()
    before = (Recipe("bottle", 1), None)
    assert inspected_for(station)[1] == Crop(**CROP)  # it lies in force, and nobody has tried it
    station.go_on(agent)  # also without a broker

    assert inspected_for(station) == before
    report = station.ask(agent, wanted)
    assert (report["phase"], report["reason"], report["settings"]) == ("failed", "unfit", None)
    assert inspected_for(station) == before


def test_a_release_that_a_kill_interrupted_does_not_take_its_own_place_as_the_one_before(
    releasing: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = releasing
    first, second = two_releases(station)
    station.ask(station.agent(), station.desire(first))
    wanted = station.desire(second, rollout="two")
    end_before_the_trial(station, wanted, monkeypatch)

    agent = station.agent()
    assert station.ask(agent, wanted)["settings"]["version"] == 2
    kept = ReleasedSettingsFile.beside(station.site.journal)
    assert [one and one.version for one in (kept.now, kept.before)] == [2, 1]
    station.site.model.roll_back("Kim")
    assert station.site.model.settings.decision.guard_band == 0.05


def test_a_roll_out_that_follows_an_interrupted_one_goes_back_to_what_was_before_both(
    releasing: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = releasing
    first, second = two_releases(station)
    end_before_the_trial(station, station.desire(first), monkeypatch)

    agent = station.agent()
    assert station.ask(agent, station.desire(second, rollout="two"))["settings"]["version"] == 2
    report = station.ask(agent, station.desire(None, rollout="two", action=Action.RETURN))
    assert (report["phase"], report["settings"]) == ("returned", None)
    assert station.site.model.settings.decision.guard_band == 0.0
