"""What both demo servers share: an MCP server of both eras as a function from one message to one answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from only1mcp.wire.mcp import (
    CACHEABLE,
    HANDSHAKE_REVISIONS,
    LATEST_HANDSHAKE,
    META_CAPABILITIES,
    META_SERVER_INFO,
    META_VERSION,
    RESOURCE_NOT_FOUND,
    STATELESS_REVISIONS,
    UNSUPPORTED_VERSION,
)

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602

# JSON-RPC batches are a part of this one revision only, and nobody needs them here.
_REVISIONS: Final = tuple(revision for revision in HANDSHAKE_REVISIONS if revision != "2025-03-26")
_STATUS: Final = {METHOD_NOT_FOUND: 404}
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {"string": (str,), "integer": (int,), "number": (int, float)}
# The answers are the same for everybody and change with the package alone.
_TTL_MS: Final = 60_000

Json = dict[str, Any]


class ToolError(Exception):
    """A tool's own failure: an answer for the model, not an error of the protocol."""


class RpcError(Exception):
    """An error of the protocol."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Reply(NamedTuple):
    """An answer and the HTTP status it travels with in the stateless era."""

    status: int
    message: Json


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool; all of its arguments are required. `run` returns text, or an object that becomes structured content."""

    name: str
    description: str
    arguments: Mapping[str, tuple[str, str]]  # name -> (JSON type, description)
    run: Callable[..., str | Json]
    output: Json | None = None
    always_same: bool = True

    def describe(self) -> Json:
        schema: Json = {
            "type": "object",
            "properties": {name: {"type": kind, "description": text} for name, (kind, text) in self.arguments.items()},
            "additionalProperties": False,
        }
        if self.arguments:
            schema["required"] = list(self.arguments)
        tool = {
            "name": self.name,
            "description": self.description,
            "inputSchema": schema,
            "annotations": {"readOnlyHint": True, "idempotentHint": self.always_same, "openWorldHint": False},
        }
        return tool if self.output is None else {**tool, "outputSchema": self.output}

    def call(self, arguments: Json) -> Json:
        """Return a `CallToolResult`; what is wrong with the arguments is told to the model (2025-11-25 "Tools")."""
        try:
            self._check(arguments)
            value = self.run(**arguments)
        except ToolError as error:
            return {"content": [{"type": "text", "text": str(error)}], "isError": True}
        text = value if isinstance(value, str) else json.dumps(value)
        result: Json = {"content": [{"type": "text", "text": text}], "isError": False}
        return result if isinstance(value, str) else {**result, "structuredContent": value}

    def _check(self, arguments: Json) -> None:
        for name in arguments:
            if name not in self.arguments:
                raise ToolError(f"unknown argument {name!r}, expected {', '.join(self.arguments) or 'none'}")
        for name, (kind, _) in self.arguments.items():
            if name not in arguments:
                raise ToolError(f"argument {name!r} is missing")
            value = arguments[name]
            if isinstance(value, bool) or not isinstance(value, _TYPES[kind]):
                raise ToolError(f"argument {name!r} must be of type {kind}")


