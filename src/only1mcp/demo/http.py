"""The demo server on Streamable HTTP: `python -m only1mcp.demo.http [--port N]`, loopback only, until its input ends.

It prints one line of JSON with its url when it is ready, and stops at the end of its standard input, so that it never
outlives whoever started it.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import contextlib
import json
import os
import re
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import urlsplit

from only1mcp import __version__
from only1mcp.demo.dispatch import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    DemoServer,
    Json,
    Prompt,
    Resource,
    RpcError,
    Tool,
    ToolError,
    check_meta,
    decode,
    encode,
    failure,
    is_id,
    is_stateless,
)
from only1mcp.wire.mcp import HANDSHAKE_REVISIONS, HEADER_MISMATCH, META_VERSION, NAMED_BY

PATH: Final = "/mcp"
# What the official Python server takes; more is no demonstration.
BODY_LIMIT_BYTES: Final = 4 << 20
IDLE_TIMEOUT_S: Final = 75

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=")
_ROMAN: Final = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)


def roman_numeral(number: int) -> str:
    if not 1 <= number <= 3999:
        raise ToolError("the Romans wrote 1 to 3999")
    digits = []
    for value, digit in _ROMAN:
        digits.append(digit * (number // value))
        number %= value
    return "".join(digits)


def word_count(text: str) -> dict[str, Any]:
    return {"words": len(text.split()), "lines": len(text.splitlines()), "characters": len(text)}


_COUNTS: Final = ("words", "lines", "characters")

SERVER = DemoServer(
    name="only1mcp-demo-http",
    version=__version__,
    instructions="A demo server on Streamable HTTP: it counts words, makes identifiers and writes Roman numerals.",
    tools=(
        Tool(
            "word_count",
            "Count the words, lines and characters of a text.",
            {"text": ("string", "The text to count")},
            word_count,
            output={
                "type": "object",
                "properties": {name: {"type": "integer"} for name in _COUNTS},
                "required": list(_COUNTS),
            },
        ),
        Tool("uuid", "Return a new random UUID.", {}, lambda: str(uuid.uuid4()), always_same=False),
        Tool(
            "roman_numeral",
            "Write a whole number as a Roman numeral.",
            {"number": ("integer", "A number from 1 to 3999")},
            roman_numeral,
        ),
    ),
    resources=(
        Resource(
            "demo://http/about",
            "about-http",
            "What this server is",
            "This text comes from a server that Only1MCP reaches over HTTP.\n",
        ),
    ),
    prompts=(Prompt("summarize", "Summarize a text.", "text", "Summarize in one sentence: {argument}"),),
)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "only1mcp-demo"
    timeout = IDLE_TIMEOUT_S
    # Head and body leave in one segment.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self._body()
        if body is None or not self._is_welcome():
            return
        if self.path != PATH:
            self._refuse(404, f"there is only {PATH} here")
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "Content-Type must be application/json")
            return
        if not _accepts_json(self.headers.get("Accept")):
            self._refuse(406, "Accept must include application/json and text/event-stream")
            return
        try:
            message = decode(body)
        except RpcError as error:
            self._answer(400, failure(None, error).message)
            return
        try:
            stateless = self._check(message)
        except RpcError as error:
            id = message.get("id") if isinstance(message, dict) else None
            self._answer(400, failure(id if is_id(id) else None, error).message)
            return
        reply = SERVER.answer(message, stateless=stateless)
        if reply is not None:
            self._answer(reply.status, reply.message)
        elif stateless and "method" not in message:
            self._answer(400, failure(None, RpcError(INVALID_REQUEST, "responses cannot be posted")).message)
        else:
            self._answer(202, None)

    def do_GET(self) -> None:
        """Refuse: there is no stream of our own, and there are no sessions to end (2025-11-25 "Transports")."""
        if self._body() is not None and self._is_welcome():
            self._refuse(405, "only POST is served", allow="POST")

    do_DELETE = do_PUT = do_GET  # noqa: N815 - the names are http.server's

    def _body(self) -> bytes | None:
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") is not None:
            problem, status = "send a Content-Length", 411
        elif len(lengths) > 1 or (lengths and not re.fullmatch("[0-9]{1,18}", lengths[0])):
            problem, status = "bad Content-Length", 400
        elif lengths and int(lengths[0]) > BODY_LIMIT_BYTES:
            problem, status = f"at most {BODY_LIMIT_BYTES} bytes are read", 413
        else:
            return self.rfile.read(int(lengths[0])) if lengths else b""
        self.close_connection = True
        self._refuse(status, problem)
        return None

    def _is_welcome(self) -> bool:
        """Keep web pages out that made a browser believe we are theirs (DNS rebinding)."""
        hosts = self.headers.get_all("Host") or []
        origins = self.headers.get_all("Origin") or []
        if len(hosts) == 1 and len(origins) <= 1:
            names = [f"//{hosts[0]}", *origins]
            if all(_host_of(name) in _LOOPBACK for name in names):
                return True
        self._refuse(403, "Host and Origin must be loopback names")
        return False

    def _check(self, message: Any) -> bool:
        """Return whether the message is of the stateless era, whose headers must repeat what its body says."""
        version = self._single("MCP-Protocol-Version")
        if not isinstance(message, dict) or (version is not None and version in HANDSHAKE_REVISIONS):
            return False
        if version is None:
            if is_stateless(message):
                raise RpcError(HEADER_MISMATCH, "the header MCP-Protocol-Version is missing")
            return False
        if "id" not in message or not isinstance(message.get("method"), str):
            return True
        check_meta(message)
        method, params = message["method"], message["params"]
        self._compare("MCP-Protocol-Version", version, params["_meta"][META_VERSION])
        self._compare("Mcp-Method", self._single("Mcp-Method"), method)
        if method in NAMED_BY:
            expected = params.get(NAMED_BY[method])
            if not isinstance(expected, str):
                raise RpcError(INVALID_PARAMS, f"params.{NAMED_BY[method]} must be a string")
            self._compare("Mcp-Name", _decoded(self._single("Mcp-Name")), expected)
        return True

    def _single(self, name: str) -> str | None:
        values = self.headers.get_all(name) or []
        if len(values) > 1:
            raise RpcError(HEADER_MISMATCH, f"the header {name} came twice")
        return values[0].strip(" \t") if values else None

    def _compare(self, name: str, value: str | None, expected: str) -> None:
        if value != expected:
            raise RpcError(HEADER_MISMATCH, f"the header {name} does not match the body")

    def _answer(self, status: int, message: Json | None, allow: str | None = None) -> None:
        body = encode(message) if message is not None else b""
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if allow is not None:
            self.send_header("Allow", allow)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, reason: str, allow: str | None = None) -> None:
        self._answer(status, failure(None, RpcError(INVALID_REQUEST, reason)).message, allow)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: standard error is for what goes wrong."""


