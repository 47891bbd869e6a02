"""What is asked of the proxies and what must come back: requests as bytes, checked answer by answer before any load."""

from __future__ import annotations

import json
import socket
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from tests.e2e.processes import until
from tests.e2e.wire_client import HANDSHAKE, META, STATELESS

ERAS = {"stateless": STATELESS, "handshake": HANDSHAKE}
DISTINCT_CALLS = 1024
CHECKED_CALLS, CHECKED_LARGE = 128, 8
# Of the answers to the load, every one has its status looked at and one in so many its body.
SAMPLED_BODIES = 16
READY_S = 60.0
ANSWER_S = 20.0
ARGUMENT = "what a model might ask for, in about a hundred characters, so that the call has a body worth the name"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The JSON-RPC messages of a JSON body or of an SSE stream."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return [json.loads(self.body)]
        lines = self.body.decode().splitlines()
        return [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]


class Connection:
    """One keep-alive connection on which requests are asked one after another."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((str(parts.hostname), parts.port or 80), ANSWER_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> Reply:
        self._socket.sendall(request)
        response = HTTPResponse(self._socket, method="POST")
        response.begin()
        with response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read())


@dataclass(frozen=True, slots=True)
class Call:
    """One JSON-RPC request: its id, its body, and the headers that go with it."""

    id: int
    body: bytes
    headers: Mapping[str, str]

    def encode(self, url: str, more: Mapping[str, str] | None = None) -> bytes:
        parts = urlsplit(url)
        fields = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self.headers,
            **(more or {}),
            "Content-Length": str(len(self.body)),
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {parts.path} HTTP/1.1\r\n{lines}\r\n".encode() + self.body


@dataclass(frozen=True, slots=True)
class Plan:
    """The calls of a row and what their answers are.

    Every answer has `status`; a body holds `fragment` and passes `check`, which raises what is wrong. Where `is_large`,
    the load generator goes by statuses and octets alone: reading bodies would cost it more than the proxy spends on
    them.
    """

    era: str
    calls: tuple[Call, ...]
    check: Callable[[Call, Reply], None]
    fragment: str
    status: int = 200
    is_large: bool = False

    def with_headers(self, **headers: str) -> Plan:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, calls=tuple(replace(call, headers={**call.headers, **more}) for call in self.calls))


def plan_calls(era: str, tools: Iterable[str], octets: int, *, events: int = 0) -> Plan:
    """Call the tools in turn; each answers with `octets` of text, after `events - 1` progress notifications."""
    names = list(tools)
    text = "x" * octets

    def body(id: int) -> tuple[str, dict[str, Any]]:
        params: dict[str, Any] = {"name": names[id % len(names)], "arguments": {"text": ARGUMENT}}
        if events:
            params["_meta"] = {"progressToken": id}
        return "tools/call", params

    def check(call: Call, reply: Reply) -> None:
        *progress, answer = reply.messages
        assert answer["id"] == call.id, answer
        assert answer["result"]["content"] == [{"type": "text", "text": text}], str(answer)[:1000]
        assert len(progress) == max(events - 1, 0), f"{len(progress)} notifications"
        for number, message in enumerate(progress):
            assert message["method"] == "notifications/progress", message
            assert message["params"]["progressToken"] == call.id, message
            assert message["params"]["progress"] == number, message

    is_large = octets > 10_000 or events > 0
    fragment = '"text":"' + text[:1000]
    return Plan(era, _calls(era, body), check, fragment, is_large=is_large)


def plan_lists(era: str, tools: Iterable[str]) -> Plan:
    """List the tools over and over."""
    names = list(tools)

    def check(call: Call, reply: Reply) -> None:
        (answer,) = reply.messages
        assert answer["id"] == call.id, answer
        assert [tool["name"] for tool in answer["result"]["tools"]] == names, answer

    return Plan(era, _calls(era, lambda _: ("tools/list", {})), check, f'"name":"{names[-1]}"')


def plan_refused(good: Plan, status: int, *, code: int, is_cut: bool = False) -> Plan:
    """Ask what `good` asks, cut off in the middle if `is_cut`, and expect to be refused."""

    def check(call: Call, reply: Reply) -> None:
        (answer,) = reply.messages
        assert answer["error"]["code"] == code, answer

    calls = good.calls
    if is_cut:
        calls = tuple(replace(call, body=call.body[: len(call.body) * 2 // 3]) for call in calls)
    return replace(good, calls=calls, status=status, check=check, fragment='"error":')


def prepare(plan: Plan, url: str, file: Path, *, ready: int = 1) -> int:
    """Wait until the first `ready` calls are served at `url`, check answers, and write the requests for the load.

    Each request in the file is a line with its length followed by its bytes. Return the length of an answer's body.
    """
    session: dict[str, str] = {}
    outcome = ""

    def is_served(call: Call) -> bool:
        nonlocal outcome
        try:
            with Connection(url) as connection:
                if plan.era == "handshake" and not session:
                    session.update(open_session(connection, url, plan.calls[0].headers))
                reply = connection.ask(call.encode(url, session))
        except (OSError, HTTPException) as error:
            outcome = repr(error)
            return False
        outcome = f"{reply.status} {reply.body[:500]!r}"
        return reply.status == plan.status

    for call in plan.calls[:ready]:
        try:
            until(lambda call=call: is_served(call), READY_S, f"status {plan.status}")
        except AssertionError as error:
            raise AssertionError(f"{url}: {error}; the last answer was {outcome}") from None
    requests = [call.encode(url, session) for call in plan.calls]
    octets = verify(plan, url, requests[: CHECKED_LARGE if plan.is_large else CHECKED_CALLS])
    file.write_bytes(b"".join(b"%d\n" % len(request) + request for request in requests))
    return octets


def verify(plan: Plan, url: str, requests: Iterable[bytes]) -> int:
    """Ask the first calls of the plan in these encodings, check every answer whole, return the length of a body."""
    lengths = []
    with Connection(url) as connection:
        for call, request in zip(plan.calls, requests, strict=False):
            reply = connection.ask(request)
            assert reply.status == plan.status, (
                f"{url}: expected {plan.status}, got {reply.status}: {reply.body[:500]!r}"
            )
            assert plan.fragment.encode() in reply.body, f"{url}: {reply.body[:500]!r}"
            plan.check(call, reply)
            lengths.append(len(reply.body))
    return round(statistics.median(lengths))


def open_session(connection: Connection, url: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Do the handshake; the session is left open, since ending it would end it for the load too."""
    params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": {"name": "loopback", "version": "1"}}
    first = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    reply = connection.ask(Call(0, _encode(first), headers).encode(url))
    assert reply.status == 200, reply
    id = reply.headers.get("mcp-session-id")
    session = {} if id is None else {"Mcp-Session-Id": id}
    second = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert connection.ask(Call(0, _encode(second), headers).encode(url, session)).status == 202
    return session


def _calls(era: str, body: Callable[[int], tuple[str, dict[str, Any]]]) -> tuple[Call, ...]:
    revision = ERAS[era]
    calls = []
    for id in range(1, DISTINCT_CALLS):
        method, params = body(id)
        headers = {"MCP-Protocol-Version": revision}
        if era == "stateless":
            meta = {f"{META}protocolVersion": revision, f"{META}clientCapabilities": {}, **params.get("_meta", {})}
            params = {**params, "_meta": meta}
            headers["Mcp-Method"] = method
            if "name" in params:
                headers["Mcp-Name"] = params["name"]
        calls.append(Call(id, _encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params}), headers))
    return tuple(calls)


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
