"""Checks that a message is valid for its revision, by the schema that MCP publishes for it.

The schemas stand in tests/fixtures/schemas (copied from the specification). `check` is called by every fake client
(`tests/mcp_caller.py`, `tests/e2e/wire_client.py`) and every fake backend (`tests/mcp_backend.py`) for each message
that comes from the proxy, so that no test has to ask for it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator

SCHEMAS = Path(__file__).parent / "fixtures" / "schemas"
# Which definition a result must fit, by the method that was asked; requests and notifications find theirs by method.
RESULTS = {
    "initialize": "InitializeResult",
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


def check(message: dict[str, Any], revision: str, asked: str | None = None) -> None:
    """Raise AssertionError unless the message is valid; `asked` is the method that a result answers."""
    name = _definition(message, revision, asked)
    if name is not None:
        errors = [
            f"{'/'.join(map(str, e.absolute_path))}: {e.message:.200}"
            for e in _validator(revision, name).iter_errors(_part(message, asked))
        ]
        assert not errors, f"not valid as {name} of {revision}: {errors}\n{json.dumps(message)[:1000]}"


def _part(message: dict[str, Any], asked: str | None) -> Any:
    return message["result"] if "result" in message and asked in RESULTS else message


def _definition(message: dict[str, Any], revision: str, asked: str | None) -> str | None:
    if "method" in message:
        return _methods(revision).get(message["method"])
    if "result" in message:
        if message["result"].get("resultType") == "input_required":
            return "InputRequiredResult"
        return RESULTS.get(asked or "")
    return None


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
