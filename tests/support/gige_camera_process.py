"""What runs in the process of a simulated camera, see ``tests.support.gige_camera``.

As a program: ``gige_camera_process FOLDER``, with options and images in that folder.
"""

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import gi
import numpy as np
from numpy.typing import NDArray

from tests.support.gige_camera import PIXEL_FORMATS, Image, wire_bytes

gi.require_version("Aravis", "0.8")
from gi.repository import Aravis  # noqa: E402

DESCRIPTION = Path(__file__).with_name("gige_camera.xml")

SENSOR_HEIGHT, SENSOR_WIDTH = 0x118, 0x11C
WIDTH, HEIGHT, PIXEL_FORMAT = 0x100, 0x104, 0x128
FRAME_PERIOD_US, TRIGGER_MODE, TRIGGER_SOFTWARE = 0x138, 0x300, 0x30C
SIMULATED_SOURCE, SOURCE = 0x304, 0x2040
EXPOSURE_AUTO, GAIN_AUTO, WHITE_BALANCE_AUTO = 0x2000, 0x114, 0x2020
RATIO_RED, RATIO_BLUE, TEMPERATURE = 0x2010, 0x2014, 0x2060
CHUNKS, CHUNKS_OFFERED = 0x2070, 0x2080
LINE_MODE, LINE_SOURCE, USER_OUTPUT = 0x2090, 0x20A0, 0x20B0
OUTPUT, FIRST_USER_OUTPUT = 1, 2


class Exposures:
    """Fills the simulator's buffers; Aravis calls it from its own thread."""

    def __init__(self, camera: Any, library: ctypes.CDLL, images: Image, noise: int) -> None:
        self._camera = camera
        self._library = library
        self._link = ctypes.CDLL(None)
        self._images = images
        self._noise = noise
        self._count = 0
        self._names = {value: name for name, value in PIXEL_FORMATS.items()}
        self._random = np.random.default_rng(1)
        height, *rest = images.shape[1:]
        # Taller than an image: each exposure takes other rows of it.
        self._grain = self._random.integers(-noise, noise + 1, (height + 64, *rest), np.int16)
        self._kept: dict[tuple[int, ...], NDArray[np.uint8]] = {}

    def fill(self, buffer: int, _data: int, exposure: int, gain: int, pixel_format: int) -> None:
        x, y, width, height = (
            getattr(self._library, f"arv_buffer_get_image_{name}")(ctypes.c_void_p(buffer))
            for name in ("x", "y", "width", "height")
        )
        index = self._count % len(self._images)
        self._count += 1
        key = (index, x, y, width, height, pixel_format)
        sent = self._kept.get(key)
        if sent is None:
            image = self._images[index]
            if self._noise:
                row = int(self._random.integers(64))
                grain = self._grain[row : row + len(image)]
                image = cv2.add(image, grain, dtype=cv2.CV_8U)
            cut = image[y : y + height, x : x + width]
            sent = wire_bytes(cut, self._names[pixel_format])
            if not self._noise and len(self._kept) < 64:
                self._kept[key] = np.array(sent)
        # The payload is what these four registers make, so it fits.
        target = self._library.arv_buffer_get_data(ctypes.c_void_p(buffer), None)
        ctypes.memmove(target, sent.ctypes.data, sent.nbytes)
        chunks = self._camera.read_register(CHUNKS)[1]
        self._link.gige_camera_chunks(sent.nbytes if chunks else 0, exposure, gain)


def output_lines(camera: Any) -> dict[str, bool | None]:
    """Return the level that each line would have on a real camera."""
    levels: dict[str, bool | None] = {}
    for line in (1, 2, 3):
        mode = camera.read_register(LINE_MODE + 4 * line)[1]
        source = camera.read_register(LINE_SOURCE + 4 * line)[1] - FIRST_USER_OUTPUT
        switched = mode == OUTPUT and source >= 0
        value = camera.read_register(USER_OUTPUT + 4 * source)[1] if switched else None
        levels[f"Line{line + 1}"] = None if value is None else bool(value)
    return levels


def main(folder: Path) -> None:
    """Be the camera until the standard input ends, which also says what happens to it."""
    options = json.loads((folder / "options.json").read_text())
    images = np.load(folder / "pictures.npy")
    simulator = Aravis.GvFakeCamera.new_full(
        options["address"], options["serial"], str(DESCRIPTION)
    )
    assert simulator.is_running(), f"{options['address']} is taken or not permitted"
    camera = simulator.get_fake_camera()
    height, width = images.shape[1:3]
    registers = {
        SENSOR_HEIGHT: height,
        SENSOR_WIDTH: width,
        HEIGHT: height,
        WIDTH: width,
        PIXEL_FORMAT: PIXEL_FORMATS[options["pixel_format"]],
        FRAME_PERIOD_US: round(1e6 / options["rate_fps"]),
        SIMULATED_SOURCE: 1,
        EXPOSURE_AUTO: 2,
        GAIN_AUTO: 2,
        WHITE_BALANCE_AUTO: 2,
        RATIO_RED: 1000,
        RATIO_BLUE: 1000,
        TEMPERATURE: 415,
        CHUNKS_OFFERED: int(options["chunks"]),
    }
    for address, value in registers.items():
        camera.write_register(address, value)
    # How often it looks for a trigger; its 25 Hz would be the trigger's latency.
    camera.set_trigger_frequency(200.0)
    simulator.set_property("gvsp-lost-ratio", options["loss"])

    # Through ctypes: the binding frees a Python callback before the simulator calls it.
    library = ctypes.CDLL("libaravis-0.8.so.0")
    library.arv_buffer_get_data.restype = ctypes.c_void_p
    exposures = Exposures(camera, library, images, options["noise"])
    callback_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_uint32] * 3)
    callback = callback_type(exposures.fill)
    pointer = ctypes.c_void_p(hash(camera))
    library.arv_fake_camera_set_fill_pattern(pointer, callback, None)
    print("ready", flush=True)

    for line in sys.stdin:
        command, _, value = line.strip().partition(" ")
        if command == "edge":
            waits = camera.read_register(TRIGGER_MODE)[1] == 1
            if waits and camera.read_register(SOURCE)[1] == 0:
                camera.write_register(TRIGGER_SOFTWARE, 1)
        elif command == "lines":
            print(json.dumps(output_lines(camera)), flush=True)
        elif command == "lose":
            camera.fill_buffer(Aravis.Buffer.new_allocate(camera.get_payload()))
        elif command == "busy":
            ctypes.CDLL(None).gige_camera_busy()
        elif command == "loss":
            simulator.set_property("gvsp-lost-ratio", float(value))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