class Server(ThreadingHTTPServer):
    """Listens on loopback; connections that are still open do not hold up its end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error; anything else is a bug worth a traceback."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def _accepts_json(accept: str | None) -> bool:
    """Return whether JSON is welcome; who sends no Accept takes anything (RFC 9110 section 12.5.1)."""
    ranges = [item.partition(";")[0].strip().lower() for item in (accept or "*/*").split(",")]
    return any(item in ("application/json", "application/*", "*/*") for item in ranges)


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is no port
        return parts.hostname if not parts.path and "@" not in parts.netloc else None
    except ValueError:
        return None


def _decoded(value: str | None) -> str | None:
    """Return a header value as the body spells it (2026-07-28 "Transports", base64 form)."""
    encoded = _ENCODED.fullmatch(value) if value is not None else None
    if encoded is None:
        return value
    try:
        return base64.b64decode(encoded[1], validate=True).decode()
    except (binascii.Error, ValueError):
        raise RpcError(HEADER_MISMATCH, "a header holds bad base64") from None


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m only1mcp.demo.http", description="An MCP demo server.")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    port = parser.parse_args().port
    with Server(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        line = json.dumps({"url": f"http://127.0.0.1:{server.server_port}{PATH}"}) + "\n"
        with contextlib.suppress(BrokenPipeError):  # who started us is gone: the end of the input comes next
            os.write(sys.stdout.fileno(), line.encode())
        while sys.stdin.buffer.read(65536):
            pass
        server.shutdown()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
