"""Multi Round-Trip Requests for clients that know none: they are asked, and the request is sent again.

MCP 2026-07-28 "Multi Round-Trip Requests".
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from only1mcp._fast import members
from only1mcp.backend.base import PASSED
from only1mcp.errors import INTERNAL_ERROR, BackendAnswerError, ProtocolError, RequestRefused
from only1mcp.proxy.call import Answer, perform
from only1mcp.wire import asks
from only1mcp.wire.asks import RETRY_MEMBERS, Ask, InputRequired

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.backend.endpoint import Endpoint
    from only1mcp.metrics import Metrics
    from only1mcp.proxy.asker import Inquirer
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.route import Target

# A backend that still asks after so many rounds is taken to go in circles; official SDKs stop there as well.
MAX_ROUNDS: Final = 10
# A result that asks nothing wants the request again, later: the first time soon, then less and less so.
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 0.25

AskClient = Callable[["Exchange", Ask, "Inquirer", str | None], None]


async def drive(ask_client: AskClient, exchange: Exchange, target: Target, answer: Answer, metrics: Metrics) -> Answer:
    """Ask the client what `answer` wants to know and send the request again, until an answer asks nothing.

    Raise `BackendError` for a backend that asks too often or breaks the rules, `RequestRefused` for what the client
    does not give.
    """
    original = exchange.message
    assert original is not None
    assert original.params is not None
    if any(member in members(original.data, *original.params) for member in RETRY_MEMBERS):
        raise RequestRefused(f"params hold one of {', '.join(RETRY_MEMBERS)}, which this revision does not have")
    # What comes of this one client's answers is nobody else's.
    exchange.cache_key = None
    pause_s = FIRST_PAUSE_S
    for _ in range(MAX_ROUNDS):
        required = _required(answer)
        if required is None:
            return answer
        responses = {}
        if required.asks:
            responses = await _responses(ask_client, exchange, required)
        else:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        message = asks.with_inputs(original, responses, required.state)
        answer = await perform(
            exchange, target, metrics, exchange.snapshot.request_s, first=_same(exchange, target), message=message
        )
    if _required(answer) is None:
        return answer
    raise BackendAnswerError(f"the backend asks for more after {MAX_ROUNDS} rounds", data={"backend": exchange.backend})


def _required(answer: Answer) -> InputRequired | None:
    if answer.outcome is PASSED:
        return None
    try:
        return asks.maybe_input_required(answer.message)
    except ProtocolError as error:
        raise BackendAnswerError(f"the backend's answer cannot be used: {error.message}") from error


def _same(exchange: Exchange, target: Target) -> Endpoint | None:
    """Return the endpoint that has asked: what it gave as state may mean nothing to the others."""
    return next(
        (each for each in target.group.endpoints.values() if each.id == exchange.backend and each.peer is not None),
        None,
    )


async def _responses(ask_client: AskClient, exchange: Exchange, required: InputRequired) -> dict[str, bytes]:
    """Ask everything at once and wait for all the answers, or for the first that the request cannot go on without."""
    inquiries = [_Inquiry(ask) for ask in required.asks]
    for inquiry in inquiries:
        ask_client(exchange, inquiry.ask, inquiry, os.urandom(16).hex())
    values = await asyncio.gather(*(inquiry.response for inquiry in inquiries))
    return {inquiry.ask.key: value for inquiry, value in zip(inquiries, values, strict=True)}


class _Inquiry:
    """One entry of `inputRequests`; `response` becomes its entry of `inputResponses`."""

    __slots__ = ("ask", "response")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def answered(self, message: Envelope) -> None:
        self._settle(message, "the client answered with an error")

    def refused(self, text: str, code: int) -> None:
        self._settle(None, text)

    def progressed(self, message: bytes) -> None:
        """Drop it: the stateless era has no way for a client's progress."""

    def withdrawn(self, id: bytes) -> bool:
        return False

    def _settle(self, message: Envelope | None, reason: str) -> None:
        if self.response.done():
            return  # nobody waits any more
        value = asks.response_to(self.ask, message)
        if value is not None:
            self.response.set_result(value)
        else:
            error = RequestRefused(f"the backend needs {self.ask.method}: {reason}", code=INTERNAL_ERROR)
            self.response.set_exception(error)
