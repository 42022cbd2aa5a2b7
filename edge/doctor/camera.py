"""What the doctor says about the camera that the settings name.

A camera that another program has is not touched, above all not that of a station that runs.
"""

import errno
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge.cameras.capture.network_stream import lossy_transport
from edge.cameras.capture.opencv import JPEG_CHECK_LIMIT, concealment
from edge.cameras.capture.v4l2 import streaming_errno
from edge.cameras.factory import (
    TRIGGERED_FILES,
    CameraKind,
    camera_kind,
    checked_kind,
    live_camera_opener,
    open_camera,
)
from edge.cameras.files.video_file import VideoFile
from edge.cameras.genicam import gvcp
from edge.cameras.genicam.discovery import Transport, list_cameras, parse_uri
from edge.cameras.interface import CameraReport, EndOfFrames
from edge.cameras.supervised.freshness import Freshness
from edge.doctor.camera_list import genicam_text
from edge.doctor.finding import Finding, advice, fault, good, not_seen
from edge.doctor.image_tests import LossTest, TriggerTest, loss_test, trigger_test, wait_for_edge
from edge.doctor.machine import (
    interface_findings,
    network_interface,
    receive_buffer_finding,
    shared_subnet_finding,
    usb_memory_finding,
)
from edge.doctor.programs import holders, named
from edge.errors import StationError
from edge.imaging.frame import Frame
from edge.settings.camera import CameraSettings, TriggerSettings
from edge.settings.unprotected_access import login_in_plain_sight
from edge.wording import counted

IMAGES = 200
# Enough for all of them at seven a second; a slower camera shows what it can.
LOSS_LIMIT_S = 30.0
TRIGGERS = 5
EDGE_LIMIT_S = 5.0
ANSWER_LIMIT_S = 0.5
# Below it an image needs so many packets that a small loss spoils most of them.
MIN_PACKET_BYTES = 8000
# Of the images; one that is lost is a part that has no verdict but ERROR.
MAX_LOST_SHARE = 0.01

Findings = Generator[Finding, None, Frame | None]


@dataclass(frozen=True, slots=True)
class Thoroughness:
    """How thorough the tests are; smaller ones make a shorter visit."""

    images: int = IMAGES
    loss_s: float = LOSS_LIMIT_S
    triggers: int = TRIGGERS
    edge_s: float = EDGE_LIMIT_S


def camera_findings(
    settings: CameraSettings, stations: list[int], limits: Thoroughness = Thoroughness()
) -> Findings:
    """Look at a camera; returns its last complete image, None where there is none.

    Args:
        stations: process ids of the stations that run on this PC.
    """
    try:
        kind = checked_kind(settings)
    except StationError as error:
        yield fault("camera", str(error), "")
        return None
    if kind is CameraKind.GENICAM:
        return (yield from _genicam(settings, stations, limits))
    if kind is CameraKind.DEVICE:
        return (yield from _device(settings, stations, limits))
    if kind is CameraKind.STREAM:
        if login_in_plain_sight(settings):
            yield advice(
                "camera's login",
                "its password is sent unencrypted; anyone on that network can read it",
                "use rtsps:// or https:// with camera.ca_file, or give it a separate network",
            )
        return (yield from _live(settings, limits))
    return (yield from _files(settings))


def _files(settings: CameraSettings) -> Findings:
    try:
        camera = open_camera(settings.uri, settings)
    except StationError as error:
        yield fault("camera", str(error), "")
        return None
    try:
        if not camera.simulated:
            yield good("camera", f"{camera.identity} exists, and is read when an image arrives")
            return None
        frame = camera.read(ANSWER_LIMIT_S)
        while frame is None:  # at the pace of the settings
            frame = camera.read(ANSWER_LIMIT_S)
    except EndOfFrames:
        yield fault("camera", f"{camera.identity} holds no image", "name another file")
        return None
    except StationError as error:
        yield fault("camera", str(error), "")
        return None
    finally:
        camera.close()
    if frame.detail:
        yield fault("camera", frame.detail, "")
        return None
    yield good("camera", f"{camera.identity}, images of {_size(frame)}")
    if isinstance(camera, VideoFile):
        yield from _hidden_damage(camera.codec)
    return frame


