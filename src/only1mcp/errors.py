"""Every error the proxy raises on purpose, and the one function that turns any of them into a JSON-RPC error.

    Only1MCPError
     +- ConfigError              the configuration cannot be used; carries every problem found
     +- ProtocolError            bytes that HTTP, JSON-RPC, SSE or MCP do not allow; the only error a parser raises
     +- RequestRefused           a well-formed request that we do not serve (unknown method, tool, session, ...)
     |   +- NotAuthenticated     no credentials or bad ones
     |   +- NotAllowed           known principal, missing right; foreign Host or Origin
     |   +- RateLimited          too many requests; `retry_after_s` says when to come back
     |   +- Overloaded           a limit on requests in flight or connections is reached
     +- BackendError             a backend did not do its part
         +- BackendUnavailable   no endpoint could take the call; nothing reached a backend
         +- BackendTimeout       the deadline passed before the answer was complete
         +- BackendAnswerError   the answer breaks the protocol, or the connection broke under it
             +- BackendRefused   an HTTP status of 400 and above without a JSON-RPC body
             +- HeadersRefused   the headers that mirror a call do not fit the tool as the backend has it now

Each class knows its `source` (who is at fault), `http_status`, JSON-RPC `code` (ours are outside the ranges that
JSON-RPC and MCP reserve) and whether the same request may be sent again (`retryable`: no byte of it reached a backend).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import orjson

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

Source = Literal["client", "backend", "proxy"]


class Only1MCPError(Exception):
    """Base of all. `data` becomes the JSON-RPC error's `data` member; `message` must be fit for a client's eyes."""

    source: ClassVar[Source] = "proxy"
    http_status: int = 500
    code: int = INTERNAL_ERROR
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, data: Any = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class ConfigError(Only1MCPError):
    """The configuration cannot be used. `problems` holds one line each: `file:line:column: path: what is wrong`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ProtocolError(Only1MCPError):
    """A peer sent bytes that the protocol does not allow.

    `id` is the raw JSON token of the request's id where it could be read, so that the answer can carry it.
    """

    source = "client"
    http_status = 400
    code = INVALID_REQUEST

    def __init__(
        self,
        message: str,
        *,
        code: int = INVALID_REQUEST,
        http_status: int = 400,
        id: bytes | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(message, data=data)
        self.code = code
        self.http_status = http_status
        self.id = id


class RequestRefused(Only1MCPError):
    """A well-formed request that is not served: `code` and `http_status` as in MCP's error table."""

    source: ClassVar[Source] = "client"
    http_status = 400
    code = INVALID_PARAMS

    def __init__(
        self, message: str, *, code: int | None = None, http_status: int | None = None, data: Any = None
    ) -> None:
        super().__init__(message, data=data)
        if code is not None:
            self.code = code
        if http_status is not None:
            self.http_status = http_status


class NotAuthenticated(RequestRefused):
    """`challenge` is the value of the answer's WWW-Authenticate field (RFC 9110 section 11.6.1)."""

    http_status = 401
    code = -31004
    challenge: bytes = b'Bearer realm="only1mcp"'


class NotAllowed(RequestRefused):
    """`challenge` is the WWW-Authenticate value that names missing scopes (RFC 6750 section 3.1), if they are why."""

    http_status = 403
    code = -31005
    challenge: bytes | None = None


class RateLimited(RequestRefused):
    """`retry_after_s` is the time in seconds after which one more request is admitted (RFC 9110 section 10.2.3)."""

    http_status = 429
    code = -31003

    def __init__(self, message: str, *, retry_after_s: float, data: Any = None) -> None:
        super().__init__(message, data=data)
        self.retry_after_s = retry_after_s


class Overloaded(RequestRefused):
    source = "proxy"
    http_status = 503
    code = -31006


class BackendError(Only1MCPError):
    source = "backend"
    http_status = 502
    code = -31007


class BackendUnavailable(BackendError):
    http_status = 503
    code = -31001
    retryable = True


class BackendTimeout(BackendError):
    http_status = 504
    code = -31002


class BackendAnswerError(BackendError):
    http_status = 502
    code = -31007


class BackendRefused(BackendAnswerError):
    """`status` is the HTTP status that the backend sent."""

    def __init__(self, message: str, *, status: int, data: Any = None) -> None:
        super().__init__(message, data=data)
        self.status = status


class HeadersRefused(BackendAnswerError):
    """The backend has refused the call before it ran (2026-07-28, -32020)."""

    http_status = 200
    code = INTERNAL_ERROR


def error_message(error: Only1MCPError, id: bytes | None = None) -> bytes:
    """Return the JSON-RPC 2.0 error response for `error`; `id` is the raw token, left out when unknown (MCP schema)."""
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    id = id if id is not None else getattr(error, "id", None)
    prefix = b'{"jsonrpc":"2.0",' if id is None else b'{"jsonrpc":"2.0","id":' + id + b","
    try:
        text = orjson.dumps(body, default=str)
    except TypeError:
        # Bytes of the system that are not UTF-8 (file names, the environment) end up in messages as lone surrogates.
        text = orjson.dumps({"code": error.code, "message": error.message.encode(errors="replace").decode()})
    return prefix + b'"error":' + text + b"}"
