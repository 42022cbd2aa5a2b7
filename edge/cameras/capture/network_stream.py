"""Network cameras: ``rtsp://`` and ``http://`` streams through OpenCV's FFmpeg."""

import os
import socket
import ssl
import time
from urllib.parse import SplitResult, urlsplit

import cv2

from edge.cameras.capture.opencv import (
    JPEG_CHECK_LIMIT,
    OpenCVCamera,
    ask_for_jpegs,
    concealment,
    inform_once,
    read_codec,
    warn_once,
)
from edge.cameras.capture.stream_login import raise_if_refused
from edge.cameras.capture.stream_options import (
    FFMPEG_OPTIONS,
    RTSP_SCHEMES,
    TLS_SCHEMES,
    authorities,
    ffmpeg_options,
    is_numeric,
    left_out,
    options_for_ffmpeg,
)
from edge.cameras.interface import CameraReport
from edge.errors import CameraNotOpened, CameraSettingRefused, CameraUriInvalid
from edge.redaction import redacted
from edge.settings.addresses import Scheme, with_plain_scheme
from edge.settings.camera import SensorSettings, SupervisionSettings

PORTS = {Scheme.RTSP: 554, Scheme.RTSPS: 322, Scheme.HTTP: 80, Scheme.HTTPS: 443}
# Repeated by the supervisor; a camera that comes back is not waited for by an old attempt.
CONNECT_LIMIT_S = 1.0
# To learn what a stream is FFmpeg may gather frames for seconds, and gives them all at once then.
QUICK_OPENING_S = 0.2
MAX_GATHERED = 500
# FFmpeg's own limits end before the supervisor's, so that its thread is not abandoned.
SHARE_OF_LIMIT = 0.9


def open_stream(
    uri: str,
    sensor: SensorSettings,
    supervision: SupervisionSettings,
    ca_file: str | None = None,
) -> OpenCVCamera:
    """Open a stream; credentials appear in no message, nor in what FFmpeg and OpenCV print.

    Args:
        ca_file: certificates that sign the camera's; None uses the system's.

    Raises:
        CameraUriInvalid, CameraSettingRefused, ConfigurationInvalid: see ``check_stream``.
        CameraLoginRefused: the camera does not accept user and password.
        CameraNotOpened: refused, not reachable, not the camera by its certificate, or no stream.
    """
    uri = with_plain_scheme(uri)  # FFmpeg knows no other
    identity = redacted(uri)
    address = check_stream(uri, sensor, ca_file)
    scheme = Scheme(address.scheme)
    trusted, context = None, None
    if scheme in TLS_SCHEMES:
        trusted = authorities(ca_file)
        context = ssl.create_default_context(cafile=trusted)
    began_s = time.monotonic()
    _connect(address, identity, context)
    end_s = began_s + SHARE_OF_LIMIT * supervision.opening_limit_s
    if scheme in RTSP_SCHEMES:
        # FFmpeg follows a redirect of RTSP wherever it leads, and cannot be told otherwise.
        raise_if_refused(
            uri, _host(address), _port(address), limit_s=_half_until(end_s), context=context
        )
    given = os.environ.get(FFMPEG_OPTIONS)
    if ours := left_out(given):
        warn_once(
            identity, f"{FFMPEG_OPTIONS}: {', '.join(ours)} is ignored; the station sets it itself"
        )
    # FFmpeg and OpenCV print the address with its password when it does not open.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    began_s = time.monotonic()
    with options_for_ffmpeg(ffmpeg_options(scheme, trusted, given)):
        capture = cv2.VideoCapture(
            uri,
            cv2.CAP_FFMPEG,
            [
                *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, max(1, int((end_s - began_s) * 1000))),
                *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, max(1, int(supervision.lost_after_s * 1000))),
            ],
        )
    if not capture.isOpened():
        capture.release()
        if scheme not in RTSP_SCHEMES:
            raise_if_refused(
                uri, _host(address), _port(address), limit_s=CONNECT_LIMIT_S, context=context
            )
        raise CameraNotOpened(
            f"{identity}: answers, but sends no stream that OpenCV {cv2.__version__} can "
            "decode. Check the path of the address (playlists such as HLS or DASH are "
            "not followed), and that the camera does not already serve as many clients "
            "as it can."
        )
    gives_jpegs = ask_for_jpegs(capture)
    if gives_jpegs:
        inform_once(identity, JPEG_CHECK_LIMIT)
    else:
        warn_once(identity, concealment(read_codec(capture)))
    if transport := lossy_transport(uri):
        warn_once(identity, transport)
    if time.monotonic() - began_s > QUICK_OPENING_S:
        _skip_gathered(capture)
    return OpenCVCamera(
        identity=identity,
        capture=capture,
        report=CameraReport(settings=_found(capture)),
        # RTP stamps each exposure; of other streams FFmpeg counts frames and calls it time.
        has_clock=scheme in RTSP_SCHEMES,
        check=lambda: None,  # only frames tell whether a stream lives
        gives_jpegs=gives_jpegs,
    )


