"""GigE Vision and USB3 Vision cameras, through Aravis."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from edge.cameras.genicam import gvcp
from edge.cameras.genicam.buffers import ExpectedImage, image_in
from edge.cameras.genicam.discovery import (
    ANSWER_LIMIT_S,
    CameraName,
    SeenCamera,
    Transport,
    device_id,
    list_cameras,
    parse_uri,
)
from edge.cameras.genicam.features import Features
from edge.cameras.genicam.frame_ids import next_number
from edge.cameras.genicam.library import (
    PACKET_SOCKET_SAFE,
    AravisMissing,
    Library,
    library,
)
from edge.cameras.genicam.lines import UserOutputs
from edge.cameras.genicam.pixel_formats import FORMATS
from edge.cameras.genicam.settings import apply_settings, ask_for_chunks, given_keys
from edge.cameras.interface import CameraLine, CameraReport
from edge.errors import CameraError, CameraLost, CameraNotOpened, StationError
from edge.imaging.frame import Frame, FrameStatus, Telemetry
from edge.settings.camera import SensorSettings, TriggerSettings

__all__ = [
    "AravisCamera",
    "AravisMissing",
    "SeenCamera",
    "list_cameras",
    "open_aravis",
    "parse_uri",
]

# What the kernel grants of it is bounded by net.core.rmem_max.
SOCKET_BUFFER_BYTES = 32 << 20

# Shorter than Aravis' first repetition.
CHECK_LIMIT_S = 0.45


def open_aravis(
    uri: str,
    sensor: SensorSettings,
    trigger: TriggerSettings,
    lines: Sequence[CameraLine] = (),
) -> "AravisCamera":
    """Open, set up and start the camera that a URI names.

    Raises:
        AravisMissing: Aravis or its Python binding is not installed.
        CameraUriInvalid: not a URI of these cameras.
        CameraNotOpened: it does not answer, or another program controls it.
        CameraSettingRefused: it does not take a setting; restarting cannot cure that.
    """
    name = parse_uri(uri)
    aravis = library()
    try:
        return AravisCamera(
            uri=uri, name=name, aravis=aravis, sensor=sensor, trigger=trigger, lines=lines
        )
    except StationError as error:
        # Its traceback holds the camera, and with it control over the camera: whoever keeps the
        # error would lock himself out.
        failure = error.with_traceback(None)
        failure.__cause__ = failure.__context__ = None
    raise failure


class AravisCamera:
    """An open camera that streams. Whoever owns it calls everything from one thread.

    Attributes:
        interface_address: of this machine, where the frames of a GigE camera arrive.
        settings: key and value of what was set, as read back.
    """

    can_wait = False

    def __init__(
        self,
        *,
        uri: str,
        name: CameraName,
        aravis: Library,
        sensor: SensorSettings,
        trigger: TriggerSettings,
        lines: Sequence[CameraLine] = (),
    ) -> None:
        """Open the camera, set it up and start it; see ``open_aravis``."""
        self.identity = uri
        self.simulated = name.transport is Transport.FAKE
        self.interface_address = ""
        self._aravis = aravis
        self._stream: Any = None
        self._chunks: Any = None
        self._outputs: UserOutputs | None = None
        self._trigger = trigger
        self._address = ""
        self._camera = camera = self._opened(name)
        self._device = camera.get_device()
        try:
            if camera.is_gv_device():
                self._address = _ip(self._device.get_device_address())
                self.interface_address = _ip(self._device.get_interface_address())
                self._acquire_control()
            given = given_keys(sensor, trigger) | {one.key for one in lines}
            features = Features(aravis, uri, self._device, given)
            with suppress(aravis.Error):  # what a crashed program left running
                camera.stop_acquisition()
            # Before all that may take its time: they are at their fail-safe level from here on.
            self._outputs = UserOutputs(features, self._device, lines)
            apply_settings(aravis, features, camera, sensor, trigger=trigger)
            self._chunks = ask_for_chunks(aravis, features, camera, sensor)
            self.settings = tuple(features.applied.items())
            self._expected = ExpectedImage(
                FORMATS[features.applied["camera.sensor.pixel_format"]],
                features.read_integer("Height"),
                features.read_integer("Width"),
                self._counts_in_16_bits(features),
            )
            self._number: int | None = None
            self._start(features, sensor.buffers)
        except BaseException:
            self.close()
            raise

    def read(self, timeout_s: float) -> Frame | None:
        self._raise_if_gone()
        buffer = self._stream.timeout_pop_buffer(max(round(timeout_s * 1e6), 1))
        if buffer is None:
            self._empty_ns = time.monotonic_ns()
            self._raise_if_gone()
            return None
        try:
            return self._frame(buffer)
        finally:
            # A frame whose first packet is lost keeps what the buffer held before.
            buffer.set_frame_id(0)
            self._stream.push_buffer(buffer)

    def check(self) -> None:
        self._raise_if_gone()
        if not self._answers():
            raise self._lost("it does not answer")

    def trigger(self) -> None:
        if self._trigger.mode != "software":
            raise CameraError(
                f"{self.identity}: accepts no software trigger because camera.trigger.mode is "
                f"{self._trigger.mode}. Set it to software."
            )
        self._raise_if_gone()
        try:
            self._camera.software_trigger()
        except self._aravis.Error as error:
            if self._aravis.unreachable(error):
                raise self._lost(self._aravis.words(error)) from error
            raise CameraError(
                f"{self.identity}: did not accept the trigger ({self._aravis.words(error)}). "
                "Check that it was not triggered faster than it exposes."
            ) from error

    def set_line(self, line: str, high: bool) -> None:
        """Switch an output line; returns once the camera has confirmed it."""
        self._raise_if_gone()
        try:
            assert self._outputs is not None  # not closed, or it is gone
            self._outputs.set_line(line, high)
        except self._aravis.Error as error:
            if self._aravis.unreachable(error):
                raise self._lost(self._aravis.words(error)) from error
            raise CameraError(
                f"{self.identity}: line {line} was not switched ({self._aravis.words(error)})."
            ) from error

    def report(self) -> CameraReport:
        temperature = self._or_none(self._camera.get_float, "DeviceTemperature")
        return CameraReport(
            model=self._or_none(self._camera.get_model_name),
            serial=self._or_none(self._camera.get_device_serial_number),
            temperature_c=None if temperature is None else float(temperature),
            settings=self.settings,
            counters=self.packet_counters(),
        )

    def packet_counters(self) -> tuple[tuple[str, int], ...]:
        """Return the stream's counters since the camera was opened, by Aravis' names."""
        if self._stream is None:
            return ()
        names = [self._stream.get_info_name(i) for i in range(self._stream.get_n_infos())]
        return tuple(
            (name, int(self._stream.get_info_uint64_by_name(name)))
            for name in names
            if name.startswith("n_")
        )

    def close(self) -> None:
        """Stop the camera and give up control over it.

        Of a camera that does not answer this takes up to eight seconds: Aravis says good-bye
        three times and waits for an answer to each.
        """
        if self._camera is None:
            return
        if self._stream is not None and self._answers():
            with suppress(self._aravis.Error):
                if self._outputs is not None:
                    self._outputs.rest()
            with suppress(self._aravis.Error):
                self._camera.stop_acquisition()
        # The stream's thread uses the device: first the one, then the other.
        self._stream = None
        self._chunks = None
        self._outputs = None
        self._device = None
        self._camera = None

    def _opened(self, name: CameraName) -> Any:
        api = self._aravis.api
        if self.simulated:
            api.enable_interface("Fake")
        try:
            return api.Camera.new(device_id(name, self._aravis))
        except self._aravis.Error as error:
            usb = ", and the permissions of the USB device" * (name.transport is Transport.USB3)
            raise CameraNotOpened(
                f"{self.identity}: the camera was found but not opened "
                f"({self._aravis.words(error)}). Check cable and power{usb}."
            ) from error
        finally:
            if self.simulated:
                api.disable_interface("Fake")  # no search shall find it

    def _acquire_control(self) -> None:
        if not self._device.is_controller():
            owner = gvcp.controller(self._address, ANSWER_LIMIT_S)
            raise CameraNotOpened(
                f"{self.identity}: another program controls this camera"
                f"{f' ({owner})' if owner else ''}. Close it, or wait 10 s for its heartbeat to "
                "expire; `edge-run --doctor` shows who holds it."
            )

    def _counts_in_16_bits(self, features: Features) -> bool:
        if self.simulated:
            return True
        if not self._address:
            return False
        extended = "GevGVSPExtendedIDMode"
        return not (features.offers(extended) and features.read_text(extended) == "On")

    def _start(self, features: Features, buffers: int) -> None:
        api = self._aravis.api
        if self._address and self._aravis.version < PACKET_SOCKET_SAFE:
            self._camera.gv_set_stream_options(api.GvStreamOption.PACKET_SOCKET_DISABLED)
        if self._address:
            # The size was settled with the settings; a second try may settle another.
            self._camera.gv_set_packet_size_adjustment(api.GvPacketSizeAdjustment.NEVER)
        try:
            # Only now: the size of a frame follows from region, format and chunks.
            payload = features.read_integer("PayloadSize")
            self._stream = self._camera.create_stream(None, None)
            if self._address:
                self._stream.set_property("socket-buffer", api.GvStreamSocketBuffer.FIXED)
                self._stream.set_property("socket-buffer-size", SOCKET_BUFFER_BYTES)
            for _ in range(buffers):
                self._stream.push_buffer(api.Buffer.new_allocate(payload))
            self._empty_ns = time.monotonic_ns()
            self._camera.start_acquisition()
        except self._aravis.Error as error:
            raise CameraNotOpened(
                f"{self.identity}: the camera does not start ({self._aravis.words(error)}). "
                "Check cable and power, and that no other program uses it."
            ) from error

    def _frame(self, buffer: Any) -> Frame:
        now_ns, now_utc_ns = time.monotonic_ns(), time.time_ns()
        pixels, fault = image_in(self._aravis, buffer, self._expected)
        frame_id, short = buffer.get_frame_id(), self._expected.short_ids
        self._number = number = next_number(self._number, frame_id, short)
        waited_ns = 0 if fault else self._waited_ns(buffer, now_ns, now_utc_ns)
        if self._stream.get_n_buffers()[1] == 0:
            self._empty_ns = now_ns
        return Frame(
            pixels=pixels,
            number=number,
            captured_ns=now_ns - waited_ns,
            captured_utc_ns=now_utc_ns - waited_ns,
            status=FrameStatus.INCOMPLETE if fault else FrameStatus.COMPLETE,
            detail=fault,
            telemetry=Telemetry() if fault else self._telemetry(buffer),
        )

    def _waited_ns(self, buffer: Any, now_ns: int, now_utc_ns: int) -> int:
        """Return for how long the frame was here when it was read."""
        # The wall clock may have been set meanwhile, but the frame cannot have waited since
        # before the queue was last seen empty.
        waited_ns = now_utc_ns - buffer.get_system_timestamp()
        return int(max(0, min(waited_ns, now_ns - self._empty_ns)))

    def _telemetry(self, buffer: Any) -> Telemetry:
        return Telemetry(
            device_ns=buffer.get_timestamp() or None,  # 0 of a camera that has no clock
            missing_packets=0,
            exposure_us=self._chunk(buffer, "ChunkExposureTime"),
            gain_db=self._chunk(buffer, "ChunkGain"),
        )

    def _chunk(self, buffer: Any, name: str) -> float | None:
        if self._chunks is None or not buffer.has_chunks():
            return None
        try:
            return float(self._chunks.get_float_value(buffer, name))
        except self._aravis.Error:
            return None

    def _or_none(self, question: Any, *arguments: object) -> Any:
        if self._camera is None or self._gone:
            return None
        try:
            return question(*arguments)
        except self._aravis.Error:
            return None

    def _answers(self) -> bool:
        if self._gone:
            return False
        if self._address:
            asked = gvcp.discover(self._address, CHECK_LIMIT_S, self.interface_address)
            return asked is not None
        try:
            self._device.read_register(0)
        except self._aravis.Error:
            return False
        return True

    @property
    def _gone(self) -> bool:
        """Whether control over a GigE camera was lost.

        Asked and not listened for: while Aravis' thread tells of it, that thread holds the device,
        and if we let go of it at that moment it would have to wait for its own end (GLib aborts).
        """
        return bool(self._address) and not self._device.is_controller()

    def _raise_if_gone(self) -> None:
        if self._stream is None:
            raise self._lost("it was closed")
        if self._gone:
            raise self._lost("control over it was lost")

    def _lost(self, cause: str) -> CameraLost:
        return CameraLost(f"{self.identity}: {cause}. Check cable, power and network.")


def _ip(socket_address: Any) -> str:
    return str(socket_address.get_address().to_string())
