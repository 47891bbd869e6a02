"""Every branch of the way to a backend's era, on scripted transports and on real children."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

from only1mcp._fast import Envelope, scan
from only1mcp.backend.base import BackendCall, Transport
from only1mcp.backend.era import ANSWER_LIMIT_BYTES, PROBE_TIMEOUT_S, Peer, establish
from only1mcp.backend.guard import Guard
from only1mcp.backend.stdio import StdioTransport
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendAnswerError, BackendError, BackendRefused, BackendTimeout, BackendUnavailable
from only1mcp.wire.asks import RELAYED
from only1mcp.wire.mcp import Era

S = "2026-07-28"
SERVER_INFO = {"name": "scripted", "version": "1"}
DISCOVERED = {
    "resultType": "complete",
    "supportedVersions": [S],
    "capabilities": {"tools": {"listChanged": True}},
    "instructions": "be kind",
    "ttlMs": 1,
    "cacheScope": "public",
    "_meta": {"io.modelcontextprotocol/serverInfo": SERVER_INFO},
}
INITIALIZED = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"prompts": {}},
    "serverInfo": SERVER_INFO,
    "instructions": "hello",
}

Answer = dict[str, Any] | BackendError


def error(code: int, message: str = "no", data: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **({"data": data} if data is not None else {})}}


def result(value: Any) -> dict[str, Any]:
    return {"result": value}


class Scripted(Transport):
    """Gives the answers of a script, in order, and keeps what it was asked with the headers that HTTP would send."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script)
        self.asked: list[tuple[str, dict[str, Any], str | None, float | None]] = []
        self.sent: list[dict[str, Any]] = []
        self.session_id = "left over"

    async def start(self) -> None:
        pass

    async def call(self, call: BackendCall) -> Envelope:
        message = orjson.loads(call.message)
        assert message["method"] == call.method
        self.asked.append((call.method, message["params"], self.revision, call.timeout_s))
        if call.method == "initialize":
            assert self.session_id is None
        answer = self.script.pop(0)
        if isinstance(answer, BackendError):
            raise answer
        return scan(orjson.dumps({"jsonrpc": "2.0", "id": orjson.loads(call.id), **answer}))

    async def send(self, message: bytes) -> None:
        self.sent.append(orjson.loads(message))

    async def listen(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    @property
    def methods(self) -> list[str]:
        return [method for method, *_ in self.asked]


def ids() -> Callable[[], bytes]:
    numbers = count(1)
    return lambda: b"%d" % next(numbers)


async def meet(transport: Transport, *, timeout_s: float = 30.0, probe: bool = True) -> Peer:
    return await establish(transport, ids(), timeout_s=timeout_s, client_version="1.2.3", probe=probe)


def assert_handshake(transport: Scripted, peer: Peer, revision: str = "2025-11-25") -> None:
    assert (peer.era, peer.revision, peer.supported) == (Era.HANDSHAKE, revision, (revision,))
    assert transport.revision == revision
    assert transport.sent == [{"jsonrpc": "2.0", "method": "notifications/initialized"}]
    assert transport.script == []


def assert_stateless(transport: Scripted, peer: Peer) -> None:
    assert (peer.era, peer.revision) == (Era.STATELESS, S)
    assert transport.revision == S
    assert transport.sent == []
    assert transport.script == []


async def test_a_discover_result_means_stateless() -> None:
    transport = Scripted(result(DISCOVERED))
    peer = await meet(transport)
    assert_stateless(transport, peer)
    assert peer.capabilities == {"tools": {"listChanged": True}}
    assert peer.server_info == SERVER_INFO
    assert peer.instructions == "be kind"
    assert peer.supported == (S,)
    ((method, params, revision, timeout_s),) = transport.asked
    assert method == "server/discover"
    assert params["_meta"] == {
        "io.modelcontextprotocol/protocolVersion": S,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "only1mcp", "version": "1.2.3"},
    }
    assert (revision, timeout_s) == (S, PROBE_TIMEOUT_S)


async def test_the_probe_waits_no_longer_than_the_backend_may_take() -> None:
    transport = Scripted(result(DISCOVERED))
    await meet(transport, timeout_s=2.0)
    assert transport.asked[0][3] == 2.0


async def test_optional_members_may_be_missing() -> None:
    transport = Scripted(result({"supportedVersions": [S], "capabilities": {}}))
    peer = await meet(transport)
    assert (peer.server_info, peer.instructions) == ({}, None)