def _device(settings: CameraSettings, stations: list[int], limits: Thoroughness) -> Findings:
    device = f"/dev/video{settings.uri}" if settings.uri.isdecimal() else settings.uri
    if Path(device).exists():
        if not device.startswith("/dev/v4l/"):
            yield advice(
                "name of the camera",
                f"{device} may be another camera after the next start",
                "use its name in /dev/v4l/by-id; `edge-run --list-cameras` shows it",
            )
        if streaming_errno(device) == errno.EBUSY:
            processes = holders(device)
            yield from _in_use(named(processes), bool(set(processes) & set(stations)))
            return None
        yield good("access", f"no other program uses {device}")
    return (yield from _live(settings, limits))


def _genicam(settings: CameraSettings, stations: list[int], limits: Thoroughness) -> Findings:
    try:
        name = parse_uri(settings.uri)
        seen = list_cameras()
    except StationError as error:
        yield fault("camera", str(error), "")
        return None
    subject = "cameras that answer"
    if seen:
        yield good(subject, f"{len(seen)}: {', '.join(one.uri for one in seen)}")
    else:
        yield not_seen(subject, "none in the networks of this PC")
    address = name.address
    for one in seen:
        if one.uri.lower() == settings.uri.lower():
            yield good("camera found", genicam_text(one))
            address = one.address
    if name.transport is Transport.USB3:
        yield usb_memory_finding()
    if name.transport is Transport.GIGE and address:
        yield from _network(address)
        control = gvcp.control(address, ANSWER_LIMIT_S)
        if control is not None and control.controlled:
            interface = network_interface(address)
            here = control.by is None or (interface is not None and interface[1] == control.by)
            owner = control.by or "the camera does not report which"
            if here and stations:
                owner = named(stations)
            yield from _in_use(owner, here and bool(stations))
            return None
        if control is not None:
            yield good("access", "no program controls it")
    frame = yield from _live(settings, limits)
    yield from _triggers(settings, limits)
    return frame


def _network(address: str) -> Iterator[Finding]:
    yield from interface_findings(address)
    yield receive_buffer_finding()
    shared = shared_subnet_finding()
    if shared is not None:
        yield shared


def _in_use(owner: str, by_station: bool) -> Iterator[Finding]:
    if by_station:
        yield good("access", f"edge-run is using it: {owner}")
        yield not_seen(
            "loss and trigger test",
            "left out, so as not to disturb the station",
            "stop the station to run them; its metrics also count lost images",
        )
        return
    yield fault(
        "access",
        f"another program uses it: {owner or 'of another user'}",
        "close that program, or wait 10 s for its heartbeat to expire",
    )


def _live(settings: CameraSettings, limits: Thoroughness) -> Findings:
    """Open a camera as the station does, but running free, and count what it loses."""
    running_free = settings.model_copy(update={"trigger": TriggerSettings()})
    supervision = settings.supervision
    try:
        with closing(live_camera_opener(settings.uri, running_free)()) as camera:
            # Cameras know their counters only after they have given something.
            test = loss_test(
                camera,
                Freshness(supervision.max_age_ms, supervision.frozen_after),
                limits.images,
                limits.loss_s,
            )
            report = camera.report()
    except StationError as error:
        yield fault("camera", str(error), "")
        return None
    yield from _described(camera.identity, report)
    found, _, todo = lossy_transport(settings.uri).partition(". ")
    if found:
        yield advice("transport", found, todo)
    yield loss_finding(test, limits)
    yield from _counted(report)
    return test.newest


def _described(identity: str, report: CameraReport) -> Iterator[Finding]:
    words = [identity, report.model or "", f"serial {report.serial}" if report.serial else ""]
    if report.temperature_c is not None:
        words.append(f"{report.temperature_c:g} °C")
    yield good("camera", ", ".join(word for word in words if word))
    settings = dict(report.settings)
    settings.pop("camera.trigger.mode", None)  # it runs free for the test
    if "codec" in settings:
        yield from _hidden_damage(settings["codec"])
    size = settings.pop("camera.sensor.packet_size_bytes", None)
    if settings:
        values = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in settings.items())
        yield good("settings it accepted", values)
    if size is not None and int(size) < MIN_PACKET_BYTES:
        yield advice(
            "packet size",
            f"{size} bytes; each image takes {9000 // int(size)} times the packets it could",
            "let MTU of interface, switch and camera be 9000, or set camera.sensor."
            "packet_size_bytes",
        )
    elif size is not None:
        yield good("packet size", f"{size} bytes")


