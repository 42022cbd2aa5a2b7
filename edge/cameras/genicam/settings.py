"""What a site sets about a GenICam camera, written and read back in the order cameras need."""

from typing import Any

from edge.cameras.genicam.features import Features
from edge.cameras.genicam.library import Library
from edge.cameras.genicam.pixel_formats import FORMATS
from edge.settings.camera import SensorSettings, TriggerSettings

# SFNC's name first, then those of older or of some makers' cameras.
EXPOSURE = ("ExposureTime", "ExposureTimeAbs")
GAIN = ("Gain", "GainAbs", "GainRaw")
FRAME_RATE = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")
FRAME_RATE_LIMITS = ("AcquisitionFrameRateEnable", "AcquisitionFrameRateEnabled")
RATIO = ("BalanceRatio", "BalanceRatioAbs")
TRIGGER_DELAY = ("TriggerDelay", "TriggerDelayAbs")
DEBOUNCE = (
    "LineDebouncerTime",
    "LineDebouncerTimeAbs",
    "LineDebounceDuration",
    "LineFilterWidth",
)
# Coarser than any camera's own steps, and no more than one per cent of the light.
GAIN_STEP_DB = 0.1
CHUNKS = ("ExposureTime", "Gain")


def given_keys(sensor: SensorSettings, trigger: TriggerSettings) -> frozenset[str]:
    """Return the configuration's keys that the site has set itself."""
    sections = {"camera.sensor": sensor, "camera.trigger": trigger}
    return frozenset(
        f"{name}.{key}" for name, section in sections.items() for key in section.model_fields_set
    )


def apply_settings(
    aravis: Library,
    features: Features,
    camera: Any,
    sensor: SensorSettings,
    *,
    trigger: TriggerSettings,
) -> None:
    """Write every setting that is given; ``features.applied`` holds what the camera took.

    Raises:
        CameraSettingRefused, CameraNotOpened: see ``Features``.
    """
    # While a trigger is armed, some cameras lock the rest.
    _clear_triggers(features)
    features.switch("camera.trigger.mode", "AcquisitionMode", "Continuous")
    _write_format(features, sensor)
    _write_region(features, sensor)
    _write_light(features, sensor)
    _write_white_balance(features, sensor)
    if trigger.mode == "free_run":
        _write_frame_rate(features, sensor)
    _write_packets(aravis, features, camera, sensor)
    _write_trigger(features, trigger)
    features.applied["camera.trigger.mode"] = trigger.mode


def ask_for_chunks(aravis: Library, features: Features, camera: Any, sensor: SensorSettings) -> Any:
    """Ask for exposure and gain with each frame; None where the camera does not offer them."""
    try:
        if not sensor.chunks or not features.offers("ChunkModeActive"):
            return None
        offered = camera.dup_available_enumerations_as_strings("ChunkSelector")
        chosen = [name for name in CHUNKS if name in offered]
        if not chosen:
            return None
        camera.set_chunks(",".join(chosen))
        return camera.create_chunk_parser()
    except aravis.Error:
        return None  # an extra that the inspection does not rest on


def _clear_triggers(features: Features) -> None:
    key = "camera.trigger.mode"
    if not features.offers("TriggerMode"):
        return
    if not features.offers("TriggerSelector"):
        features.switch(key, "TriggerMode", "Off")
        return
    for selector in features.choices(key, "TriggerSelector"):
        features.write_choice(key, ["TriggerSelector"], selector)
        features.switch(key, "TriggerMode", "Off")


def _write_format(features: Features, sensor: SensorSettings) -> None:
    key = "camera.sensor.pixel_format"
    known = f"this software reads {', '.join(FORMATS)}"
    asked = sensor.pixel_format or features.read_text("PixelFormat")
    if asked not in FORMATS:
        raise features.refusal(key, asked, known)
    if sensor.pixel_format is not None:
        features.write_choice(key, ["PixelFormat"], asked)
    features.applied[key] = asked


def _write_region(features: Features, sensor: SensorSettings) -> None:
    for axis, size, offset in (
        ("x", sensor.width_px, sensor.offset_x_px),
        ("y", sensor.height_px, sensor.offset_y_px),
    ):
        extent = "Width" if axis == "x" else "Height"
        place = f"Offset{axis.upper()}"
        size_key = f"camera.sensor.{extent.lower()}_px"
        offset_key = f"camera.sensor.offset_{axis}_px"
        if size is not None:
            # A large frame does not fit beside an old offset, which is written again after it.
            if features.offers(place):
                offset = features.read_integer(place) if offset is None else offset
                features.write_integer(offset_key, [place], 0)
            features.write_integer(size_key, [extent], size)
        else:
            features.applied[size_key] = str(features.read_integer(extent))
        if offset is not None:
            features.write_integer(offset_key, [place], offset)


