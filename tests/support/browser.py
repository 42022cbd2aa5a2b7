"""A real browser without a screen, for tests that see and do what people do at a page."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.page_station import GENEROUS_S

# Chromium's headless shell opens a page at a sixth of the processor that the whole browser needs.
PROGRAMS = ("chromium-headless-shell", "chromium")
# Without a user's session, and without looking for its maker's servers.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start a browser of this machine, and end it.

    Raises:
        FileNotFoundError: there is none; ``make packages`` installs it.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise FileNotFoundError(f"none of {', '.join(PROGRAMS)}: run make packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=FLAGS, timeout=GENEROUS_S * 1000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a file; each opens pages of its own."""
    with running_browser() as running:
        yield running