def _hidden_damage(codec: str) -> Iterator[Finding]:
    found, _, todo = concealment(codec).partition(". ")
    if found:
        yield advice("damaged images", found, todo)
    else:
        yield good("damaged images", JPEG_CHECK_LIMIT)


def _counted(report: CameraReport) -> Iterator[Finding]:
    counters = dict(report.counters)
    if counters.get("n_underruns"):
        yield advice(
            "receiving",
            f"{counted(counters['n_underruns'], 'image was', 'images were')} dropped for lack of "
            "buffers on this PC",
            "raise camera.sensor.buffers, and reduce the load on this PC",
        )
    if counters.get("n_resent_packets"):
        yield advice(
            "resent packets",
            f"{counters['n_resent_packets']}; the network loses some, and the camera repeats them",
            "check cable and switch, or set camera.sensor.packet_delay_ns",
        )


def loss_finding(test: LossTest, limits: Thoroughness) -> Finding:
    """Say what a loss test means."""
    subject = "loss test"
    gave = f"{counted(test.images, 'image')} in {test.seconds:.1f} s ({test.rate_fps:.1f} a second)"
    if test.lost:
        return fault(subject, f"after {counted(test.images, 'image')}: {test.lost}", "")
    if not test.images:
        return fault(
            subject,
            f"no image within {limits.loss_s:g} s",
            "check exposure time and frame rate, and that no firewall drops UDP from the camera",
        )
    spoilt = test.incomplete + test.missing
    if spoilt:
        found = f"{gave}: {test.incomplete} incomplete, {test.missing} missing ({test.fault})"
        todo = (
            "check cable, switch and MTU; set camera.sensor.packet_delay_ns, or a smaller "
            "image or rate"
        )
        bad = spoilt > MAX_LOST_SHARE * (test.images + test.missing)
        return (fault if bad else advice)(subject, found, todo)
    if test.not_new:
        found = f"{gave}: {test.not_new} not new ({test.fault})"
        todo = (
            "check that the camera shows a live image; a scene without any noise needs "
            "camera.supervision.frozen_after: 0"
        )
        return (advice if test.complete > test.not_new else fault)(subject, found, todo)
    return good(subject, f"{gave}, none lost")


def _triggers(settings: CameraSettings, limits: Thoroughness) -> Iterator[Finding]:
    trigger = settings.trigger
    if trigger.mode == "free_run" or camera_kind(settings.uri) in TRIGGERED_FILES:
        return
    try:
        with closing(live_camera_opener(settings.uri, settings)()) as camera:
            if trigger.mode == "software":
                yield trigger_finding(
                    trigger_test(camera, limits.triggers, trigger.frame_timeout_ms),
                    trigger.frame_timeout_ms,
                )
            elif wait_for_edge(camera, limits.edge_s):
                yield good("trigger test", f"an edge on {trigger.source} exposed an image")
            else:
                yield not_seen(
                    "trigger test",
                    f"no edge on {trigger.source} within {limits.edge_s:g} s",
                    "let a part pass during the test; check wiring and camera.trigger",
                )
    except StationError as error:
        yield fault("trigger test", str(error), "")


def trigger_finding(test: TriggerTest, frame_timeout_ms: float) -> Finding:
    """Say what a trigger test means."""
    subject = "trigger test"
    if test.refused:
        return fault(subject, test.refused, "")
    if test.untriggered:
        return fault(
            subject,
            f"{counted(test.untriggered, 'image')} came without a trigger",
            "check that camera.trigger.selector is what this camera waits for",
        )
    answered = len(test.answered_ms)
    if answered < test.fired:
        return fault(
            subject,
            f"{test.fired - answered} of {counted(test.fired, 'trigger')} gave no image within "
            f"{frame_timeout_ms:g} ms",
            "raise camera.trigger.frame_timeout_ms, or shorten the exposure",
        )
    fastest, slowest = min(test.answered_ms), max(test.answered_ms)
    return good(subject, f"{answered} of {answered} answered in {fastest:.0f} to {slowest:.0f} ms")


def _size(frame: Frame) -> str:
    height, width = frame.pixels.shape[:2]
    return f"{width} x {height} pixels"
