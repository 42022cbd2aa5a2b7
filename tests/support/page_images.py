"""The screenshots of README, made anew of the demo: ``python -m tests.support.page_images``."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import running_browser
from tests.support.page_station import GENEROUS_S, PageStation

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
DEMO = ROOT / "configs" / "demo"
DEMO_MODEL = DEMO / "bottle.xml"
QUALITY = 70
# The page shows where its frames come from: a place that a plant could have.
CELL = Path("/srv/cell7")
# So many parts make the page's lists and charts full.
PARTS = 24
RATE_FPS = 1.0
TRIES = 10


def main() -> None:
    """Run the demo with its page, and write the three screenshots."""
    with _demo_cell() as cell, running_browser() as browser:
        camera = {"uri": str(cell / "frames"), "rate_fps": RATE_FPS, "loop": True}
        with PageStation(cell / "station", camera, cell / DEMO_MODEL.name) as station:
            page = _opened(browser, f"{station.address}/#line", 1440, 900, "en-US")
            korean = _opened(browser, f"{station.address}/#line", 1024, 768, "ko-KR")
            control = _opened(browser, f"{station.address}/#control", 1440, 900, "en-US")
            # Wait for images and numbers: they come with the parts.
            page.wait_for_timeout(1000 * PARTS / RATE_FPS)
            _write_with_nok(page, "page")
            _write_with_nok(korean, "page-panel-korean")
            control.locator("#threshold-value").fill("0.6")
            control.wait_for_timeout(1500)
            _write(control.screenshot(type="jpeg", quality=QUALITY), "page-threshold")


@contextmanager
def _demo_cell() -> Iterator[Path]:
    """Copy the demo's frames and bundle to a folder that goes afterwards.

    Raises:
        FileExistsError: there is such a folder already.
    """
    CELL.mkdir(parents=True)
    try:
        shutil.copytree(DEMO / "frames", CELL / "frames")
        for part in DEMO.glob(f"{DEMO_MODEL.stem}.*"):
            shutil.copy(part, CELL)
        yield CELL
    finally:
        shutil.rmtree(CELL)


def _opened(browser: Browser, address: str, width: int, height: int, locale: str) -> Page:
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#condition")).not_to_be_empty(timeout=GENEROUS_S * 1000)
    return page


def _write_with_nok(page: Page, name: str) -> None:
    """Write the page while it shows a part that is NOK; tried again where the next part came."""
    verdict = page.locator("#verdict")
    for _ in range(TRIES):
        expect(verdict).not_to_have_attribute("data-result", "NOK", timeout=GENEROUS_S * 1000)
        expect(verdict).to_have_attribute("data-result", "NOK", timeout=GENEROUS_S * 1000)
        page.wait_for_timeout(1000 * 0.5 / RATE_FPS)  # its image comes behind the verdict
        part = verdict.get_attribute("data-id")
        image = page.screenshot(type="jpeg", quality=QUALITY)
        if verdict.get_attribute("data-result") == "NOK" and (
            verdict.get_attribute("data-id") == part
        ):
            _write(image, name)
            return
    raise AssertionError(f"{name}: no NOK part stayed for a screenshot in {TRIES} tries")


def _write(image: bytes, name: str) -> None:
    path = IMAGES / f"{name}.jpg"
    path.write_bytes(image)
    print(f"{path.relative_to(ROOT)}: {len(image) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
