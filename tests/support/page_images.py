"""The screenshots of README, made anew of the demo: ``python -m tests.support.page_images``."""

import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.page_station import GENEROUS_S, PageStation

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
DEMO = ROOT / "configs" / "demo"
# So many parts make the page's lists and charts full.
PARTS = 24


def main() -> None:
    """Run the demo with its page, and write the three screenshots."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        camera = {"uri": str(DEMO / "frames"), "rate_fps": 3, "loop": True}
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        with PageStation(Path(folder), camera, DEMO / "bottle.xml") as station:
            _write(_opened(browser, f"{station.address}/#line", 1440, 900, "en-US"), "page")
            korean = _opened(browser, f"{station.address}/#line", 1024, 768, "ko-KR")
            _write(korean, "page-panel-korean")
            control = _opened(browser, f"{station.address}/#control", 1440, 900, "en-US")
            control.locator("#threshold-value").fill("0.6")
            _write(control, "page-threshold")
        browser.close()


def _opened(browser: Browser, address: str, width: int, height: int, locale: str) -> Page:
    context = browser.new_context(viewport={"width": width, "height": height}, locale=locale)
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#condition")).not_to_be_empty(timeout=GENEROUS_S * 1000)
    # Wait for images and numbers: they come with the parts.
    page.wait_for_timeout(1000 * PARTS / 3)
    return page


def _write(page: Page, name: str) -> None:
    page.wait_for_timeout(1500)
    path = IMAGES / f"{name}.jpg"
    page.screenshot(path=path, type="jpeg", quality=80)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
