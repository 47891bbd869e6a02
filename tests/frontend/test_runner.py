"""Exchanges that are answered later and without a task: deferred, resumed, abandoned, stopped and drained."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.frontend.serving import App, Client, request, serving

from only1mcp.frontend.http_exchange import HttpExchange


class Later(App):
    """Defers what is asked of `/later`; `deferred` receives the exchange, `calls` what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.deferred: asyncio.Queue[HttpExchange] = asyncio.Queue()
        self.calls: list[str] = []
        self.gone = asyncio.Event()

    def on_cancel(self) -> None:
        self.calls.append("cancelled")
        self.gone.set()

    def later(self, exchange: HttpExchange) -> None:
        exchange.defer(self.on_cancel)
        self.deferred.put_nowait(exchange)

    def later_stream(self, exchange: HttpExchange) -> None:
        self.later(exchange)
        exchange.start_stream(200, [])
        exchange.write(b"begun")

    def later_boom(self, exchange: HttpExchange) -> None:
        self.later(exchange)
        raise LookupError("secret of the lane")

    async def task_later(self, exchange: HttpExchange) -> None:
        """A task that leaves the answer to somebody else, as requests do that came before the first catalog."""
        self.later(exchange)

    async def task_later_boom(self, exchange: HttpExchange) -> None:
        self.later(exchange)
        raise LookupError("secret of the task")


def answered(exchange: HttpExchange) -> None:
    exchange.respond(200, [], b"later")


async def resumed(exchange: HttpExchange) -> None:
    await asyncio.sleep(0)
    exchange.respond(200, [], b"resumed")


@pytest.mark.parametrize("path", ["/later", "/task-later"])
async def test_an_answer_that_comes_later(path: str) -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request(path) + request("/echo", b"next"))
        exchange = await app.deferred.get()
        assert app.finished.empty()
        answered(exchange)
        assert (await client.answer())[2] == b"later"
        assert (await client.answer())[2] == b"next"
        assert app.finished.get_nowait() is exchange
        assert (exchange.on_cancel, exchange.client_gone) == (None, False)
    assert app.calls == []


async def test_a_stream_that_is_written_later() -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later-stream"))
        exchange = await app.deferred.get()
        exchange.write(b" and ended")
        exchange.end_stream()
        assert (await client.answer())[2] == b"begun and ended"
        assert app.finished.get_nowait() is exchange
        assert await client.ask("/echo", b"next") == (200, b"next")
    assert (app.calls, exchange.on_cancel) == ([], None)


@pytest.mark.parametrize("path", ["/later", "/task-later"])
async def test_a_task_goes_on_after_all(path: str) -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request(path))
        exchange = await app.deferred.get()
        exchange.resume(resumed(exchange))
        assert (await client.answer())[2] == b"resumed"
        assert await app.finished.get() is exchange
        assert await client.ask("/echo", b"next") == (200, b"next")
    assert app.calls == []


async def test_it_may_be_deferred_again() -> None:
    async def again(exchange: HttpExchange) -> None:
        app.later(exchange)

    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later"))
        for _ in range(3):
            exchange = await app.deferred.get()
            exchange.resume(again(exchange))
        exchange = await app.deferred.get()
        answered(exchange)
        assert (await client.answer())[2] == b"later"
        assert await app.finished.get() is exchange
    assert app.calls == []


async def fails(exchange: HttpExchange) -> None:
    raise LookupError("secret of the resumed")


async def says_nothing(exchange: HttpExchange) -> None:
    pass


@pytest.mark.parametrize("work", [fails, says_nothing])
async def test_a_resumed_task_that_does_not_answer(
    work: Callable[[HttpExchange], Coroutine[Any, Any, None]], caplog: pytest.LogCaptureFixture
) -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later"))
        exchange = await app.deferred.get()
        exchange.resume(work(exchange))
        status, _, body = await client.answer()
        assert status == 500
        assert b"secret" not in body
        assert "exchange failed" in caplog.text
        assert await app.finished.get() is exchange


# Ended otherwise.


