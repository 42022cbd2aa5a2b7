"""The page in a real browser, on the demo: what an operator and a process engineer see and do.

Screenshots are kept in ``build/screenshots``.
"""

import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.browser import browser
from tests.support.page_station import GENEROUS_S, TOKEN, PageStation, wait_until
from tests.support.reverse_proxy import ReverseProxy
from tests.support.stalls import Stalls

__all__ = ["browser"]  # a fixture

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "configs" / "demo"
STATIC = ROOT / "edge" / "hmi" / "static"
SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
SIZES = {"desktop": (1440, 900), "panel": (1024, 768), "phone": (390, 844)}
# Luminance of two colours whose words can be read (WCAG 2.2, level AA).
CONTRAST = 4.5

expect.set_options(timeout=GENEROUS_S * 1000)

Opened = Callable[..., Page]


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageStation]:
    camera = {"uri": str(DEMO / "frames"), "rate_fps": 2, "loop": True}
    one = PageStation(tmp_path_factory.mktemp("demo"), camera, DEMO / "bottle.xml")
    one.settings["hmi"]["trusted_proxies"] = ["127.0.0.1"]
    with one:
        yield one


@pytest.fixture
def opened(station: PageStation, browser: Browser) -> Iterator[Opened]:
    """Open the page in a window of some size; at the end nothing may stand in its console."""
    printed: list[str] = []
    asked: list[str] = []
    contexts = []

    def open_page(view: str = "line", size: str = "desktop", locale: str = "en-US") -> Page:
        width, height = SIZES[size]
        context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(GENEROUS_S * 1000)
        page.on("console", lambda message: printed.append(message.text))
        page.on("pageerror", lambda error: printed.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{station.address}/#{view}")
        expect(page.locator("#condition")).not_to_be_empty()
        return page

    yield open_page
    for context in contexts:
        context.close()
    # An image that has left the few newest while it was asked for, and a token that is wrong.
    assert [text for text in printed if "404" not in text and "401" not in text] == []
    assert all(url.startswith((station.address, "data:")) for url in asked)


def shot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def unlock(page: Page, name: str = "") -> None:
    """Unlock; what is typed while the dialog waits for its answer reaches nothing behind it."""
    offer_token(page, TOKEN, name)
    expect(page.locator("#ask")).to_be_hidden()


def offer_token(page: Page, token: str, name: str = "") -> None:
    page.locator("#unlock").click()
    page.locator("#token").fill(token)
    page.locator("#name").fill(name)
    page.locator("#ask-ok").click()


def go_to(page: Page, view: str) -> None:
    """Follow a link within the page, as by its address; the page shows the view a moment later."""
    page.goto(f"{page.url.partition('#')[0]}#{view}")
    expect(page.locator(f"#view-{view.partition('/')[0]}")).to_be_visible()


@pytest.fixture
def dead_ports() -> Iterator[tuple[int, int]]:
    """Two ports at which nobody answers, and which no other program can get meanwhile."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        yield first.getsockname()[1], second.getsockname()[1]


def unmarked(station: PageStation) -> dict[str, Any]:
    """Return a rejected part that no other test has marked; a busy station may keep no image."""

    def found() -> list[dict[str, Any]]:
        return [p for p in station.parts(result="NOK") if p["image"] and not p["mark"]]

    wait_until(lambda: bool(found()), "a rejected part with its image")
    return found()[0]


def test_a_verdict_is_on_the_page_within_a_second_in_shape_word_and_colour(
    opened: Opened,
) -> None:
    page, stalls = opened(), Stalls()

    seen = page.evaluate(
        """() => new Promise((resolve) => {
            const seen = [], box = document.getElementById("verdict");
            new MutationObserver(() => {
                if (seen.at(-1)?.id === box.dataset.id) return;
                seen.push({id: box.dataset.id, result: box.dataset.result,
                    late_ms: Date.now() - Date.parse(box.dataset.decided),
                    word: document.getElementById("word").textContent,
                    shape: document.getElementById("shape").getAttribute("href"),
                    colour: getComputedStyle(box).backgroundColor});
                if (seen.length === 16) resolve(seen);
            }).observe(box, {attributes: true});
        })"""
    )

    stalls.close()
    late_ms = sorted(one["late_ms"] for one in seen[1:])
    # The median: machines that stall delay some.
    assert late_ms[len(late_ms) // 2] < 1000 * (1 + stalls.lasted_s)
    looks = {one["result"]: (one["word"], one["shape"], one["colour"]) for one in seen}
    assert looks["OK"][:2] == ("OK", "#shape-OK")
    assert looks["NOK"][:2] == ("NOK", "#shape-NOK")
    assert looks["OK"][2] != looks["NOK"][2]


def test_what_lies_over_the_image_can_be_switched_and_is_remembered(opened: Opened) -> None:
    page = opened()
    expect(page.locator("#lines .region").first).to_be_attached()
    expect(page.locator("#lines .contour").first).to_be_attached()
    expect(page.locator("#heat")).to_be_visible()

    for layer in ("heat", "contours", "regions"):
        button = page.locator(f"[data-layer={layer}]")
        button.click()
        expect(button).to_have_attribute("aria-pressed", "false")

    for _ in range(3):  # also over the next images
        caption = page.locator("#caption").inner_text()
        expect(page.locator("#caption")).not_to_have_text(caption)
        expect(page.locator("#lines *")).to_have_count(0)
        expect(page.locator("#heat")).to_be_hidden()
    page.reload()
    expect(page.locator("[data-layer=heat]")).to_have_attribute("aria-pressed", "false")


def test_every_number_of_the_line_is_that_of_the_interface(
    opened: Opened, station: PageStation
) -> None:
    before, after = 1, 0
    while after < before:  # else a shift has ended meanwhile
        before = station.json("/api/numbers")["shift"]["total"]
        page = opened()
        expect(page.locator("#strip li img").first).to_be_visible()
        of = page.locator("#yield-shift-more").inner_text().split(" of ")[1]
        shown = int(of.split()[0].replace(",", ""))
        after = station.json("/api/numbers")["shift"]["total"]

    assert before <= shown <= after
    expect(page.locator("#state li")).to_have_count(6)
    for chart in ("trend", "histogram", "hours"):
        expect(page.locator(f"#{chart} svg")).to_be_visible()


def test_a_part_is_found_by_its_number_and_shows_all_that_is_known(
    opened: Opened, station: PageStation
) -> None:
    wait_until(lambda: any(p["image"] for p in station.parts(result="NOK")), "a snapshot")
    part = next(p for p in station.parts(result="NOK") if p["image"])
    page = opened("parts")

    page.locator("#search [name=result]").select_option("NOK")
    page.locator("#search button").click()
    expect(page.locator("#found tr:not(:has-text('NOK'))")).to_have_count(0)
    expect(page.locator("#found tr").first).to_contain_text("NOK")
    page.goto(f"{station.address}/#parts/{part['seq']}")

    detail = page.locator("#detail")
    verdict = station.json(f"/api/parts/{part['seq']}")["verdict"]
    expect(detail).to_contain_text(verdict["image"]["sha256"])
    expect(detail).to_contain_text(verdict["config_sha256"])
    expect(detail.locator("img")).to_have_js_property("naturalWidth", 640)
    shot(page, "part")

    page.locator("#search [name=part_id]").fill("no such part")
    page.locator("#search button").click()
    expect(page.locator("#found-more")).to_have_text("Nothing found.")


def test_times_are_those_of_who_looks_wherever_the_station_is(
    browser: Browser, station: PageStation
) -> None:
    page = browser.new_page(timezone_id="Pacific/Kiritimati")  # 14 hours before UTC
    page.goto(f"{station.address}/#line")
    newest = page.locator("#strip li time").first
    expect(newest).not_to_be_empty()
    there = """() => [0, 60000].map((ago) => new Date(Date.now() - ago)).map((at) =>
        [at.getHours(), at.getMinutes()].map((n) => String(n).padStart(2, "0")).join(":"))"""
    assert newest.inner_text()[:5] in page.evaluate(there)

    a_minute_ago = """() => { const at = new Date(Date.now() - 60000);
        return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19)}"""
    page.goto(f"{station.address}/#parts")
    page.locator("#search [name=from]").fill(page.evaluate(a_minute_ago))
    with page.expect_response("**/api/parts?*from=*") as answered:
        page.locator("#search button").click()

    found = answered.value.json()["parts"]
    now = datetime.now(UTC)
    assert found
    assert all(now - datetime.fromisoformat(one["utc"]) < timedelta(minutes=3) for one in found)
    page.close()


def test_a_threshold_is_previewed_by_everybody_and_changed_only_with_the_token(
    opened: Opened, station: PageStation
) -> None:
    page = opened("control")
    own = station.status()["status"]["model"]["threshold"]
    apply = page.locator("#threshold button.primary")
    expect(apply).to_be_disabled()
    wait_until(lambda: len(station.parts(max_count=16)) == 16, "every sample frame once")

    page.locator("#threshold-value").fill("0.6")
    expect(page.locator("#changed b")).not_to_have_text("0")
    expect(page.locator("#flips a").first).to_contain_text("NOK")
    expect(page.locator("#nok-share")).to_contain_text("NOK; with 95 % confidence")
    expect(page.locator("#model")).to_contain_text("nothing: the threshold is an estimate")
    assert station.status()["status"]["model"]["threshold"] == own

    offer_token(page, "a wrong one")
    expect(page.locator("#ask-error")).to_have_text("the token is wrong.")
    page.locator("#ask-cancel").click()
    expect(apply).to_be_disabled()

    unlock(page)
    expect(page.locator("#locked")).to_contain_text("Unlocked with the token")
    page.locator("#threshold-value").fill("0.6")
    page.locator("#threshold [name=comment]").fill("trial of the browser")
    shot(page, "control")
    expect(page.locator("#rollback")).to_be_disabled()
    apply.click()
    expect(page.locator("#toast")).to_contain_text("0.6")
    expect(page.locator("#model")).to_contain_text("0.6")
    assert station.status()["status"]["model"]["threshold"] == 0.6
    event = page.locator("#events [data-kind=threshold_changed]").first
    expect(event).to_contain_text("Threshold changed")
    expect(event).to_contain_text("Why: trial of the browser")
    expect(event).to_contain_text("By somebody with the token")
    expect(page.locator("#events")).not_to_contain_text("xchanged")
    expect(page.locator("#before")).to_contain_text(f"the same model with threshold {own:.5}")

    page.locator("#rollback").click()
    expect(page.locator("#toast")).to_have_text(f"The threshold is {own:.5} again.")
    expect(page.locator("#before")).to_contain_text("Nothing to undo. One step is kept")
    assert station.status()["status"]["model"]["threshold"] == own
    expect(event).to_contain_text(f"From 0.6 to {own:.5}")


def test_a_false_reject_is_marked_where_the_part_is_shown(
    opened: Opened, station: PageStation
) -> None:
    part = unmarked(station)
    page = opened(f"parts/{part['seq']}")
    expect(page.locator("#detail .pairs")).to_be_visible()
    assert page.get_by_text("False reject: it was good").count() == 0

    unlock(page)
    page.get_by_text("False reject: it was good").click()

    expect(page.locator("#detail")).to_contain_text(
        "Marked: false reject by somebody with the token"
    )


def test_whoever_goes_through_the_parts_on_a_phone_sees_each_and_stays_in_the_list(
    opened: Opened, station: PageStation
) -> None:
    def imaged() -> list[int]:
        return [part["seq"] for part in station.parts(result="OK") if part["image"]]

    wait_until(lambda: len(station.parts()) > 12 and len(imaged()) > 2, "some parts")
    seq = imaged()[2]
    page = opened("parts", "phone")
    rows = page.locator("#found tr")
    expect(rows.nth(12)).to_be_attached()
    with page.expect_response(lambda answer: "/api/parts?" in answer.url):
        unlock(page)  # the page asks for the list again
    expect(page.locator("#ask")).to_be_hidden()
    first = page.locator(f"#found tr[data-seq='{seq}']")

    first.locator("td").nth(2).click()

    expect(page.locator("#detail .head")).to_contain_text(f"No. {seq}")
    expect(page.locator("#detail .head")).to_be_in_viewport()
    expect(first.locator("img")).to_have_js_property("naturalWidth", 320)
    listed = rows.evaluate_all("(all) => all.map((row) => row.dataset.seq)")
    page.get_by_text("Missed defect: it was bad").click()
    expect(page.locator("#toast")).to_have_text("Marked. Its image is kept.")
    expect(page.locator("#detail")).to_contain_text("Marked: missed defect by somebody with the")
    expect(first.locator(".marked")).to_have_text("missed defect")
    assert rows.evaluate_all("(all) => all.map((row) => row.dataset.seq)") == listed

    page.locator("#older-part").click()
    expect(page.locator("#detail .head")).to_contain_text(f"No. {seq - 1}")
    page.locator("#newer-part").click()
    expect(page.locator("#detail .head")).to_contain_text(f"No. {seq}")
    page.locator("#to-list").click()
    expect(first).to_be_in_viewport()
    first.locator("a").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#detail .head")).to_contain_text(f"No. {seq - 1}")
    expect(page.locator("#found a:focus")).to_have_text(str(seq - 1))


def test_who_unlocks_may_give_a_name_and_is_called_by_it(
    opened: Opened, station: PageStation
) -> None:
    part = unmarked(station)
    page = opened(f"parts/{part['seq']}", locale="ko-KR")
    expect(page.locator("html")).to_have_attribute("lang", "ko")  # as the browser asks

    unlock(page, "김철수")
    page.get_by_text("오검출: 실제로는 양품").click()

    expect(page.locator("#detail")).to_contain_text("오검출 표시됨 (김철수 (token))")
    go_to(page, "control")
    event = page.locator("#events [data-kind=feedback]").first
    expect(event).to_contain_text(f"부품 표시{part['seq']}번: 오검출조작: 김철수 (token)")
    reported = page.locator("#events li b").all_inner_texts()
    assert all(any("가" <= letter <= "힣" for letter in text) for text in reported)


def test_regions_and_verdict_agree_or_a_word_explains(opened: Opened) -> None:
    words = opened().evaluate(
        """async () => {
            const { regionsWord } = await import("/static/parts.js");
            return [["OK", "score_below", 1], ["OK", "score_below", 0], ["NOK", "score_above", 0],
                ["NOK", "score_above", 2], ["ERROR", "camera_lost", 0]]
                .map((one) => regionsWord(...one));
        }"""
    )

    assert [bool(word) for word in words] == [True, False, True, False, False]
    assert "OK" in words[0] and "score of the whole image decides" in words[2]


def test_a_mark_is_shown_also_when_the_journal_takes_its_time(
    opened: Opened, station: PageStation
) -> None:
    part = unmarked(station)
    page = opened(f"parts/{part['seq']}")
    unlock(page)
    button = page.get_by_text("False reject: it was good")
    expect(button).to_be_visible()
    before, asked = json.dumps(station.json(f"/api/parts/{part['seq']}")), []

    def late(route: Route) -> None:
        asked.append(route)
        if len(asked) <= 3:
            route.fulfill(body=before, content_type="application/json")
        else:
            route.continue_()

    page.route(f"**/api/parts/{part['seq']}", late)
    button.click()

    expect(page.locator("#detail")).to_contain_text(
        "Marked: false reject by somebody with the token"
    )


def test_an_image_that_comes_after_its_record_is_shown(opened: Opened) -> None:
    page, refused = opened("control"), set()

    def first_not_found(route: Route) -> None:
        if route.request.url in refused:
            route.continue_()
        else:
            refused.add(route.request.url)
            route.fulfill(status=404)

    page.route("**/images/*/thumbnail", first_not_found)
    go_to(page, "line")

    expect(page.locator("#strip li img").first).to_have_js_property("complete", True)
    assert refused


def test_a_reverse_proxy_shows_the_whole_page_below_a_path_and_it_acts_there(
    browser: Browser, station: PageStation
) -> None:
    part = unmarked(station)
    with ReverseProxy(station.address, "/plant/cell7") as proxy:
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(proxy.address)
        expect(page.locator("#image")).to_have_js_property("naturalWidth", 640)
        expect(page.locator("#strip li img").first).to_have_js_property("complete", True)
        go_to(page, f"parts/{part['seq']}")
        expect(page.locator("#detail img")).to_have_js_property("naturalWidth", 640)
        with page.expect_download() as download:
            page.locator("#export").click()
        assert download.value.url.startswith(f"{proxy.address}api/parts.csv")

        proxy.forwards = False
        offer_token(page, TOKEN)
        expect(page.locator("#ask-error")).to_contain_text("foreign site")
        proxy.forwards = True
        page.locator("#ask-ok").click()
        expect(page.locator("#ask")).to_be_hidden()
        page.get_by_text("False reject: it was good").click()
        expect(page.locator("#detail")).to_contain_text("Marked: false reject")
        assert all(url.startswith((proxy.address, "data:")) for url in asked)
        page.close()


def test_what_has_the_focus_or_a_finger_on_it_is_not_replaced(opened: Opened) -> None:
    page = opened()
    expect(page.locator("#strip li").nth(3)).to_be_visible()
    page.locator("#strip li a").first.focus()
    link = page.locator("#strip li a:focus")
    expect(link).to_have_count(1)
    newest = page.locator("#state li:has(use[href='#i-journal']) p")
    before = newest.inner_text()

    expect(newest).not_to_have_text(before)  # the numbers were renewed, and newer parts came
    expect(link).to_have_count(1)
    page.evaluate("document.querySelector('#state li').dataset.same = 'yes'")
    before = newest.inner_text()
    expect(newest).not_to_have_text(before)
    expect(page.locator("#state li").first).to_have_attribute("data-same", "yes")


@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_a_phone_a_panel_and_a_desktop_in_english_and_korean(
    opened: Opened, size: str
) -> None:
    page = opened(size=size)
    expect(page.locator("#image")).to_have_js_property("naturalWidth", 640)
    expect(page.locator("#strip img").first).to_have_js_property("complete", True)
    shot(page, f"{size}-en")

    page.locator("#language").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    expect(page.locator("nav a").first).to_have_text("라인")
    counted = page.evaluate(
        """async () => {
            const { filled } = await import("/static/texts.js");
            const text = "{n} {n|image shows|images show} {what}{nothing}";
            return ["1", 1, 0, "12"].map((n) => filled(text, { n, what: "a part" }));
        }"""
    )
    assert counted == [
        *("1 image shows a part", "1 image shows a part"),
        *("0 images show a part", "12 images show a part"),
    ]
    cut = page.evaluate(
        """async () => {
            const { setLanguage, t } = await import("/static/texts.js");
            const word = document.getElementById("word"), found = [];
            const shown = [word.textContent, word.className];
            const width = (text) => [...text].reduce((n, c) => n + (c > "\u1100" ? 1.7 : 1), 0);
            for (const language of ["en", "ko"]) {
                setLanguage(language);
                for (const result of ["OK", "NOK", "NOT_DECIDABLE", "ERROR", "WAIT"]) {
                    const text = t(result), wide = width(text);
                    word.textContent = text;
                    word.className = `word${wide > 5 ? " long" : wide > 3 ? " five" : ""}`;
                    if (word.scrollWidth > word.clientWidth) found.push([language, text]);
                }
            }
            [word.textContent, word.className] = shown;
            return found;
        }"""
    )
    assert cut == []
    outside = page.evaluate(
        """() => {
            const box = document.getElementById("verdict").getBoundingClientRect();
            const [begins, ends] = document.getElementById("part").children;
            [begins.textContent, ends.textContent] = ["0123456789_chipped_ed", "ge.jpg"];
            return [...document.querySelectorAll(".facts dd"), ends].filter((node) => {
                const { left, right } = node.getBoundingClientRect();
                return left < box.left + 8 || right > box.right - 8;
            }).map((node) => node.id);
        }"""
    )
    assert outside == []  # a long name takes no room from score and time, and keeps its end
    expect(page.locator("#condition")).to_have_text("검사 중")
    untranslated = page.evaluate(
        """() => [...document.querySelectorAll("[data-text]")]
            .map((node) => node.textContent).filter((text) => !/[가-힣]|^N?OK$|CSV/.test(text))"""
    )
    assert untranslated == []
    shot(page, f"{size}-ko")

    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for view in ("line", "parts", "control"):
        go_to(page, view)
        assert page.evaluate(wider) <= 0
    go_to(page, "line")
    word = page.locator("#word").bounding_box()
    assert word is not None
    assert word["y"] + word["height"] < SIZES[size][1]  # without scrolling
    assert word["height"] > (60 if size == "phone" else 70)


def test_everything_can_be_reached_by_keyboard_and_has_a_name(opened: Opened) -> None:
    page = opened()
    nameless = """() => [...document.querySelectorAll("button, a, input, select, img, [role=img]")]
        .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim() ||
            node.closest("label")?.textContent.trim() || node.hasAttribute("alt")))
        .map((node) => node.outerHTML)"""
    for view in ("line", "parts", "control"):
        go_to(page, view)
        assert page.evaluate(nameless) == []

    go_to(page, "line")
    page.locator("[data-layer=contours]").focus()
    page.keyboard.press("Enter")
    expect(page.locator("[data-layer=contours]")).to_have_attribute("aria-pressed", "false")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.locator("nav a").nth(1).focus()
    page.keyboard.press("Enter")
    expect(page.locator("#view-parts")).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(page.locator("#view-parts")).to_be_visible()
    page.locator("#unlock").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#token")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_words_stand_out_from_what_they_stand_on(opened: Opened, theme: str) -> None:
    page = opened()
    if theme == "light":
        page.locator("#theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", theme)

    weak = page.evaluate(
        """(least) => {
            const parse = (text) => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => {
                const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92
                    : ((v + 0.055) / 1.055) ** 2.4);
                return 0.2126 * x + 0.7152 * y + 0.0722 * z;
            };
            const behind = (node) => {
                for (; node; node = node.parentElement) {
                    const colour = parse(getComputedStyle(node).backgroundColor);
                    if ((colour[3] ?? 1) > 0.6) return colour;
                }
                return [255, 255, 255];
            };
            const found = [], verdict = document.getElementById("verdict"), was = verdict.className;
            for (const result of ["OK", "NOK", "NOT_DECIDABLE", "ERROR", "WAIT"]) {
                verdict.className = `verdict ${result}`;
                for (const node of document.querySelectorAll("#view-line *, header *")) {
                    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
                    if (!own || !node.offsetParent || node.closest("svg") || node.closest("figure"))
                        continue;
                    const a = light(parse(getComputedStyle(node).color)), b = light(behind(node));
                    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                    if (ratio < least) found.push([result, node.textContent, ratio]);
                }
            }
            verdict.className = was;
            return found;
        }""",
        CONTRAST,
    )

    assert weak == []
    shot(page, f"desktop-{theme}")


def test_a_station_that_goes_away_leaves_no_ok_on_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    camera = {"uri": str(DEMO / "frames" / "00_good.jpg"), "rate_fps": 10, "loop": True}
    with PageStation(tmp_path, camera, DEMO / "bottle.xml") as other:
        page = browser.new_page()
        page.goto(f"{other.address}/#line")
        expect(page.locator("#verdict")).to_have_attribute("data-result", "OK")

        other.close()

        expect(page.locator("#contact")).to_contain_text("this display is out of date")
        expect(page.locator("#verdict")).to_have_attribute("data-result", "WAIT")
        expect(page.locator("#word")).to_have_text("?")
        page.close()


def test_a_station_that_does_not_answer_any_more_leaves_no_ok_on_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    camera = {"uri": str(DEMO / "frames" / "00_good.jpg"), "rate_fps": 10, "loop": True}
    with PageStation(tmp_path, camera, DEMO / "bottle.xml") as other:
        page = browser.new_page()
        page.goto(f"{other.address}/#line")
        expect(page.locator("#verdict")).to_have_attribute("data-result", "OK")
        serving, deciding = other.page_process, psutil.Process(other.pid)

        deciding.send_signal(signal.SIGSTOP)
        expect(page.locator("#contact")).to_contain_text("The station does not respond")
        expect(page.locator("#verdict")).to_have_attribute("data-result", "WAIT")
        wait_until(lambda: other.get("/metrics").status_code == 503, "no numbers of then")
        deciding.send_signal(signal.SIGCONT)
        expect(page.locator("#verdict")).to_have_attribute("data-result", "OK")
        assert other.page_process == serving  # it is not taken for one that hangs

        # As with a cable that is pulled: connections stay, and nothing comes.
        for process in (deciding, serving):
            process.send_signal(signal.SIGSTOP)
        try:
            expect(page.locator("#contact")).to_contain_text("No connection to the station")
            expect(page.locator("#verdict")).to_have_attribute("data-result", "WAIT")
        finally:
            serving.kill()
        page.close()


def test_a_part_whose_file_has_no_readable_name_takes_the_place_of_the_good_one_before(
    browser: Browser, tmp_path: Path
) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    shutil.copy(DEMO / "frames" / "00_good.jpg", watched)
    camera = {"uri": f"watch://{watched}", "watch": {"existing": "take"}}
    with PageStation(tmp_path, camera, DEMO / "bottle.xml") as other:
        page = browser.new_page()
        page.goto(f"{other.address}/#line")
        expect(page.locator("#verdict")).to_have_attribute("data-result", "OK")
        expect(page.locator("#image")).to_have_attribute("src", re.compile("live/"))

        Path(os.fsdecode(os.fsencode(watched) + b"/sch\xf6n.png")).write_bytes(b"no image")

        expect(page.locator("#verdict")).to_have_attribute("data-result", "ERROR")
        expect(page.locator("#part")).to_have_text(r"sch\xf6n.png")
        expect(page.locator("#no-image")).to_have_text("This part has no image")
        expect(page.locator("#no-image")).to_be_visible()
        expect(page.locator("#caption")).to_be_empty()
        expect(page.locator("#image")).not_to_have_attribute("src", re.compile("."))
        part = other.status()["part"]
        assert (part["result"], part["image_name"]) == ("ERROR", r"sch\xf6n.png")
        page.close()


def test_numbers_that_do_not_come_any_more_are_marked_as_old(
    browser: Browser, station: PageStation
) -> None:
    page = browser.new_page()
    page.goto(f"{station.address}/#line")
    expect(page.locator("#yield-shift")).to_contain_text("%")

    page.route("**/api/numbers", lambda route: route.fulfill(status=503, json={"error": "gone"}))

    expect(page.locator("#rejected-more")).to_contain_text("no newer ones are arriving")
    expect(page.locator("#verdict")).not_to_have_attribute("data-result", "WAIT")
    page.unroute("**/api/numbers")
    expect(page.locator("#rejected-more")).to_be_empty()
    page.close()


def test_whom_a_proxy_names_acts_without_a_token_and_sees_parts_that_were_late(
    browser: Browser, tmp_path: Path
) -> None:
    camera = {"uri": str(DEMO / "frames"), "rate_fps": 5, "loop": True}
    station = PageStation(tmp_path, camera, DEMO / "bottle.xml")
    del station.settings["hmi"]["token_file"]
    station.settings["hmi"] |= {"user_header": "X-User", "trusted_proxies": ["127.0.0.1"]}
    station.settings["decision"] = {"deadline_ms": 0.1}
    with station:
        kim = browser.new_page(extra_http_headers={"X-User": "kim"})
        kim.goto(f"{station.address}/#line")
        expect(kim.locator("#state")).to_contain_text("missed their deadline")
        kim.goto(f"{station.address}/#control")
        expect(kim.locator("#locked")).to_contain_text("Unlocked for kim")
        kim.locator("#capture button").click()
        expect(kim.locator("#events")).to_contain_text("By kim")
        kim.locator("#unlock").click()
        expect(kim.locator("#capture button")).to_be_disabled()
        kim.locator("#unlock").click()
        expect(kim.locator("#capture button")).to_be_enabled()
        kim.close()

        nobody = browser.new_page()
        nobody.goto(f"{station.address}/#control")
        expect(nobody.locator("#locked")).to_contain_text("Read-only")
        expect(nobody.locator("#unlock")).to_be_hidden()
        nobody.close()


def test_a_lost_camera_is_an_error_with_its_next_step_and_can_be_acknowledged(
    browser: Browser, tmp_path: Path, dead_ports: tuple[int, int]
) -> None:
    camera_port, broker_port = dead_ports
    nowhere = {"uri": f"rtsp://127.0.0.1:{camera_port}/line"}
    station = PageStation(tmp_path, nowhere, DEMO / "bottle.xml")
    station.settings["mqtt"] = {"url": f"mqtt://127.0.0.1:{broker_port}", "station": "a/b/c/d"}
    with station:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{station.address}/#line")

        expect(page.locator("#verdict")).to_have_attribute("data-result", "ERROR")
        expect(page.locator("#reason")).to_have_text("Camera lost")
        expect(page.locator("#condition")).to_have_text("Degraded")
        expect(page.locator("#state")).to_contain_text("Broker not connected")
        assert station.get("/readyz").status_code == 503

        unlock(page)
        page.locator("#state li.bad button").click()
        expect(page.locator("#state li.bad")).to_contain_text(
            "Acknowledged by somebody with the token"
        )
        expect(page.locator("#verdict")).to_have_attribute("data-result", "ERROR")
        shot(page, "camera-lost")

        page.locator("#language").click()
        expect(page.locator("#state li.bad")).to_contain_text("케이블, 전원, 네트워크를")
        expect(page.locator("#state li.bad [lang=en]")).not_to_be_empty()
        page.locator("#unlock").click()
        offer_token(page, "a wrong one")
        expect(page.locator("#ask-error")).to_contain_text("토큰이 없거나 맞지 않습니다.")
        page.close()


def with_worked_panel() -> dict[str, str]:
    """Return the page's files with the panel of docs/extend.md built in, by their names."""
    guide = (ROOT / "docs" / "extend.md").read_text("utf-8")
    blocks = dict(re.findall(r"<!-- test: (\S+) -->\n```(?:js|html)\n(.*?)```", guide, re.DOTALL))
    files = {name: (STATIC / name).read_text() for name in ("index.html", "page.js", "texts.js")}

    def insert(name: str, line: str, behind: str) -> None:
        assert files[name].count(behind) == 1, (name, behind)
        files[name] = files[name].replace(behind, behind + line)

    imported, called = blocks["page.js"].splitlines(keepends=True)
    insert("page.js", imported, 'import * as charts from "./charts.js";\n')
    insert("page.js", called, "  control.takeNumbers(numbers);\n")
    insert("index.html", blocks["index.html"], '<small id="latency-more"></small></div>\n')
    for words, dictionary in zip(
        blocks["texts.js"].splitlines(keepends=True),
        ("const en = {\n", "const ko = {\n"),
        strict=True,
    ):
        insert("texts.js", words, dictionary)
    return {**files, "late.js": blocks["late.js"]}


def answer_with(content: str, name: str, route: Route) -> None:
    kind = "text/html" if name.endswith(".html") else "text/javascript"
    route.fulfill(body=content, content_type=f"{kind}; charset=utf-8")


def test_the_worked_panel_shows_its_figure_in_both_languages(opened: Opened) -> None:
    page = opened()
    for name, content in with_worked_panel().items():
        path = re.compile(r"/$" if name == "index.html" else rf"/static/{re.escape(name)}$")
        page.route(path, partial(answer_with, content, name))
    page.reload()

    # Parts of the demo come as the camera gives them, without a deadline.
    expect(page.locator("#late-more")).to_have_text("No part has a deadline")
    page.locator("#language").click()
    expect(page.locator("p[data-text=late]")).to_have_text("기한 초과")
    expect(page.locator("#late-more")).to_have_text("기한이 있는 부품이 없습니다")
