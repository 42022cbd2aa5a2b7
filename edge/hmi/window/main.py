"""The process of the window: draws what it is told, ends when it is closed or its station ends."""

import os
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.hmi.ipc import Link, LinkBroken, Message
from edge.hmi.server.live_view import Image
from edge.system.process_end import exit_process

NICENESS = 10
NAME = "edge-run"
CARD_PX = (360, 480, 3)
BAR_PX = 44
WAIT_MS = 50
WHITE = (255, 255, 255)
COLOURS = {  # BGR, as on the page
    "OK": (60, 128, 22),
    "NOK": (28, 22, 196),
    "NOT_DECIDABLE": (20, 140, 225),
    "ERROR": (240, 63, 122),
}


def drawn(part: Mapping[str, Any], image: Image | None) -> NDArray[np.uint8]:
    """Return the image with its overlay, and the verdict in words and colour above it."""
    canvas = np.full(CARD_PX, 64, np.uint8) if image is None else image.canvas()
    bar = np.full((BAR_PX, canvas.shape[1], 3), COLOURS[part["result"]], np.uint8)
    score = part["reason"] if part["score"] is None else f"{part['score']:.2f}"
    text = f"{part['result']}  {score}".replace("_", " ")
    cv2.putText(bar, text, (12, 31), cv2.FONT_HERSHEY_SIMPLEX, 0.9, WHITE, 2, cv2.LINE_AA)
    return np.vstack([bar, canvas])


def main() -> int:
    """Show parts until the window is closed or the link ends."""
    os.nice(NICENESS)
    link = Link(Connection(int(sys.argv[1])))
    newest: list[Message | None] = [None]
    cv2.namedWindow(NAME, cv2.WINDOW_NORMAL)
    ears = threading.Thread(target=_hear, args=(link, newest), daemon=True)
    ears.start()
    shown, opened = None, False
    while ears.is_alive():
        message = newest[0]
        if message is not None and message is not shown:
            content = message.content
            found = content["picture"]
            image = Image(found, message.blobs) if found else None
            cv2.imshow(NAME, drawn(content, image))
            shown = message
        cv2.waitKey(WAIT_MS)
        visible = cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1.0
        if opened and not visible:
            return 0  # closed by whoever looked
        opened = opened or visible  # a slow desktop shows it some turns later
    return 0


def _hear(link: Link, newest: list[Message | None]) -> None:
    try:
        while True:
            newest[0] = link.receive()
    except LinkBroken:
        return


if __name__ == "__main__":
    exit_process(main())
