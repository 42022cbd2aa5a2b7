"""How answers look."""

from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response, StreamingResponse


def json_reply(content: Any, status: int = 200) -> Response:
    return JSONResponse(content, status, headers={"cache-control": "no-store"})


def error_reply(status: int, why: str) -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse({"error": why}, status, headers={"cache-control": "no-store", **headers})


def picture_reply(content: bytes, kind: str) -> Response:
    # A picture never changes under its id.
    headers = {"content-type": kind, "cache-control": "private, max-age=86400, immutable"}
    return Response(content, headers=headers)


def download_reply(pieces: Iterator[bytes], name: str, kind: str) -> Response:
    return StreamingResponse(
        pieces,
        headers={
            "content-type": kind,
            "content-disposition": f'attachment; filename="{name}"',
            "cache-control": "no-store",
        },
    )
