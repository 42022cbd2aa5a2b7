"""What the page shows now: the newest of everything, encoded once for all who look."""

import asyncio
import base64
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.contract.encoding import to_json
from edge.hmi.contents import (
    Area,
    Content,
    DecidedPart,
    ImageLayers,
    ImageLayout,
    ShownPart,
    StationStatus,
)
from edge.hmi.masks import MaskInForce
from edge.inspection.heat_colours import heat_colours

log = logging.getLogger(__name__)

# Images of the live view that are kept for viewers who are a little behind.
KEPT_IMAGES = 3
JPEG_QUALITY = 82
# From this level of the map on it is visible, and at this one densest; the threshold is at 128.
VISIBLE_FROM, DENSEST_AT, DENSITY = 90, 192, 0.6
# The map is enlarged to so many samples a side before its contour is followed.
CONTOUR_SIDE = 256
MAX_CONTOURS, MAX_POINTS = 64, 400


class StationSilence(Content):
    """Nothing has changed; seconds since the last status, None before the first."""

    silent_s: float | None


class Image:
    """A small frame with its map; each form is encoded once, when it is first asked for."""

    def __init__(self, layout: ImageLayout, blobs: tuple[bytes, ...]) -> None:
        self.layout = layout
        self.blobs = blobs
        self._encoding = threading.Lock()
        self._jpeg: bytes | None = None
        self._layers: ImageLayers | None = None
        self._drawn: bytes | None = None

    def drawn(self) -> bytes:
        """Return the image with heat map and regions drawn into it."""
        with self._encoding:
            if self._drawn is None:
                self._drawn = _jpeg(self.canvas())
            return self._drawn

    def canvas(self) -> NDArray[np.uint8]:
        """Return a copy with heat map and regions drawn into it, ``(H, W, 3) uint8`` BGR."""
        return _drawn(self.layout, self.blobs)

    def jpeg(self) -> bytes:
        """Return the image without anything drawn into it."""
        with self._encoding:
            if self._jpeg is None:
                self._jpeg = _jpeg(_array(self.blobs[0], self.layout.shape))
            return self._jpeg

    def layers(self) -> ImageLayers:
        """Return what lies over the image: heat map, contours, regions."""
        with self._encoding:
            if self._layers is None:
                layout = self.layout
                levels = _array(self.blobs[1], layout.map_shape)
                placement = layout.placement if levels.size else None
                self._layers = ImageLayers(
                    width_px=layout.width_px,
                    height_px=layout.height_px,
                    placement=layout.placement,
                    heat=_heat_png(levels) if placement else None,
                    contours=_contours(levels, placement) if placement else [],
                    regions=layout.regions,
                )
            return self._layers


