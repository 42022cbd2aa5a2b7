"""edge-run --capture: training images as the station will see them.

They come through the same settings and the same supervision as on the line, and only what the line
would inspect is kept. They lie in ``DIR/good``, where ``train-station fit`` looks for them; beside
that folder one JSON file for each run tells how they were made.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2

from edge.atomic_files import check_writable, write_whole
from edge.cameras.factory import TRIGGERED_FILES, checked_kind, started_camera
from edge.cameras.interface import Camera, CameraReport, EndOfFrames
from edge.cameras.supervised.camera import SupervisedCamera
from edge.contract.encoding import utc_text
from edge.errors import CameraError, CameraUriInvalid, OutputNotWritable
from edge.imaging.frame import Frame, FrameStatus
from edge.redaction import redacted
from edge.settings.camera import CameraSettings, TriggerSettings
from edge.wording import counted

SCHEMA = "capture/1"
GOOD = "good"
READ_LIMIT_S = 0.1
# A line of progress at most so often, and at each of these images.
PROGRESS_S = 1.0
# So many triggers in a row without an image: the camera does not do what it is told.
MAX_UNANSWERED = 5
# Fast, and still half the size of the samples; the images are read more often than written.
COMPRESSION = (cv2.IMWRITE_PNG_COMPRESSION, 1)


class CameraSilent(CameraError):
    """The camera takes triggers and gives no images."""


@dataclass(slots=True)
class Captured:
    """What a run has kept so far.

    Attributes:
        files: one entry for each image, in order.
        left_out: frames that the line would not inspect, by why.
    """

    files: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def capture_images(
    settings: CameraSettings,
    folder: Path,
    *,
    count: int,
    every_s: float,
    emit: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
) -> int:
    """Write ``count`` images of a camera into ``folder/good``; returns how many there are.

    Args:
        settings: as the station has them.
        folder: of the data set; what is in it stays as it is.
        every_s: least time between two images; 0 takes each that comes.
        emit: prints a line of progress.
        stopping: looked at between two images.

    Raises:
        CameraUriInvalid, CameraSettingRefused, CameraNotOpened: the camera cannot be used.
        CameraStuck, CameraSilent: it stopped doing what it should.
        OutputNotWritable: folder or disk refuse; every image that is there is whole.
    """
    if settings.watches(folder / GOOD):
        raise CameraUriInvalid(
            f"{settings.uri}: {folder / GOOD}, where the images would be written, is "
            "inside the watched folder. Name another folder after --capture."
        )
    if checked_kind(settings) in TRIGGERED_FILES:  # they are there, whoever asks
        settings = settings.model_copy(update={"trigger": TriggerSettings()})
    good = _made(folder / GOOD)
    begun_utc_ns = time.time_ns()
    captured = Captured()
    camera = started_camera(settings)
    try:
        _capture(
            camera,
            settings,
            good,
            captured,
            count=count,
            every_s=every_s,
            emit=emit,
            stopping=stopping,
        )
    finally:
        camera.close()
        if captured.files:
            record = _record(camera, settings, captured, begun_utc_ns)
            path = _unused(folder, f"capture_{_stamp(begun_utc_ns)}", ".json")
            with suppress(OutputNotWritable):  # a full disk is told by the image that met it
                write_whole(path, json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n")
    left_out = ", ".join(f"{n} {why}" for why, n in sorted(captured.left_out.items()))
    emit(
        f"{counted(len(captured.files), 'image')} in "
        f"{good}{f'; left out: {left_out}' if left_out else ''}"
    )
    return len(captured.files)


def _capture(
    camera: Camera | SupervisedCamera,
    settings: CameraSettings,
    folder: Path,
    captured: Captured,
    *,
    count: int,
    every_s: float,
    emit: Callable[[str], None],
    stopping: Callable[[], bool],
) -> None:
    triggers = settings.trigger.mode == "software"
    due_ns = time.monotonic_ns()
    logged_s = time.monotonic()
    unanswered = 0
    while len(captured.files) < count and not stopping():
        if time.monotonic() - logged_s > PROGRESS_S:
            logged_s = time.monotonic()
            emit(_progress(captured, count, camera))
        try:
            if triggers and isinstance(camera, SupervisedCamera):
                frame = _triggered(camera, due_ns, settings.trigger.frame_timeout_ms, stopping)
                unanswered = 0 if frame is not None or not camera.status.working else unanswered + 1
                if unanswered > MAX_UNANSWERED:
                    raise CameraSilent(
                        f"{camera.identity}: {counted(unanswered, 'trigger')} in a row gave no "
                        "image within "
                        f"{settings.trigger.frame_timeout_ms:g} ms. Raise "
                        "camera.trigger.frame_timeout_ms, or look at `edge-run --doctor`."
                    )
            else:
                frame = camera.read(READ_LIMIT_S)
        except EndOfFrames:
            return
        if frame is None:
            continue
        if frame.status is not FrameStatus.COMPLETE:
            captured.left_out[frame.status.value] += 1
        elif camera.can_wait or frame.captured_ns >= due_ns:
            captured.files.append(_kept(frame, folder, len(captured.files) + 1))
            due_ns = frame.captured_ns + round(every_s * 1e9)


def _triggered(
    camera: SupervisedCamera,
    due_ns: int,
    frame_timeout_ms: float,
    stopping: Callable[[], bool],
) -> Frame | None:
    """Expose when it is due, and return the image; None when there was none."""
    while (left_s := (due_ns - time.monotonic_ns()) / 1e9) > 0 and not stopping():
        camera.read(min(READ_LIMIT_S, left_s))  # tells when the camera goes
    if not camera.status.working:
        return camera.read(READ_LIMIT_S)
    try:
        camera.trigger()
    except CameraError:
        return camera.read(READ_LIMIT_S)  # the supervisor says why, and opens it again
    until_ns = time.monotonic_ns() + round(frame_timeout_ms * 1e6)
    frame = None
    while frame is None and (left_s := (until_ns - time.monotonic_ns()) / 1e9) > 0:
        if stopping() or not camera.status.working:
            return None
        frame = camera.read(min(READ_LIMIT_S, left_s))
    return frame


def _kept(frame: Frame, folder: Path, number: int) -> dict[str, Any]:
    """Write an image, whole or not at all, and return what the record says of it."""
    encoded = _png(frame, folder)
    path = _unused(folder, f"{_stamp(frame.captured_utc_ns)}_{number:06d}", ".png")
    write_whole(path, encoded)
    telemetry = frame.telemetry
    return {
        "file": f"{GOOD}/{path.name}",
        "captured_utc": utc_text(frame.captured_utc_ns),
        "frame_number": frame.number,
        "epoch": frame.epoch,
        "source": frame.source,
        "device_ns": telemetry.device_ns,
        "exposure_us": telemetry.exposure_us,
        "gain_db": telemetry.gain_db,
    }


def _png(frame: Frame, folder: Path) -> bytes:
    done, encoded = cv2.imencode(".png", frame.pixels, COMPRESSION)
    if not done:
        raise OutputNotWritable(
            f"{folder}: a {frame.pixels.dtype} image of shape {frame.pixels.shape} cannot be "
            "encoded as PNG. Choose another camera.sensor.pixel_format."
        )
    return encoded.tobytes()


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputNotWritable(
            f"{folder}: cannot be made ({error.strerror}). Name a folder that this user may write."
        ) from error
    check_writable(folder / ".writable")
    return folder


def _unused(folder: Path, stem: str, suffix: str) -> Path:
    """Return a name that nobody has: images of another run are never written over."""
    path = folder / f"{stem}{suffix}"
    again = 1
    while os.path.lexists(path):
        again += 1
        path = folder / f"{stem}-{again}{suffix}"
    return path


def _stamp(utc_ns: int) -> str:
    """Return a time as a part of a file name: ``20260131T235959.123Z``."""
    moment = datetime.fromtimestamp(utc_ns // 1_000_000_000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{utc_ns // 1_000_000 % 1000:03d}Z"


def _progress(captured: Captured, count: int, camera: Camera | SupervisedCamera) -> str:
    line = f"{len(captured.files)} of {counted(count, 'image')}"
    left_out = sum(captured.left_out.values())
    if left_out:
        line += f", {left_out} left out"
    if isinstance(camera, SupervisedCamera):
        line += f", camera {camera.status.state.value}"
    return line


def _record(
    camera: Camera | SupervisedCamera,
    settings: CameraSettings,
    captured: Captured,
    begun_utc_ns: int,
) -> dict[str, Any]:
    status = camera.status if isinstance(camera, SupervisedCamera) else None
    report = (status.report if status else None) or CameraReport()
    chosen = settings.model_dump(mode="json")
    chosen["uri"] = redacted(settings.uri)
    return {
        "schema": SCHEMA,
        "begun_utc": utc_text(begun_utc_ns),
        "ended_utc": utc_text(time.time_ns()),
        "camera": {
            "identity": camera.identity,
            "simulated": camera.simulated,
            "model": report.model,
            "serial": report.serial,
            "temperature_c": report.temperature_c,
            "settings": dict(report.settings),
            "losses": status.losses if status else 0,
        },
        "settings": chosen,
        "left_out": dict(captured.left_out),
        "pictures": captured.files,
    }