def check_stream(uri: str, sensor: SensorSettings, ca_file: str | None = None) -> SplitResult:
    """Take an address apart, and refuse what a stream has not.

    Raises:
        CameraUriInvalid: no host, a port that is none, or over TLS a host without a name.
        CameraSettingRefused: settings were given; a stream takes none.
        ConfigurationInvalid: over TLS, there are no certificates to verify the camera's with.
    """
    identity = redacted(uri)
    try:
        address = urlsplit(uri)
        valid = bool(address.hostname) and address.port != 0
        # As the name is looked up: without empty labels, and none that is too long.
        (address.hostname or "").encode("idna")
    except ValueError:
        valid = False
    if not valid:
        raise CameraUriInvalid(
            f"{identity}: is not SCHEME://HOST[:PORT]/PATH. Write special characters of user and "
            "password as %40 for @, %2F for /, %3A for :."
        )
    if address.scheme.lower() in TLS_SCHEMES:
        if is_numeric(_host(address)):
            raise CameraUriInvalid(
                f"{identity}: OpenCV's FFmpeg does not compare an IP address with a "
                "certificate, so any certificate of the same authority would be accepted. "
                "Use the name in the camera's certificate; without DNS, add it to /etc/hosts."
            )
        authorities(ca_file)
    asked = sensor.model_dump(exclude_defaults=True)
    if asked:
        raise CameraSettingRefused(
            f"{identity}: camera.sensor.{next(iter(asked))} cannot be set on a network stream. "
            "Set it on the camera's own page and remove it here."
        )
    return address


def lossy_transport(uri: str) -> str:
    """Return why packets of a stream may get lost, with what to do; empty over TCP.

    RTSP is asked for over TCP, unless options are given: they take the place of that.
    """
    options = os.environ.get(FFMPEG_OPTIONS)
    if options is None or urlsplit(uri).scheme.lower() not in RTSP_SCHEMES:
        return ""
    given = {key: value for key, _, value in (one.partition(";") for one in options.split("|"))}
    if given.get("rtsp_transport") == "tcp" or "prefer_tcp" in given.get("rtsp_flags", ""):
        return ""
    return (
        f"{FFMPEG_OPTIONS}={options} uses RTSP over UDP, which can lose packets: such "
        "parts are ERROR, or may be judged OK where the codec hides the loss. Add "
        "rtsp_transport;tcp to it, or remove it"
    )


def _host(address: SplitResult) -> str:
    return address.hostname or ""


def _port(address: SplitResult) -> int:
    return address.port or PORTS[Scheme(address.scheme)]


def _half_until(end_s: float) -> float:
    return max(0.1, (end_s - time.monotonic()) / 2)


def _connect(address: SplitResult, identity: str, context: ssl.SSLContext | None) -> None:
    """Knock before FFmpeg does: it cannot say why nobody opens, or whose certificate it is."""
    place = f"{_host(address)}:{_port(address)}"
    try:
        with socket.create_connection((_host(address), _port(address)), CONNECT_LIMIT_S) as one:
            if context is not None:
                context.wrap_socket(one, server_hostname=_host(address)).close()
    except ssl.SSLCertVerificationError as error:
        raise CameraNotOpened(
            f"{identity}: the device that answers at {place} has no valid certificate of "
            f"this camera ({error.verify_message.rstrip('.')}). Nothing was sent to it. "
            "Check camera.ca_file, the name in camera.uri and the camera's own "
            "certificate."
        ) from None
    except ssl.SSLError as error:
        raise CameraNotOpened(
            f"{identity}: no TLS with {place} ({error.reason or error}). Check the port, and that "
            "the camera speaks TLS 1.2 or later."
        ) from None
    except socket.gaierror:
        raise CameraNotOpened(
            f"{identity}: the name {_host(address)!r} cannot be resolved. Check the "
            "address, or use the camera's IP address."
        ) from None
    except TimeoutError:
        raise CameraNotOpened(
            f"{identity}: no answer from {place}. Check that the camera is switched on and "
            "reachable from this machine."
        ) from None
    except OSError as error:
        raise CameraNotOpened(
            f"{identity}: {place}: {error.strerror}. Check the port, and that the camera has "
            "finished starting."
        ) from None


def _skip_gathered(capture: cv2.VideoCapture) -> None:
    """Skip the frames that are older than the opening: those that need not be waited for."""
    rate_fps = min(max(capture.get(cv2.CAP_PROP_FPS), 10.0), 100.0)
    for _ in range(MAX_GATHERED):
        began_s = time.monotonic()
        if not capture.grab() or time.monotonic() - began_s > 0.25 / rate_fps:
            return


def _found(capture: cv2.VideoCapture) -> tuple[tuple[str, str], ...]:
    width, height = (
        int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    )
    return (
        ("codec", read_codec(capture)),
        ("size", f"{width} x {height}"),
        ("frame_rate_fps", f"{capture.get(cv2.CAP_PROP_FPS):g}"),
    )
