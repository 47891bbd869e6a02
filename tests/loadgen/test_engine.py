"""Whole runs against a server on loopback that behaves as the test wants."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from typing import Any

import pytest
from tests.backend.hostile import (
    LAST_CHUNK,
    SSE_HEAD,
    HostileServer,
    Incoming,
    answer_well,
    chunk,
    event,
    response,
    stay_silent,
)
from tests.loadgen.conftest import kinds, load

from only1mcp.loadgen.engine import Progress
from only1mcp.loadgen.failure import BAD_ANSWER, CLOSED, HTTP, RPC_ERROR, TIMEOUT
from only1mcp.loadgen.mix import parse_method, parse_tool

LIST = "tools/list"


async def test_every_request_is_sent_once_and_answered() -> None:
    async with HostileServer() as server:
        run = await load(server, requests=100, connections=5)
    assert (run.sent, run.recorder.good, run.recorder.failed) == (100, 100, 0)
    assert (run.unsent, run.abandoned, run.interrupted, run.reconnections) == (0, 0, False, 0)
    measured = [each for each in server.received if each.method == LIST]
    assert len(measured) == 100
    assert len({each.message["id"] for each in measured}) == 100
    assert server.connections == 5
    assert run.bytes_sent == sum(len(each.head) + 4 + len(each.body) for each in measured)
    assert run.bytes_received == sum(len(response(each.result())) for each in measured)
    assert run.window_s > 0
    assert run.cpu_s > 0


async def test_the_mix_keeps_its_shares() -> None:
    operations = (parse_tool('find={"q":1}:3'), parse_method("prompts/list"))
    async with HostileServer() as server:
        run = await load(server, requests=40, connections=3, operations=operations, unlisted=True)
    assert [each.latencies.count for each in run.recorder.operations] == [30, 10]
    sent = Counter(each.method for each in server.received)
    # The list is read once beforehand, for what the tools want in headers.
    assert sent == {"tools/call": 30, "prompts/list": 10, "tools/list": 1, "server/discover": 1}


async def test_the_warm_up_is_not_measured() -> None:
    async with HostileServer() as server:
        run = await load(server, requests=10, warmup_s=0.05)
    measured = [each for each in server.received if each.method == LIST]
    assert run.recorder.good == run.sent == 10
    assert len(measured) > 10
    assert run.bytes_sent < sum(len(each.head) + 4 + len(each.body) for each in measured)


async def test_a_duration_ends_the_run() -> None:
    async with HostileServer() as server:
        run = await load(server, requests=None, duration_s=0.1, connections=2)
    assert run.window_s == pytest.approx(0.1, abs=0.001)
    assert run.recorder.good == run.sent
    assert 0 <= run.recorder.good - run.recorder.good_in_time <= 2


async def test_the_open_loop_sends_at_its_rate() -> None:
    async with HostileServer() as server:
        run = await load(server, requests=None, duration_s=0.5, rate=100.0, connections=4)
    assert run.sent + run.unsent == 50
    assert run.recorder.good == run.sent
    assert run.recorder.lateness.count <= run.sent


class StalledOnce:
    """Answers at once, but for one request that takes long, and everybody who comes meanwhile waits for it."""

    def __init__(self, stall_s: float) -> None:
        self.stall_s = stall_s
        self.served = 0

    async def __call__(self, incoming: Incoming) -> None:
        self.served += 1
        if self.served == 5:
            await asyncio.sleep(self.stall_s)
        await answer_well(incoming)


async def test_a_stall_is_charged_for_all_that_was_due_meanwhile() -> None:
    """Of 100 requests at 200 a second a stall of 300 ms delays 60: the percentiles must say so."""
    async with HostileServer() as server:
        server.behaviours[LIST] = StalledOnce(0.3)
        opened = await load(server, requests=100, rate=200.0)
        server.behaviours[LIST] = StalledOnce(0.3)
        closed = await load(server, requests=100)
    assert opened.recorder.good == closed.recorder.good == 100
    assert opened.recorder.latencies.percentile(60) > 0.05
    assert opened.recorder.latencies.percentile(95) > 0.2
    assert opened.recorder.backlog_max > 20
    assert closed.recorder.latencies.percentile(95) < 0.2 < closed.recorder.latencies.max_s


async def test_what_is_due_and_not_sent_is_counted() -> None:
    async with HostileServer() as server:
        server.behaviours[LIST] = stay_silent
        run = await load(server, requests=None, duration_s=0.2, rate=100.0, connections=2, timeout_s=0.3)
    assert run.sent == 2
    assert run.unsent == 18
    assert kinds(run) == {(TIMEOUT, ""): 2}


async def redirect(incoming: Incoming) -> None:
    port = incoming.writer.get_extra_info("sockname")[1]
    where = f"location: http://127.0.0.1:{port}/elsewhere"
    await incoming.send(response(b"", "307 Temporary Redirect", "text/plain", where))


async def cut(incoming: Incoming) -> None:
    await incoming.send(response(incoming.result())[:-5])
    await incoming.close()


async def reset(incoming: Incoming) -> None:
    incoming.reset()


async def close_unanswered(incoming: Incoming) -> None:
    await incoming.close()


async def garbage(incoming: Incoming) -> None:
    await incoming.send(b"\x16\x03\x01\x00\x05 what?\r\n\r\n")
    await incoming.until_closed()


async def wrong_id(incoming: Incoming) -> None:
    await incoming.send(response(b'{"jsonrpc":"2.0","id":1,"result":{}}'))


async def refuse(incoming: Incoming) -> None:
    await incoming.send(response(b"busy", "503 Service Unavailable", "text/plain"))


async def rpc_error(incoming: Incoming) -> None:
    body = incoming.result().replace(b'"result":{"ok":true}', b'"error":{"code":-32000,"message":"no"}')
    await incoming.send(response(body))


async def announce_a_gigabyte(incoming: Incoming) -> None:
    await incoming.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n{")
    await incoming.until_closed()


async def send_a_gigabyte(incoming: Incoming) -> None:
    piece = chunk(b" " * (1 << 20))
    await incoming.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    await incoming.send(*[piece] * 1024)


async def flood_of_events(incoming: Incoming) -> None:
    piece = event(b'{"jsonrpc":"2.0","method":"notifications/message","params":{"x":"' + b"x" * 60_000 + b'"}}') * 20
    await incoming.send(SSE_HEAD, *[piece] * 1000)


async def header_flood(incoming: Incoming) -> None:
    await incoming.send(b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n" * 1000] * 200)
    await incoming.until_closed()


async def unended_stream(incoming: Incoming) -> None:
    await incoming.send(SSE_HEAD, event(b'{"jsonrpc":"2.0","method":"notifications/progress"}'), LAST_CHUNK)


async def no_events(incoming: Incoming) -> None:
    await incoming.send(SSE_HEAD, event(b"not json"))
    await incoming.until_closed()


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        (redirect, (HTTP, "307")),
        (cut, (CLOSED, "")),
        (reset, (CLOSED, "")),
        (close_unanswered, (CLOSED, "")),
        (garbage, (BAD_ANSWER, "not HTTP")),
        (wrong_id, (BAD_ANSWER, "wrong id")),
        (refuse, (HTTP, "503")),
        (rpc_error, (RPC_ERROR, "-32000")),
        (announce_a_gigabyte, (BAD_ANSWER, "too long")),
        (header_flood, (BAD_ANSWER, "not HTTP")),
        (unended_stream, (BAD_ANSWER, "the event stream ended without the answer")),
        (no_events, (BAD_ANSWER, None)),
    ],
)
async def test_failures_are_counted_by_kind_and_not_as_latency(behaviour: Any, failure: tuple[str, str | None]) -> None:
    async with HostileServer() as server:
        server.behaviours[LIST] = behaviour
        run = await load(server, requests=3, connections=2)
    ((kind, what),) = kinds(run)
    assert kind == failure[0]
    assert failure[1] is None or what == failure[1]
    assert (run.recorder.good, run.recorder.failed) == (0, 3)
    assert run.recorder.latencies.count == 0
    assert run.recorder.failed_latencies.count == 3
    assert {each.target for each in server.received} == {"/mcp"}


@pytest.mark.parametrize("behaviour", [send_a_gigabyte, flood_of_events])
async def test_endless_answers_are_given_up(behaviour: Any) -> None:
    async with HostileServer() as server:
        server.behaviours[LIST] = behaviour
        run = await load(server, requests=1, timeout_s=30.0)
    assert kinds(run) == {(BAD_ANSWER, "too long"): 1}
    assert run.bytes_received < 80 << 20


async def test_a_hang_times_out_and_the_connection_is_not_used_again() -> None:
    async with HostileServer() as server:
        server.behaviours[LIST] = stay_silent
        run = await load(server, requests=2, timeout_s=0.1)
    assert kinds(run) == {(TIMEOUT, ""): 2}
    assert run.recorder.failed_latencies.min_s >= 0.1
    assert server.connections == 2
    assert run.reconnections == 1


async def test_a_slow_drip_times_out() -> None:
    async def drip(incoming: Incoming) -> None:
        for octet in response(incoming.result()):
            if incoming.writer.is_closing():
                return
            await incoming.send(bytes([octet]))
            await asyncio.sleep(0.01)

    async with HostileServer() as server:
        server.behaviours[LIST] = drip
        run = await load(server, requests=1, timeout_s=0.2)
    assert kinds(run) == {(TIMEOUT, ""): 1}


async def test_answers_in_small_pieces_are_read() -> None:
    async def piecemeal(incoming: Incoming) -> None:
        for octet in response(incoming.result()):
            await incoming.send(bytes([octet]))

    async with HostileServer() as server:
        server.behaviours[LIST] = piecemeal
        run = await load(server, requests=3)
    assert (run.recorder.good, kinds(run)) == (3, {})


async def test_streams_are_read_to_the_answer() -> None:
    async def stream(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}'))
        await incoming.send(event(incoming.result()), LAST_CHUNK)

    async with HostileServer() as server:
        server.behaviours[LIST] = stream
        run = await load(server, requests=5)
    assert (run.recorder.good, run.reconnections) == (5, 0)


async def test_a_stream_that_does_not_end_costs_its_connection_and_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("only1mcp.loadgen.client.DRAIN_S", 0.05)

    async def go_on(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(incoming.result()))
        await incoming.until_closed()

    async with HostileServer() as server:
        server.behaviours[LIST] = go_on
        run = await load(server, requests=2)
    assert (run.recorder.good, run.reconnections) == (2, 1)
    assert run.recorder.latencies.max_s < 0.05


async def test_a_server_that_closes_after_each_answer() -> None:
    async def close(incoming: Incoming) -> None:
        await incoming.send(response(incoming.result(), "200 OK", "application/json", "connection: close"))
        await incoming.close()

    async with HostileServer() as server:
        server.behaviours[LIST] = close
        run = await load(server, requests=6, connections=2)
    assert (run.recorder.good, run.recorder.failed, run.reconnections) == (6, 0, 4)


async def test_a_server_that_says_goodbye_between_requests() -> None:
    async def say_goodbye(incoming: Incoming) -> None:
        await answer_well(incoming)
        await incoming.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await incoming.close()

    async with HostileServer() as server:
        server.behaviours[LIST] = say_goodbye
        run = await load(server, requests=5, rate=50.0)
    assert run.sent == 5
    assert run.recorder.good + run.recorder.failed == 5


async def test_the_progress_is_told() -> None:
    seen: list[Progress] = []
    async with HostileServer() as server:
        await load(server, seen.append, requests=None, duration_s=0.3, warmup_s=0.2, rate=50.0)
    assert [each.phase for each in seen][:1] == ["warm-up"]
    assert {each.phase for each in seen} >= {"warm-up", "measuring"}
    assert all(0 <= one.done <= other.done <= 1 for one, other in itertools.pairwise(seen))
    assert seen[-1].good > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interrupted_run_has_results(number: signal.Signals) -> None:
    async def interrupt(incoming: Incoming) -> None:
        if len(server.received) > 10:
            os.kill(os.getpid(), number)
            await incoming.until_closed()
            return
        await answer_well(incoming)

    async with HostileServer() as server:
        server.behaviours[LIST] = interrupt
        run = await load(server, requests=None, duration_s=60.0)
    assert run.interrupted
    assert run.recorder.good > 5
    assert run.abandoned == 1
    assert run.window_s < 30


async def test_the_second_interrupt_does_not_wait() -> None:
    async def interrupt(incoming: Incoming) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        await incoming.until_closed()

    async with HostileServer() as server:
        server.behaviours[LIST] = interrupt
        run = await load(server, requests=None, duration_s=60.0)
    assert (run.interrupted, run.recorder.good, run.abandoned) == (True, 0, 1)
