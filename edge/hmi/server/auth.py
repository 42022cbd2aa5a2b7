"""Who may read and who may act: hosts, origins and tokens; how often and how much is in ``limits``.

The page knows no cookies, so a foreign site cannot make a browser act for its user. Where a reverse
proxy says who the user is, that alone would be what a cookie is; therefore every action needs a
header of its own as well, which no foreign site can send without asking first, and an ``Origin``
that is ours. A header that decides counts only where it stands once: of two, one is the client's.
"""

import asyncio
import hmac
import ipaddress
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

from starlette.requests import Request

from edge.hmi.actions import Actor
from edge.hmi.server.limits import (
    ACTIONS_PER_MINUTE,
    LOG_LINES_OF_ALL_PER_MINUTE,
    LOG_LINES_PER_MINUTE,
    MAX_BODY_BYTES,
    READS_AT_ONCE,
    READS_BURST,
    READS_OF_ONE,
    READS_PER_MINUTE,
    SEARCHES_PER_MINUTE,
    Rate,
    WrongTokens,
    network,
)

MARK = "x-edge-request"
# The name of who has the token, percent-encoded.
NAME = "x-edge-name"
_USUAL_PORTS = {"http": 80, "https": 443}


class RequestRefused(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        why: for people; cause and next step.
        kind, data: as ``StationError`` has them.
    """

    def __init__(
        self, status: int, why: str, kind: str = "", data: Mapping[str, str | int] | None = None
    ) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.kind = kind
        self.data = dict(data or {})


class TokenWrong(RequestRefused):
    """The token is wrong."""

    def __init__(self) -> None:
        super().__init__(401, "the token is wrong.")


class Guard:
    """Decides over requests; of one thread."""

    def __init__(
        self,
        *,
        token: str | None,
        user_header: str | None = None,
        trusted_proxies: Collection[str] = (),
        allowed_hosts: Collection[str] = (),
        clock_s: Callable[[], float] = time.monotonic,
        public_urls: Collection[str] = (),
    ) -> None:
        self._token = token.encode() if token else None
        self._user_header = user_header
        self._proxies = frozenset(trusted_proxies)
        self._origins = {_origin(url) for url in public_urls}
        public = {urlsplit(url).hostname or "" for url in public_urls}
        named = {*map(str.lower, allowed_hosts), *public}
        self._hosts = {"localhost", socket.gethostname().lower(), *named}
        self._actions = Rate(ACTIONS_PER_MINUTE, clock_s)
        self.wrong_tokens = WrongTokens(clock_s)
        self._searches = Rate(SEARCHES_PER_MINUTE, clock_s)
        self._reads = Rate(READS_PER_MINUTE, clock_s, READS_BURST)
        self._reading = asyncio.Semaphore(READS_AT_ONCE)
        self._readers: Counter[str] = Counter()
        self._log_rate = Rate(LOG_LINES_PER_MINUTE, clock_s)
        self._log_rate_of_all = Rate(LOG_LINES_OF_ALL_PER_MINUTE, clock_s)
        self._not_logged = 0

    @property
    def may_act(self) -> bool:
        """Somebody may act at all; else the page is read-only."""
        return self.has_token or self._user_header is not None

    @property
    def has_token(self) -> bool:
        """Whoever has the token may act."""
        return self._token is not None

    def set_token(self, token: str | None) -> None:
        """Ask for another token from now on; who has the one before is locked out."""
        self._token = token.encode() if token else None

    def check_host(self, request: Request) -> None:
        """Refuse names that are not ours: a foreign site may point its own name at this PC.

        Raises:
            RequestRefused: with 421.
        """
        if not self._is_ours(_only(request, "host") or ""):
            raise RequestRefused(
                421, "Unknown host name. Use the address, or add it to hmi.allowed_hosts."
            )

    def _is_ours(self, authority: str) -> bool:
        host = _host(authority)
        return host is not None and (host in self._hosts or _is_address(host))

    def address(self, request: Request) -> str:
        """Return who asks: the sender, or whom a trusted proxy names as the one before it."""
        sender = _address(request)
        if sender not in self._proxies:
            return sender
        passed = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
        clients = [one.strip() for one in passed if one.strip() not in self._proxies]
        return clients[-1] if clients and _is_address(clients[-1]) else sender

    def _client(self, request: Request) -> str | None:
        """Return who asks; None for a trusted proxy that does not say for whom."""
        address = self.address(request)
        return None if address in self._proxies else address

    def check_reader(self, request: Request) -> None:
        """Refuse an address that asks too much.

        Raises:
            RequestRefused: with 429.
        """
        client = self._client(request)
        if client is not None and not self._reads.allow(client):
            raise RequestRefused(429, "too many requests from your address. Wait a minute.")

    @asynccontextmanager
    async def reading(self, request: Request) -> AsyncIterator[None]:
        """Wait for a turn to read journal or disk.

        Raises:
            RequestRefused: 429 for an address that waits for several already.
        """
        client = self._client(request)
        if client is not None and self._readers[network(client)] >= READS_OF_ONE:
            raise RequestRefused(
                429, "too many requests from your address at a time. Wait for their answers."
            )
        who = network(client or "")
        self._readers[who] += 1
        try:
            async with self._reading:
                yield
        finally:
            self._readers[who] -= 1
            if not self._readers[who]:
                del self._readers[who]

    def check_rate(self, request: Request) -> None:
        """Refuse an address that searches too much.

        Raises:
            RequestRefused: with 429.
        """
        client = self._client(request)
        if client is not None and not self._searches.allow(client):
            raise RequestRefused(429, "too many searches. Wait a minute.")

    def noting(self, address: str) -> int | None:
        """Return how many refusals were not recorded before this one; None where it is not either.

        Of many from one address only some are recorded, and of many addresses, too.
        """
        if not (self._log_rate.allow(address) and self._log_rate_of_all.allow("")):
            self._not_logged += 1
            return None
        before, self._not_logged = self._not_logged, 0
        return before

    def actor(self, request: Request) -> Actor:
        """Return who acts.

        Raises:
            RequestRefused: 400 for a doubled header, 401 without or with a wrong token, 403 for a
                foreign site or a page that is read-only, 415 for anything but JSON, 429 for too
                many.
        """
        address = self.address(request)
        self._check_origin(request)
        if not self.may_act:
            raise RequestRefused(
                403, "this page is read-only. Set hmi.token_file, and start the station again."
            )
        user = self.user(request)
        if user is None:
            self._check_token(request)
            name = _token_holder(request)
            counted = f"{address} {name}"
        else:
            name, counted = user, f"user {user}"
        if not self._actions.allow(counted):
            raise RequestRefused(429, "too many actions from you. Wait a minute.")
        return Actor(name, address)

    def _check_origin(self, request: Request) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestRefused(415, "actions must be application/json.")
        if request.headers.get(MARK) is None:
            raise RequestRefused(
                403, f"the header {MARK} is missing: the request was not sent by this page."
            )
        origin = _only(request, "origin")
        if origin is None:
            return  # no browser; a browser names its origin with every POST
        host = (_only(request, "host") or "").lower()
        read = _origin(origin)
        if origin.rpartition("://")[2].lower() == host or read in self._origins:
            return
        if not read or read not in self._forwarded(request, host, origin):
            raise RequestRefused(
                403,
                f"the request comes from a foreign site ({origin[:100]}, while this page is "
                f"at {host[:100]}). If it is your reverse proxy's address, add it to "
                "hmi.public_urls.",
            )

    def _forwarded(self, request: Request, host: str, origin: str) -> Collection[str]:
        """Return the origin that a trusted proxy is called by, if it says so; none of others."""
        if _address(request) not in self._proxies:
            return ()
        names = (f"x-forwarded-{name}" for name in ("host", "proto", "port"))
        authority, scheme, port = (_only(request, name) for name in names)
        if authority is None and scheme is None and port is None:
            return ()
        authority = authority or host
        if not self._is_ours(authority):
            return ()
        if port is not None and urlsplit(f"//{authority}").port is None:
            authority = f"{authority}:{port}"
        return (_origin(f"{scheme or urlsplit(origin).scheme}://{authority}"),)

    def user(self, request: Request) -> str | None:
        """Return whom a trusted proxy names; None for everybody else."""
        if self._user_header is None or _address(request) not in self._proxies:
            return None
        raw = (_only(request, self._user_header) or "").encode("latin-1", "replace")
        return raw.decode("utf-8", "replace").strip()[:100] or None  # names need not be ASCII

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            raise RequestRefused(401, "the reverse proxy names no user. Log in there.")
        kind, _, given = (_only(request, "authorization") or "").partition(" ")
        if kind.lower() != "bearer" or not given:
            raise RequestRefused(401, "this needs the station's token. Unlock the page first.")
        if not hmac.compare_digest(given.strip().encode(), self._token):
            raise TokenWrong


async def bounded_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        RequestRefused: with 413 when it is larger than any action is.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RequestRefused(413, f"at most {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _token_holder(request: Request) -> str:
    """Return who has the token; a name they give is not proven, so the token stays beside it."""
    given = unquote(_only(request, NAME) or "")
    name = "".join(letter for letter in given if letter.isprintable()).strip()[:60]
    return f"{name} (token)" if name else "token"


def _only(request: Request, name: str) -> str | None:
    """Return the value of a header.

    Raises:
        RequestRefused: 400 when it is there more than once; a proxy adds its own to what a client
            sent.
    """
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise RequestRefused(
            400,
            f"the header {name} occurs more than once. Configure the reverse proxy to replace it.",
        )
    return values[0] if values else None


def _host(header: str) -> str | None:
    """Return the name in a ``Host`` header without its port; None where there is none."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port
        return parts.hostname if not parts.path else None
    except ValueError:
        return None


def _origin(url: str) -> str:
    """Return scheme, host and port of a URL as browsers write an origin; empty for what is none."""
    try:
        parts = urlsplit(url)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:
        return ""
    if not scheme or not parts.hostname:  # ``null`` of a page without an origin
        return ""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    usual = port is None or port == _USUAL_PORTS.get(scheme)
    return f"{scheme}://{host}" if usual else f"{scheme}://{host}:{port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
