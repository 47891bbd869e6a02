"""The ways in which a request can fail, and what one of them looked like."""

from __future__ import annotations

from typing import Final, NamedTuple

# No connection could be opened.
CONNECT: Final = "connect"
# The connection ended before the answer was complete.
CLOSED: Final = "closed"
# The answer was not complete in time.
TIMEOUT: Final = "timeout"
# A status that refuses, redirects included, without a JSON-RPC error; `what` is the status.
HTTP: Final = "http"
# A JSON-RPC error; `what` is its code.
RPC_ERROR: Final = "rpc_error"
# A tool's result with isError.
TOOL_ERROR: Final = "tool_error"
# The server wants input of a user, who is not there.
INPUT_REQUIRED: Final = "input_required"
# What came is not the answer to the request: no HTTP, no JSON-RPC, another id, too long.
BAD_ANSWER: Final = "bad_answer"

KINDS: Final = (CONNECT, CLOSED, TIMEOUT, HTTP, RPC_ERROR, TOOL_ERROR, INPUT_REQUIRED, BAD_ANSWER)


class Failure(NamedTuple):
    """Why a request failed: one of `KINDS`, what exactly (few different values), and an example in words."""

    kind: str
    what: str = ""
    message: str = ""


class LoadError(Exception):
    """The load cannot begin; `cannot_connect` when nobody answers there, `hint` says what to do where that is known."""

    def __init__(
        self, message: str, *, hint: str | None = None, cannot_connect: bool = False, usage: bool = False
    ) -> None:
        super().__init__(message)
        self.hint = hint
        self.cannot_connect = cannot_connect
        self.usage = usage
