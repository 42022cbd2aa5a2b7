"""Many viewers of a page at once, in a process of their own: ``python -m tests.edge.page_viewers``.

Each follows the stream and fetches every picture that it is told of, as a browser does.
"""

import asyncio
import json
import os
import sys
import time

PATIENCE_S = 60.0


async def watch(host: str, port: int, seen: list[int]) -> None:
    """Follow the stream; count pictures."""
    reader, writer = await asyncio.open_connection(host, port, limit=2**24)
    writer.write(_request(host, "/api/stream"))
    pictures, asked = await asyncio.open_connection(host, port, limit=2**24)
    while line := await reader.readline():
        if not line.startswith(b'data: {"id"'):
            continue
        part = json.loads(line[6:])
        if part["picture"] is None:
            continue
        asked.write(_request(host, f"/live/{part['id']}.jpg"))
        head = await pictures.readuntil(b"\r\n\r\n")
        length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
        await pictures.readexactly(int(length.partition(b":")[2]))
        seen[0] += b" 200 " in head.partition(b"\r\n")[0]


async def scrape(host: str, port: int, every_s: float) -> None:
    """Ask for the metrics as Prometheus does."""
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(_request(host, "/metrics", close=True))
        await reader.read()
        writer.close()
        await asyncio.sleep(every_s)


async def main(host: str, port: int, viewers: int) -> None:
    """Watch until standard input ends, and each may have seen some; print how many pictures."""
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
