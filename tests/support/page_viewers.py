"""Many viewers of a page, in a process of their own: ``python -m tests.support.page_viewers``.

Each follows the stream and fetches one image at a time, always the newest, as the page does.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import suppress

PATIENCE_S = 120.0


async def watch(host: str, port: int, seen: list[int]) -> None:
    """Follow the stream; count images."""
    newest: asyncio.Queue[bytes] = asyncio.Queue(1)
    async with asyncio.TaskGroup() as both:
        both.create_task(follow(host, port, newest))
        both.create_task(fetch(host, port, newest, seen))


async def follow(host: str, port: int, newest: asyncio.Queue[bytes]) -> None:
    """Keep the newest part that has an image."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**24)
    writer.write(_request(host, "/api/stream"))
    while line := await reader.readline():
        if line.startswith(b'data: {"id"') and b'"image":null' not in line:
            if newest.full():
                newest.get_nowait()
            newest.put_nowait(line[6:])


async def fetch(host: str, port: int, newest: asyncio.Queue[bytes], seen: list[int]) -> None:
    """Fetch images, and count those that are still kept."""
    while True:
        part = json.loads(await newest.get())
        images, asked = await asyncio.open_connection(host, port, limit=2**24)
        # Who asks nothing for a while is let go, and a starved viewer does.
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked.write(_request(host, f"/live/{part['id']}.jpg"))
                head = await images.readuntil(b"\r\n\r\n")
                seen[0] += b" 200 " in head.partition(b"\r\n")[0]
                fields = head.lower().split(b"\r\n")
                length = next(x for x in fields if x.startswith(b"content-length"))
                await images.readexactly(int(length.partition(b":")[2]))
                part = json.loads(await newest.get())


async def scrape(host: str, port: int, every_s: float) -> None:
    """Ask for the metrics as Prometheus does."""
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(_request(host, "/metrics", close=True))
        await reader.read()
        writer.close()
        await asyncio.sleep(every_s)


async def main(host: str, port: int, viewers: int) -> None:
    """Watch until standard input ends, and each may have seen some; print how many images."""
    seen = [0]
    watching = [asyncio.create_task(watch(host, port, seen)) for _ in range(viewers)]
    watching.append(asyncio.create_task(scrape(host, port, 1.0)))
    print("watching", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    deadline = time.monotonic() + PATIENCE_S
    while seen[0] < 3 * viewers and time.monotonic() < deadline:
        await asyncio.sleep(0.05)  # a busy machine starves niced viewers
    for task in watching:
        if task.done():
            task.result()  # a viewer that was turned away is told
        task.cancel()
    print(seen[0], flush=True)


def _request(host: str, path: str, close: bool = False) -> bytes:
    connection = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{connection}\r\n".encode()


if __name__ == "__main__":
    os.nice(19)  # viewers sit at other PCs
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
