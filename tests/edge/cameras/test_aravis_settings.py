"""Settings of a GenICam camera: written, read back, refused in words; over the real protocol."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge.cameras.genicam.camera import open_aravis
from edge.errors import CameraSettingRefused
from edge.imaging.frame import FrameStatus
from edge.settings.camera import SensorSettings, TriggerSettings
from tests.support.aravis_fixtures import (
    FREE_RUN,
    answers,
    first_that,
    next_image,
    opened,
    patiently,
)
from tests.support.gige_camera import GigECamera, Image

HEIGHT, WIDTH = 48, 64
IMAGE: Image = np.arange(HEIGHT * WIDTH, dtype=np.uint32).reshape(HEIGHT, WIDTH).astype(np.uint8)


@pytest.fixture
def device() -> Iterator[GigECamera]:
    with GigECamera([IMAGE]) as one:
        yield one


def refused(uri: str, trigger: TriggerSettings = FREE_RUN, **sensor: Any) -> str:
    with pytest.raises(CameraSettingRefused) as raised:
        patiently(lambda: open_aravis(uri, SensorSettings(**sensor), trigger))
    assert raised.value.exit_code == 78
    assert uri in str(raised.value) and "camera." in str(raised.value)
    return str(raised.value)


def make_settings(uri: str, trigger: TriggerSettings = FREE_RUN, **sensor: Any) -> dict[str, str]:
    with opened(uri, trigger, **sensor) as camera:
        next_image(camera) if trigger.mode == "free_run" else answers(camera)
        return {key.removeprefix("camera."): value for key, value in camera.report().settings}


def test_what_was_set_is_reported_as_the_camera_holds_it(device: GigECamera) -> None:
    settings = make_settings(
        device.uri,
        pixel_format="Mono12",
        exposure_us=5000.4,
        gain_db=3.14,
        white_balance_red=1.25,
        white_balance_blue=2.5,
        frame_rate_fps=50,
        packet_size_bytes=9000,
        packet_delay_ns=500,
    )

    assert settings == {
        "sensor.pixel_format": "Mono12",
        "sensor.width_px": "64",
        "sensor.height_px": "48",
        "sensor.exposure_us": "5000",  # this camera counts whole microseconds
        "sensor.gain_db": "3.1",  # and tenths of a decibel
        "sensor.white_balance_red": "1.25",
        "sensor.white_balance_blue": "2.5",
        "sensor.frame_rate_fps": "50",
        "sensor.packet_size_bytes": "9000",
        "sensor.packet_delay_ns": "500",
        "trigger.mode": "free_run",
    }


def test_what_is_not_set_is_left_alone(device: GigECamera) -> None:
    make_settings(device.uri, exposure_us=7777, gain_db=2)

    with opened(device.uri) as camera:
        next_image(camera)
        kept = camera.report()
        exposure = camera._camera.get_exposure_time()

    assert exposure == 7777
    assert "camera.sensor.exposure_us" not in dict(kept.settings)


def test_automatics_are_switched_off_when_a_value_is_fixed(device: GigECamera) -> None:
    automatics = ("ExposureAuto", "GainAuto", "BalanceWhiteAuto")
    with opened(device.uri) as camera:
        for name in automatics:
            camera._camera.set_string(name, "Continuous")
    with opened(device.uri, exposure_us=100) as camera:
        after_exposure = [camera._camera.get_string(name) for name in automatics]
    with opened(device.uri, gain_db=1, white_balance_blue=1) as camera:
        after_all = [camera._camera.get_string(name) for name in automatics]

    assert after_exposure == ["Off", "Continuous", "Continuous"]
    assert after_all == ["Off", "Off", "Off"]


def test_a_camera_says_who_and_how_warm_it_is(device: GigECamera) -> None:
    with opened(device.uri) as camera:
        report = camera.report()

    assert (report.model, report.serial, report.temperature_c) == ("Fake", device.serial, 41.5)
    assert {"n_completed_buffers", "n_missing_packets"} <= dict(report.counters).keys()


@pytest.mark.parametrize(
    ("sensor", "words"),
    [
        ({"exposure_us": 5}, ["sensor.exposure_us", "5", "allows 10 to 1e+06"]),
        ({"exposure_us": 2e6}, ["2e+06", "allows 10 to 1e+06"]),
        # Its range says 24 dB, but it goes no further than 18.
        ({"gain_db": 20}, ["sensor.gain_db", "20", "took 18", "allows 0 to 24"]),
        ({"width_px": 4000}, ["sensor.width_px", "4000", "allows 16 to 64 in steps of 4"]),
        ({"width_px": 30}, ["30", "16 to 64 in steps of 4"]),
        ({"height_px": 33}, ["sensor.height_px", "in steps of 2"]),
        ({"width_px": 32, "offset_x_px": 40}, ["offset_x_px", "40", "allows 0 to 32"]),
        ({"pixel_format": "Mono14"}, ["pixel_format", "Mono14", "reads Mono8", "BayerRG8"]),
        ({"pixel_format": "YUV422_8"}, ["YUV422_8", "reads Mono8"]),
        ({"white_balance_red": 9}, ["white_balance_red", "allows 0.1 to 8"]),
        ({"white_balance_k": 5000}, ["white_balance_k", "white_balance_red"]),
        ({"frame_rate_fps": 5000}, ["frame_rate_fps", "5000"]),
    ],
)
def test_a_setting_that_the_camera_does_not_take_is_refused(
    device: GigECamera, sensor: dict[str, Any], words: list[str]
) -> None:
    message = refused(device.uri, **sensor)

    assert all(word in message for word in words), message
    assert "Change or remove camera.sensor." in message


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({"source": "Line7"}, ["trigger.source", "Line7", "offers Line1, Software"]),
        ({"selector": "LineStart"}, ["trigger.selector", "offers FrameStart"]),
        ({"activation": "AnyEdge"}, ["trigger.activation", "offers RisingEdge, FallingEdge"]),
        ({"delay_us": 2e6}, ["trigger.delay_us", "allows 0 to 1e+06"]),
        ({"debounce_us": 20_000}, ["trigger.debounce_us", "allows 0 to 10000"]),
    ],
)
def test_a_trigger_that_the_camera_does_not_have_is_refused(
    device: GigECamera, trigger: dict[str, Any], words: list[str]
) -> None:
    message = refused(device.uri, TriggerSettings(mode="hardware", **trigger))

    assert all(word in message for word in words), message


def test_the_hardware_trigger_is_set_up_in_full_and_free_run_clears_it(
    device: GigECamera,
) -> None:
    trigger = TriggerSettings(
        mode="hardware", source="Line1", activation="FallingEdge", delay_us=250, debounce_us=40
    )

    settings = make_settings(device.uri, trigger)

    assert {key: value for key, value in settings.items() if key.startswith("trigger.")} == {
        "trigger.mode": "hardware",
        "trigger.selector": "FrameStart",
        "trigger.source": "Line1",
        "trigger.activation": "FallingEdge",
        "trigger.delay_us": "250",
        "trigger.debounce_us": "40",
    }
    assert make_settings(device.uri)["trigger.mode"] == "free_run"  # frames come by themselves


def test_a_region_is_read_out_of_the_sensor(device: GigECamera) -> None:
    region: dict[str, Any] = {"width_px": 32, "height_px": 16, "offset_x_px": 8, "offset_y_px": 30}

    with opened(device.uri, **region) as camera:
        cut = next_image(camera)
    # Does not fit beside the old offset, and is taken all the same.
    with opened(device.uri, width_px=64, height_px=48, offset_x_px=0, offset_y_px=0) as camera:
        whole = next_image(camera)

    assert np.array_equal(cut.pixels, IMAGE[30:46, 8:40])
    assert np.array_equal(whole.pixels, IMAGE)


def test_an_offset_that_was_not_given_is_kept(device: GigECamera) -> None:
    with opened(device.uri, width_px=32, offset_x_px=16):
        pass
    with opened(device.uri, width_px=20) as camera:
        pixels = next_image(camera).pixels
    message = refused(device.uri, width_px=64)
    with opened(device.uri, width_px=64, offset_x_px=0) as camera:
        whole = next_image(camera).pixels

    assert np.array_equal(pixels, IMAGE[:, 16:36])
    assert "offset_x_px" in message and "allows 0 to 0" in message
    assert message.endswith("Set camera.sensor.offset_x_px to what it takes.")
    assert np.array_equal(whole, IMAGE)


@pytest.mark.parametrize(
    ("name", "shift"),
    [("Mono8", 0), ("Mono10", 8), ("Mono12", 8), ("Mono16", 8), ("Mono10p", 8), ("Mono12p", 8)],
)
def test_every_grey_format_travels(device: GigECamera, name: str, shift: int) -> None:
    with opened(device.uri, pixel_format=name) as camera:
        pixels = next_image(camera).pixels

    assert np.array_equal(pixels >> shift, IMAGE)


@pytest.mark.parametrize("name", ["RGB8", "BGR8", "BayerRG8", "BayerGR8", "BayerGB8", "BayerBG8"])
def test_every_colour_format_travels(name: str) -> None:
    image = np.full((HEIGHT, WIDTH, 3), (40, 100, 200), np.uint8)

    with GigECamera([image]) as coloured, opened(coloured.uri, pixel_format=name) as camera:
        pixels = next_image(camera).pixels

    assert np.array_equal(pixels, image)


def test_a_camera_that_stands_in_a_format_nobody_reads_is_refused() -> None:
    with GigECamera([IMAGE], "YUV422_8") as device:
        message = refused(device.uri)

    assert "pixel_format" in message and "YUV422_8" in message and "Mono8" in message
    assert message.endswith("Set camera.sensor.pixel_format to what it takes.")


def test_settings_of_a_gige_network_are_refused_without_one() -> None:
    assert "GigE Vision only" in refused("aravis://fake", packet_size_bytes=9000)


def test_exposure_and_gain_travel_with_each_image() -> None:
    with GigECamera([IMAGE], chunks=True) as device:
        with opened(device.uri, chunks=False) as camera:
            silent = next_image(camera)
        with opened(device.uri, exposure_us=1234, gain_db=5.5) as camera:
            reported = next_image(camera)
            camera._camera.set_float("ExposureTime", 4321.0)
            later = first_that(camera, lambda frame: frame.telemetry.exposure_us == 4321)

    assert (reported.telemetry.exposure_us, reported.telemetry.gain_db) == (1234, 5.5)
    assert later.telemetry.gain_db == 5.5
    assert (silent.telemetry.exposure_us, silent.telemetry.gain_db) == (None, None)
    for frame in (reported, later, silent):
        assert np.array_equal(frame.pixels, IMAGE)


def test_an_image_that_is_not_as_the_camera_was_set_is_not_complete(device: GigECamera) -> None:
    with opened(device.uri, pixel_format="Mono8") as camera:
        next_image(camera)
        # As if another program had reached the camera: the same bytes now mean something else.
        camera._camera.set_string("PixelFormat", "BayerRG8")
        coloured = first_that(camera, lambda frame: "pixel format" in frame.detail)

    assert coloured.status is FrameStatus.INCOMPLETE
    assert coloured.pixels.size == 0
    assert coloured.detail == "the pixel format is BayerRG8, the camera was set to Mono8"
