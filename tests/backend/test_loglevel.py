"""Every backend that can be told knows how much to log, on each connection; of two levels the later is told last."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from tests.proxy.offers import offer
from tests.validity import check
from tests.virtual import virtual

from only1mcp._fast import scan
from only1mcp.backend.base import BackendCall, Outcome, Transport
from only1mcp.backend.endpoint import Endpoint
from only1mcp.backend.loglevel import TELL_TIMEOUT_S, LogLevels, told
from only1mcp.errors import BackendTimeout
from only1mcp.wire.mcp import Era

LOGGING: dict[str, Any] = {"logging": {}}


class Line(Transport):
    """Notes the levels it is given; answers when `release` is set."""

    def __init__(self, answer: bytes | BackendTimeout = b'"result":{}') -> None:
        self.levels: list[str] = []
        self.release = asyncio.Event()
        self.release.set()
        self._answer = answer

    async def start(self) -> None: ...

    async def call(self, call: BackendCall) -> Any:
        message = orjson.loads(call.message)
        check(message, "2025-11-25")
        self.levels.append(message["params"]["level"])
        await self.release.wait()
        if isinstance(self._answer, BackendTimeout):
            raise self._answer
        answer: Outcome = scan(b'{"jsonrpc":"2.0","id":' + call.id + b"," + self._answer + b"}")
        return answer

    async def send(self, message: bytes) -> None: ...

    async def listen(self) -> None: ...

    async def aclose(self) -> None: ...


def endpoint(line: Line, era: Era = Era.HANDSHAKE, capabilities: dict[str, Any] = LOGGING) -> Endpoint:
    found = offer("a", era=era, capabilities=capabilities)
    found.transport = line
    return found


@virtual
async def test_a_level_is_told_once() -> None:
    line = Line()
    levels = LogLevels([endpoint(line)])
    await told(levels.want("debug"))
    assert levels.want("debug") == levels.renew() == set()
    await told(levels.want("info"))
    assert line.levels == ["debug", "info"]


@virtual
async def test_a_new_connection_is_told_again() -> None:
    first, second = Line(), Line()
    backend = endpoint(first)
    levels = LogLevels([backend])
    assert levels.renew() == set()  # nobody has wanted anything
    await told(levels.want("debug"))
    backend.transport = second
    await told(levels.renew())
    assert first.levels == second.levels == ["debug"]


@virtual
async def test_one_that_is_away_is_told_when_it_is_back() -> None:
    line = Line()
    backend = endpoint(line)
    peer, backend.peer = backend.peer, None
    levels = LogLevels([backend])
    assert levels.want("debug") == set()
    backend.peer = peer
    await told(levels.renew())
    assert line.levels == ["debug"]


@pytest.mark.parametrize(("era", "capabilities"), [(Era.STATELESS, LOGGING), (Era.HANDSHAKE, {"tools": {}})])
def test_those_that_cannot_be_told_are_left_alone(era: Era, capabilities: dict[str, Any]) -> None:
    @virtual
    async def run() -> None:
        assert LogLevels([endpoint(Line(), era, capabilities)]).want("debug") == set()

    run()


@virtual
async def test_a_level_wanted_meanwhile_is_told_last() -> None:
    line = Line()
    levels = LogLevels([endpoint(line)])
    line.release.clear()
    (task,) = levels.want("debug")
    await asyncio.sleep(0)
    assert levels.want("error") == levels.want("info") == {task}
    line.release.set()
    await told({task})
    assert line.levels == ["debug", "info"]


@pytest.mark.parametrize("answer", [b'"error":{"code":-32601,"message":"no"}', BackendTimeout("too slow")])
def test_a_backend_that_refuses_is_not_asked_again(
    answer: bytes | BackendTimeout, caplog: pytest.LogCaptureFixture
) -> None:
    line = Line(answer)

    @virtual
    async def run() -> None:
        levels = LogLevels([endpoint(line)])
        await told(levels.want("debug"))
        assert levels.renew() == set()

    run()
    assert line.levels == ["debug"]
    assert [record.message for record in caplog.records] == ["backend.level_not_set"]


@virtual
async def test_nobody_waits_long_and_nothing_is_left() -> None:
    line = Line()
    line.release.clear()
    levels = LogLevels([endpoint(line)])
    began = asyncio.get_running_loop().time()
    await told(levels.want("debug"))
    assert asyncio.get_running_loop().time() - began == TELL_TIMEOUT_S
    await levels.aclose()