@pytest.mark.parametrize(
    "answer",
    [
        error(-32601, "Method not found"),
        error(-32602, "Invalid request parameters"),
        error(-32600),
        error(-32000, "Not initialized"),
        error(-32603),
        error(-32022),
        error(-32022, data={"supported": ["2025-11-25", "2024-11-05"], "requested": S}),
        error(-32022, data={"supported": "nonsense"}),
        {"error": "not even an object"},
        {"error": {"code": "text", "message": 5, "data": []}},
        result({}),
        result({"supportedVersions": ["2025-11-25"], "capabilities": {}}),
        result({"supportedVersions": ["2999-01-01"], "capabilities": {}}),
        result({"supportedVersions": [1, None], "capabilities": {}}),
        result({**DISCOVERED, "resultType": "input_required"}),
        BackendTimeout("slow"),
        BackendRefused("no", status=400),
        BackendRefused("no", status=404),
        BackendRefused("no", status=405),
        BackendRefused("no", status=406),
        BackendRefused("no", status=500),
        BackendAnswerError("what came was no answer"),
    ],
    ids=str,
)
async def test_anything_else_means_a_handshake(answer: Answer) -> None:
    transport = Scripted(answer, result(INITIALIZED))
    peer = await meet(transport)
    assert_handshake(transport, peer)
    assert peer.capabilities == {"prompts": {}}
    assert peer.server_info == SERVER_INFO
    assert peer.instructions == "hello"
    method, params, revision, timeout_s = transport.asked[1]
    assert (method, revision, timeout_s) == ("initialize", None, 30.0)
    assert params == {
        "protocolVersion": "2025-11-25",
        "capabilities": RELAYED,
        "clientInfo": {"name": "only1mcp", "version": "1.2.3"},
    }


async def test_the_probe_can_be_left_out() -> None:
    transport = Scripted(result(INITIALIZED))
    peer = await meet(transport, probe=False)
    assert_handshake(transport, peer)
    assert transport.methods == ["initialize"]


@pytest.mark.parametrize("status", [401, 403, 408, 429, 502, 503, 504])
async def test_an_outage_or_a_refusal_of_us_is_no_verdict(status: int) -> None:
    transport = Scripted(BackendRefused("no", status=status))
    with pytest.raises(BackendRefused):
        await meet(transport)
    assert transport.script == []


async def test_an_unreachable_backend_is_no_verdict() -> None:
    transport = Scripted(BackendUnavailable("refused"))
    with pytest.raises(BackendUnavailable):
        await meet(transport)


async def test_an_outage_between_probe_and_handshake_is_no_verdict() -> None:
    for outage in (BackendUnavailable("gone"), BackendTimeout("slow"), BackendRefused("no", status=503)):
        transport = Scripted(error(-32601), outage)
        with pytest.raises(type(outage)):
            await meet(transport)


async def test_a_child_that_dies_of_the_probe_says_so() -> None:
    transport = Scripted(BackendAnswerError("exited with status 1"), BackendUnavailable("is not running"))
    with pytest.raises(BackendAnswerError, match="exited with status 1"):
        await meet(transport)


async def test_an_unsupported_version_is_tried_again_at_an_advertised_one() -> None:
    transport = Scripted(error(-32022, data={"supported": ["2999-01-01", S], "requested": S}), result(DISCOVERED))
    assert_stateless(transport, await meet(transport))
    assert transport.methods == ["server/discover", "server/discover"]


async def test_one_corrective_probe_is_enough() -> None:
    refusal = error(-32022, data={"supported": [S], "requested": S})
    transport = Scripted(refusal, refusal)
    with pytest.raises(BackendAnswerError, match=r"refused server/discover: 'no' \(-32022\)"):
        await meet(transport)


async def test_nothing_in_common_is_said_with_both_lists() -> None:
    transport = Scripted(error(-32022, data={"supported": ["2999-01-01"], "requested": S}))
    with pytest.raises(BackendAnswerError, match="it offers '2999-01-01', we know 2026-07-28, 2025-11-25"):
        await meet(transport)


