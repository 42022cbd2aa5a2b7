"""Teaching a product that lies anywhere, in a real browser: the box is drawn on its reference.

Screenshots are kept in ``build/screenshots``.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from edge.bundle.input_spec import AlignMode, Crop, Locator
from edge.bundle.loading import load_bundle
from edge.journal.entries import RecordKind
from edge.journal.query import Query, query
from edge.recipes.folder import RecipeFolder
from tests.edge.hmi.test_hmi_browser import SIZES, shot, unlock
from tests.support.browser import running_browser
from tests.support.page_station import PageStation, wait_until
from tests.support.small_teacher import write_small_teacher
from tests.support.turned_part import HEIGHT, WIDTH, Laid, bracket

LAID = [Laid(120, 90, 0), Laid(105, 85, -70), Laid(138, 96, 20), Laid(118, 84, 160)]
LEFT, TOP, RIGHT, BOTTOM = 68, 54, 172, 126  # around the first one


@pytest.fixture
def station(tmp_path: Path, bundle: Path) -> Iterator[PageStation]:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, laid in enumerate(LAID):
        cv2.imwrite(str(frames / f"{number}.png"), bracket(laid, seed=number))
    one = PageStation(tmp_path / "cell", {"uri": str(frames), "rate_fps": 2, "loop": True}, bundle)
    one.settings["recipes"] = {"folder": str(tmp_path / "recipes")}
    one.settings["teach"] = {"teacher": str(write_small_teacher(tmp_path)), "threads": 1}
    with one:
        yield one


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a place of the reference lies in the window."""
    box = page.evaluate(
        """([x, y]) => { const svg = document.querySelector("#align-stage svg");
            const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
            return [at.x, at.y]; }""",
        [x, y],
    )
    return box[0], box[1]


def draw_box(page: Page, left: float, top: float, right: float, bottom: float) -> None:
    page.locator("#align-stage").scroll_into_view_if_needed()
    page.mouse.move(*place(page, left, top))
    page.mouse.down()
    page.mouse.move(*place(page, right, bottom), steps=3)
    page.mouse.up()


def test_the_box_of_a_turned_part_is_drawn_and_its_places_are_shown(
    station: PageStation, tmp_path: Path
) -> None:
    with running_browser() as browser:
        page = browser.new_page(
            viewport={"width": SIZES["desktop"][0], "height": SIZES["desktop"][1]}, locale="en-US"
        )
        printed: list[str] = []
        page.on("console", lambda message: printed.append(message.text))
        page.on("pageerror", lambda error: printed.append(str(error)))
        page.goto(f"{station.address}/#teach")
        unlock(page, "Kim")
        page.locator("#teach-recipe").fill("bracket")
        page.locator("#teach-begin .primary").click()
        page.locator("[data-capturing=changed]").click()
        expect(page.locator("#teach-thumbs li")).to_have_count(len(LAID))

        upright = station.status()["status"]["teaching"]["images"]
        page.locator("#align-mode").select_option("full-rotation")
        number = str(number_of_the_upright(station, [one["number"] for one in upright]))
        page.locator("#align-reference").select_option(number)
        expect(page.locator("#align-stage image")).to_have_attribute("width", str(WIDTH))
        draw_box(page, 2, 2, 42, 30)
        page.locator("#teach-build").click()
        expect(page.locator("#teach-refused")).to_contain_text("The box shows almost nothing")
        draw_box(page, LEFT, TOP, RIGHT, BOTTOM)
        expect(page.locator("#align-box")).to_have_text("Box of 104 × 72 pixels")
        page.locator("#align-scale").check()
        shot(page, "align")
        unusable_images_are_named_as_people_see_them(station, page, int(number))
        page.locator("#teach-build").click()
        expect(page.locator("#align-found")).to_contain_text(
            "Shifted, turned to any angle, up to 10 % larger or smaller. "
            f"Reference: image {number}, box 104×72 at 68, 54."
        )
        expect(page.locator("#teach-refused")).to_be_empty()
        page.locator("#align-places-title").click()
        expect(page.locator("#align-places li")).to_have_count(len(LAID))
        angles = {
            round(float(text.replace("−", "-")))
            for text in re.findall(r"(\S+)°", page.locator("#align-places").inner_text())
        }
        assert angles == {round(laid.angle_deg) for laid in LAID}
        page.locator("#align-result").scroll_into_view_if_needed()
        shot(page, "align_places")
        for size in ("panel", "phone"):
            page.set_viewport_size({"width": SIZES[size][0], "height": SIZES[size][1]})
            if size == "phone":
                page.locator("#language").click()
                expect(page.locator("#align-found")).to_contain_text("모든 각도 회전")
                expect(page.locator("#align-mode")).to_have_value("full-rotation")
                expect(page.locator("#align-width")).to_have_value("104")
            wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(wider) <= 0
            page.screenshot(path=f"build/screenshots/align_{size}.png", full_page=True)

        page.locator("#teach-try").click()
        expect(page.locator("#teach-trial-parts li")).not_to_have_count(0)
        page.locator("#teach-release [name=comment]").fill("lies anywhere")
        page.locator("#teach-release button").click()
        expect(page.locator("#teach-start")).to_be_visible()
        assert printed == []
    wait_until(
        lambda: (station.status()["part"] or {}).get("recipe") == "bracket 1", "a part of its own"
    )
    version = RecipeFolder(tmp_path / "recipes").load("bracket")
    locator = load_bundle(version.model).manifest.input.locator
    assert locator is not None
    assert (locator.mode, locator.roi) == (
        AlignMode.FULL_ROTATION,
        Crop(x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP),
    )
    assert station.event("teach_built")["data"]["align"] == "full-rotation"
    tried_parts_were_found(station, locator)
    station.act("teach", {"recipe": "bracket"}, x_edge_name="Kim")
    wait_until(
        lambda: station.status()["status"]["teaching"]["aligned"] == "full-rotation",
        "the next version is taught, which finds its part alike",
    )


