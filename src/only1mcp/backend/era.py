"""Which era a backend speaks: ask in the stateless way first, shake hands where that is not understood.

MCP 2026-07-28 "Versioning", backward compatibility. An outage is never a verdict: whatever keeps a request from being
answered at all is raised as it is. Only an answer decides, and only a successful handshake says "handshake era".
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from only1mcp._fast import Envelope
from only1mcp.backend.base import BackendCall, Transport
from only1mcp.errors import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    BackendAnswerError,
    BackendRefused,
    BackendTimeout,
    BackendUnavailable,
    ProtocolError,
)
from only1mcp.wire import jsonrpc
from only1mcp.wire.asks import RELAYED
from only1mcp.wire.mcp import (
    HANDSHAKE_REVISIONS,
    HEADER_MISMATCH,
    LATEST_HANDSHAKE,
    LATEST_STATELESS,
    META_CAPABILITIES,
    META_CLIENT_INFO,
    META_SERVER_INFO,
    META_VERSION,
    MISSING_CAPABILITY,
    STATELESS_REVISIONS,
    UNSUPPORTED_VERSION,
    Era,
)

# A server of the handshake era may ignore what it does not know; we do not wait for it longer than this.
PROBE_TIMEOUT_S: Final = 10.0
# Instructions included, a server introduces itself in kilobytes; more is an attempt to make every client carry it.
ANSWER_LIMIT_BYTES: Final = 1 << 20
# Room for every revision there will ever be, not for a list that we would print in an error.
SUPPORTED_LIMIT: Final = 64
REVISION_LIMIT_CHARS: Final = 64

# Statuses that speak of the caller, the load or the way to the server, never of its era.
_NO_VERDICT: Final = frozenset({401, 402, 403, 407, 408, 421, 425, 429, 502, 503, 504})
# What a stateless-era server without `server/discover` is taken to offer: asking for what it lacks gets an error.
_UNKNOWN_CAPABILITIES: Final = ("tools", "resources", "prompts")


@dataclass(frozen=True, slots=True)
class Peer:
    """What a backend said of itself. `supported` are the revisions it offers, the one in use (`revision`) included."""

    era: Era
    revision: str
    capabilities: dict[str, Any]
    server_info: dict[str, Any]
    instructions: str | None
    supported: tuple[str, ...]

    def offers(self, capability: str) -> bool:
        """Return whether the capability is declared; a null or any other value that is no object declares nothing."""
        return isinstance(self.capabilities.get(capability), dict)


async def establish(
    transport: Transport,
    next_id: Callable[[], bytes],
    *,
    timeout_s: float,
    client_version: str,
    probe: bool = True,
    capabilities: Mapping[str, Any] = RELAYED,
) -> Peer:
    """Find out the era, shake hands where there is one, set `transport.revision`, and return what the backend is.

    `timeout_s` bounds each request. Some servers of the handshake era end when their first message is not `initialize`:
    where a child died of the first attempt, call again with `probe=False`, which goes straight to the handshake, in
    which `capabilities` are declared.
    Raise `BackendUnavailable`, `BackendTimeout` or `BackendRefused` for outages, `BackendAnswerError` for a server that
    has no revision in common with us or whose answers are not MCP.
    """
    client_info = {"name": "only1mcp", "version": client_version}
    meeting = _Meeting(transport, next_id, timeout_s, client_info, capabilities)
    transport.session_id = None
    if probe:
        peer = await meeting.probe()
        if peer is not None:
            return peer
    return await meeting.shake_hands()


class _Meeting:
    """One attempt to get to know a backend."""

    def __init__(
        self,
        transport: Transport,
        next_id: Callable[[], bytes],
        timeout_s: float,
        client_info: dict[str, str],
        capabilities: Mapping[str, Any],
    ) -> None:
        self._transport = transport
        self._next_id = next_id
        self._timeout_s = timeout_s
        self._client_info = client_info
        self._capabilities = capabilities

    async def probe(self) -> Peer | None:
        """Ask `server/discover`; None: not of the stateless era, as far as it said."""
        try:
            answer = await self._discover(LATEST_STATELESS, {}, min(PROBE_TIMEOUT_S, self._timeout_s))
        except BackendTimeout:
            return None
        except BackendRefused as error:
            if error.status in _NO_VERDICT:
                raise
            return None
        except BackendUnavailable:
            raise
        except BackendAnswerError as error:
            return await self._after_broken_probe(error)
        except ProtocolError:
            return None
        if answer.result is not None:
            return self._discovered(answer)
        code, _, data = _error_of(answer)
        if code == UNSUPPORTED_VERSION:
            offered = _versions(data.get("supported"))
            revision = _first_common(STATELESS_REVISIONS, offered)
            if revision is not None:
                return await self._discover_again(revision, {})
            if offered and _first_common(HANDSHAKE_REVISIONS, offered) is None:
                raise _nothing_in_common(offered)
            return None
        if code == MISSING_CAPABILITY:
            required = data.get("requiredCapabilities")
            return await self._discover_again(LATEST_STATELESS, required if isinstance(required, dict) else {})
        if code == HEADER_MISMATCH:
            return await self._discover_again(LATEST_STATELESS, {})
        return None

    async def shake_hands(self) -> Peer:
        """Do the handshake of the handshake era, and return to the stateless era if the server insists on that."""
        answer = await self._initialize(LATEST_HANDSHAKE)
        if answer.error is not None:
            code, message, data = _error_of(answer)
            offered = _versions(data.get("supported"))
            stateless = _first_common(STATELESS_REVISIONS, offered)
            if stateless is None and any(revision in message for revision in STATELESS_REVISIONS):
                stateless = LATEST_STATELESS
            handshake = _first_common(HANDSHAKE_REVISIONS, offered)
            if code in (UNSUPPORTED_VERSION, METHOD_NOT_FOUND) and stateless is not None:
                return await self._insisted(stateless)
            if code in (UNSUPPORTED_VERSION, INVALID_PARAMS) and handshake is not None:
                answer = await self._initialize(handshake)
        if answer.error is not None:
            code, message, data = _error_of(answer)
            offered = _versions(data.get("supported"))
            if offered:
                raise _nothing_in_common(offered)
            raise BackendAnswerError(f"the backend refused the handshake: {message!r:.200} ({code})")
        return await self._initialized(answer)

    async def _after_broken_probe(self, error: BackendAnswerError) -> Peer:
        """The probe's answer could not be read, or its connection broke: a handshake that succeeds tells which."""
        try:
            return await self.shake_hands()
        except BackendUnavailable:
            raise error from None  # the child died of the probe, which says more than that it is gone

    async def _insisted(self, revision: str) -> Peer:
        """The server is of the stateless era after all: a slow answer to the probe, or no `server/discover` at all."""
        self._transport.revision = revision
        answer = await self._discover(revision, {}, self._timeout_s)
        if answer.result is not None:
            peer = self._discovered(answer)
            if peer is None:
                raise BackendAnswerError("the backend refused the handshake and offers no stateless revision we know")
            return peer
        code, message, _ = _error_of(answer)
        if code != METHOD_NOT_FOUND:
            raise BackendAnswerError(f"the backend refused server/discover: {message!r:.200} ({code})")
        return Peer(Era.STATELESS, revision, {name: {} for name in _UNKNOWN_CAPABILITIES}, {}, None, (revision,))

    async def _discover_again(self, revision: str, capabilities: dict[str, Any]) -> Peer | None:
        """Ask once more as the error told us to; a second error is final, it came from a stateless-era server."""
        answer = await self._discover(revision, capabilities, self._timeout_s)
        if answer.result is not None:
            return self._discovered(answer)
        code, message, _ = _error_of(answer)
        raise BackendAnswerError(f"the backend refused server/discover: {message!r:.200} ({code})")

    async def _discover(self, revision: str, capabilities: dict[str, Any], timeout_s: float) -> Envelope:
        self._transport.revision = revision
        meta = {META_VERSION: revision, META_CLIENT_INFO: self._client_info, META_CAPABILITIES: capabilities}
        return await self._ask("server/discover", {"_meta": meta}, timeout_s)

    async def _initialize(self, revision: str) -> Envelope:
        # Neither a version nor a session header belongs on `initialize` (2025-11-25 "Transports").
        self._transport.revision = None
        self._transport.session_id = None
        params = {"protocolVersion": revision, "capabilities": self._capabilities, "clientInfo": self._client_info}
        return await self._ask("initialize", params, self._timeout_s)

    async def _ask(self, method: str, params: dict[str, Any], timeout_s: float) -> Envelope:
        id = self._next_id()
        answer = await self._transport.call(
            BackendCall(method, jsonrpc.request(id, method, orjson.dumps(params)), id, timeout_s)
        )
        if len(answer.data) > ANSWER_LIMIT_BYTES:
            raise BackendAnswerError(f"the backend answered {method} with {len(answer.data)} bytes")
        return answer

    def _discovered(self, answer: Envelope) -> Peer | None:
        """Read a `DiscoverResult`; None for a result that is none, or that offers no stateless revision we know."""
        result = _result_of(answer)
        supported = _versions(result.get("supportedVersions"))
        revision = _first_common(STATELESS_REVISIONS, supported)
        if revision is None or result.get("resultType", "complete") != "complete":
            return None
        meta = _typed(result, "_meta", dict, {})
        peer = Peer(
            Era.STATELESS,
            revision,
            _typed(result, "capabilities", dict, {}),
            _typed(meta, META_SERVER_INFO, dict, {}),
            _typed(result, "instructions", str, None),
            supported,
        )
        self._transport.revision = revision
        return peer

    async def _initialized(self, answer: Envelope) -> Peer:
        result = _result_of(answer)
        revision = result.get("protocolVersion")
        if revision not in HANDSHAKE_REVISIONS:
            raise BackendAnswerError(
                f"the backend chose protocol version {revision!r:.80}; we know {', '.join(HANDSHAKE_REVISIONS)}"
            )
        peer = Peer(
            Era.HANDSHAKE,
            revision,
            _typed(result, "capabilities", dict, {}),
            _typed(result, "serverInfo", dict, {}),
            _typed(result, "instructions", str, None),
            (revision,),
        )
        self._transport.revision = revision
        await self._transport.send(jsonrpc.notification("notifications/initialized"))
        return peer