async def test_a_missing_capability_is_declared_and_asked_again() -> None:
    transport = Scripted(error(-32021, data={"requiredCapabilities": {"sampling": {}}}), result(DISCOVERED))
    assert_stateless(transport, await meet(transport))
    assert transport.asked[1][1]["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {"sampling": {}}


async def test_a_header_mismatch_is_asked_again_once() -> None:
    transport = Scripted(error(-32020), result(DISCOVERED))
    assert_stateless(transport, await meet(transport))
    transport = Scripted(error(-32020), error(-32020))
    with pytest.raises(BackendAnswerError):
        await meet(transport)


@pytest.mark.parametrize(
    "refusal",
    [
        error(-32022, data={"supported": [S], "requested": "2025-11-25"}),
        error(-32601, "initialize was removed in 2026-07-28"),
        error(-32601, data={"supported": [S]}),
    ],
)
async def test_a_slow_stateless_server_insists(refusal: dict[str, Any]) -> None:
    transport = Scripted(BackendTimeout("slow"), refusal, result(DISCOVERED))
    assert_stateless(transport, await meet(transport))
    assert transport.asked[2][2] == S
    assert transport.asked[2][3] == 30.0


async def test_a_stateless_server_without_discover() -> None:
    missing = error(-32601)
    transport = Scripted(missing, error(-32022, data={"supported": [S]}), missing)
    peer = await meet(transport)
    assert_stateless(transport, peer)
    assert peer.capabilities == {"tools": {}, "resources": {}, "prompts": {}}


async def test_an_insisting_server_that_still_refuses() -> None:
    insists = error(-32022, data={"supported": [S]})
    for last in (error(-32603, "boom"), result({"supportedVersions": ["2999-01-01"]})):
        transport = Scripted(error(-32601), insists, last)
        with pytest.raises(BackendAnswerError, match="refused"):
            await meet(transport)


async def test_an_older_revision_is_accepted() -> None:
    for revision in ("2025-06-18", "2025-03-26", "2024-11-05"):
        transport = Scripted(error(-32601), result({**INITIALIZED, "protocolVersion": revision}))
        assert_handshake(transport, await meet(transport), revision)


async def test_a_server_that_refuses_instead_of_negotiating() -> None:
    refusal = error(-32602, "Unsupported protocol version", {"supported": ["2024-11-05"], "requested": "2025-11-25"})
    transport = Scripted(error(-32601), refusal, result({**INITIALIZED, "protocolVersion": "2024-11-05"}))
    assert_handshake(transport, await meet(transport), "2024-11-05")
    assert transport.asked[2][1]["protocolVersion"] == "2024-11-05"


@pytest.mark.parametrize("revision", ["1.0", S, "", None, 20251125, ["2025-11-25"]])
async def test_an_unknown_revision_is_refused(revision: Any) -> None:
    transport = Scripted(error(-32601), result({**INITIALIZED, "protocolVersion": revision}))
    with pytest.raises(BackendAnswerError, match="chose protocol version"):
        await meet(transport)
    assert transport.sent == []


async def test_a_refused_handshake_says_why() -> None:
    transport = Scripted(error(-32601), error(-32000, "licence expired"))
    with pytest.raises(BackendAnswerError, match="licence expired"):
        await meet(transport)
    transport = Scripted(error(-32601), error(-32602, "no", {"supported": ["1999"]}))
    with pytest.raises(BackendAnswerError, match="no protocol version in common"):
        await meet(transport)


@pytest.mark.parametrize("member", ["capabilities", "serverInfo", "instructions"])
async def test_members_of_the_wrong_type_are_refused(member: str) -> None:
    transport = Scripted(error(-32601), result({**INITIALIZED, member: [1]}))
    with pytest.raises(BackendAnswerError, match=member):
        await meet(transport)


@pytest.mark.parametrize("member", ["capabilities", "_meta", "instructions"])
async def test_discovered_members_of_the_wrong_type_are_refused(member: str) -> None:
    with pytest.raises(BackendAnswerError, match=member):
        await meet(Scripted(result({**DISCOVERED, member: [1]})))


async def test_a_result_that_is_no_object_is_refused() -> None:
    for value in ([], "hello", None, 1):
        with pytest.raises(BackendAnswerError, match="instead of an object"):
            await meet(Scripted(error(-32601), result(value)))


async def test_an_endless_introduction_is_refused() -> None:
    endless = {**INITIALIZED, "instructions": "x" * ANSWER_LIMIT_BYTES}
    with pytest.raises(BackendAnswerError, match="answered initialize with"):
        await meet(Scripted(error(-32601), result(endless)))


SERVER = str(Path(__file__).parents[1] / "fixtures" / "era_server.py")


@pytest.mark.parametrize(
    ("mode", "era"),
    [
        ("stateless", Era.STATELESS),
        ("handshake", Era.HANDSHAKE),
        ("deaf_before_initialize", Era.HANDSHAKE),
        ("garbage_before_initialize", Era.HANDSHAKE),
        ("dual", Era.STATELESS),
    ],
)
async def test_real_children(mode: str, era: Era) -> None:
    guard = Guard()
    config = BackendConfig(id="real", transport="stdio", command=sys.executable, args=(SERVER, mode))
    transport = StdioTransport(config, guard=guard)
    try:
        await transport.start()
        peer = await meet(transport, timeout_s=1.0 if mode == "deaf_before_initialize" else 20.0)
        assert peer.era is era
    finally:
        await transport.aclose()
        await guard.aclose()


async def test_a_real_child_that_dies_of_the_probe_is_met_without_it() -> None:
    guard = Guard()
    config = BackendConfig(id="real", transport="stdio", command=sys.executable, args=(SERVER, "dies_of_surprise"))
    try:
        first = StdioTransport(config, guard=guard)
        await first.start()
        with pytest.raises(BackendAnswerError, match="exited with status 1"):
            await meet(first)
        await first.aclose()
        second = StdioTransport(config, guard=guard)
        await second.start()
        peer = await meet(second, probe=False)
        assert peer.era is Era.HANDSHAKE
        await second.aclose()
    finally:
        await guard.aclose()