def tried_parts_were_found(station: PageStation, locator: Locator) -> None:
    """Look at the journal: the candidate found the part in each frame that it judged."""
    assert locator.most_scale == 0.1
    released = station.event("recipe_released")["data"]
    rows = query(station.journal, Query(kind=RecordKind.EVENT))
    trials = [one["data"] for one in map(json.loads, (row.payload for row in rows))]
    trials = [one for one in trials if "raw_threshold" in one]
    judged = [text for one in trials for key, text in one.items() if key.count("-") == 4]
    assert len(judged) == released["trial_parts"] > 0
    assert {text.split()[0] for text in judged} <= {"OK", "NOK"}, judged


def unusable_images_are_named_as_people_see_them(
    station: PageStation, page: Page, reference: int
) -> None:
    """Damage an image: the page names it in its language, and no folder of the station."""
    folder = station.folder / "journal" / "teaching" / "images"
    damaged = max(path for path in folder.glob("????.png") if int(path.stem) != reference)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:100])
    refused = page.locator("#teach-refused")
    page.locator("#teach-build").click()
    expect(refused).to_contain_text(f"{damaged.name}:")
    page.locator("#language").click()
    expect(refused).to_have_text(
        f"영상 1장을 사용할 수 없습니다. 제외하십시오. 읽을 수 없음: {int(damaged.stem)}."
    )
    page.locator("#language").click()
    assert str(station.folder) not in page.locator("#teach-refused").evaluate(
        "one => one.outerHTML"
    )
    damaged.write_bytes(content)


def number_of_the_upright(station: PageStation, numbers: list[int]) -> int:
    """Return the number of the image that shows the first bracket."""
    shown = bracket(LAID[0]).astype(np.int16)
    folder = station.folder / "journal" / "teaching" / "images"
    images = {number: cv2.imread(str(folder / f"{number:04}.png")) for number in numbers}
    differences = {
        number: float(np.abs(np.asarray(image, np.int16) - shown).mean())
        for number, image in images.items()
    }
    assert shown.shape == (HEIGHT, WIDTH, 3)
    return min(differences, key=lambda number: differences[number])