def _result_of(answer: Envelope) -> dict[str, Any]:
    assert answer.result is not None
    result = jsonrpc.decode(answer.data, answer.result)
    if not isinstance(result, dict):
        raise BackendAnswerError(f"the backend introduced itself with {result!r:.80} instead of an object")
    return result


def _error_of(answer: Envelope) -> tuple[int, str, dict[str, Any]]:
    """Return code, message and data of an error answer, each of the right type whatever came."""
    error: Any = None
    if answer.error is not None:
        with contextlib.suppress(orjson.JSONDecodeError):
            error = jsonrpc.decode(answer.data, answer.error)
    if not isinstance(error, dict):
        return 0, "", {}
    code, message, data = error.get("code"), error.get("message"), error.get("data")
    return (
        code if isinstance(code, int) else 0,
        message if isinstance(message, str) else "",
        data if isinstance(data, dict) else {},
    )


def _typed(members: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    """Return the member, `default` where it is absent or null; raise `BackendAnswerError` for another type."""
    value = members.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise BackendAnswerError(f"the backend introduced itself with {key}: {value!r:.80}, expected {kind.__name__}")
    return value


def _versions(value: Any) -> tuple[str, ...]:
    """Return the protocol versions in a list from outside, without what cannot be one."""
    if not isinstance(value, list):
        return ()
    return tuple(v for v in value[:SUPPORTED_LIMIT] if isinstance(v, str) and len(v) <= REVISION_LIMIT_CHARS)


def _first_common(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    return next((revision for revision in ours if revision in theirs), None)


def _nothing_in_common(offered: Sequence[str]) -> BackendAnswerError:
    ours = ", ".join((*STATELESS_REVISIONS, *HANDSHAKE_REVISIONS))
    return BackendAnswerError(
        f"the backend and we have no protocol version in common: it offers {', '.join(offered)!r:.200}, we know {ours}"
    )