def _write_light(features: Features, sensor: SensorSettings) -> None:
    if sensor.exposure_us is not None:
        features.switch("camera.sensor.exposure_us", "ExposureAuto", "Off")
        features.switch("camera.sensor.exposure_us", "ExposureMode", "Timed")
        features.write_number("camera.sensor.exposure_us", EXPOSURE, sensor.exposure_us)
    if sensor.gain_db is not None:
        features.switch("camera.sensor.gain_db", "GainAuto", "Off")
        features.write_number("camera.sensor.gain_db", GAIN, sensor.gain_db, GAIN_STEP_DB)


def _write_white_balance(features: Features, sensor: SensorSettings) -> None:
    if sensor.white_balance_k is not None:
        raise features.refusal(
            "camera.sensor.white_balance_k",
            sensor.white_balance_k,
            "GenICam cameras take white_balance_red and white_balance_blue",
        )
    for colour, ratio in (("Red", sensor.white_balance_red), ("Blue", sensor.white_balance_blue)):
        if ratio is None:
            continue
        key = f"camera.sensor.white_balance_{colour.lower()}"
        features.switch(key, "BalanceWhiteAuto", "Off")
        features.switch(key, "BalanceRatioSelector", colour)
        features.write_number(key, RATIO, ratio)


def _write_frame_rate(features: Features, sensor: SensorSettings) -> None:
    if sensor.frame_rate_fps is None:
        return
    for limit in FRAME_RATE_LIMITS:
        features.enable("camera.sensor.frame_rate_fps", limit, True)
    features.write_number("camera.sensor.frame_rate_fps", FRAME_RATE, sensor.frame_rate_fps)


def _write_packets(
    aravis: Library, features: Features, camera: Any, sensor: SensorSettings
) -> None:
    size_key, delay_key = "camera.sensor.packet_size_bytes", "camera.sensor.packet_delay_ns"
    size, delay = sensor.packet_size_bytes, sensor.packet_delay_ns
    if not camera.is_gv_device():
        for key, given in ((size_key, size), (delay_key, delay)):
            if given is not None:
                raise features.refusal(key, given, "it is of GigE Vision only")
        return
    if size is None:
        features.call(size_key, camera.gv_auto_packet_size)
    else:
        adjustment = aravis.api.GvPacketSizeAdjustment.NEVER
        camera.gv_set_packet_size_adjustment(adjustment)
        features.call(size_key, camera.gv_set_packet_size, size)
    got = features.call(size_key, camera.gv_get_packet_size)
    if size is not None and got != size:
        raise features.refusal(size_key, size, f"it took {got}")
    features.applied[size_key] = str(got)
    if delay is not None:
        features.call(delay_key, camera.gv_set_packet_delay, delay)
        got = features.call(delay_key, camera.gv_get_packet_delay)
        # It counts in ticks of its clock, some of which are a microsecond long.
        if abs(got - delay) > 1000:
            raise features.refusal(delay_key, delay, f"it took {got}")
        features.applied[delay_key] = str(got)


def _write_trigger(features: Features, trigger: TriggerSettings) -> None:
    if trigger.mode == "free_run":
        return
    for limit in FRAME_RATE_LIMITS:
        features.enable("camera.trigger", limit, False)
    if features.offers("TriggerSelector"):
        features.write_choice("camera.trigger.selector", ["TriggerSelector"], trigger.selector)
    if trigger.mode == "software":
        features.write_choice("camera.trigger.mode", ["TriggerSource"], "Software")
    else:
        features.write_choice("camera.trigger.source", ["TriggerSource"], trigger.source)
        features.write_choice(
            "camera.trigger.activation", ["TriggerActivation"], trigger.activation
        )
        if trigger.delay_us is not None:
            features.write_number("camera.trigger.delay_us", TRIGGER_DELAY, trigger.delay_us)
        if trigger.debounce_us is not None:
            features.switch("camera.trigger.debounce_us", "LineSelector", trigger.source)
            features.write_number("camera.trigger.debounce_us", DEBOUNCE, trigger.debounce_us)
    # Armed last: nothing may expose before all the rest is as asked.
    features.write_choice("camera.trigger.mode", ["TriggerMode"], "On")
