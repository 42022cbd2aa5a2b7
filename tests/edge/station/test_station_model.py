"""The model of a running station and its settings: taken over together, or not at all."""

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.contract.event import Event
from edge.contract.verdict import Recipe
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.inspection.decision import Reason
from edge.inspection.image_limits import ImageLimits
from edge.settings.station import Settings
from edge.station.model.manager import ModelExchangeFailed, ModelManager
from edge.station.model.releases import Releases
from edge.station.model.reloadable_settings import RestartNeeded
from edge.station.pipeline.work import InspectionSetup, NewestFrame
from tests.edge.station.test_model_swap import fresh, rewrite, with_self_test
from tests.support.small_bundle import defective_image, good_image, write_bundle

GENEROUS_S = 60.0


class Site:
    """A station's model, the settings its site has written, and what the station was given."""

    def __init__(self, folder: Path) -> None:
        self.first = with_self_test(write_bundle(fresh(folder / "1")))
        self.second = with_self_test(write_bundle(fresh(folder / "2")))
        threshold = json.loads(self.second.with_suffix(".json").read_bytes())["threshold"]
        other = threshold | {"image": 30.0, "interval": None}
        with_self_test(rewrite(self.second, threshold=other))
        self.lines: list[InspectionSetup] = []
        self.events: list[Event] = []
        self.reported = 0
        self.on_trial: Callable[[], object] = lambda: None
        self.written = self.settings(self.first, recipe={"id": "bottle", "version": 1})
        self.frame: Frame | None = None
        self.model = ModelManager(
            settings=self.written,
            tuning=folder / "tuning.json",
            simulated=True,
            trial=self._trial,
            reread=lambda _: self.written,
            record_event=self.events.append,
            releases=Releases(None),
        )
        self.model.on_exchange(self.lines.append)
        self.model.subscribe(self._changed)

    def settings(self, model: Path, **sections: Any) -> Settings:
        return Settings.model_validate(
            {"camera": {"uri": "0"}, "model": {"path": str(model)}, **sections}
        )

    def _trial(self) -> Frame | None:
        self.on_trial()
        return self.frame

    def _changed(self) -> None:
        self.reported += 1


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def make_frame(pixels: Pixels, source: str | None = None) -> Frame:
    return Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0, source=source)


def test_the_newest_file_of_another_product_refuses_no_model(site: Site) -> None:
    site.written = site.settings(site.second, recipe={"id": "can", "version": 2})
    small = good_image()[:40, :60]
    grey = np.full((120, 160), 128, np.uint8)
    for of_another in (small, grey):
        site.frame = make_frame(of_another, "file:///in/bottle_7.png")
        site.model.reload()
        assert site.model.recipe == Recipe("can", 2)


def test_a_live_cameras_frame_refuses_what_it_cannot_take_whatever_it_shows(site: Site) -> None:
    site.written = site.settings(site.second, recipe={"id": "can", "version": 2})
    site.frame = make_frame(np.full((120, 160), 128, np.uint8))
    with pytest.raises(ModelExchangeFailed, match="cannot inspect this camera's images"):
        site.model.reload()
    assert site.model.recipe == Recipe("bottle", 1)
    for shown in (defective_image(), np.zeros((120, 160, 3), np.uint8)):
        site.frame = make_frame(shown)
        site.model.reload()
        assert site.model.recipe == Recipe("can", 2)


def test_a_frame_that_is_not_complete_is_never_the_newest() -> None:
    newest, whole = NewestFrame(), make_frame(good_image())
    for frame in (whole, replace(whole, number=2, status=FrameStatus.INCOMPLETE)):
        newest.add(frame)
    assert newest.read() is whole


def test_a_rollback_brings_recipe_and_settings_of_the_model_before_back(site: Site) -> None:
    before = site.written
    site.written = site.settings(site.second, recipe={"id": "can", "version": 2})
    site.model.reload()
    assert [line.recipe and line.recipe.id for line in site.lines] == ["can"]

    outcome = site.model.store.rollback("the operator asked")

    assert outcome.changed
    assert [line.recipe and line.recipe.id for line in site.lines] == ["can", "bottle"]
    assert site.model.settings == before
    assert site.reported == 2


def test_a_model_that_gives_no_numbers_takes_its_recipe_with_it(site: Site) -> None:
    site.written = site.settings(site.second, recipe={"id": "can", "version": 2})
    site.model.reload()
    sha256 = site.model.store.current.bundle.sha256

    for _ in range(3):
        site.model.store.part_decided(sha256, Reason.MODEL_ERROR)

    assert site.lines[-1].recipe is not None
    assert site.lines[-1].recipe.id == "bottle"
    assert site.reported == 2


def test_a_reload_in_the_middle_of_another_is_refused_and_changes_nothing_of_it(
    site: Site,
) -> None:
    loaded, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        loaded.set()
        assert go_on.wait(GENEROUS_S)

    site.on_trial = hold
    wanted = site.written = site.settings(site.second, decision={"guard_band": 0.1})
    first = threading.Thread(target=site.model.reload)
    first.start()
    assert loaded.wait(GENEROUS_S)

    site.written = site.settings(site.second, decision={"guard_band": 0.3})
    with pytest.raises(ModelExchangeFailed, match="again"):
        site.model.reload()
    go_on.set()
    first.join(GENEROUS_S)

    assert [event.kind for event in site.events] == ["model_busy", "model_exchanged"]
    assert site.model.settings == wanted
    assert site.lines[-1].identity is not None
    assert site.lines[-1].identity.config_sha256 == wanted.sha256