@dataclass(frozen=True, slots=True)
class Resource:
    """A text that can be read."""

    uri: str
    name: str
    description: str
    text: str

    def describe(self) -> Json:
        return {"uri": self.uri, "name": self.name, "description": self.description, "mimeType": "text/plain"}

    def read(self) -> Json:
        return {"contents": [{"uri": self.uri, "mimeType": "text/plain", "text": self.text}]}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A template with one required argument, which stands in `text` as `{argument}`."""

    name: str
    description: str
    argument: str
    text: str

    def describe(self) -> Json:
        argument = {"name": self.argument, "required": True}
        return {"name": self.name, "description": self.description, "arguments": [argument]}

    def get(self, arguments: Json) -> Json:
        value = arguments.get(self.argument)
        if not isinstance(value, str):
            raise RpcError(INVALID_PARAMS, f"argument {self.argument!r} must be a string")
        text = self.text.replace("{argument}", value)
        message = {"role": "user", "content": {"type": "text", "text": text}}
        return {"description": self.description, "messages": [message]}


@dataclass(frozen=True, slots=True)
class DemoServer:
    """A small MCP server of every revision but 2025-03-26, without sessions: each message is answered by itself."""

    name: str
    instructions: str
    version: str
    tools: tuple[Tool, ...]
    resources: tuple[Resource, ...]
    prompts: tuple[Prompt, ...]
    capabilities: Json = field(default_factory=lambda: {"tools": {}, "resources": {}, "prompts": {}})

    def answer(self, message: Any, *, stateless: bool | None = None) -> Reply | None:
        """Answer one decoded message; None for what gets no answer. Unless given, the era is the message's own."""
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            return failure(None, RpcError(INVALID_REQUEST, "expected one JSON-RPC 2.0 message"))
        if "method" not in message and ("result" in message or "error" in message):
            return None
        id = message.get("id")
        if not isinstance(message.get("method"), str) or ("id" in message and not is_id(id)):
            return failure(id if is_id(id) else None, RpcError(INVALID_REQUEST, "expected a request with a valid id"))
        if "id" not in message:
            return None
        if stateless is None:
            stateless = is_stateless(message)
        try:
            if stateless:
                check_meta(message)
                check_version(message)
            result = self._result(message["method"], _params(message), stateless=stateless)
        except RpcError as error:
            return failure(id, error, stateless=stateless)
        return Reply(200, {"jsonrpc": "2.0", "id": id, "result": result})

    def _result(self, method: str, params: Json, *, stateless: bool) -> Json:
        if stateless:
            result = {"resultType": "complete", **self._stateless_only(method, params)}
            if method in CACHEABLE:
                result.update(ttlMs=_TTL_MS, cacheScope="public")
            result["_meta"] = {META_SERVER_INFO: self._info()}
            return result
        if method == "initialize":
            return self._initialize(params)
        if method == "ping":
            return {}
        return self._common(method, params, not_found=RESOURCE_NOT_FOUND)

    def _stateless_only(self, method: str, params: Json) -> Json:
        if method == "server/discover":
            return {
                "supportedVersions": list(STATELESS_REVISIONS),
                "capabilities": self.capabilities,
                "instructions": self.instructions,
            }
        return self._common(method, params, not_found=INVALID_PARAMS)

    def _initialize(self, params: Json) -> Json:
        requested = params.get("protocolVersion")
        if not isinstance(requested, str):
            raise RpcError(INVALID_PARAMS, "protocolVersion must be a string")
        return {
            "protocolVersion": requested if requested in _REVISIONS else LATEST_HANDSHAKE,
            "capabilities": self.capabilities,
            "serverInfo": self._info(),
            "instructions": self.instructions,
        }

    def _common(self, method: str, params: Json, *, not_found: int) -> Json:
        if method == "tools/list":
            return {"tools": _whole(params, self.tools)}
        if method == "resources/list":
            return {"resources": _whole(params, self.resources)}
        if method == "resources/templates/list":
            return {"resourceTemplates": _whole(params, ())}
        if method == "prompts/list":
            return {"prompts": _whole(params, self.prompts)}
        if method == "tools/call":
            name = _string(params, "name")
            for tool in self.tools:
                if tool.name == name:
                    return tool.call(_arguments(params))
            raise RpcError(INVALID_PARAMS, f"unknown tool: {name}")
        if method == "resources/read":
            uri = _string(params, "uri")
            for resource in self.resources:
                if resource.uri == uri:
                    return resource.read()
            raise RpcError(not_found, "resource not found", {"uri": uri})
        if method == "prompts/get":
            name = _string(params, "name")
            for prompt in self.prompts:
                if prompt.name == name:
                    return prompt.get(_arguments(params))
            raise RpcError(INVALID_PARAMS, f"unknown prompt: {name}")
        raise RpcError(METHOD_NOT_FOUND, f"method not found: {method}")

    def _info(self) -> Json:
        return {"name": self.name, "version": self.version}


def decode(data: bytes) -> Any:
    """Return the value of one JSON text; raise `RpcError` for anything else."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise RpcError(PARSE_ERROR, "the message is not valid JSON") from None


def encode(message: Json) -> bytes:
    """Return the message as ASCII on one line, which both transports need."""
    return json.dumps(message, separators=(",", ":")).encode()


def failure(id: Any, error: RpcError, *, stateless: bool = False) -> Reply:
    """Return the error answer; the id is left out where it could not be read."""
    body: Json = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    head: Json = {"jsonrpc": "2.0"} if id is None else {"jsonrpc": "2.0", "id": id}
    unread = error.code in (PARSE_ERROR, INVALID_REQUEST)
    status = _STATUS.get(error.code, 400) if stateless or unread else 200
    return Reply(status, {**head, "error": body})


def is_id(value: Any) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def is_stateless(message: Json) -> bool:
    """Return whether a message is of the stateless era: it says so, or its method exists there alone."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return (isinstance(meta, dict) and META_VERSION in meta) or message.get("method") == "server/discover"


def check_meta(message: Json) -> None:
    """Raise unless the request carries the two required members of the stateless era (2026-07-28 "_meta")."""
    meta = _params(message).get("_meta")
    if (
        not isinstance(meta, dict)
        or not isinstance(meta.get(META_VERSION), str)
        or not isinstance(meta.get(META_CAPABILITIES), dict)
    ):
        raise RpcError(INVALID_PARAMS, f"params._meta must carry {META_VERSION} and {META_CAPABILITIES}")


def check_version(message: Json) -> None:
    """Raise unless we speak the version that the request names; `check_meta` has passed."""
    requested = message["params"]["_meta"][META_VERSION]
    if requested not in STATELESS_REVISIONS:
        data = {"supported": list(STATELESS_REVISIONS), "requested": requested}
        raise RpcError(UNSUPPORTED_VERSION, "unsupported protocol version", data)


def _params(message: Json) -> Json:
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise RpcError(INVALID_PARAMS, "params must be an object")
    return params


def _string(params: Json, key: str) -> str:
    value = params.get(key)
    if not isinstance(value, str):
        raise RpcError(INVALID_PARAMS, f"params.{key} must be a string")
    return value


def _arguments(params: Json) -> Json:
    arguments = params.get("arguments", {})
    if not isinstance(arguments, dict):
        raise RpcError(INVALID_PARAMS, "params.arguments must be an object")
    return arguments


def _whole(params: Json, items: tuple[Tool, ...] | tuple[Resource, ...] | tuple[Prompt, ...]) -> list[Json]:
    """Return the whole list, which is one page: we never gave out a cursor."""
    if params.get("cursor") is not None:
        raise RpcError(INVALID_PARAMS, "unknown cursor")
    return [item.describe() for item in items]


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
