"""Teaching at the page: in a real browser from images to a release, and what is not taken."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from edge.bundle.input_spec import AlignMode, Areas, Crop, Zone
from edge.bundle.loading import load_bundle, manifest_sha256
from edge.cli.main import main as edge_run
from edge.contract.verdict import Recipe, pixels_sha256
from edge.errors import BundleError, StationError
from edge.hmi.actions import (
    BeginTeaching,
    BuildCandidate,
    CaptureToTeach,
    EndTeaching,
    InspectedPart,
    MarkedImage,
    StrikeOut,
    TeachAlignment,
    TeachBody,
    TeachBuildBody,
    TeachCaptureBody,
    TeachEndBody,
    TeachStrikeBody,
)
from edge.hmi.contents import TeachingStatus
from edge.imaging.content_hash import pixels_hash
from edge.imaging.frame import Frame, FrameStatus, Pixels
from edge.imaging.image_files import read_image
from edge.inspection.decision import Reason
from edge.journal.entries import RecordKind
from edge.journal.query import Query, query
from edge.recipes.content import RecipeContent
from edge.recipes.errors import RecipeNameInvalid
from edge.recipes.folder import RecipeFolder, taught_place
from edge.recipes.taught import TAUGHT_FILE, Taught, read_taught
from edge.settings.mask_overrides import MaskOverride
from edge.station.handshake.part import Part, TriggerRequest, TriggerSource
from edge.station.pipeline.dispatcher import part_identity
from edge.teaching.refusals import TeachingNotPossible
from tests.edge.hmi.test_hmi_browser import (
    DEMO,
    ROOT,
    SCREENSHOTS,
    SIZES,
    offer_token,
    shot,
    unlock,
)
from tests.support.browser import browser
from tests.support.page_station import GENEROUS_S, PageStation, wait_until
from tests.support.recipes import copied_bundle
from tests.support.sample_verdict import GOOD, sample_verdict
from tests.support.small_bundle import write_images
from tests.support.small_teacher import write_small_teacher
from tests.support.teaching_bench import KIM, TeachingBench

__all__ = ["browser"]  # a fixture

FRAMES = ("00_good", "01_good", "03_good", "05_good", "06_stain", "08_good")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def station(tmp_path: Path, bundle: Path, teacher: Path) -> Iterator[PageStation]:
    frames = tmp_path / "frames"
    frames.mkdir()
    for name in FRAMES:
        shutil.copy(DEMO / "frames" / f"{name}.jpg", frames)
    camera = {"uri": str(frames), "rate_fps": 4, "loop": True}
    one = PageStation(tmp_path / "station", camera, bundle)
    one.settings["recipe"] = {"id": "bolt"}
    one.settings["recipes"] = {"folder": str(tmp_path / "recipes")}
    one.settings["teach"] = {"teacher": str(teacher), "threads": 1}
    with one:
        yield one


def opened(browser: Browser, station: PageStation, size: str, locale: str) -> Page:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    page = context.new_page()
    page.set_default_timeout(GENEROUS_S * 1000)
    page.goto(f"{station.address}/#teach")
    expect(page.locator("#view-teach")).to_be_visible()
    return page


def test_a_product_is_taught_tried_and_released_at_the_page(
    station: PageStation, browser: Browser, tmp_path: Path
) -> None:
    recipes = RecipeFolder(tmp_path / "recipes")
    page = opened(browser, station, "desktop", "en-US")
    unlock(page)
    page.locator("#teach-recipe").fill("플랜지")
    page.locator("#teach-begin .primary").click()
    expect(page.locator("#toast")).to_contain_text("recorded by name")
    page.locator("#unlock").click()  # locks
    unlock(page, "Kim")
    page.locator("#teach-begin .primary").click()
    page.locator("#teach-one").click()
    expect(page.locator("#teach-thumbs li")).to_have_count(1)
    other = station.act("teach_capture", {}, x_edge_name="Lee")
    assert (other.status_code, "teaches" in other.text) == (409, True)
    page.locator("[data-capturing=changed]").click()
    expect(page.locator("#teach-thumbs li")).to_have_count(len(FRAMES))
    page.locator("[data-capturing=off]").click()

    page.locator("#teach-build").click()
    expect(page.locator("#teach-worth")).to_contain_text("With 95.0 % confidence")
    stain = page.locator("#teach-thumbs li").first
    expect(stain).to_contain_text("Looks like a defect")
    expect(stain.locator("img")).to_have_attribute("src", re.compile("^teach/maps/"))
    stain.locator("button").click()
    expect(page.locator("#teach-images-more")).to_contain_text("5 used")
    early = station.act("teach_release", {"comment": "now"}, x_edge_name="Kim")
    assert (early.status_code, "Build it again" in early.text) == (409, True)
    page.locator("#teach-build").click()
    expect(page.locator("#teach-result")).to_contain_text("of 5 images")

    page.locator("#teach-try").click()
    expect(page.locator("#teach-trial-parts .differs").first).to_be_visible()
    part = station.status()["part"]
    assert (part["recipe"], part["raw_threshold"] > 1.0) == ("bolt 1", True)  # the one in force
    phone = opened(browser, station, "phone", "ko-KR")
    expect(phone.locator("#teach-title")).to_contain_text("플랜지, 학습 담당")
    unlock(phone, "Lee")
    phone.locator("#teach-one").click()
    expect(phone.locator("#toast")).to_contain_text(
        "Kim (token)이(가) 플랜지을(를) 학습하는 중입니다"
    )
    assert phone.evaluate("document.documentElement.scrollWidth") <= SIZES["phone"][0]
    shot(page, "teach")
    shot(phone, "teach_phone")
    page.locator("#teach-release [name=comment]").fill("first product")
    page.locator("#teach-release button").click()
    expect(page.locator("#toast")).to_have_text(
        "Released: 플랜지, version 1, from the next part on."
    )
    expect(page.locator("#teach-start")).to_be_visible()
    wait_until(lambda: (station.status()["part"] or {}).get("recipe") == "플랜지 1", "its part")
    assert recipes.in_force("플랜지") == 1
    assert len(list(recipes.images("플랜지").iterdir())) == 5
    event = station.event("recipe_released")
    assert (event["data"]["by"], event["data"]["before"]) == ("Kim (token)", "bolt 1")
    assert event["data"]["trial_parts"] > event["data"]["trial_alike"]
    assert station.events("trial_verdicts") == []  # they would crowd out the others
    tried_parts_are_recorded_by_the_verdicts_that_count(station, event["data"])

    learned_from_a_mark(station, page, recipes)
    ended_with_its_station(station, recipes)


def learned_from_a_mark(station: PageStation, page: Page, recipes: RecipeFolder) -> None:
    """A defect that was missed is marked, and the next version rejects it."""

    def missed(name: str) -> list[dict[str, Any]]:
        parts = station.parts(result="OK")
        return [one for one in parts if one["image_name"] == name and one["image"]]

    def kept_without_loss(name: str) -> list[dict[str, Any]]:
        folder = station.folder / "snapshots"
        return [one for one in missed(name) if list(folder.rglob(f"*{one['id']}*.png"))]

    assert station.act("threshold", {"image_threshold": 9.0}).status_code == 200
    mark_as_missed(station, missed, "06_stain.jpg")
    mark_as_missed(station, kept_without_loss, "05_good.jpg")
    wait_until(lambda: len(station.json("/api/feedback")["feedback"]) == 2, "the marks")
    page.locator("#teach-recipe").fill("플랜지")
    page.locator("#teach-learn").click()
    # Beside what was taught and marked: frames that passed, and were rejected, as far as kept.
    both = page.locator("#teach-thumbs li", has_text="Missed defect")
    expect(both).to_have_count(2)
    expect(page.locator("#teach-contradicted")).to_contain_text("was taught as good. It now counts")
    number = station.status()["status"]["teaching"]["contradicted"][0]["number"]
    page.locator(f"#teach-thumbs li:has(img[src^='teach/images/{number}?']) button").click()
    page.locator("#teach-build").click()
    expect(page.locator("#teach-worth")).to_contain_text(
        re.compile("rests on ([4-9]|10) good and (1 defective image|2 defective images)")
    )
    expect(both.first).to_contain_text("OK → NOK")
    # The line saw the same stain again and again, and let it pass.
    expect(page.locator("#teach-line-title")).to_contain_text("that were OK would be rejected")
    page.locator("#teach-line-title").click()
    expect(page.locator("#teach-line-parts li").first).to_contain_text("OK → NOK")
    chosen = page.locator("#teach-options [aria-pressed=true]")
    expect(chosen).to_contain_text(
        re.compile("0 of ([4-9]|10) good rejected, 0 of [12] defective pass")
    )
    shot(page, "teach_learn")
    fits_desktop_panels_and_phone(page)
    released = station.act("teach_release", {"comment": "stains"}, x_edge_name="Kim")
    assert released.json()["done"]["version"] == 2, released.text
    taught = read_taught(recipes.load("플랜지").folder)
    assert taught is not None
    assert (len(taught.images), len(taught.defective)) == (4, 1)
    kept = list(recipes.images("플랜지").iterdir())
    assert len(kept) == 6 + len(taught.passed) + len(taught.rejected)


def mark_as_missed(
    station: PageStation, find: Callable[[str], list[dict[str, Any]]], name: str
) -> None:
    wait_until(lambda: bool(find(name)), f"{name} has passed")
    marked = station.act("feedback", {"seq": find(name)[0]["seq"], "mark": "missed_defect"})
    assert marked.json()["done"]["image_kept"]


def fits_desktop_panels_and_phone(page: Page) -> None:
    """In English and Korean nothing lies outside of the page or is cut, whatever its size."""
    sizes = {**SIZES, "small_panel": (800, 480)}
    for language in ("en", "ko"):
        expect(page.locator("html")).to_have_attribute("lang", language)
        for size, (width, height) in sizes.items():
            page.set_viewport_size({"width": width, "height": height})
            outside = page.evaluate(
                """() => [document.documentElement, ...document.querySelectorAll(
                        "#view-teach :is(h2, p, dt, dd, li, label, button, input, a)")]
                    .filter((node) => node.offsetParent || node === document.documentElement)
                    .filter((node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth)
                    .map((node) => `${node.id} ${node.tagName} ${node.textContent.slice(0, 40)}`)"""
            )
            assert outside == [], (size, language)
            if size != "desktop":  # which the other images show
                page.screenshot(path=SCREENSHOTS / f"teach_{size}_{language}.png", full_page=True)
        page.locator("#language").click()
    page.set_viewport_size({"width": SIZES["desktop"][0], "height": SIZES["desktop"][1]})


def tried_parts_are_recorded_by_the_verdicts_that_count(
    station: PageStation, released: dict[str, Any]
) -> None:
    trial = [one["data"] for one in recorded(station) if one["kind"] == "trial_verdicts"]
    assert {one["model_sha256"] for one in trial} == {released["model_sha256"]}
    ids = [key for one in trial for key in one if key.count("-") == 4]
    assert len(ids) == released["trial_parts"]
    assert len(trial) < len(ids) or len(ids) == 1  # not an event for each part
    verdicts = {
        json.loads(row.payload)["id"]: row.result
        for row in query(station.journal, Query(kind=RecordKind.VERDICT))
    }
    judged = {key: one[key] for one in trial for key in one if key in verdicts}
    assert sorted(judged) == sorted(ids)
    differ = [key for key, text in judged.items() if text.split()[0] != verdicts[key]]
    assert len(differ) == released["trial_parts"] - released["trial_alike"]


def recorded(station: PageStation) -> list[dict[str, Any]]:
    """Return the events of its journal, oldest first."""
    rows = query(station.journal, Query(kind=RecordKind.EVENT))
    return [json.loads(row.payload) for row in rows]


def ended_with_its_station(station: PageStation, recipes: RecipeFolder) -> None:
    """Kill a build, then a station that builds: nothing half-made is offered, the old one runs."""
    begun = station.act("teach", {"recipe": "nut"}, x_edge_name="Kim")
    assert begun.status_code == 200, begun.text
    station.act("teach_capture", {"automatic": "every"}, x_edge_name="Kim")

    def images() -> int:
        teaching = station.status()["status"]["teaching"]
        return len(teaching["images"]) if teaching["recipe"] == "nut" else 0

    wait_until(lambda: images() > 2, "images")

    def building() -> psutil.Process:
        begun = station.act("teach_build", x_edge_name="Kim")
        assert begun.status_code == 200, begun.text
        wait_until(lambda: len(builds(station)) == 1, "the build's process")
        return builds(station)[0]

    building().kill()  # as the kernel does where memory runs out
    wait_until(
        lambda: station.status()["status"]["teaching"]["refused_kind"] == "memory", "its end"
    )
    build = building()
    station.close()
    build.wait(GENEROUS_S)
    station.start()
    assert station.status()["part"]["recipe"] == "플랜지 2"
    assert station.status()["status"]["teaching"]["phase"] == "idle"
    assert (recipes.versions("nut"), recipes.in_force("플랜지")) == ((), 2)


class DemoStation(PageStation):
    """What ``make demo KEEP=1`` starts once the lean edge is installed, at a free port."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "unused", {}, DEMO / "bottle.xml")
        printed = subprocess.run(
            # Below another make, as in ``make test``, it would name the folder that it enters.
            ["make", "--no-print-directory", "-n", "demo", "KEEP=1"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        *_, token, _, station = printed.stdout.splitlines()
        made_of = "test -f build/demo/token || build/edge/bin/edge-run --make-token "
        self.token = folder / token.removeprefix(made_of)
        self.token.parent.mkdir(parents=True)
        assert edge_run(["--make-token", str(self.token)]) == 0
        shutil.copytree(DEMO, folder / DEMO.relative_to(ROOT))
        program, option, name, output = station.split()
        assert (program, option, output) == ("build/edge/bin/edge-run", "--config", ">/dev/null")
        self.config = folder / name

    def write(self) -> None:
        written = self.config.read_text()
        assert "port: 8080\n" in written
        self.config.write_text(written.replace("port: 8080\n", "port: 0\n"))


def test_make_demo_goes_on_with_a_page_at_which_a_product_is_taught(
    tmp_path: Path, browser: Browser
) -> None:
    with DemoStation(tmp_path) as station:
        page = opened(browser, station, "desktop", "en-US")
        offer_token(page, station.token.read_text().strip(), "Kim")
        expect(page.locator("#ask")).to_be_hidden()
        page.locator("#teach-recipe").fill("flange")
        page.locator("#teach-begin .primary").click()
        page.locator("#teach-one").click()
        expect(page.locator("#teach-thumbs li")).to_have_count(1)
        expect(page.locator("#teach-views-label")).to_be_visible()
        assert station.status()["part"]["recipe"] == "bottle 1"
        assert station.stop() == 0


def builds(station: PageStation) -> list[psutil.Process]:
    """Return the processes of a station that build."""
    found = []
    for one in psutil.Process(station.pid).children():
        with suppress(psutil.NoSuchProcess):  # it has ended since, or waits to be noticed
            if any("teaching" in word for word in one.cmdline()):
                found.append(one)
    return found


def test_a_number_that_the_plc_cannot_call_is_not_taught(tmp_path: Path, teacher: Path) -> None:
    bench = TeachingBench(tmp_path, teacher, plc=True)
    with pytest.raises(RecipeNameInvalid, match="recipe 007: no PLC can select it"):
        bench.begin(recipe="007")
    bench.begin(recipe="7")
    TeachingBench(tmp_path / "mqtt", teacher).begin(recipe="007")


def test_no_recipe_is_called_like_the_model_of_the_settings(tmp_path: Path, teacher: Path) -> None:
    """It would never be used, and the station would not start again."""
    with pytest.raises(RecipeNameInvalid, match="gives this name to the model"):
        TeachingBench(tmp_path, teacher).begin(recipe="bolt")


def test_what_shows_no_good_part_is_not_taken_to_teach_with(tmp_path: Path, teacher: Path) -> None:
    bench = TeachingBench(tmp_path, teacher)
    bench.begin()
    good = read_image(DEMO / "frames" / "00_good.jpg")

    assert bench.capture(good) == ""
    assert "is identical to image 1" in bench.capture(good)
    assert "the image is all dark" in bench.capture(np.zeros_like(good))
    assert "packets are missing" in bench.capture(good[::-1], FrameStatus.INCOMPLETE)
    assert "320×480 pixels, the others have 640×480" in bench.capture(good[:, :320])
    assert "16-bit" in bench.capture(good.astype(np.uint16) * 257)
    bench.folder.joinpath("teaching").rename(bench.folder / "gone")  # as of a disk that fails
    bench.folder.joinpath("teaching").write_text("")
    assert "cannot be written" in bench.capture(good[::-1])
    bench.folder.joinpath("teaching").unlink()
    bench.folder.joinpath("gone").rename(bench.folder / "teaching")
    assert bench.capture(np.ascontiguousarray(good[::-1])) == ""
    assert bench.capture(np.ascontiguousarray(good[:, ::-1])) == ""
    with pytest.raises(TeachingNotPossible, match=r"recipes\.max_images"):
        bench.capture(good)


def test_a_part_whose_code_names_another_product_is_taught_only_one_by_one(
    tmp_path: Path, teacher: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher)
    bench.begin()
    good = read_image(DEMO / "frames" / "00_good.jpg")
    bench.teaching.do(CaptureToTeach(body=TeachCaptureBody(automatic="every")), KIM)

    def show(named: str | None, pixels: Pixels) -> TeachingStatus:
        frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
        recipe = Recipe(named, 0) if named is not None else None
        bench.teaching.on_verdict(replace(sample_verdict(of=frame), code_recipe=recipe))
        bench.teaching.look()
        return bench.teaching.status()

    refused = show("bolt", good)
    assert (len(refused.images), refused.why_kind) == (0, "other_product")
    assert refused.why_data == {"recipe": "bolt", "taught": "nut"}
    assert len(show("nut", good).images) == 1
    assert len(show(None, np.ascontiguousarray(good[::-1])).images) == 2


def test_a_part_whose_trigger_names_another_product_is_taught_only_one_by_one(
    tmp_path: Path, teacher: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher, 9)
    bench.begin()
    good = read_image(DEMO / "frames" / "00_good.jpg")
    bench.teaching.do(CaptureToTeach(body=TeachCaptureBody(automatic="every")), KIM)
    shown = iter((good, good[::-1], good[:, ::-1], good[::-1, ::-1]))

    def show(asked: str | None, reason: Reason = Reason.SCORE_BELOW) -> TeachingStatus:
        pixels = np.ascontiguousarray(next(shown))
        frame = Frame(pixels=pixels, number=1, captured_ns=0, captured_utc_ns=0)
        request = TriggerRequest(
            trigger_id="1",
            part_id=None,
            recipe=Recipe(asked, 1) if asked is not None else None,
            deadline_ms=None,
            received_ns=0,
            received_utc_ns=0,
            source=TriggerSource.SOFTWARE,
        )
        part = part_identity(Part.announced(1, request, Recipe("bolt", 1)))
        inspection = replace(GOOD, decision=replace(GOOD.decision, reason=reason))
        bench.teaching.on_verdict(replace(sample_verdict(inspection, of=frame), part=part))
        bench.teaching.look()
        return bench.teaching.status()

    refused = show("bolt")
    assert (len(refused.images), refused.why_kind) == (0, "other_product")
    assert refused.why_data == {"recipe": "bolt", "taught": "nut"}
    refused = show("nut", Reason.RECIPE_MISMATCH)  # its code names another one
    assert (len(refused.images), refused.why_kind) == (0, "names_differ")
    assert len(show("nut").images) == 1
    assert len(show(None).images) == 2  # inspected for the chosen one, as no name is given


def draw(bench: TeachingBench, areas: Areas, name: str) -> MaskOverride:
    """Draw mask and zones for the first version of ``nut``, as somebody does at the page."""
    override = MaskOverride(
        file=bench.masks.draw(areas, name),
        model_sha256=manifest_sha256(bench.recipes.load("nut", 1).model) or "",
        by="Kim",
        utc="2026-01-01T00:00:00Z",
    )
    bench.masks.write(override, Recipe("nut", 1))
    return override


def test_what_was_drawn_at_the_page_goes_into_the_next_version_that_is_taught(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher, 9)
    images = write_images(tmp_path / "images", good=4, defective=1)
    taught_recipe(bench.recipes, bundle, sorted(images.iterdir()))
    zone = Zone(name="face", polygon=((10, 10), (70, 10), (70, 70), (10, 70)), threshold=1.5)
    serial = ((90, 10), (150, 10), (150, 40), (90, 40))
    areas = Areas(width=160, height=120, ignore=(serial,), zones=(zone,))
    bench.folder.mkdir(exist_ok=True)
    drawn = draw(bench, areas, "first")

    bench.begin()
    for path in sorted(images.glob("good*")):
        assert bench.capture(read_image(path)) == ""
    status = bench.build()
    assert (status.phase, status.refused) == ("built", [])
    draw(bench, areas.model_copy(update={"zones": ()}), "second")
    with pytest.raises(TeachingNotPossible, match="its mask was changed") as refused:
        bench.release()
    assert (refused.value.kind, refused.value.data) == ("version_since", {"recipe": "nut"})
    bench.masks.write(drawn, Recipe("nut", 1))
    taught_recipe(bench.recipes, bundle, sorted(images.iterdir()))  # as a roll-out does
    with pytest.raises(TeachingNotPossible, match="version 2 is in force"):
        bench.release()
    bench.recipes.put_in_force("nut", 1)
    bench.release()
    assert load_bundle(bench.recipes.load("nut").model).manifest.input.areas == areas


def test_an_excluded_image_is_no_reference_of_a_part(tmp_path: Path, teacher: Path) -> None:
    bench = TeachingBench(tmp_path, teacher)
    bench.begin()
    good = read_image(DEMO / "frames" / "00_good.jpg")
    assert bench.capture(good) == bench.capture(np.ascontiguousarray(good[::-1])) == ""
    bench.teaching.do(StrikeOut(body=TeachStrikeBody(number=2, struck=True)), KIM)
    asked = TeachAlignment(mode=AlignMode.SHIFT, reference=2)
    with pytest.raises(TeachingNotPossible, match="it is excluded") as refused:
        bench.teaching.do(BuildCandidate(body=TeachBuildBody(alignment=asked)), KIM)
    assert (refused.value.kind, refused.value.data) == ("no_reference", {"n": 2})
    assert bench.teaching.status().phase == "collecting"
    with pytest.raises(ValueError, match="a region needs the reference"):
        TeachAlignment(mode=AlignMode.SHIFT, roi=Crop(x=0, y=0, width=9, height=9))


def taught_recipe(recipes: RecipeFolder, bundle: Path, images: list[Path]) -> None:
    """Publish a version and put it in force; the first image is confirmed, the last a defect."""
    contents = {pixels_hash(read_image(path)): path for path in images}
    names = [content.hex() for content in contents]
    taught = Taught(
        teacher="0" * 64,
        seed=0,
        views=False,
        check_good=True,
        images=names[:-1],
        confirmed=names[:1],
        defective=names[-1:],
    )

    def build(folder: Path) -> None:
        copied_bundle(bundle)(folder)
        (folder / TAUGHT_FILE).write_text(taught.model_dump_json())

    kept = {taught_place(content, path): path for content, path in contents.items()}
    version = recipes.publish(RecipeContent(name="nut", version=1), build, images=kept)
    recipes.put_in_force("nut", version.version)


def test_marks_and_unmarked_parts_of_the_line_stand_beside_what_was_taught(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher, 9)
    images = write_images(tmp_path / "images", good=9, defective=3)
    good, bad = sorted(images.glob("good*")), sorted(images.glob("spot*"))
    taught_recipe(bench.recipes, bundle, [*good[:2], bad[0]])
    gone, cut = tmp_path / "gone.png", tmp_path / "cut.png"
    cut.write_bytes(good[3].read_bytes()[:200])
    results = [(good[3], "OK"), (good[4], "OK"), (bad[2], "NOK"), (gone, "OK"), (good[5], "ERROR")]
    inspected = [
        InspectedPart.model_validate({"seq": seq, "id": "a", "result": result, "path": str(path)})
        for seq, (path, result) in enumerate(results, 10)
    ]
    marked = [
        MarkedImage(seq=1, mark="false_reject", path=str(good[2])),
        MarkedImage(seq=2, mark="missed_defect", path=str(bad[1])),
        MarkedImage(seq=3, mark="missed_defect", path=None),
        MarkedImage(seq=4, mark="false_reject", path=str(gone)),
        MarkedImage(seq=5, mark="false_reject", path=str(cut)),
    ]
    asked = BeginTeaching(
        body=TeachBody(recipe="nut", learn=True), marked=marked, inspected=inspected
    )
    bench.teaching.do(asked, KIM)

    status = bench.teaching.status()
    kinds = [(one.kind, one.seq, one.confirmed) for one in status.images]
    assert kinds == [
        ("taught", None, True),
        ("taught", None, False),
        ("missed_defect", None, False),
        ("false_reject", 1, True),
        ("missed_defect", 2, False),
        ("passed", 10, False),
        ("passed", 11, False),
        ("rejected", 12, False),
    ]
    assert (status.not_taken, status.why_kind, status.why_data) == (3, "image_gone", {"seq": 5})
    assert status.why_not == "part 5 is marked, but its image cannot be read."
    with pytest.raises(TeachingNotPossible, match="Kim teaches 'nut' here") as refused:
        bench.begin("Lee")
    assert (refused.value.kind, refused.value.data["by"]) == ("taught_by_other", "Kim")


def test_a_recipe_without_new_marks_has_nothing_to_learn(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher)
    images = write_images(tmp_path / "images", good=2, defective=1)
    taught_recipe(bench.recipes, bundle, sorted(images.iterdir()))
    with pytest.raises(TeachingNotPossible, match="there are no marked parts") as refused:
        bench.teaching.do(BeginTeaching(body=TeachBody(recipe="nut", learn=True)), KIM)
    assert refused.value.kind == "nothing_marked"
    assert bench.teaching.status().phase == "idle"
    assert not (bench.folder / "teaching").exists()


def test_a_mark_on_an_image_that_was_taught_counts_and_is_named_where_it_contradicts(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher, 9)
    images = write_images(tmp_path / "images", good=3, defective=1)
    good, bad = sorted(images.glob("good*")), next(images.glob("spot*"))
    taught_recipe(bench.recipes, bundle, [*good, bad])

    def learn(*marks: tuple[str, Path]) -> TeachingStatus:
        marked = [
            MarkedImage.model_validate({"seq": seq, "mark": mark, "path": str(path)})
            for seq, (mark, path) in enumerate(marks, 1)
        ]
        body = TeachBody(recipe="nut", learn=True)
        bench.teaching.do(BeginTeaching(body=body, marked=marked), KIM)
        status = bench.teaching.status()
        bench.teaching.do(EndTeaching(body=TeachEndBody()), KIM)
        return status

    with pytest.raises(TeachingNotPossible, match="no marked parts"):  # as it was taught already
        learn(("false_reject", good[0]), ("missed_defect", bad))
    status = learn(("missed_defect", good[1]), ("false_reject", bad), ("false_reject", good[2]))
    assert [(one.kind, one.seq, one.confirmed) for one in status.images] == [
        ("taught", None, True),
        ("missed_defect", 1, False),
        ("false_reject", 3, True),  # no contradiction, and never left out as doubtful again
        ("false_reject", 2, True),
    ]
    assert [(one.mark, one.seq, one.number) for one in status.contradicted] == [
        ("missed_defect", 1, status.images[1].number),
        ("false_reject", 2, status.images[3].number),
    ]


def test_an_image_that_is_kept_as_a_jpeg_is_known_again_by_what_was_inspected(
    tmp_path: Path, teacher: Path, bundle: Path
) -> None:
    bench = TeachingBench(tmp_path, teacher, 9)
    images = write_images(tmp_path / "images", good=3, defective=1)
    good, bad = sorted(images.glob("good*")), next(images.glob("spot*"))
    taught_recipe(bench.recipes, bundle, [*good, bad])

    def kept(path: Path) -> dict[str, str]:
        """Return what is known of a part that showed an image, which is kept for some hours."""
        pixels, jpeg = read_image(path), path.with_suffix(".jpg")
        cv2.imwrite(str(jpeg), pixels)
        assert pixels_hash(read_image(jpeg)) != pixels_hash(pixels)
        return {"path": str(jpeg), "sha256": pixels_sha256(pixels)}

    marked = [MarkedImage.model_validate({"seq": 1, "mark": "missed_defect", **kept(good[1])})]
    inspected = [
        InspectedPart.model_validate({"seq": seq, "id": "a", "result": "OK", **kept(path)})
        for seq, path in ((2, good[0]), (3, good[2]))
    ]
    bench.learn(marked, inspected)
    status = bench.teaching.status()
    assert [(one.kind, one.seq) for one in status.images] == [
        ("taught", None),
        ("missed_defect", 1),
        ("taught", None),
        ("missed_defect", None),
    ]
    assert [(one.mark, one.seq) for one in status.contradicted] == [("missed_defect", 1)]


def test_a_teacher_that_cannot_be_used_is_named_before_anything_is_captured(
    tmp_path: Path, teacher: Path
) -> None:
    with pytest.raises(BundleError, match="a teacher has 'teacher/1'"):
        TeachingBench(tmp_path, DEMO / "bottle.xml").begin()
    key = tmp_path / "key.pem"
    key.write_text("")
    signed: dict[str, Any] = {"public_key": str(key), "key": str(key)}
    with pytest.raises(StationError, match="teacher"):
        TeachingBench(tmp_path, teacher, **signed).begin()
    with pytest.raises(ValueError, match=r"Set teach\.key"):
        TeachingBench(tmp_path, teacher, public_key=str(key))
    assert not (tmp_path / "journal").exists()
