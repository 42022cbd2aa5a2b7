"""Mask and zones in a real browser: drawn with the mouse, saved, and in force for the next part.

Screenshots are kept in ``build/screenshots``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from tests.edge.hmi.test_hmi_browser import SIZES, shot, unlock
from tests.support.browser import running_browser
from tests.support.page_station import PageStation, wait_until
from tests.support.small_bundle import write_images


@pytest.fixture
def station(tmp_path: Path, bundle: Path) -> Iterator[PageStation]:
    images = write_images(tmp_path / "images", good=0, defective=1)
    one = PageStation(tmp_path / "cell", {"uri": str(images), "rate_fps": 2, "loop": True}, bundle)
    with one:
        yield one


def corner(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a place of the image of 160×120 lies in the window."""
    box = page.evaluate(
        """([x, y]) => { const svg = document.querySelector("#mask-stage svg");
            const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
            return [at.x, at.y]; }""",
        [x, y],
    )
    return box[0], box[1]


def what_is_drawn_while_it_is_read_again_stays(page: Page) -> None:
    """The answer of the station is held back until a stroke has been drawn."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/mask", hold)
    page.locator("#mask-reload").click()
    wait_until(lambda: page.evaluate("1") == len(held), "it is read again")
    page.mouse.move(*corner(page, 100, 80))
    page.mouse.down()
    page.mouse.move(*corner(page, 120, 90), steps=4)
    page.mouse.up()
    with page.expect_response("**/api/zones"):
        held[0].continue_()
    page.unroute("**/api/mask")
    expect(page.locator("#mask-unsaved")).to_have_text("Not saved yet.")
    page.locator("#mask-undo").click()
    expect(page.locator("#mask-shapes li")).to_have_count(1)


def what_good_parts_score_in_a_zone_is_shown(station: PageStation, page: Page) -> None:
    """Draw a zone: once parts have passed, the page proposes a threshold for it."""
    page.locator("#tool-zone").click()
    for place in ((10, 10), (80, 10), (80, 110), (10, 110)):
        page.mouse.click(*corner(page, *place))
    page.locator("#mask-finish").click()
    advice = page.locator("#mask-shapes .zone .explain")
    expect(advice).to_have_count(0)
    page.locator("#mask-apply").click()
    expect(page.locator("#toast")).to_contain_text("zones: zone 1")

    def scored() -> int:
        zones = station.json("/api/zones")["zones"]
        return zones[0]["parts"] if zones else 0

    wait_until(lambda: scored() > 1, "good parts with the zone")
    page.locator("#mask-reload").click()
    expect(advice).to_contain_text("good parts scored")
    (zone,) = station.json("/api/zones")["zones"]
    assert zone["highest"] < zone["threshold"] < station.parts(max_count=1)[0]["raw_threshold"]
    low, high = zone["rejected_interval"]
    assert (zone["rejected"], low) == (0, 0.0) and 0.0 < high < 1.0
    advice.locator("button").click()
    field = page.locator("#mask-shapes .zone input").nth(1)
    expect(field).not_to_have_value("")
    expect(page.locator("#mask-unsaved")).to_have_text("Not saved yet.")
    shot(page, "mask_zone")
    page.locator("#mask-undo").click()


def test_a_polygon_and_the_brush_are_drawn_undone_and_saved(station: PageStation) -> None:
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": SIZES["desktop"][0], "height": 900})
        printed: list[str] = []
        page.on("console", lambda message: printed.append(message.text))
        page.on("pageerror", lambda error: printed.append(str(error)))
        wait_until(lambda: any(p["image"] for p in station.parts(result="NOK")), "a kept image")
        page.goto(f"{station.address}/#control")
        unlock(page)
        expect(page.locator("#mask-now")).to_have_text("The whole image is inspected.")
        page.locator("a[href='#mask']").click()
        kept = page.locator("#mask-image option:not([value=live])").first
        page.locator("#mask-image").select_option(kept.get_attribute("value") or "")
        expect(page.locator("#mask-stage image")).to_have_attribute("width", "160")

        for place in ((95, 5), (145, 5), (145, 55), (95, 55)):
            page.mouse.click(*corner(page, *place))
        page.locator("#mask-finish").click()
        page.locator("#tool-brush").click()
        page.mouse.move(*corner(page, 20, 80))
        page.mouse.down()
        page.mouse.move(*corner(page, 60, 100), steps=4)
        page.mouse.up()
        expect(page.locator("#mask-shapes li")).to_have_count(2)
        page.locator("#mask-undo").click()
        expect(page.locator("#mask-shapes li")).to_have_count(1)
        what_is_drawn_while_it_is_read_again_stays(page)
        page.locator("#mask-comment").fill("label")
        shot(page, "mask")
        page.locator("#mask-apply").click()

        expect(page.locator("#toast")).to_contain_text("13.0 % of the image ignored")
        expect(page.locator("#mask-unsaved")).to_have_text("")
        wait_until(
            lambda: station.parts(max_count=1)[0]["result"] == "OK", "a part without the label"
        )
        event = station.event("mask_changed")
        assert event["data"]["comment"] == "label"
        what_good_parts_score_in_a_zone_is_shown(station, page)
        page.set_viewport_size({"width": SIZES["phone"][0], "height": SIZES["phone"][1]})
        page.locator("#language").click()
        expect(page.locator("#mask-apply")).to_have_text("저장")
        wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wider) <= 0
        page.screenshot(path="build/screenshots/mask-phone-ko.png", full_page=True)
    assert [text for text in printed if "404" not in text] == []
