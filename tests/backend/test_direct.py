"""The lane without a task: it ends every call as `call` would, exactly once, at whatever moment things go wrong."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import weakref
from collections.abc import Callable

import pytest
from tests.backend.hostile import (
    LAST_CHUNK,
    SSE_HEAD,
    Behaviour,
    HostileServer,
    Incoming,
    answer_well,
    event,
    hosted,
    make_call,
    response,
    stay_silent,
)
from tests.backend.test_answer import BAD_BATCHES, CASES, FINE, NOTE, OK, OK_2, Case, answers, sends, streams

from only1mcp._fast import ERROR, RESULT, Envelope
from only1mcp.backend import http as module
from only1mcp.backend.base import BackendCall
from only1mcp.backend.http import HttpTransport
from only1mcp.backend.lane import MAX_DIRECT_BYTES
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"


class Direct:
    """A call in the lane; `told` is everything its `done` was called with."""

    def __init__(self, transport: HttpTransport, call: BackendCall) -> None:
        self.told: list[Envelope | BackendError] = []
        self._over = asyncio.Event()
        cancel = transport.maybe_begin(call, self._done)
        assert cancel is not None
        self.cancel: Callable[[], None] = cancel

    def _done(self, outcome: Envelope | BackendError) -> None:
        self.told.append(outcome)
        self._over.set()

    async def outcome(self) -> Envelope | BackendError:
        await self._over.wait()
        assert len(self.told) == 1
        return self.told[0]

    async def answer(self) -> Envelope:
        outcome = await self.outcome()
        assert isinstance(outcome, Envelope), outcome
        return outcome

    async def error(self) -> BackendError:
        outcome = await self.outcome()
        assert isinstance(outcome, BackendError), outcome
        return outcome


async def begin(transport: HttpTransport, call: BackendCall) -> Direct:
    """Begin a call in the lane, on a connection that another call has left."""
    await transport.call(make_call(0, "ping"))
    return Direct(transport, call)


def never(outcome: Envelope | BackendError) -> None:
    raise AssertionError(f"nothing was begun, but this came: {outcome!r}")


async def turns(count: int = 20) -> None:
    """Let the event loop do what is due."""
    for _ in range(count):
        await asyncio.sleep(0)


# Every way to misbehave.


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
async def test_a_misbehaving_backend_harms_one_call_only(case: Case) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        go = asyncio.Event()

        async def wait_and_answer(incoming: Incoming) -> None:
            await go.wait()
            await answer_well(incoming)

        server.script("resources/read", wait_and_answer)
        server.script("tools/call", case.behave)
        beside = await begin(transport, make_call(1, "resources/read"))
        await server.arrival("resources/read")

        direct = await begin(transport, make_call(2, timeout_s=case.timeout_s))
        error = await direct.error()
        assert type(error) is case.error
        assert case.message in str(error)
        assert error.data == {"backend": "b"}
        assert getattr(error, "status", None) == case.status

        go.set()
        assert (await beside.answer()).kind == RESULT
        assert (await transport.call(make_call(3, "prompts/get"))).kind == RESULT
        assert len(server.of("tools/call")) == 1
        await turns()
        await transport.aclose()
        assert len(direct.told) == len(beside.told) == 1


@pytest.mark.parametrize("behave", [pytest.param(behave, id=name) for name, behave in FINE.items()])
async def test_an_unusual_answer_is_an_answer(behave: Behaviour) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", behave)
        answer = await (await begin(transport, make_call(2))).answer()
        assert (answer.kind, answer.id) == (RESULT, b"2")
        assert (await transport.call(make_call(3, "prompts/get"))).kind == RESULT


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "404 Not Found", "500 Internal Server Error"])
@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_json_rpc_error_is_an_answer_whatever_the_status(status: str, as_stream: bool) -> None:
    body = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no such method","data":{"x":1}}}'
    if as_stream:
        behave = answers(b"data: " + body + b"\n\n", status, "text/event-stream")
    else:
        behave = answers(body, status)
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", behave)
        answer = await (await begin(transport, make_call(2))).answer()
        assert (answer.kind, answer.data) == (ERROR, body)
        await transport.call(make_call(3, "prompts/get"))
        assert server.connections == 1


# An event stream that is one piece with a length.

WHOLE_STREAMS = {
    "two answers": (b"data: " + OK_2 + b"\n\ndata: " + OK_2 + b"\n\n", None),
    "no answer": (b"data: " + NOTE + b"\n\n", "ended without the response"),
    "nothing": (b"", "ended without the response"),
    "unfinished": (b"data: " + OK_2, "ended without the response"),
    "no JSON": (b"data: hello\n\n", "not valid"),
}


@pytest.mark.parametrize("case", WHOLE_STREAMS)
async def test_a_stream_in_one_piece(case: str, caplog: pytest.LogCaptureFixture) -> None:
    body, message = WHOLE_STREAMS[case]
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", answers(body, "200 OK", "text/event-stream"))
        direct = await begin(transport, make_call(2))
        if message is None:
            assert (await direct.answer()).id == b"2"
            assert "backend.surplus_answer" in caplog.text
        else:
            assert message in str(await direct.error())
        await server.connections_left(0)  # nothing more is expected of such a connection


@pytest.mark.parametrize("as_stream", [False, True])
async def test_batches_of_the_revision_that_has_them(as_stream: bool) -> None:
    batch = b" [" + NOTE + b", " + OK.replace(b"@", b"9") + b"," + OK_2 + b"]"
    seen: list[Envelope] = []
    async with hosted("2025-03-26") as (server, transport):
        server.script("tools/call", streams(event(batch)) if as_stream else answers(batch))
        answer = await (await begin(transport, make_call(2, on_message=seen.append))).answer()
        assert answer.data == OK_2
        assert [message.data for message in seen] == [NOTE]


@pytest.mark.parametrize("batch", [pytest.param(batch, id=name) for name, batch in BAD_BATCHES.items()])
async def test_batches_that_are_none(batch: bytes) -> None:
    async with hosted("2025-03-26") as (server, transport):
        server.script("tools/call", answers(batch))
        assert isinstance(await (await begin(transport, make_call(2))).error(), BackendAnswerError)


# How an answer arrives.


@pytest.mark.parametrize("cut", range(1, len(response(OK_2))))
async def test_an_answer_cut_in_two_anywhere(cut: int) -> None:
    whole = response(OK_2)

    async def in_two(incoming: Incoming) -> None:
        await incoming.send(whole[:cut])
        await turns(3)
        await incoming.send(whole[cut:])

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", in_two)
        assert (await (await begin(transport, make_call(2))).answer()).data == OK_2
        assert (await (await begin(transport, make_call(3, "prompts/get"))).answer()).kind == RESULT
        assert server.connections == 1


async def test_an_answer_octet_by_octet() -> None:
    async def slowly(incoming: Incoming) -> None:
        for octet in response(incoming.result()):
            await incoming.send(bytes([octet]))
            await turns(2)

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", slowly)
        assert (await (await begin(transport, make_call(2))).answer()).kind == RESULT
        assert "1 idle, 0 leased" in repr(transport)


async def test_progress_arrives_before_the_answer() -> None:
    go = asyncio.Event()
    seen: asyncio.Queue[Envelope] = asyncio.Queue()

    async def reports(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(NOTE))
        await go.wait()
        await incoming.send(event(NOTE), event(incoming.result()), LAST_CHUNK)

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", reports)
        direct = await begin(transport, make_call(2, on_message=seen.put_nowait))
        assert (await seen.get()).data == NOTE
        assert direct.told == []
        go.set()
        assert (await direct.answer()).kind == RESULT
        assert seen.qsize() == 1
        await turns()
        assert "1 idle, 0 leased" in repr(transport)


@pytest.mark.parametrize("as_stream", [False, True])
async def test_a_listener_that_fails_costs_its_call_and_no_other(
    as_stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: Envelope) -> None:
        raise LookupError("a bug")

    batch = b"[" + NOTE + b"," + OK_2 + b"]"
    async with hosted("2025-03-26") as (server, transport):
        server.script("tools/call", streams(event(NOTE), event(OK_2)) if as_stream else answers(batch))
        error = await (await begin(transport, make_call(2, on_message=fails))).error()
        assert (type(error), str(error), error.data) == (BackendError, "the answer could not be read", {"backend": "b"})
        assert caplog.messages == ["backend.failed"]
        await server.connections_left(0)
        assert (await transport.call(make_call(3, "ping"))).kind == RESULT


async def test_surplus_bytes_cost_the_connection_and_not_the_answer() -> None:
    async def answers_twice(incoming: Incoming) -> None:
        await incoming.send(response(OK_2) + response(OK.replace(b"@", b"3")))

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", answers_twice)
        assert (await (await begin(transport, make_call(2))).answer()).data == OK_2
        await server.connections_left(0)
        answer = await transport.call(make_call(3, "prompts/get"))
        assert answer.data.endswith(b'"result":{"ok":true}}')


async def test_an_answer_that_comes_before_the_request_has_left() -> None:
    """The socket takes no more of the request; the answer is already there."""
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", stay_silent)
        direct = await begin(transport, make_call(2))
        (connection,) = transport._pool._leased
        assert connection._transport is not None
        connection._transport.write(b" " * 32 * 1024 * 1024)
        server.received[0].writer.write(response(OK_2))
        assert (await direct.answer()).data == OK_2
        await server.connections_left(0)  # what is left of the request would be the beginning of the next one


# What the lane does not carry.


async def test_without_an_idle_connection_nothing_is_done() -> None:
    async with hosted(STATELESS) as (server, transport):
        assert transport.maybe_begin(make_call(1), never) is None
        server.script("tools/call", stay_silent)
        direct = await begin(transport, make_call(2))
        assert transport.maybe_begin(make_call(3), never) is None
        direct.cancel()
        await server.connections_left(0)
        assert [incoming.message["id"] for incoming in server.received] == [0, 2]


async def test_large_requests_and_handshakes_are_not_carried() -> None:
    async with hosted(None) as (_, transport):
        await transport.call(make_call(0, "ping"))
        call = make_call(1)
        call.message = call.message[:-1] + b" " * MAX_DIRECT_BYTES + b"}"
        assert transport.maybe_begin(call, never) is None
        assert transport.maybe_begin(make_call(2, "initialize"), never) is None
        assert "1 idle, 0 leased" in repr(transport)
        await transport.aclose()
        assert transport.maybe_begin(make_call(3), never) is None


async def test_what_must_not_be_sent_is_not_and_leaves_nothing() -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(0, "ping"))
        with pytest.raises(ValueError, match="header"):
            transport.maybe_begin(make_call(1, param_headers=((b"x", b"a\r\nb: c"),)), never)
        assert "1 idle, 0 leased" in repr(transport)
        assert (await transport.call(make_call(2, "ping"))).kind == RESULT
        assert not server.of("tools/call")


# A connection that dies.


async def test_a_connection_that_the_backend_closed_in_this_turn_is_not_used() -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(0, "ping"))
        with socket.socket(fileno=os.dup(server.received[0].writer.get_extra_info("socket").fileno())) as end:
            end.shutdown(socket.SHUT_WR)  # the event loop does not know before its next turn
        assert transport.maybe_begin(make_call(1), never) is None
        assert "0 idle, 0 leased" in repr(transport)


async def hang_up(incoming: Incoming) -> None:
    await incoming.close()


@pytest.mark.parametrize("method", ["tools/list", "resources/read", "prompts/get", "server/discover", "ping"])
async def test_reading_is_repeated_once_when_the_connection_is_dead(method: str) -> None:
    async def dies_when_kept(incoming: Incoming) -> None:
        await (hang_up if incoming.connection == 1 else answer_well)(incoming)

    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(0))
        server.script(method, dies_when_kept)
        direct = Direct(transport, make_call(2, method))
        assert (await direct.answer()).kind == RESULT
        assert (len(server.of(method)), server.connections) == (2, 2)


async def test_reading_is_repeated_once_only_however_many_connections_are_kept() -> None:
    async with hosted(STATELESS) as (server, transport):
        await asyncio.gather(*(transport.call(make_call(number)) for number in range(3)))
        server.script("tools/list", hang_up)
        error = await Direct(transport, make_call(9, "tools/list")).error()
        assert "closed the connection" in str(error)
        assert (len(server.of("tools/list")), server.connections) == (2, 4)


@pytest.mark.parametrize("method", ["tools/call", "logging/setLevel", "resources/subscribe"])
async def test_nothing_else_is_repeated(method: str) -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script(method, hang_up)
        error = await (await begin(transport, make_call(2, method))).error()
        assert (type(error), error.retryable, error.data) == (BackendAnswerError, False, {"backend": "b"})
        assert len(server.of(method)) == 1


async def test_reading_is_not_repeated_after_the_first_octet_of_an_answer() -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/list", sends(b"H"))
        assert isinstance(await (await begin(transport, make_call(2, "tools/list"))).error(), BackendAnswerError)
        assert len(server.of("tools/list")) == 1


async def test_a_repetition_that_fails_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/list", hang_up)
        direct = await begin(transport, make_call(2, "tools/list"))

        async def broken() -> None:
            raise LookupError("a bug")

        monkeypatch.setattr(transport._pool, "_connect", broken)
        assert str(await direct.error()) == "the answer could not be read"


async def test_a_session_that_the_server_has_ended() -> None:
    body = b'{"jsonrpc":"2.0","id":2,"error":{"code":-32001,"message":"Session not found"}}'
    async with hosted(HANDSHAKE) as (server, transport):
        transport.session_id = "s"
        server.script("tools/call", answers(body, "404 Not Found"))
        error = await (await begin(transport, make_call(2))).error()
        assert isinstance(error, BackendRefused)
        assert error.status == 404
        assert "1 idle, 0 leased" in repr(transport)
        transport.session_id = None


# Giving up, at every stage.


async def begins_to_answer(incoming: Incoming) -> None:
    await incoming.send(SSE_HEAD, event(NOTE))
    await stay_silent(incoming)


STAGES = ["at once", "arrived", "before its task has run", "in its task", "in the repetition"]


async def brought_to(stage: str, server: HostileServer, transport: HttpTransport, timeout_s: float | None) -> Direct:
    """Return a call that has come so far and no further."""
    method = "tools/list" if stage == "in the repetition" else "tools/call"
    noted = asyncio.Event()
    call = make_call(7, method, timeout_s, on_message=lambda _: noted.set())
    if stage == "in its task":
        server.script(method, begins_to_answer)
        direct = await begin(transport, call)
        await noted.wait()
        return direct
    if stage == "before its task has run":
        direct = await begin(transport, call)
        (connection,) = transport._pool._leased
        connection.data_received(b"H")
        return direct
    if stage == "in the repetition":

        async def dies_then_hangs(incoming: Incoming) -> None:
            await (stay_silent if len(server.of(method)) > 1 else hang_up)(incoming)

        server.script(method, dies_then_hangs)
        direct = await begin(transport, call)
        await server.arrival(method, 2)
        return direct
    server.script(method, stay_silent)
    direct = await begin(transport, call)
    if stage == "arrived":
        await server.arrival(method)
    return direct


@pytest.mark.parametrize("stage", STAGES)
async def test_cancelled_in_the_stateless_era_the_connection_is_closed(stage: str) -> None:
    async with hosted(STATELESS) as (server, transport):
        direct = await brought_to(stage, server, transport, None)
        direct.cancel()
        direct.cancel()
        await server.connections_left(0)
        assert direct.told == []
        assert not server.of("notifications/cancelled")
        await turns()
        assert "0 idle, 0 leased, 0 opening, 0 waiting" in repr(transport)


@pytest.mark.parametrize("how", ["cancelled", "expired"])
@pytest.mark.parametrize("stage", STAGES)
async def test_in_the_handshake_era_giving_up_is_told_once(stage: str, how: str) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        transport.session_id = "s"
        direct = await brought_to(stage, server, transport, 60)
        assert transport.lane._watch is not None
        if how == "cancelled":
            direct.cancel()
        else:
            (call,) = transport.lane._watch._calls
            call.expire()
            call.expire()
            error = await direct.error()
            assert (type(error), error.data) == (BackendTimeout, {"backend": "b"})
            assert str(error) == "no complete answer within 60 s"
        told = await server.arrival("notifications/cancelled")
        assert told.message["params"]["requestId"] == 7
        assert told.header("mcp-session-id") == "s"
        await transport.aclose()
        assert len(server.of("notifications/cancelled")) == 1
        assert len(direct.told) == (how == "expired")


@pytest.mark.parametrize("stage", STAGES[1:2] + STAGES[3:])
async def test_a_deadline_that_passes(stage: str) -> None:
    async with hosted(STATELESS) as (server, transport):
        direct = await brought_to(stage, server, transport, 0.1)
        assert isinstance(await direct.error(), BackendTimeout)
        await server.connections_left(0)


async def test_cancelled_after_its_end_nothing_happens() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        direct = await begin(transport, make_call(2))
        await direct.answer()
        direct.cancel()
        assert "1 idle" in repr(transport)
        assert (await transport.call(make_call(3, "ping"))).kind == RESULT
        assert (server.connections, len(server.of("notifications/cancelled"))) == (1, 0)


@pytest.mark.parametrize("revision", [STATELESS, HANDSHAKE])
@pytest.mark.parametrize("stage", STAGES)
async def test_closing_ends_calls_in_flight(stage: str, revision: str) -> None:
    async with hosted(revision) as (server, transport):
        direct = await brought_to(stage, server, transport, None)
        await transport.aclose()
        error = await direct.error()
        assert (type(error), error.data) == (BackendAnswerError, {"backend": "b"})
        assert "was closed before" in str(error)
        await transport.aclose()
        assert len(direct.told) == 1


async def test_closing_lets_calls_end_while_it_says_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answers_call_first(incoming: Incoming) -> None:
        go.set()
        await direct.outcome()
        await answer_well(incoming)

    async def waits(incoming: Incoming) -> None:
        await go.wait()
        await answer_well(incoming)

    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 10)
    async with hosted(HANDSHAKE) as (server, transport):
        go = asyncio.Event()
        transport.session_id = "s"
        server.script("tools/call", waits)
        server.script("DELETE", answers_call_first)
        direct = await begin(transport, make_call(2))
        await transport.aclose()
        assert (await direct.answer()).kind == RESULT


async def test_who_is_told_of_a_close_cannot_begin_anew() -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", stay_silent)
        begun: list[object] = []
        await asyncio.gather(*(transport.call(make_call(number, "ping")) for number in range(2)))
        cancel = transport.maybe_begin(make_call(2), lambda _: begun.append(transport.maybe_begin(make_call(3), never)))
        assert cancel is not None
        await transport.aclose()
        assert begun == [None]


# Many.


async def test_a_thousand_calls_over_one_connection() -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(0, "ping"))
        for number in range(1, 1001):
            answer = await Direct(transport, make_call(number)).answer()
            assert answer.id == b"%d" % number
        assert server.connections == 1


async def test_a_call_that_is_begun_by_the_end_of_another_takes_over_its_connection() -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(0, "ping"))
        left, over = iter(range(1, 101)), asyncio.Event()

        def next_one(_: object) -> None:
            number = next(left, None)
            if number is None:
                over.set()
            else:
                assert transport.maybe_begin(make_call(number), next_one) is not None

        next_one(None)
        await over.wait()
        assert [incoming.message["id"] for incoming in server.of("tools/call")] == list(range(1, 101))
        assert server.connections == 1


async def test_many_calls_at_once_get_their_own_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    go = asyncio.Event()

    async def together(incoming: Incoming) -> None:
        await go.wait()
        await answer_well(incoming)

    async def moody(incoming: Incoming) -> None:
        number = incoming.message["id"]
        result = incoming.result(b"%d" % number)
        match number % 4:
            case 0:
                await incoming.send(SSE_HEAD, event(NOTE), event(result), LAST_CHUNK)
            case 1:
                whole = response(result)
                await incoming.send(whole[:40])
                await turns(2)
                await incoming.send(whole[40:])
            case 2:
                await incoming.send(response(b"data: " + result + b"\n\n", "200 OK", "text/event-stream"))
            case _:
                await incoming.send(response(result))

    async with hosted(STATELESS) as (server, transport):
        server.script("ping", together)
        opening = [asyncio.ensure_future(transport.call(make_call(number, "ping"))) for number in range(100)]
        await server.arrival("ping", 100)
        go.set()
        await asyncio.gather(*opening)
        await turns()
        server.script("tools/call", moody)
        directs = [Direct(transport, make_call(number)) for number in range(1, 101)]
        for number, direct in enumerate(directs, 1):
            answer = await direct.answer()
            assert answer.result is not None
            assert answer.id == answer.data[slice(*answer.result)] == b"%d" % number
        assert server.connections == 100
    assert not caplog.records


@pytest.mark.parametrize("behave", [answers(b"hello"), streams(event(b"hello")), hang_up], ids=["one", "task", "lost"])
async def test_a_failed_call_is_freed_without_the_garbage_collector(behave: Behaviour) -> None:
    class Caller:
        def __init__(self) -> None:
            self.over: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def hear(self, message: Envelope) -> None:
            pass

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", behave)
        await transport.call(make_call(0, "ping"))
        caller = Caller()
        freed = weakref.ref(caller)
        gc.disable()
        try:
            assert transport.maybe_begin(make_call(2, on_message=caller.hear), caller.over.set_result) is not None
            assert isinstance(await caller.over, BackendError)
            del caller
            await turns()
            assert freed() is None
        finally:
            gc.enable()
