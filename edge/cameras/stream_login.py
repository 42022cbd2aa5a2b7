"""Why a stream does not open, where it is the login: FFmpeg does not say."""

import hashlib
import re
import socket
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.errors import ConfigurationError
from edge.redaction import redacted

LONGEST_ANSWER_BYTES = 65_536
DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class CameraLoginRefused(ConfigurationError):
    """The camera asks for a user and a password, and does not accept those of its address."""


def raise_if_refused(uri: str, scheme: str, host: str, port: int, limit_s: float) -> None:
    """Ask the camera as FFmpeg did, and raise if it denies the login.

    Raises:
        CameraLoginRefused: it answers 401 or 403 to these credentials.
    """
    try:
        if scheme in ("http", "https"):
            status = _http_status(uri, limit_s)
        elif scheme == "rtsp":
            status = _rtsp_status(uri, host, port, limit_s)
        else:
            return
    except (OSError, ValueError, HTTPException):
        return  # whatever it is, it is not the login
    if status in DENIED:
        given = (
            "does not accept user and password" if urlsplit(uri).username else "asks for a login"
        )
        raise CameraLoginRefused(
            f"{redacted(uri)}: the camera {given} ({status}). Write them into camera.uri as "
            f"{scheme}://USER:PASSWORD@{host}/…, special characters as %40 for @."
        )


def _http_status(uri: str, limit_s: float) -> int:
    user, password, bare = _credentials(uri)
    logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    logins.add_password(None, bare, user, password)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPBasicAuthHandler(logins),
        urllib.request.HTTPDigestAuthHandler(logins),
    )
    try:
        with opener.open(bare, timeout=limit_s) as answer:
            return int(answer.status)
    except HTTPError as error:
        with closing(error):
            return error.code


def _rtsp_status(uri: str, host: str, port: int, limit_s: float) -> int:
    user, password, bare = _credentials(uri)
    with socket.create_connection((host, port), limit_s) as connection:
        connection.settimeout(limit_s)
        answer = _described(connection, bare, 1)
        if _status(answer) == HTTPStatus.UNAUTHORIZED and user:
            login = _login(answer, user, password, bare)
            if login is None:
                return 0  # it may well accept them, in a way that is not spoken here
            answer = _described(connection, bare, 2, f"Authorization: {login}\r\n")
    return _status(answer)


def _described(connection: socket.socket, uri: str, number: int, login: str = "") -> str:
    request = f"DESCRIBE {uri} RTSP/1.0\r\nCSeq: {number}\r\nAccept: application/sdp\r\n{login}\r\n"
    connection.sendall(request.encode())
    answer = b""
    while b"\r\n\r\n" not in answer and len(answer) < LONGEST_ANSWER_BYTES:
        more = connection.recv(4096)
        if not more:
            break
        answer += more
    return answer.decode("latin-1")


def _status(answer: str) -> int:
    found = re.match(r"(?i)RTSP/\d\.\d (\d{3})", answer)
    return int(found[1]) if found else 0


def _login(answer: str, user: str, password: str, uri: str) -> str | None:
    """Answer the first challenge that can be answered, None where none can.

    RFC 7617, and RFC 2617 or 2069, the digests that RTSP cameras speak; newer ones offer SHA-256
    before them.
    """
    for scheme, challenge in re.findall(r"(?im)^WWW-Authenticate: *(Basic|Digest)\b(.*)$", answer):
        if scheme.lower() == "basic":
            return "Basic " + b64encode(f"{user}:{password}".encode()).decode()
        values = {
            name.lower(): quoted or bare
            for name, quoted, bare in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', challenge)
        }
        qops = {one.strip().lower() for one in values.get("qop", "").split(",")}
        if values.get("algorithm", "MD5").upper() == "MD5" and qops & {"", "auth"}:
            return _digest(values, "auth" in qops, user, password, uri)
    return None


def _digest(values: Mapping[str, str], counted: bool, user: str, password: str, uri: str) -> str:
    realm, nonce = values.get("realm", ""), values.get("nonce", "")
    secret, request = _md5(f"{user}:{realm}:{password}"), _md5(f"DESCRIBE:{uri}")
    # This asks once, so the nonce's count is 1, and its own nonce protects nothing.
    between = f"{nonce}:00000001:0:auth" if counted else nonce
    login = f'Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}"'
    if counted:
        login += ', qop=auth, nc=00000001, cnonce="0"'
    return f'{login}, response="{_md5(f"{secret}:{between}:{request}")}"'


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _credentials(uri: str) -> tuple[str, str, str]:
    """Split an address into user, password and the address without them."""
    parts = urlsplit(uri)
    place = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, place, parts.path, parts.query, ""))
    return unquote(parts.username or ""), unquote(parts.password or ""), bare
