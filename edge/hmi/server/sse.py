"""The news of the page as server-sent events.

Hand-written: sse-starlette replaces a method of uvicorn's server when it is imported, runs a group
of tasks for each viewer, and its ping is a comment, which the page's ``EventSource`` never sees.
"""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edge.hmi.server.live_view import LiveView

# After so long without news a viewer gets a sign of life.
STREAM_SILENCE_S = 2.0
# A viewer gets changes no more often.
STREAM_PAUSE_S = 0.1


class Stream(Response):
    """Server-sent events: who is slow gets the newest later, and nothing queues for them."""

    def __init__(self, view: LiveView) -> None:
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-store",
                "x-accel-buffering": "no",
            }
        )
        del self.headers["content-length"]
        self._view = view

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        gone = asyncio.create_task(_until_gone(receive))
        self._view.add_viewer()
        try:
            version = 0
            while not gone.done():
                version, events = await self._view.newer(version, STREAM_SILENCE_S)
                # Waits while the viewer does not read; the kernel ends who never does.
                await send({"type": "http.response.body", "body": events, "more_body": True})
                await asyncio.sleep(STREAM_PAUSE_S)
        finally:
            gone.cancel()
            self._view.remove_viewer()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
