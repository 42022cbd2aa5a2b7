"""Recipes on the page, in a real browser: seen, changed over, and kept over a restart."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from edge.recipes.content import RecipeContent, RecipeDecision
from edge.recipes.folder import RecipeFolder
from tests.edge.hmi.test_hmi_browser import SIZES, shot, unlock
from tests.support.browser import browser
from tests.support.page_station import PageStation, wait_until
from tests.support.recipes import add_recipe, copied_bundle
from tests.support.small_bundle import write_images

__all__ = ["browser"]  # a fixture


@pytest.fixture
def recipes(tmp_path: Path, bundle: Path) -> RecipeFolder:
    recipes = RecipeFolder(tmp_path / "recipes")
    add_recipe(recipes, "너트 M8", bundle, decision=RecipeDecision(image_threshold=15.0))
    second = RecipeContent(name="너트 M8", version=1, decision=RecipeDecision(image_threshold=16.0))
    recipes.publish(second, copied_bundle(bundle))
    return recipes


@pytest.fixture
def station(tmp_path: Path, bundle: Path, recipes: RecipeFolder) -> Iterator[PageStation]:
    frames = write_images(tmp_path / "in", good=2, defective=1)
    one = PageStation(
        tmp_path / "station", {"uri": str(frames), "rate_fps": 5, "loop": True}, bundle
    )
    one.settings["recipe"] = {"id": "bolt"}
    one.settings["recipes"] = {"folder": str(recipes.path)}
    with one:
        yield one


def opened(browser: Browser, station: PageStation, size: str, locale: str) -> Page:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    page = context.new_page()
    page.goto(f"{station.address}/#control")
    return page


def test_whoever_may_act_changes_over_and_puts_another_version_in_force(
    station: PageStation, recipes: RecipeFolder, browser: Browser
) -> None:
    page = opened(browser, station, "desktop", "en-US")
    expect(page.locator("#recipe-now")).to_have_text("Inspected now: bolt, version 1")
    expect(page.locator("#recipe button")).to_be_disabled()
    unlock(page)
    page.locator("#recipe-choice").select_option(label="너트 M8, version 2")
    page.locator("#recipe [name=comment]").fill("the next order")
    page.locator("#recipe button").click()

    expect(page.locator("#toast")).to_have_text("From the next part on: 너트 M8, version 2.")
    expect(page.locator("#recipe-now")).to_have_text("Inspected now: 너트 M8, version 2")
    expect(page.locator("#subtitle")).to_contain_text("너트 M8 2")
    event = page.locator("#events [data-kind=recipe_changed]").first
    expect(event).to_contain_text("From bolt 1 to 너트 M8 2")
    expect(event).to_contain_text("Why: the next order")
    expect(page.locator("#rollback")).to_be_disabled()  # to another product's threshold
    shot(page, "recipes")
    assert recipes.in_force("너트 M8") == 2

    def judged_by_the_new_one() -> bool:
        part = station.status()["part"]
        return bool(part and part["recipe"] == "너트 M8 2" and part["raw_threshold"] == 16.0)

    wait_until(judged_by_the_new_one, "a part of the new recipe")
    assert 'edge_recipe_info{id="너트 M8",version="2"} 1.0' in station.get("/metrics").text
    refused = station.act("recipe", {"id": "nobody"})
    assert (refused.status_code, "not in force" in refused.text) == (409, True)

    assert station.stop() == 0
    station.start()
    phone = opened(browser, station, "phone", "ko-KR")
    expect(phone.locator("#recipe-now")).to_have_text("현재 검사: 너트 M8, 버전 2")
    shot(phone, "recipes_phone")
    assert station.status()["part"]["recipe"] == "너트 M8 2"