def test_a_rollback_in_the_middle_of_a_reload_leaves_it_its_settings(site: Site) -> None:
    site.written = site.settings(site.first, decision={"guard_band": 0.05})
    site.model.reload()
    site.on_trial = lambda: site.model.store.rollback("the operator asked")
    wanted = site.written = site.settings(site.second, decision={"guard_band": 0.1})

    site.model.reload()

    assert site.model.settings == wanted
    assert site.lines[-1].identity is not None
    assert site.lines[-1].identity.config_sha256 == wanted.sha256


CROP = {"x": 8, "y": 8, "width": 64, "height": 64}
DECISIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"decision": {"image_threshold": 33.0}}, {"threshold": 33.0}),
    ({"decision": {"pixel_threshold": 44.0}}, {"pixel_threshold": 44.0}),
    ({"decision": {"smallest_region_px": 5}}, {"smallest_region_px": 5}),
    ({"decision": {"image_threshold": 33.0}, "camera": {"uri": "0", "crop": CROP}}, {}),
    ({"recipe": {"id": "can", "version": 2}}, {}),
    ({"image": {"min_contrast": 9}}, {"image": ImageLimits(min_contrast=9)}),
]


@pytest.mark.parametrize(("sections", "expected"), DECISIONS)
def test_a_decision_is_exchanged_without_the_network(
    site: Site, sections: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = site.model.store.current
    for suffix in (".xml", ".bin"):
        site.first.with_suffix(suffix).unlink()  # whoever reads the network, fails
    site.frame = Frame(pixels=good_image(), number=1, captured_ns=0, captured_utc_ns=0)
    site.written = site.settings(site.first, **sections)

    site.model.reload()

    now = site.model.store.current
    assert now.bundle is before.bundle
    pairs = zip(now.inspectors, before.inspectors, strict=True)
    assert all(one._predictor is other._predictor for one, other in pairs)
    assert {name: getattr(now.criteria, name) for name in expected} == expected
    assert now.criteria.input.crop == site.written.camera.crop
    (line,) = site.lines
    assert line.inspectors == now.inspectors
    assert line.identity is not None
    assert line.identity.config_sha256 == site.written.sha256
    (event,) = site.events
    assert (event.kind, event.severity) == ("decision_changed", "info")
    assert event.data["now_threshold"] == now.criteria.threshold
    assert site.reported == 1

    assert site.model.store.rollback("the operator asked").changed
    assert site.model.store.current is before
    assert site.model.settings == site.settings(site.first, recipe={"id": "bottle", "version": 1})


@pytest.mark.parametrize(
    "sections",
    [
        {"camera": {"uri": "0", "crop": CROP | {"x": 10_000}}},
        {"image": {"reference": CROP | {"x": 10_000, "min_mean": 1, "max_mean": 2}}},
    ],
)
def test_a_region_that_does_not_lie_in_the_frame_changes_nothing(
    site: Site, sections: dict[str, Any]
) -> None:
    site.frame = Frame(pixels=good_image(), number=1, captured_ns=0, captured_utc_ns=0)
    before, settings = site.model.store.current, site.model.settings
    site.written = site.settings(site.first, **sections)

    with pytest.raises(ModelExchangeFailed, match="10000"):
        site.model.reload()

    assert (site.model.store.current, site.model.settings) == (before, settings)
    assert [event.kind for event in site.events] == ["model_refused"]
    assert site.lines == []


def test_other_files_under_the_same_path_are_a_new_model_once_nothing_else_changes(
    site: Site,
) -> None:
    for suffix in (".xml", ".bin", ".json"):
        content = site.second.with_suffix(suffix).read_bytes()
        site.first.with_suffix(suffix).write_bytes(content)
    site.written = site.settings(site.first, decision={"guard_band": 0.1})

    site.model.reload()
    assert [event.kind for event in site.events] == ["decision_changed"]
    assert "reload once more" in site.events[0].detail
    assert site.model.store.current.criteria.threshold == 20.0

    site.model.reload()
    assert [event.kind for event in site.events] == ["decision_changed", "model_exchanged"]
    assert site.model.store.current.criteria.threshold == 30.0
    assert site.model.settings.decision.guard_band == 0.1


def test_failures_do_not_take_a_threshold_back(site: Site) -> None:
    site.written = site.settings(site.first, decision={"image_threshold": 33.0})
    site.model.reload()
    sha256 = site.model.store.current.bundle.sha256

    for _ in range(5):
        assert site.model.store.part_decided(sha256, Reason.MODEL_ERROR) is None

    assert site.model.store.current.criteria.threshold == 33.0


def test_a_decision_made_for_a_model_that_is_gone_is_not_taken_over(site: Site) -> None:
    site.written = site.settings(site.second)
    site.model.reload()
    site.on_trial = lambda: site.model.store.rollback("the operator asked")
    site.written = site.settings(site.second, decision={"guard_band": 0.1})

    with pytest.raises(ModelExchangeFailed, match="was activated meanwhile"):
        site.model.reload()

    assert site.model.store.current.bundle.path == site.first


def test_a_deadline_is_no_limit_that_a_running_station_takes_over(site: Site) -> None:
    site.written = site.settings(
        site.first, recipe={"id": "bottle", "version": 1}, decision={"deadline_ms": 50}
    )

    with pytest.raises(RestartNeeded, match=r"decision\.deadline_ms changed"):
        site.model.reload()
