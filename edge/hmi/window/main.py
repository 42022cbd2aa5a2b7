"""The process of the window: draws the newest part, ends with its station or when closed."""

import sys
import threading
from multiprocessing.connection import Connection

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.hmi.contents import DecidedPart
from edge.hmi.messages import STATION_MESSAGES, PartDecided, StationMessage
from edge.hmi.server.live_view import Image
from edge.processes.link import Link, LinkBroken, Received
from edge.system.priority import READ_BESIDE, lower_priority
from edge.system.process_end import exit_process

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


def draw_part(part: DecidedPart, image: Image | None) -> NDArray[np.uint8]:
    """Return the image with its overlay, and the verdict in words and colour above it."""
    canvas = np.full(CARD_PX, 64, np.uint8) if image is None else image.canvas()
    bar = np.full((BAR_PX, canvas.shape[1], 3), COLOURS[part.result], np.uint8)
    score = part.reason.value if part.score is None else f"{part.score:.2f}"
    text = f"{part.result.value}  {score}".replace("_", " ")
    cv2.putText(bar, text, (12, 31), cv2.FONT_HERSHEY_SIMPLEX, 0.9, WHITE, 2, cv2.LINE_AA)
    return np.vstack([bar, canvas])


def main() -> int:
    """Show parts until the window is closed or the link ends."""
    lower_priority(READ_BESIDE)
    link = Link(Connection(int(sys.argv[1])), STATION_MESSAGES)
    newest: list[Received[StationMessage] | None] = [None]
    cv2.namedWindow(NAME, cv2.WINDOW_NORMAL)
    reader = threading.Thread(target=_read, args=(link, newest), name="reader", daemon=True)
    reader.start()
    shown, opened = None, False
    while reader.is_alive():
        received = newest[0]
        if received is not None and received is not shown:
            message, shown = received.message, received
            if isinstance(message, PartDecided):
                image = Image(message.image, received.blobs) if message.image else None
                cv2.imshow(NAME, draw_part(message.part, image))
        cv2.waitKey(WAIT_MS)
        visible = cv2.getWindowProperty(NAME, cv2.WND_PROP_VISIBLE) >= 1.0
        if opened and not visible:
            return 0  # closed by whoever looked
        opened = opened or visible  # a slow desktop shows it some turns later
    return 0


def _read(link: Link[StationMessage], newest: list[Received[StationMessage] | None]) -> None:
    try:
        while True:
            newest[0] = link.receive()
    except LinkBroken:
        return


if __name__ == "__main__":
    exit_process(main())
