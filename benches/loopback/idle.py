"""Opens keep-alive connections, asks one call on each, and leaves them open.

`python -m benches.loopback.idle HOST PORT COUNT FILE`: the file is one that `calls.prepare` has written. Prints `open
COUNT` when every call has been answered with status 200, and waits until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop
from benches.loopback.load import read_requests

AT_ONCE = 64


async def main(host: str, port: str, count: str, file: str) -> None:
    requests = read_requests(Path(file))
    slots = asyncio.Semaphore(AT_ONCE)
    kept = []

    async def open_one(number: int) -> None:
        async with slots:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(requests[number % len(requests)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.partition(b":")[2]))
            kept.append((reader, writer))

    async with asyncio.TaskGroup() as group:
        for number in range(int(count)):
            group.create_task(open_one(number))
    print(f"open {len(kept)}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
