"""From answers to HTTP responses: JSON, problems, images, downloads."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from edge.contract.encoding import to_json
from edge.hmi.contents import Content
from edge.hmi.server.answer_models import Problem

_PIECE_BYTES = 256 * 1024


_FRESH = {"content-type": "application/json", "cache-control": "no-store"}


def as_json(content: Content) -> bytes:
    """Return an answer as JSON.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    return to_json(content.model_dump(by_alias=True)).encode()


def json_reply(content: Content | bytes, status: int = 200) -> Response:
    """Return an answer; bytes are one that was made for all who ask."""
    body = content if isinstance(content, bytes) else as_json(content)
    return Response(body, status, headers=_FRESH)


def error_reply(status: int, why: str, given: Mapping[str, str] | None = None) -> Response:
    return problem_reply(status, Problem(error=why), given)


def problem_reply(
    status: int, problem: Problem, given: Mapping[str, str] | None = None
) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else dict(given or {})
    return Response(as_json(problem), status, headers={**headers, **_FRESH})


# An image never changes under its id.
_KEEP = {"cache-control": "private, max-age=86400, immutable"}


def image_reply(content: bytes, kind: str) -> Response:
    return Response(content, headers={"content-type": kind, **_KEEP})


def file_reply(file: BinaryIO, kind: str) -> Response:
    """Return an image that is read as fast as it is taken: one of 20 megapixels is large."""
    length = str(os.fstat(file.fileno()).st_size)
    headers = {"content-type": kind, "content-length": length, **_KEEP}
    return StreamingResponse(_pieces(file), headers=headers)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


class Download(Response):
    """A file that is made while it is sent; each reads the journal, so only a few take turns."""

    def __init__(
        self, pieces: Iterator[bytes], name: str, kind: str, turns: asyncio.Semaphore
    ) -> None:
        super().__init__()
        self._pieces = pieces
        self._turns = turns
        self._given = {
            "content-type": kind,
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._turns.locked():
            why = "other exports are running. Try again when they are done."
            await error_reply(503, why)(scope, receive, send)
            return
        async with self._turns:
            # A journal that cannot be read is an error, not a file that ends at once.
            first = await run_in_threadpool(next, self._pieces, b"")
            pieces = chain([first], self._pieces)
            await StreamingResponse(pieces, headers=self._given)(scope, receive, send)
