"""Whether what arrived is a frame: only a whole one, of the format and size that were set, is."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.cameras.genicam.library import Library
from edge.cameras.genicam.pixel_formats import BY_CODE, ImageUndecodable, WireFormat
from edge.imaging.frame import Pixels
from edge.wording import counted

# Of Aravis' buffer status; any that is not here is as little a frame as these.
INCOMPLETE = {
    "cleared": "the buffer holds no frame",
    "timeout": "packets of the frame did not arrive in time",
    "missing-packets": "packets of the frame were lost on the network",
    "wrong-packet-id": "packets of the frame came in a wrong order",
    "size-mismatch": "the frame is larger than the camera announced",
    "filling": "the frame was still being received",
    "aborted": "the transfer was aborted",
}


@dataclass(frozen=True, slots=True)
class ExpectedImage:
    """What the camera was set to.

    Attributes:
        short_ids: it counts its frames in 16 bits, of which 0 is none.
    """

    form: WireFormat
    height: int
    width: int
    short_ids: bool


def image_in(aravis: Library, buffer: Any, expected: ExpectedImage) -> tuple[Pixels, str]:
    """Return the frame of a buffer, or an empty one and what is wrong with it."""
    nothing = np.empty((0, 0), np.uint8)
    status = buffer.get_status()
    if status != aravis.api.BufferStatus.SUCCESS:
        return nothing, INCOMPLETE.get(status.value_nick, f"Aravis says: {status.value_nick}")
    if expected.short_ids and buffer.get_frame_id() == 0:
        return nothing, "the frame has no frame id"
    kind = buffer.get_payload_type()
    # Some cameras describe a frame with chunks nowhere but in its chunks.
    fault = _difference(buffer, expected) if kind != aravis.api.BufferPayloadType.CHUNK_DATA else ""
    if fault:
        return nothing, fault
    sent = np.ctypeslib.as_array(aravis.received(buffer))
    if buffer.has_chunks() or kind != aravis.api.BufferPayloadType.IMAGE:
        sent = sent[: expected.form.image_bytes(expected.width, expected.height)]
    try:
        return expected.form.decode(sent, expected.width, expected.height), ""
    except ImageUndecodable as error:
        return nothing, str(error)


def _difference(buffer: Any, expected: ExpectedImage) -> str:
    """Return how a frame differs from what was set; empty if it does not."""
    if buffer.get_n_parts() != 1:
        return f"{counted(buffer.get_n_parts(), 'frame')} came in one, only one is understood"
    code = buffer.get_image_pixel_format()
    if code != expected.form.code:
        name = BY_CODE[code].name if code in BY_CODE else f"{code:#010x}"
        return f"the pixel format is {name}, the camera was set to {expected.form.name}"
    width, height = buffer.get_image_width(), buffer.get_image_height()
    if (width, height) != (expected.width, expected.height):
        size = f"{expected.width}×{expected.height}"
        return f"the frame is {width}×{height} pixels, the camera was set to {size}"
    if buffer.get_image_padding() != (0, 0):
        return "rows of the frame are padded; choose a width that is a multiple of 8"
    return ""
