"""Checks that a message is valid for its revision, by the schema that MCP publishes for it.

The schemas stand in tests/fixtures/schemas (copied from the specification). What the proxy sends is checked where it
arrives, so that no test has to ask for it: by the clients (`tests/mcp_caller.py`, `tests/launched.py`,
`tests/e2e/wire_client.py`, the channels of `tests/proxy/exchanges.py`), and by the backends (`tests/mcp_backend.py`,
`tests/backend/fakes.py`). Backends that break the rules on purpose make the proxy pass on what breaks them, too: a test
with such a one says so by `@pytest.mark.unchecked(why)`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

SCHEMAS = Path(__file__).parent / "fixtures" / "schemas"
# Which definition a result must fit, by the method that was asked; requests and notifications find theirs by method.
RESULTS = {
    "initialize": "InitializeResult",
    "ping": "EmptyResult",
    "logging/setLevel": "EmptyResult",
    "resources/subscribe": "EmptyResult",
    "resources/unsubscribe": "EmptyResult",
    "tools/list": "ListToolsResult",
    "tools/call": "CallToolResult",
    "resources/list": "ListResourcesResult",
    "resources/templates/list": "ListResourceTemplatesResult",
    "resources/read": "ReadResourceResult",
    "prompts/list": "ListPromptsResult",
    "prompts/get": "GetPromptResult",
    "completion/complete": "CompleteResult",
    "server/discover": "DiscoverResult",
    "subscriptions/listen": "SubscriptionsListenResult",
    "sampling/createMessage": "CreateMessageResult",
    "elicitation/create": "ElicitResult",
    "roots/list": "ListRootsResult",
}


REVISIONS = tuple(sorted(path.stem.removeprefix("mcp-") for path in SCHEMAS.glob("mcp-*.json")))
HANDSHAKE, STATELESS = REVISIONS[-2:]
META_VERSION = "io.modelcontextprotocol/protocolVersion"
ERRORS = ("JSONRPCErrorResponse", "JSONRPCError")


class _Watch:
    """Whether what arrives is checked in this test, and what was wrong where an exception would reach nobody."""

    def __init__(self) -> None:
        self.checking = True
        self.invalid: list[str] = []


_watch = _Watch()


@contextmanager
def watched(*, checking: bool) -> Iterator[None]:
    """Fail at the end of the block for every invalid message in it (`tests/conftest.py`)."""
    _watch.checking, _watch.invalid = checking, []
    yield
    _watch.checking = True
    assert not _watch.invalid, "\n".join(_watch.invalid)


def check(message: dict[str, Any], revision: str, asked: str | None = None) -> None:
    """Raise AssertionError unless the message is valid; `asked` is the method that a result answers."""
    name = _definition(message, revision, asked)
    if name is not None:
        errors = [
            f"{'/'.join(map(str, e.absolute_path))}: {e.message:.200}"
            for e in _validator(revision, name).iter_errors(_part(message, asked))
        ]
        assert not errors, f"not valid as {name} of {revision}: {errors}\n{json.dumps(message)[:1000]}"


def revision_of(message: dict[str, Any], otherwise: str = HANDSHAKE) -> str:
    """Return the revision that a message names, as stateless requests do."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    named = meta.get(META_VERSION) if isinstance(meta, dict) else None
    return named if named in REVISIONS else otherwise


class Conversation:
    """What one side has asked, so that what the other side says can be checked."""

    def __init__(self, revision: str = HANDSHAKE) -> None:
        # That of what names none.
        self.revision = revision
        self._last = revision
        self._asked: dict[str, tuple[str, str]] = {}

    def asks(self, message: Any, *, in_session: bool = False) -> None:
        """Note what is sent, in a session or where the message itself says its revision.

        One that cannot be read is answered by an error, whose method does not matter.
        """
        if isinstance(message, bytes):
            try:
                message = json.loads(message)
            except (ValueError, RecursionError):
                return
        if isinstance(message, dict) and isinstance(message.get("method"), str):
            self._last = self.revision if in_session else revision_of(message, self.revision)
            if "id" in message:
                self._asked[json.dumps(message["id"])] = message["method"], self._last

    def hears(self, message: Any) -> None:
        """Check what the other side says."""
        if not _watch.checking or not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return
        method, revision = self._last_method(message)
        if method == "initialize" and "result" in message:
            self.revision = self._last = revision = message["result"]["protocolVersion"]
        check(message, revision, method)

    def overhears(self, message: Any) -> None:
        """Do as `hears`, but let the test fail at its end: for what runs inside the proxy, or in a task of a server."""
        try:
            self.hears(message)
        except AssertionError as error:
            _watch.invalid.append(str(error))

    def _last_method(self, message: dict[str, Any]) -> tuple[str | None, str]:
        if "method" in message:
            return None, revision_of(message, self._last)
        return self._asked.get(json.dumps(message.get("id")), (None, self._last))


def _part(message: dict[str, Any], asked: str | None) -> Any:
    return message["result"] if "result" in message and asked in RESULTS else message


def _definition(message: dict[str, Any], revision: str, asked: str | None) -> str | None:
    if "method" in message:
        return _methods(revision).get(message["method"])
    if "result" in message:
        kind = message["result"].get("resultType")
        if kind == "input_required":
            return "InputRequiredResult"
        if kind == "task":
            return "Result"  # what a task is, an extension says
        if asked == "tools/call" and "task" in message["result"] and "CreateTaskResult" in _definitions(revision)[1]:
            return "CreateTaskResult"
        return RESULTS.get(asked or "")
    return next(name for name in ERRORS if name in _definitions(revision)[1])


@cache
def _document(revision: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((SCHEMAS / f"mcp-{revision}.json").read_text())
    return document


@cache
def _definitions(revision: str) -> tuple[str, dict[str, Any]]:
    document = _document(revision)
    key = "$defs" if "$defs" in document else "definitions"
    return key, document[key]


@cache
def _methods(revision: str) -> dict[str, str]:
    _, definitions = _definitions(revision)
    return {
        each["properties"]["method"]["const"]: name
        for name, each in definitions.items()
        if "const" in each.get("properties", {}).get("method", {})
    }


@cache
def _validator(revision: str, name: str) -> Any:
    key, definitions = _definitions(revision)
    kind = Draft202012Validator if key == "$defs" else Draft7Validator
    return kind({"$ref": f"#/{key}/{name}", key: definitions})
