"""Masks and zones of the page: what counts after one is drawn, for which model and recipe."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.bundle.input_spec import Areas, Zone
from edge.bundle.manifest import ScoreStatistics
from edge.bundle.mask_file import make_runs, mask_content, read_mask_file
from edge.contract.encoding import to_json
from edge.contract.event import Event
from edge.contract.verdict import Recipe, payload
from edge.errors import ConfigurationError, StationError
from edge.hmi.actions import MaskBody, SetMask, SetThreshold, ThresholdBody
from edge.hmi.masks import Drawing, Stroke
from edge.hmi.server.threshold_preview import preview
from edge.inspection.decision import Result
from edge.journal.entries import JournalRow, RecordKind
from edge.settings.drift import DriftSettings
from edge.settings.overrides import Overrides
from edge.station.monitoring.drift_monitor import DriftMonitor
from edge.station.monitoring.health import Health
from tests.support.page_drawer import ELSEWHERE, KIM, OVER_DEFECT, Drawer
from tests.support.recipe_site import RecipeSite
from tests.support.recipes import add_recipe
from tests.support.sample_verdict import IDENTITY, sample_verdict
from tests.support.small_bundle import IMAGE_THRESHOLD, defective_image, good_image


@pytest.fixture
def site(tmp_path: Path, bundle: Path) -> RecipeSite:
    site = RecipeSite(tmp_path, bundle)
    add_recipe(site.folder, "cap", bundle)
    return site


def test_a_drawing_counts_at_once_and_after_a_restart_and_can_be_taken_back(
    site: RecipeSite,
) -> None:
    drawer, bundle = Drawer(site), site.model.store.current.bundle
    assert drawer.result() is Result.NOK and drawer.mask.origin == "none"

    done = drawer.draw(ignore=[OVER_DEFECT])

    assert drawer.result() is Result.OK
    assert done.threshold == IMAGE_THRESHOLD  # no good part can score higher, so it stays
    assert done.ignored_now == pytest.approx(2500 / 19200, abs=0.01)
    event = site.events[-1]
    assert (event.kind, event.data["by"], event.data["ignored_before"]) == (
        "mask_changed",
        "Kim",
        0.0,
    )
    model = site.model.store.current
    assert model.bundle is bundle and model.shared  # the network was not even read again
    site.start()
    again = Drawer(site)
    assert again.result() is Result.OK and again.mask.origin == "page"
    again.undo()
    assert again.result() is Result.NOK
    assert site.model.settings.decision.mask is None
    site.start()
    assert Drawer(site).result() is Result.NOK


def test_a_process_that_ends_while_a_drawing_is_saved_decides_by_the_old_pair_or_the_new(
    tmp_path: Path, bundle: Path
) -> None:
    old, new = (IMAGE_THRESHOLD, False), (30.0, True)
    sites = [_after_the_end(tmp_path / str(count), bundle, files=count) for count in range(1, 10)]
    seen = [_decides_by(site) for site in sites]
    assert set(seen) == {old, new}
    assert seen == sorted(seen)  # the old one first
    for site in sites[seen.index(new) :]:
        Drawer(site).draw(ignore=[OVER_DEFECT, ELSEWHERE])
        site.start()
        assert _decides_by(site) == new


def _decides_by(site: RecipeSite) -> tuple[float, bool]:
    criteria = site.model.store.current.criteria
    return criteria.threshold, criteria.input.areas is not None


def _after_the_end(folder: Path, bundle: Path, files: int) -> RecipeSite:
    """End a process with so many files saved, and start the next one."""

    class Ended(BaseException):
        """As SIGKILL: nothing that comes after is done."""

    replace_file, left = Path.replace, [files]

    def replaced(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Ended
        left[0] -= 1
        return replace_file(self, target)

    folder.mkdir()
    site = RecipeSite(folder, bundle)
    with pytest.MonkeyPatch.context() as patch, suppress(Ended):
        patch.setattr(Path, "replace", replaced)
        Drawer(site).draw(30.0, ignore=[ELSEWHERE])
    site.start()
    return site


def test_the_brush_paints_what_is_ignored_and_the_eraser_takes_it_away(site: RecipeSite) -> None:
    drawer = Drawer(site)
    over = Stroke(width_px=50, erase=False, points=((100, 30), (140, 30)))
    erased = over.model_copy(update={"erase": True})
    drawer.draw(strokes=[over])
    assert drawer.result() is Result.OK and drawer.mask.painted is not None

    drawer.draw(keep_painted=True, ignore=[ELSEWHERE])
    assert drawer.result() is Result.OK  # what was painted before is kept
    with pytest.raises(ConfigurationError, match="places are inspected that were not before"):
        drawer.draw(keep_painted=True, strokes=[erased], ignore=[ELSEWHERE])
    assert drawer.result() is Result.OK

    drawer.draw(30.0, keep_painted=True, strokes=[erased], ignore=[ELSEWHERE])
    assert drawer.result() is Result.NOK and drawer.mask.threshold == 30.0


def test_a_zone_decides_by_its_own_limit_and_the_rest_by_that_of_the_part(
    site: RecipeSite,
) -> None:
    drawer = Drawer(site)
    zone = {"name": "label", "polygon": OVER_DEFECT, "threshold": 500.0}
    drawer.draw(zones=[zone])
    assert drawer.result() is Result.OK
    drawer.draw(zones=[{**zone, "threshold": 50.0}])
    assert drawer.result() is Result.NOK
    assert [zone.name for zone in drawer.mask.zones] == ["label"]


def test_a_preview_decides_parts_with_zones_as_the_line_does(site: RecipeSite) -> None:
    drawer = Drawer(site)
    zone = {"name": "label", "polygon": OVER_DEFECT}
    for limit in (50.0, 115.0, 500.0, None, IMAGE_THRESHOLD):
        drawer.draw(IMAGE_THRESHOLD, zones=[{**zone, "threshold": limit}])
        own_zones = {one.name for one in drawer.mask.zones if one.threshold is not None}
        for pixels in (good_image(), defective_image()):
            content = payload(sample_verdict(drawer.inspect(pixels)), IDENTITY, None)
            row = JournalRow(
                position=1,
                kind=RecordKind.VERDICT,
                seq=1,
                result=content["result"],
                part_id=None,
                payload=to_json(content).encode(),
                created_utc_ns=0,
                acknowledged=True,
                dead=None,
            )
            for threshold in (1.0, 10.0, 60.0, 1e5):
                shown = preview([row], threshold, 0.0, {}, own_zones=own_zones)
                line = drawer.inspect(pixels, threshold).decision.result.value
                assert shown.after == {line: 1}, (limit, threshold)


def test_a_zone_near_its_own_limit_is_no_drift(site: RecipeSite) -> None:
    drawer, events = Drawer(site), list[Event]()
    seen = [drawer.inspect(good_image(number)).score or 0.0 for number in range(100)]
    shares = tuple(number / 99 for number in range(100))
    bundle = site.model.current_bundle()
    manifest = bundle.manifest.model_copy(
        update={
            "statistics": ScoreStatistics(probabilities=shares, scores=tuple(sorted(seen))),
            "threshold": bundle.manifest.threshold.model_copy(update={"good_count": 100}),
        }
    )
    learned = replace(bundle, manifest=manifest)
    drawer.draw(
        IMAGE_THRESHOLD, zones=[{"name": "a", "polygon": ELSEWHERE, "threshold": 1.1 * max(seen)}]
    )
    monitor = DriftMonitor(lambda: learned, DriftSettings(window=20), Health(), events.append)
    identity = replace(IDENTITY, model_sha256=bundle.sha256)
    for number in range(100, 200):
        inspection = drawer.inspect(good_image(number))
        assert inspection.decision.result is Result.OK
        monitor.on_verdict(replace(sample_verdict(inspection), identity=identity))
    assert events == []


def test_a_recipe_keeps_its_own_drawing(site: RecipeSite) -> None:
    site.model.choose_recipe("cap", None)
    Drawer(site).draw(ignore=[OVER_DEFECT])
    masks = {
        name: site.layers.of(None if name == "bottle" else Recipe(name, 1)).decision.mask
        for name in ("nut", "cap")
    }
    assert masks["nut"] is None
    assert masks["cap"] is not None and masks["cap"].startswith(str(site.journal / "masks"))
    site.model.choose_recipe("bottle", None)
    assert Drawer(site).mask.origin == "none"
    site.model.choose_recipe("cap", None)
    assert Drawer(site).mask.origin == "page"


@pytest.mark.parametrize(
    ("drawn", "reported"),
    [
        ({}, "nothing is drawn"),
        ({"ignore": [((0, 0), (160, 0), (160, 120), (0, 120))]}, "covers everything"),
        ({"ignore": [((5, 5), (90, 90), (90, 5), (5, 90))]}, "crosses or touches"),
        ({"ignore": [((5, 5), (200, 90), (90, 5))]}, "lies outside of 160×120"),
        ({"zones": [{"name": "a", "polygon": ELSEWHERE}] * 2}, "two zones are called a"),
    ],
)
def test_a_drawing_that_is_none_is_refused_and_changes_nothing(
    site: RecipeSite, drawn: dict[str, Any], reported: str
) -> None:
    drawer = Drawer(site)
    with pytest.raises(StationError, match=reported):
        drawer.draw(**drawn)
    assert drawer.result() is Result.NOK
    assert Overrides.beside(site.journal).masks.read() is None
    site.start()
    assert Drawer(site).mask.origin == "none"


def test_who_drew_over_an_older_mask_loads_it_again(site: RecipeSite) -> None:
    drawer = Drawer(site)
    drawer.draw(ignore=[OVER_DEFECT])
    body = MaskBody(before="", drawing=Drawing(width_px=160, height_px=120, ignore=(ELSEWHERE,)))
    with pytest.raises(ConfigurationError, match="changed since they were loaded"):
        drawer.actions.do(SetMask(body=body), KIM)
    assert drawer.result() is Result.OK


def test_the_settings_have_the_last_word(
    site: RecipeSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    drawer = Drawer(site)
    drawer.draw(ignore=[OVER_DEFECT])
    with pytest.raises(ConfigurationError, match="rests on scores without a mask"):
        drawer.actions.do(SetThreshold(body=ThresholdBody(image_threshold=None)), KIM)
    areas = Areas(width=160, height=120, ignore=(ELSEWHERE,))
    for path, content in mask_content(areas, tmp_path / "own.yaml"):
        path.write_bytes(content)
    site.written["decision"] = {"mask": str(tmp_path / "own.yaml"), "image_threshold": 20.0}

    site.start()

    assert Drawer(site).mask.origin == "settings" and Drawer(site).result() is Result.NOK
    assert "decision.mask has been changed in the settings since" in caplog.text


def test_a_list_of_drawings_that_cannot_be_read_lets_nothing_pass(site: RecipeSite) -> None:
    Drawer(site).draw(ignore=[OVER_DEFECT])
    (site.journal / "masks" / "masks.json").write_text("{")
    with pytest.raises(ConfigurationError, match="draw the mask again"):
        site.start()


def test_a_reload_takes_over_what_was_drawn_anew_under_the_same_name(
    site: RecipeSite, tmp_path: Path
) -> None:
    own = tmp_path / "own.yaml"

    def drawn(polygon: tuple[tuple[float, float], ...]) -> None:
        ((path, content),) = mask_content(Areas(width=160, height=120, ignore=(polygon,)), own)
        path.write_bytes(content)

    drawn(ELSEWHERE)
    site.written["decision"] = {"mask": str(own), "image_threshold": 20.0}
    site.start()
    drawer, bundle = Drawer(site), site.model.store.current.bundle
    assert drawer.result() is Result.NOK
    drawn(OVER_DEFECT)

    done = site.model.reload()

    assert drawer.result() is Result.OK and site.model.store.current.bundle is bundle
    assert done["changed"] == f"the drawing in {own}"
    assert (site.events[-1].kind, str(own) in site.events[-1].detail) == ("decision_changed", True)
    assert site.model.reload()["changed"] == "only the model"


def test_a_mask_is_written_as_it_is_read(tmp_path: Path) -> None:
    painted = np.zeros((120, 160), np.uint8)
    cv2.circle(painted, (80, 60), 20, 255, -1)
    zone = Zone(name="Dichtfläche", polygon=ELSEWHERE, threshold=2.5, smallest_region_px=4)
    areas = Areas(
        width=160,
        height=120,
        ignore=(OVER_DEFECT,),
        ignored_runs=make_runs(painted > 0),
        zones=(zone,),
    )
    for path, content in mask_content(areas, tmp_path / "drawn.yaml"):
        path.write_bytes(content)
    assert read_mask_file(tmp_path / "drawn.yaml") == areas