@pytest.mark.parametrize("path", ["/later-boom", "/task-later-boom"])
async def test_whoever_defers_and_fails_is_answered_and_cancelled(path: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        status, body = await client.ask(path)
        assert (status, json.loads(body)["error"]["message"]) == (500, "internal error")
        assert "exchange failed" in caplog.text
        await app.finished.get()
    assert app.calls == ["cancelled"]


@pytest.mark.parametrize("path", ["/later", "/later-stream", "/task-later"])
async def test_a_client_that_leaves_cancels_once(path: str) -> None:
    app = Later()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request(path))
            exchange = await app.deferred.get()
            await asyncio.sleep(0)
            client.reset()
            await app.gone.wait()
        assert await app.finished.get() is exchange
        assert (exchange.client_gone, exchange.finished) == (True, False)
        assert listener.connections == 0
    assert app.calls == ["cancelled"]
    assert app.finished.empty()


async def test_a_client_that_leaves_cancels_the_task_that_was_resumed() -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later"))
        exchange = await app.deferred.get()
        exchange.resume(app.hang(exchange))
        await app.begun.wait()
        client.reset()
        assert await app.finished.get() is exchange
    assert (app.cancelled, app.calls) == (1, [])


async def test_a_half_closed_client_gets_its_answer() -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later"))
        exchange = await app.deferred.get()
        client.writer.write_eof()
        answered(exchange)
        assert (await client.answer())[2] == b"later"
        assert await client.rest() == b""
    assert app.calls == []


# Shutting down.


async def test_drain_waits_for_it() -> None:
    app = Later()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        client.send(request("/later"))
        exchange = await app.deferred.get()
        async with await Client.connect(listener.port) as idle:
            assert await idle.ask("/echo", b"x") == (200, b"x")
            draining = asyncio.create_task(listener.drain(30))
            assert await idle.rest() == b""
        assert not draining.done()
        answered(exchange)
        status, headers, body = await client.answer()
        assert (status, headers[b"connection"], body) == (200, b"close", b"later")
        client.writer.close()
        await draining
        assert listener.connections == 0
    assert app.calls == []


async def test_drain_refuses_what_takes_too_long() -> None:
    app = Later()
    async with serving(app) as listener:
        async with (
            await Client.connect(listener.port) as whole,
            await Client.connect(listener.port) as streamed,
            await Client.connect(listener.port) as from_task,
        ):
            for client, path in ((whole, "/later"), (streamed, "/later-stream"), (from_task, "/task-later")):
                client.send(request(path))
                await app.deferred.get()
            draining = asyncio.create_task(listener.drain(0.05))
            for client in (whole, from_task):
                status, headers, body = await client.answer()
                assert (status, headers[b"connection"]) == (503, b"close")
                assert json.loads(body)["error"] == {"code": -31006, "message": "shutting down"}
            # What had begun ends without its end.
            await streamed.head()
            assert await streamed.rest() == b"5\r\nbegun\r\n"
            await draining
        assert listener.connections == 0
    assert app.calls == ["cancelled"] * 3
    assert app.finished.qsize() == 3


async def test_aclose_ends_it_at_once() -> None:
    app = Later()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request("/later"))
            exchange = await app.deferred.get()
            await listener.aclose()
            await client.rest()
        assert await app.finished.get() is exchange
    assert app.calls == ["cancelled"]


async def test_stopped_in_the_turn_in_which_its_task_has_deferred() -> None:
    class Stopped(Later):
        async def task_later(self, exchange: HttpExchange) -> None:
            self.later(exchange)
            (connection,) = listener._serving
            asyncio.get_running_loop().call_soon(connection.stop)  # before anybody hears that this task is over

    app = Stopped()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request("/task-later"))
            assert (await client.answer())[0] == 503
            assert await client.rest() == b""
        assert (await app.finished.get()).finished
    assert app.calls == ["cancelled"]


async def test_resumed_in_the_turn_in_which_its_task_has_deferred() -> None:
    class Quick(Later):
        async def task_later(self, exchange: HttpExchange) -> None:
            self.later(exchange)
            asyncio.get_running_loop().call_soon(lambda: exchange.resume(resumed(exchange)))

    app = Quick()
    async with serving(app) as listener, await Client.connect(listener.port) as client:
        assert await client.ask("/task-later") == (200, b"resumed")
        assert await client.ask("/echo", b"next") == (200, b"next")
    assert (app.calls, app.finished.qsize()) == ([], 2)
