"""What FFmpeg may do for a network camera: speak to it alone, and over TLS to nobody else."""

import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ConfigurationInvalid
from edge.settings.addresses import Scheme

FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
TLS_SCHEMES = frozenset({Scheme.RTSPS, Scheme.HTTPS})
RTSP_SCHEMES = frozenset({Scheme.RTSP, Scheme.RTSPS})
# Where distributions keep the authorities of the web in one file, if Python knows of none.
SYSTEM_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

_PROTOCOLS = {
    Scheme.RTSP: "tcp",
    Scheme.RTSPS: "tls,tcp",
    Scheme.HTTP: "http,tcp",
    Scheme.HTTPS: "https,tls,tcp",
}
# Formats that hold their frames. Playlists (hls, dash, concat, sdp …) name other addresses.
_FORMATS = (
    "mpjpeg,mjpeg,mpegts,mpeg,mpegvideo,h264,hevc,m4v,mov,mp4,matroska,webm,flv,avi,asf,ogg,nut"
)
# Ours alone, by every name that FFmpeg knows them by.
_OURS = frozenset(
    {
        *("tls_verify", "verify", "ca_file", "cafile", "verifyhost", "max_redirects"),
        *("protocol_whitelist", "protocol_blacklist", "format_whitelist", "http_proxy"),
    }
)


def authorities(ca_file: str | None) -> str:
    """Return the file of certificates that a camera's is verified with.

    Args:
        ca_file: of the settings; None uses the system's.

    Raises:
        ConfigurationInvalid: there is none, or none can be read from it.
    """
    system = ssl.get_default_verify_paths().cafile or str(SYSTEM_AUTHORITIES)
    path = ca_file or system
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        raise ConfigurationInvalid(
            f"{path}: no certificates could be read ({error.strerror or error}). Name a PEM file "
            "with the authority of the camera's certificate, or that certificate where it has "
            "signed itself, in camera.ca_file."
        ) from error
    return path


def is_numeric(host: str) -> bool:
    """Tell whether FFmpeg takes a host for an address, and then verifies no name."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return False
    return True


def ffmpeg_options(scheme: Scheme, authorities_file: str | None, given: str | None) -> str:
    """Return the options to open a camera with.

    Args:
        scheme: of its address.
        authorities_file: to verify its certificate with; None without TLS.
        given: by the site, in the form of FFMPEG_OPTIONS; what is ours is left out of them.
    """
    options = [one for one in (given or "").split("|") if one and _key(one) not in _OURS]
    protocols, formats = _PROTOCOLS[scheme], _FORMATS
    if scheme in RTSP_SCHEMES:
        formats = "rtsp"
        if given is None:
            options.append("rtsp_transport;tcp")
        elif "rtsp_transport;tcp" not in options:
            protocols += ",udp,rtp"  # asked for by the site, which is warned
    options += [
        f"protocol_whitelist;{protocols}",
        f"format_whitelist;{formats}",
        "max_redirects;0",
        "http_proxy;none",
    ]
    if authorities_file is not None:
        escaped = re.sub(r"([\\';|\s])", r"\\\1", authorities_file)
        options += ["tls_verify;1", f"ca_file;{escaped}"]
    return "|".join(options)


def left_out(given: str | None) -> list[str]:
    """Return the names of options that a site gave and that are ours alone."""
    return [_key(one) for one in (given or "").split("|") if _key(one) in _OURS]


@contextmanager
def options_for_ffmpeg(options: str) -> Iterator[None]:
    """Have OpenCV read these options while it opens a stream: it takes them from nowhere else."""
    before = os.environ.get(FFMPEG_OPTIONS)
    os.environ[FFMPEG_OPTIONS] = options
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(FFMPEG_OPTIONS, None)
        else:
            os.environ[FFMPEG_OPTIONS] = before


def _key(option: str) -> str:
    return option.partition(";")[0].strip()
