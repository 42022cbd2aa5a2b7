"""Who may read and who may act: hosts, origins, tokens, rates and sizes.

The page knows no cookies, so a foreign site cannot make a browser act for its user. Where a reverse
proxy says who the user is, that alone would be what a cookie is; therefore every action needs a
header of its own as well, which no foreign site can send without asking first, and an ``Origin``
that is ours.
"""

import hmac
import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.requests import Request

MARK = "x-edge-request"
LARGEST_BODY_BYTES = 16 * 1024
ACTIONS_PER_MINUTE = 60
WRONG_TOKENS_PER_MINUTE = 10
SEARCHES_PER_MINUTE = 600
NOTES_PER_MINUTE = 2
MOST_ADDRESSES = 512


class Refused(Exception):
    """A request that is not answered.

    Attributes:
        status: HTTP status.
        why: for people; cause and next step.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


class Rate:
    """So many requests a minute for each address; the oldest addresses are forgotten."""

    def __init__(self, per_minute: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._most = float(per_minute)
        self._clock_s = clock_s
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Use one up; tell whether there was one left."""
        left, now_s = self._filled(address)
        enough = left >= 1.0
        self._left[address] = (left - 1.0 if enough else left), now_s
        self._left.move_to_end(address)
        while len(self._left) > MOST_ADDRESSES:
            self._left.popitem(last=False)
        return enough

    def exhausted(self, address: str) -> bool:
        """Tell whether none is left, without using one up."""
        return self._filled(address)[0] < 1.0

    def _filled(self, address: str) -> tuple[float, float]:
        now_s = self._clock_s()
        left, at_s = self._left.get(address, (self._most, now_s))
        return min(self._most, left + (now_s - at_s) * self._most / 60.0), now_s


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts."""

    name: str
    address: str


class Guard:
    """Decides over requests; of one thread."""

    def __init__(
        self,
        token: str | None,
        user_header: str | None,
        trusted_proxies: Collection[str],
        allowed_hosts: Collection[str],
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token.encode() if token else None
        self._user_header = user_header
        self._proxies = frozenset(trusted_proxies)
        self._hosts = {"localhost", socket.gethostname().lower(), *map(str.lower, allowed_hosts)}
        self._actions = Rate(ACTIONS_PER_MINUTE, clock_s)
        self._wrong = Rate(WRONG_TOKENS_PER_MINUTE, clock_s)
        self._searches = Rate(SEARCHES_PER_MINUTE, clock_s)
        self._notes = Rate(NOTES_PER_MINUTE, clock_s)

    @property
    def may_act(self) -> bool:
        """Somebody may act at all; else the page is read-only."""
        return self.has_token or self._user_header is not None

    @property
    def has_token(self) -> bool:
        """Whoever has the token may act."""
        return self._token is not None

    def check_host(self, request: Request) -> None:
        """Refuse names that are not ours: a foreign site may point its own name at this PC.

        Raises:
            Refused: with 421.
        """
        host = _host(request.headers.get("host", ""))
        if host is None or not (host in self._hosts or _is_address(host)):
            raise Refused(
                421, "this name is not ours. Use the address, or add it to hmi.allowed_hosts."
            )

    def check_rate(self, request: Request) -> None:
        """Refuse an address that searches too much.

        Raises:
            Refused: with 429.
        """
        if not self._searches.take(_address(request)):
            raise Refused(429, "too many searches. Wait a minute.")

    def worth_noting(self, address: str) -> bool:
        """Tell whether a refusal is to be recorded; of many from one address only some are."""
        return self._notes.take(address)

    def actor(self, request: Request) -> Actor:
        """Return who acts.

        Raises:
            Refused: 401 without or with a wrong token, 403 for a foreign site or a page that is
                read-only, 415 for anything but JSON, 429 for too many.
        """
        address = _address(request)
        self._check_origin(request)
        if not self.may_act:
            raise Refused(
                403, "this page is read-only. Set hmi.token_file, and start the station again."
            )
        if self._wrong.exhausted(address):
            raise Refused(429, "too many wrong tokens from your address. Wait a minute.")
        user = self.user(request)
        if user is None:
            self._check_token(request, address)
        if not self._actions.take(address):
            raise Refused(429, "too many actions from your address. Wait a minute.")
        return Actor(user or "token", address)

    def _check_origin(self, request: Request) -> None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refused(415, "actions are application/json.")
        if request.headers.get(MARK) is None:
            raise Refused(403, f"the header {MARK} is missing: no page of ours sent this.")
        origin = request.headers.get("origin")
        if origin is None:
            return  # no browser; a browser names its origin with every POST
        if urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
            raise Refused(403, "this comes from a foreign site.")

    def user(self, request: Request) -> str | None:
        """Return whom a trusted proxy names; None for everybody else."""
        if self._user_header is None or _address(request) not in self._proxies:
            return None
        raw = request.headers.get(self._user_header, "").encode("latin-1", "replace")
        return raw.decode("utf-8", "replace").strip()[:100] or None  # names need not be ASCII

    def _check_token(self, request: Request, address: str) -> None:
        if self._token is None:
            raise Refused(401, "the reverse proxy names nobody. Log in there.")
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not given:
            raise Refused(401, "this needs the station's token. Unlock the page first.")
        if not hmac.compare_digest(given.strip().encode(), self._token):
            self._wrong.take(address)
            raise Refused(401, "the token is wrong.")


async def bounded_body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        Refused: with 413 when it is larger than any action is.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > LARGEST_BODY_BYTES:
        raise Refused(413, f"at most {LARGEST_BODY_BYTES} bytes.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY_BYTES:
            raise Refused(413, f"at most {LARGEST_BODY_BYTES} bytes.")
    return bytes(body)


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _host(header: str) -> str | None:
    """Return the name in a ``Host`` header without its port; None where there is none."""
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
