"""Runs the application for the one exchange that a connection has at a time, and ends each exchange exactly once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

from only1mcp.errors import NotAllowed, NotAuthenticated, Only1MCPError, Overloaded, RateLimited, error_message
from only1mcp.frontend.http_exchange import Application, HttpExchange
from only1mcp.wire.http1_events import Headers

_log = logging.getLogger("only1mcp.frontend")
_Result = TypeVar("_Result")


class Host(Protocol):
    """The connection, as its runner sees it."""

    @property
    def gone(self) -> bool:
        """The client is gone."""

    @property
    def writable(self) -> bool:
        """Bytes can still be sent: neither gone nor closing."""

    @property
    def stopping(self) -> bool:
        """What is in flight was cancelled by us, to shut down."""

    def close_after_response(self) -> None: ...

    def close(self) -> None:
        """Send what is buffered, then close."""

    def exchange_over(self) -> None:
        """The exchange has ended and is forgotten; the connection may go on."""


class _Gone:
    """Stands for a connection that has ended."""

    gone = True
    writable = False
    stopping = False

    def close_after_response(self) -> None: ...

    def close(self) -> None: ...

    def exchange_over(self) -> None: ...


_GONE: Final = _Gone()


class ExchangeRunner:
    """At most one exchange, its task, and the errors that escape from either."""

    __slots__ = ("_app", "_dispatching", "_host", "_loop", "_task", "exchange")

    def __init__(self, app: Application, host: Host, loop: asyncio.AbstractEventLoop) -> None:
        self._app = app
        self._host: Host = host
        self._loop = loop
        self.exchange: HttpExchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._dispatching = False

    def on_head(self, exchange: HttpExchange) -> None:
        """The exchange begins. Call `settle` when what follows from the head is done."""
        self.exchange = exchange
        self._dispatch(self._app.on_head, exchange)

    def on_request(self, exchange: HttpExchange) -> None:
        """The body is complete; call `settle` next."""
        coroutine = self._dispatch(self._app.on_request, exchange)
        if coroutine is not None:
            self.run(coroutine)
        elif not exchange.started_response and exchange.on_cancel is None:
            self.fail(exchange, RuntimeError("the application returned without an answer"))

    def on_whole(self, exchange: HttpExchange) -> None:
        """Do all of the above for an exchange whose body has come with its head."""
        self.exchange = exchange
        self._dispatch(self._app.on_head, exchange)
        if not exchange.started_response:
            self.on_request(exchange)
        self.settle()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Make the coroutine the task of the exchange."""
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(self._task_done)

    def settle(self) -> None:
        """End the exchange if its response is complete, or never will be, and nothing runs for it any more."""
        exchange = self.exchange
        if exchange is None or self._dispatching or self._task is not None:
            return
        if not exchange.finished and self._host.writable:
            return
        self._cancel_deferred(exchange)
        self.exchange = None
        if exchange.on_finish is not None:
            try:
                exchange.on_finish(exchange)
            except Exception:  # noqa: BLE001 (failed bookkeeping must not cost the next request its connection)
                _log.exception("on_finish failed", extra=_fields(exchange))
        self._host.exchange_over()

    def fail(self, exchange: HttpExchange, error: BaseException) -> None:
        """Answer with what became of the exchange, or cut it off when it has begun to answer otherwise."""
        self._cancel_deferred(exchange)
        if isinstance(error, Only1MCPError):
            answer = error
        else:
            _log.error("exchange failed", exc_info=error, extra=_fields(exchange))
            answer = Only1MCPError("internal error")
            self._host.close_after_response()
        if self._host.gone or exchange.finished:
            return
        if exchange.started_response:
            # It cannot be taken back; a body without its end tells the client.
            self._host.close()
        else:
            exchange.respond(answer.http_status, error_headers(answer), error_message(answer))

    def stop(self) -> None:
        """Cancel the exchange; without a task, answer it with 503."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
        elif self.exchange is not None:
            self.fail(self.exchange, Overloaded("shutting down"))
            self.settle()

    def client_gone(self) -> None:
        """Cancel the exchange; nobody waits for it."""
        if self.exchange is None:
            return
        self.exchange.client_gone = not self.exchange.finished
        if self._task is not None:
            self._task.cancel()
        self.settle()

    def close(self) -> None:
        """Let go of the connection: the last exchange is over."""
        self._host = _GONE

    def _cancel_deferred(self, exchange: HttpExchange) -> None:
        on_cancel, exchange.on_cancel = exchange.on_cancel, None
        if on_cancel is not None:
            on_cancel()

    def _dispatch(self, callback: Callable[[HttpExchange], _Result], exchange: HttpExchange) -> _Result | None:
        # What the application does in here must not end the exchange under its feet.
        self._dispatching = True
        try:
            return callback(exchange)
        except Exception as error:  # noqa: BLE001 (the edge: whatever the application raises becomes an answer)
            self.fail(exchange, error)
            return None
        finally:
            self._dispatching = False

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task is not self._task:  # it has deferred the answer, and another goes on already
            return
        self._task = None
        exchange = self.exchange
        assert exchange is not None
        gone = self._host.gone
        if task.cancelled():
            if not gone:
                stopped = Overloaded("shutting down") if self._host.stopping else RuntimeError("task cancelled")
                self.fail(exchange, stopped)
        elif (error := task.exception()) is not None:
            self.fail(exchange, error)
        elif not exchange.started_response and exchange.on_cancel is None and not gone:
            self.fail(exchange, RuntimeError("the application returned without an answer"))
        self.settle()


def error_headers(error: Only1MCPError) -> Headers:
    """Return the header fields of an answer whose body is `error_message(error)`."""
    return [(b"content-type", b"application/json"), *advice_headers(error)]


def advice_headers(error: Only1MCPError) -> Headers:
    """Return the fields that tell a refused client what to do: come back later, or with credentials."""
    if isinstance(error, RateLimited):
        return [(b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s)))]
    if isinstance(error, Overloaded):
        return [(b"retry-after", b"1")]
    if isinstance(error, NotAuthenticated | NotAllowed) and error.challenge is not None:
        return [(b"www-authenticate", error.challenge)]
    return []


def _fields(exchange: HttpExchange) -> dict[str, str]:
    # Without the query, which may hold secrets.
    path = exchange.head.target.partition(b"?")[0].decode("ascii", "replace")
    return {"peer": exchange.peer, "method": exchange.head.method.decode("ascii", "replace"), "path": path}
