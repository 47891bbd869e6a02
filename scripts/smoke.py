"""Uses a deployed proxy as its clients do: `python -m scripts.smoke URL` waits for its health, then asks for tools.

URL is the address without a path. Within `--wait` seconds `/health` must answer 200, then `/ready`, then the MCP
endpoint must list its tools, in both eras, with the token in ONLY1MCP_TOKEN where clients need one; a wrong token must
be refused, and `--version` be what it says it is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

TIMEOUT_S = 30
EVERY_S = 2.0
LIMIT_BYTES = 16 << 20
HANDSHAKE, STATELESS = "2025-11-25", "2026-07-28"
META = "io.modelcontextprotocol/"
Answer = TypeVar("Answer")


class Wrong(Exception):
    """The proxy does not do what it should."""


class Client:
    """What is asked of one proxy."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        self.token = token

    def get(self, path: str) -> int:
        return self._send(urllib.request.Request(self.url + path))[0]

    def ask(
        self, message: dict[str, Any], headers: dict[str, str], token: str | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Send a message to the endpoint; return status, headers and the message that comes back."""
        request = urllib.request.Request(f"{self.url}/mcp", json.dumps(message).encode(), headers)
        request.add_header("Content-Type", "application/json")
        request.add_header("Accept", "application/json, text/event-stream")
        token = token or self.token
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        status, answered, body = self._send(request)
        if answered.get("content-type", "").startswith("text/event-stream"):
            data = [line.removeprefix("data:") for line in body.decode().splitlines() if line.startswith("data:")]
            body = data[-1].encode() if data else b""
        try:
            return status, answered, json.loads(body or b"null")
        except ValueError:
            raise Wrong(f"what comes back is no message: {body[:200]!r}") from None

    def _send(self, request: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status, headers, answer.read(LIMIT_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                headers = {name.lower(): value for name, value in error.headers.items()}
                return error.code, headers, error.read(LIMIT_BYTES)
        except (urllib.error.URLError, OSError) as error:
            raise Wrong(f"no answer: {error}") from error


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.smoke", description=__doc__)
    parser.add_argument("url", help="such as https://staging.example.com")
    parser.add_argument("--wait", type=float, default=60.0, help="how many seconds it has to become ready (60)")
    parser.add_argument("--version", help="what it must say it is, such as 1.2.0 or v1.2.0")
    options = parser.parse_args()
    client = Client(options.url, os.environ.get("ONLY1MCP_TOKEN"))
    try:
        for path in ("/health", "/ready"):
            patiently(partial(probe, client, path), options.wait)
            print(f"ok      {path}")
        version, tools = patiently(partial(handshake, client), options.wait)
        print(f"ok      tools in the handshake era: {tools}")
        if options.version and version != options.version.removeprefix("v"):
            raise Wrong(f"it is version {version}, not {options.version}")
        print(f"ok      tools in the stateless era: {stateless(client)}")
        if client.token:
            status, _, _ = client.ask(*listing(), token="wrong")
            if status != 401:
                raise Wrong(f"a wrong token is answered {status} instead of 401")
            print("ok      a wrong token is refused")
    except Wrong as wrong:
        sys.exit(f"FAILED  {options.url}: {wrong}")


def patiently(ask: Callable[[], Answer], wait_s: float) -> Answer:
    """Ask until nothing is wrong any more: backends may take longer to start than the proxy."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return ask()
        except Wrong as wrong:
            if time.monotonic() + EVERY_S > deadline:
                raise Wrong(f"{wrong}, also after {wait_s:g} s") from None
        time.sleep(EVERY_S)


def probe(client: Client, path: str) -> None:
    try:
        status = client.get(path)
    except Wrong as wrong:
        raise Wrong(f"{path}: {wrong}") from wrong
    if status != 200:
        raise Wrong(f"{path} answers {status}")


def handshake(client: Client) -> tuple[str, int]:
    """Return the version that the proxy gives itself, and how many tools a client with a session gets."""
    params = {
        "protocolVersion": HANDSHAKE,
        "capabilities": {},
        "clientInfo": {"name": "only1mcp-smoke", "version": "1"},
    }
    status, headers, answer = client.ask({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}, {})
    session = headers.get("mcp-session-id")
    if status != 200 or not isinstance(answer, dict) or "result" not in answer or not session:
        raise Wrong(f"initialize is answered {status}: {shown(answer)}")
    after = {"Mcp-Session-Id": session, "MCP-Protocol-Version": answer["result"]["protocolVersion"]}
    client.ask({"jsonrpc": "2.0", "method": "notifications/initialized"}, after)
    tools = tools_of(client.ask({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}, after))
    return answer["result"]["serverInfo"]["version"], tools


def stateless(client: Client) -> int:
    return tools_of(client.ask(*listing()))


def listing() -> tuple[dict[str, Any], dict[str, str]]:
    """Return a request for the tools of the stateless era, and its headers."""
    meta = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}}
    message = {"jsonrpc": "2.0", "id": 3, "method": "tools/list", "params": {"_meta": meta}}
    return message, {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/list"}


def tools_of(answered: tuple[int, dict[str, str], Any]) -> int:
    status, _, answer = answered
    if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("result"), dict):
        raise Wrong(f"tools/list is answered {status}: {shown(answer)}")
    return len(answer["result"]["tools"])


def shown(answer: Any) -> str:
    return json.dumps(answer)[:300]


if __name__ == "__main__":
    main()
