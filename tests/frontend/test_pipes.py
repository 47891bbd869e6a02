"""Standard input and output by threads: what is read and written, files too, and readers that stop or leave."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from only1mcp.frontend.pipes import WRITE_BUFFER_BYTES, PipeReader, PipeWriter

TIMEOUT_S = 10.0


async def test_reads_a_pipe_up_to_its_end() -> None:
    ours, theirs = os.pipe()
    reader = PipeReader(ours)
    os.write(theirs, b"one")
    assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b"one"
    waiting = asyncio.ensure_future(reader.read())
    os.write(theirs, b"two")
    assert await asyncio.wait_for(waiting, TIMEOUT_S) == b"two"
    os.close(theirs)
    assert await asyncio.wait_for(reader.read(), TIMEOUT_S) == b""
    os.close(ours)


async def test_reads_and_writes_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"x" * 200_000)
    with (tmp_path / "in").open("rb") as file:
        reader, read = PipeReader(file.fileno()), b""
        while data := await asyncio.wait_for(reader.read(), TIMEOUT_S):
            read += data
    assert len(read) == 200_000
    with (tmp_path / "out").open("wb") as file:
        writer = PipeWriter(file.fileno(), lambda: None)
        writer.send(b'{"a":\r\n1}')
        writer.send(b"{}")
        await writer.aclose(TIMEOUT_S)
        assert writer.unsent_bytes == 0
    assert (tmp_path / "out").read_bytes() == b'{"a":  1}\n{}\n'


async def test_an_input_that_cannot_be_read_is_at_its_end() -> None:
    ours, theirs = os.pipe()
    os.close(theirs)
    assert await asyncio.wait_for(PipeReader(ours).read(), TIMEOUT_S) == b""
    os.close(ours)
    assert await asyncio.wait_for(PipeReader(ours).read(), TIMEOUT_S) == b""


async def test_drain_waits_for_a_slow_reader_and_close_does_not() -> None:
    ours, theirs = os.pipe()
    writer = PipeWriter(theirs, lambda: None)
    writer.send(b"x" * 1_000_000)
    draining = asyncio.ensure_future(writer.drain())
    await writer.aclose(0)
    assert not draining.done()
    assert writer.unsent_bytes > WRITE_BUFFER_BYTES
    writer.send(b"after the end")
    left = 1_000_001
    while left:
        left -= len(await asyncio.to_thread(os.read, ours, 1 << 20))
    await asyncio.wait_for(draining, TIMEOUT_S)
    assert writer.unsent_bytes == 0
    os.close(theirs)
    assert os.read(ours, 100) == b""
    os.close(ours)


async def test_a_reader_that_leaves_is_told_and_ends_the_waiting() -> None:
    ours, theirs = os.pipe()
    broken = asyncio.Event()
    writer = PipeWriter(theirs, broken.set)
    writer.send(b"x" * 1_000_000)
    draining = asyncio.ensure_future(writer.drain())
    await asyncio.to_thread(os.read, ours, 100)
    os.close(ours)
    await asyncio.wait_for(broken.wait(), TIMEOUT_S)
    await asyncio.wait_for(draining, TIMEOUT_S)
    writer.send(b"into the void")
    assert writer.unsent_bytes == 0
    await writer.aclose(TIMEOUT_S)
    os.close(theirs)