class LiveView:
    """The newest status and part; viewers wait for what is newer than what they have.

    All methods but those of images are of the event loop's thread.
    """

    def __init__(
        self,
        thumbnails: int,
        on_watched: Callable[[bool], None],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing to show.

        Args:
            thumbnails: rejected parts whose images are kept.
            on_watched: called when somebody begins or nobody goes on to look at images.
            clock_s: monotonic clock of what is silent.
        """
        self.status: StationStatus | None = None
        self._status_at_s = 0.0
        self.part: DecidedPart | None = None
        self.mask: MaskInForce | None = None
        self.viewers = 0
        self._max_thumbnails = thumbnails
        self._on_watched = on_watched
        self._clock_s = clock_s
        self._images: OrderedDict[str, Image] = OrderedDict()
        self._thumbnails: OrderedDict[str, Image] = OrderedDict()
        self._version = 0
        self._events: dict[str, tuple[int, bytes]] = {}
        self._changed = asyncio.Event()

    def on_status(self, status: StationStatus) -> None:
        """Take a status; viewers get what they show of it, if that has changed."""
        self.status, self._status_at_s = status, self._clock_s()
        self._put("status", status.for_viewers())

    def silent_s(self) -> float | None:
        """Return the seconds since the last status; None before the first."""
        return None if self.status is None else self._clock_s() - self._status_at_s

    def on_part(self, part: DecidedPart, image: Image | None) -> None:
        """Take the newest part, with its image if that can be drawn."""
        self.part = part
        layers = None
        if image is not None:
            try:
                layers = image.layers()
            except Exception:  # a part that cannot be drawn still takes the place of the one before
                log.exception("the image of part %s cannot be shown", part.id)
            else:
                self._images[part.id] = image
                while len(self._images) > KEPT_IMAGES:
                    self._images.popitem(last=False)
        self._put("part", ShownPart.of(part, layers))

    def on_rejected(self, verdict_id: str, image: Image) -> None:
        """Keep the small image of a rejected part."""
        self._thumbnails[verdict_id] = image
        while len(self._thumbnails) > self._max_thumbnails:
            self._thumbnails.popitem(last=False)

    def image(self, verdict_id: str) -> Image | None:
        """Return the live image of a part, if it is one of the newest."""
        return self._images.get(verdict_id)

    def thumbnail(self, verdict_id: str) -> Image | None:
        """Return the small image of a rejected part, if it is one of the newest."""
        return self._thumbnails.get(verdict_id)

    def add_viewer(self) -> None:
        self.viewers += 1
        if self.viewers == 1:
            self._on_watched(True)

    def remove_viewer(self) -> None:
        self.viewers -= 1
        if self.viewers == 0:
            self._on_watched(False)

    async def newer(self, since: int, limit_s: float) -> tuple[int, bytes]:
        """Return what has changed since a version, as server-sent events.

        Nothing queues: who comes late gets the newest of each kind. Without any change within the
        limit it is the silence of the station.
        """
        if self._version <= since:
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), limit_s)
            except TimeoutError:
                return since, _event("alive", StationSilence(silent_s=self.silent_s()))
        events = [text for version, text in sorted(self._events.values()) if version > since]
        return self._version, b"".join(events)

    def _put(self, kind: str, content: Content) -> None:
        event = _event(kind, content)
        if kind in self._events and self._events[kind][1] == event:
            return
        self._version += 1
        self._events[kind] = self._version, event
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _event(kind: str, content: Content) -> bytes:
    return f"event: {kind}\ndata: {to_json(content.model_dump())}\n\n".encode()


def _array(blob: bytes, shape: list[int]) -> NDArray[np.uint8]:
    return np.frombuffer(blob, np.uint8).reshape(shape)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _density(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the opacity of the heat map, 0 to 1."""
    shown = (levels.astype(np.float32) - VISIBLE_FROM) / (DENSEST_AT - VISIBLE_FROM)
    return np.asarray(np.clip(shown, 0.0, 1.0) * DENSITY, np.float32)


def _heat_png(levels: NDArray[np.uint8]) -> str:
    """Return the map as a small image with transparency; the browser enlarges it smoothly."""
    alpha = (_density(levels) * 255).astype(np.uint8)
    png = cv2.imencode(".png", np.dstack([heat_colours(levels), alpha]))[1].tobytes()
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _drawn(layout: ImageLayout, blobs: tuple[bytes, ...]) -> NDArray[np.uint8]:
    pixels, levels = _array(blobs[0], layout.shape), _array(blobs[1], layout.map_shape)
    canvas = pixels.copy() if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    scale = canvas.shape[1] / layout.width_px
    if levels.size and layout.placement is not None:
        x, y, width, height = (round(value * scale) for value in layout.placement)
        under = canvas[y : y + height, x : x + width]
        large = cv2.resize(levels, (under.shape[1], under.shape[0]))
        share = _density(large)[:, :, None]
        over = heat_colours(np.asarray(large, np.uint8))
        under[:] = (under * (1.0 - share) + over * share).astype(np.uint8)
    for region in layout.regions:
        x, y, width, height = (round(value * scale) for value in region)
        corners = (x - 3, y - 3), (x + width + 3, y + height + 3)
        cv2.rectangle(canvas, *corners, (24, 24, 24), 4)
        cv2.rectangle(canvas, *corners, (255, 255, 255), 2)
    return canvas


def _contours(levels: NDArray[np.uint8], placement: Area) -> list[list[float]]:
    """Return the lines at the threshold as x, y, x, y, … in frame pixels."""
    if not (levels >= 128).any():
        return []
    rows, columns = levels.shape
    scale = max(1, CONTOUR_SIDE // max(rows, columns))
    large = cv2.resize(levels, (columns * scale, rows * scale), interpolation=cv2.INTER_LINEAR)
    inside = cv2.copyMakeBorder((large >= 128).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    found, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    x, y, width, height = placement
    across, down = width / large.shape[1], height / large.shape[0]
    lines = []
    for points in sorted(found, key=len, reverse=True)[:MAX_CONTOURS]:
        step = -(-len(points) // MAX_POINTS)
        line = points[::step, 0].astype(np.float64) - 0.5  # the border, and a pixel's middle
        placed = np.round(line * (across, down) + (x, y), 1)
        lines.append(placed.ravel().tolist())
    return lines
