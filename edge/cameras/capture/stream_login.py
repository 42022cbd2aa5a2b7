"""Whether a camera denies the login or leads elsewhere: FFmpeg does not say, or goes there."""

import hashlib
import re
import socket
import ssl
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.errors import CameraNotOpened, ConfigurationError
from edge.redaction import redacted

MAX_ANSWER_BYTES = 65_536
MAX_SHOWN_LENGTH = 200
DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class CameraLoginRefused(ConfigurationError):
    """The camera asks for a user and a password, and does not accept those of its address."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a camera says: 0 is no status that is known here."""

    status: int
    location: str = ""


def raise_if_refused(
    uri: str, host: str, port: int, *, limit_s: float, context: ssl.SSLContext | None
) -> None:
    """Ask the camera as FFmpeg does, and raise if it denies the login or leads elsewhere.

    Args:
        context: verifies the camera; None without TLS.

    Raises:
        CameraLoginRefused: it answers 401 or 403 to these credentials.
        CameraNotOpened: it redirects, or over RTSP does not answer at all.
    """
    scheme = urlsplit(uri).scheme
    by_http = scheme in ("http", "https")
    try:
        if by_http:
            answer = _http_answer(uri, limit_s, context)
        else:
            answer = _rtsp_answer(uri, host, port, limit_s=limit_s, context=context)
    except (OSError, ValueError, HTTPException) as error:
        if by_http:
            return  # whatever it is, it is not the login
        raise CameraNotOpened(
            f"{redacted(uri)}: does not answer as an RTSP camera ({error or 'no answer'}). Check "
            "the port, and that the camera has finished starting."
        ) from None
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        where = redacted(answer.location)[:MAX_SHOWN_LENGTH]
        raise CameraNotOpened(
            f"{redacted(uri)}: the camera redirects to another address ({answer.status}, "
            f"{where!a}), which is not followed. If that address is right, set it as "
            "camera.uri."
        )
    if answer.status in DENIED:
        given = (
            "does not accept user and password" if urlsplit(uri).username else "asks for a login"
        )
        raise CameraLoginRefused(
            f"{redacted(uri)}: the camera {given} ({answer.status}). Write them into camera.uri as "
            f"{scheme}://USER:PASSWORD@{host}/…, special characters as %40 for @."
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Leave a redirect as the answer that it is."""


class _Connections(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Makes the connections, and ends them all: one that drips never times out by itself."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._verifying = context
        self._made: list[HTTPConnection] = []

    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._plain, req)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._encrypted, req)

    def end(self) -> None:
        # None: not connected yet, or let go of with its answer, as before a login is tried.
        for sock in [one.sock for one in self._made if one.sock is not None]:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _plain(self, host: str, /, **options: Any) -> HTTPConnection:
        return self._kept(HTTPConnection(host, **options))

    def _encrypted(self, host: str, /, **options: Any) -> HTTPConnection:
        return self._kept(HTTPSConnection(host, **options, context=self._verifying))

    def _kept(self, connection: HTTPConnection) -> HTTPConnection:
        self._made.append(connection)
        return connection


def _http_answer(uri: str, limit_s: float, context: ssl.SSLContext | None) -> _Answer:
    user, password, bare = _credentials(uri)
    logins = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    logins.add_password(None, bare, user, password)
    connections = _Connections(context)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        connections,
        _NoRedirects(),
        urllib.request.HTTPBasicAuthHandler(logins),
        urllib.request.HTTPDigestAuthHandler(logins),
    )
    ending = threading.Timer(limit_s, connections.end)
    ending.daemon = True
    ending.start()
    try:
        with opener.open(bare, timeout=limit_s) as answer:
            return _Answer(int(answer.status))
    except HTTPError as error:
        with closing(error):
            return _Answer(error.code, error.headers.get("Location") or "")
    except IndexError:  # urllib's, over a challenge without a scheme or with an empty value
        return _Answer(0)
    finally:
        ending.cancel()


def _rtsp_answer(
    uri: str, host: str, port: int, *, limit_s: float, context: ssl.SSLContext | None
) -> _Answer:
    user, password, bare = _credentials(uri)
    deadline_s = time.monotonic() + limit_s
    with socket.create_connection((host, port), limit_s) as plain:
        connection = context.wrap_socket(plain, server_hostname=host) if context else plain
        with connection:
            answer = _asked(connection, f"OPTIONS {bare} RTSP/1.0\r\nCSeq: 1\r\n", deadline_s)
            if HTTPStatus.MULTIPLE_CHOICES <= _status(answer) < HTTPStatus.BAD_REQUEST:
                return _Answer(_status(answer), _location(answer))
            describe = f"DESCRIBE {bare} RTSP/1.0\r\nAccept: application/sdp\r\nCSeq: "
            answer = _asked(connection, f"{describe}2\r\n", deadline_s)
            if _status(answer) == HTTPStatus.UNAUTHORIZED and user:
                login = _login(answer, user, password, bare)
                if login is None:
                    return _Answer(0)  # it may well accept them, in a way not spoken here
                request = f"{describe}3\r\nAuthorization: {login}\r\n"
                answer = _asked(connection, request, deadline_s)
    return _Answer(_status(answer), _location(answer))


def _asked(connection: socket.socket, request: str, deadline_s: float) -> str:
    """Return the head of the answer; its body is read, too, so that the next one follows."""
    connection.settimeout(max(0.01, deadline_s - time.monotonic()))
    connection.sendall(f"{request}\r\n".encode())
    answer, whole = b"", 0
    while not whole or len(answer) < whole:
        connection.settimeout(max(0.01, deadline_s - time.monotonic()))
        more = connection.recv(4096)
        answer += more
        if not more or len(answer) > MAX_ANSWER_BYTES:
            break
        if time.monotonic() > deadline_s:
            raise TimeoutError("no whole answer")
        head, blank, _ = answer.partition(b"\r\n\r\n")
        if blank:
            length = re.search(rb"(?im)^Content-Length: *(\d{1,6})\b", head)
            whole = len(head) + len(blank) + (int(length[1]) if length else 0)
    return answer.partition(b"\r\n\r\n")[0].decode("latin-1")


def _status(answer: str) -> int:
    found = re.match(r"(?i)RTSP/\d\.\d (\d{3})", answer)
    return int(found[1]) if found else 0


def _location(answer: str) -> str:
    found = re.search(r"(?im)^Location: *(.*)$", answer)
    return found[1].strip() if found else ""


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
            return _digest(values, "auth" in qops, user=user, password=password, uri=uri)
    return None


def _digest(values: Mapping[str, str], counted: bool, *, user: str, password: str, uri: str) -> str:
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
