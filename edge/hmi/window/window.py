"""``edge-run --show``: a plain window with the overlay of the newest part.

The window is a process of its own, as the page is: HighGUI ends a process that it finds no desktop
for, and whoever closes the window does not stop the line.
"""

import logging
import os
import threading

from edge.contract.verdict import Verdict
from edge.errors import ConfigurationError
from edge.hmi.messages import PAGE_MESSAGES, PageMessage
from edge.hmi.station_end.page_process import send_part
from edge.hmi.station_end.preview_image import make_preview
from edge.processes.child_process import ChildProcess, spawn
from edge.processes.link import LinkBroken

log = logging.getLogger(__name__)

LOOK_S = 0.05
END_LIMIT_S = 3.0


class NoDesktop(ConfigurationError):
    """There is no screen to open a window on."""


class Window:
    """The window of one station; one thread calls ``on_verdict``, behind the record."""

    def __init__(self, width_px: int) -> None:
        """Prepare a window; ``start`` opens it.

        Args:
            width_px: wider frames are thinned out.

        Raises:
            NoDesktop: nothing to open a window on.
        """
        if not os.environ.get("DISPLAY"):
            raise NoDesktop(
                "there is no desktop here ($DISPLAY is not set). Leave --show out and look at the "
                "page (hmi), or write overlays with --save DIR."
            )
        self._width_px = width_px
        self._latest: Verdict | None = None
        self._ending = threading.Event()
        self._child: ChildProcess[PageMessage] | None = None
        self._thread = threading.Thread(target=self._run, name="window", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def on_verdict(self, verdict: Verdict) -> None:
        """Take a verdict; the newest is shown."""
        self._latest = verdict

    def outdated(self) -> bool:
        """Return False: a window is made with nothing that could change."""
        return False

    def renew(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Close the window."""
        self._ending.set()
        if self._child is not None:
            self._child.end()
        if self._thread.ident is not None:
            self._thread.join(END_LIMIT_S)

    def _run(self) -> None:
        try:
            self._child = child = spawn("edge.hmi.window.main", PAGE_MESSAGES)
            shown: Verdict | None = None
            while not self._ending.wait(LOOK_S):
                latest = self._latest
                if latest is None or latest is shown:
                    continue
                send_part(child.link, latest, make_preview(latest, self._width_px))
                shown = latest
        except LinkBroken:
            if not self._ending.is_set():
                log.info("the window was closed; inspection continues without it")
        except Exception:  # a window is no reason to stop the line
            log.exception("the window has met a defect")
