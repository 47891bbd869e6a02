"""Starts Only1MCP with its demo backends, shakes hands, calls each and stops it; needs only the standard library.

usage: first_call.py COMMAND...    such as: first_call.py only1mcp
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# One run, on a slow emulator, before everything that hangs is ended.
TIMEOUT_S = float(os.environ.get("FIRST_CALL_TIMEOUT_S", "60"))
# Wine delivers no Ctrl-Break, and lacks a library that the ciphers of sessions need: the calls are made without a
# handshake there, and the proxy is killed.
UNDER_WINE = bool(os.environ.get("FIRST_CALL_UNDER_WINE"))
STATELESS = "2026-07-28"
META = "io.modelcontextprotocol/"
POLL_S = 0.05
REVISION = "2025-11-25"
WINDOWS = os.name == "nt"
# Each demo backend answers a call; the one that is a child process does not exist on Windows.
CALLS: dict[str, tuple[dict[str, Any], str]] = {"roman_numeral": ({"number": 2026}, "MMXXVI")}
if not WINDOWS:
    CALLS["echo"] = ({"text": "from a fresh installation"}, "from a fresh installation")


class Failed(Exception):
    """It did not start, answer or stop as it should; the message has what it said."""


def first_call(command: Sequence[str | Path]) -> None:
    """Run `COMMAND start --demo` once, from start to end; raise `Failed`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONLY1MCP_")}
    environment |= {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [*map(str, command), "start", "--demo", "--port", "0"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        # Ctrl-Break reaches a process group, which is then not ours.
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    watchdog = threading.Timer(TIMEOUT_S, child.kill)
    watchdog.start()
    said: list[str] = []
    try:
        _call(_address(child, said))
        if UNDER_WINE:
            child.kill()
            child.communicate()
            return
        child.send_signal(signal.CTRL_BREAK_EVENT if WINDOWS else signal.SIGTERM)  # type: ignore[attr-defined]
        said.append(child.communicate()[0])
        if child.returncode != 0:
            raise Failed(f"it was told to stop and ended with {child.returncode}")
    except (Failed, OSError, http.client.HTTPException, ValueError, LookupError) as error:
        child.kill()
        said.append(child.communicate()[0])
        raise Failed(f"{error!r}\nit said:\n{''.join(said)}") from error
    finally:
        watchdog.cancel()
        watchdog.join()


def _address(child: subprocess.Popen[str], said: list[str]) -> str:
    """Return the URL from the line that says where the proxy listens."""
    assert child.stdout is not None
    for line in child.stdout:
        said.append(line)
        if " listens on " in line:
            return line.split(" listens on ")[1].strip()
    raise Failed(f"it ended or hung ({child.wait()}) before it listened")


def _call(url: str) -> None:
    at = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=TIMEOUT_S)
    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def post(message: dict[str, Any], **more: str) -> tuple[http.client.HTTPResponse, bytes]:
        body = json.dumps({"jsonrpc": "2.0", **message})
        connection.request("POST", at.path, body, {**headers, **more})
        response = connection.getresponse()
        return response, response.read()

    def stateless(name: str, arguments: dict[str, Any]) -> tuple[http.client.HTTPResponse, bytes]:
        meta = {f"{META}protocolVersion": STATELESS, f"{META}clientCapabilities": {}}
        params = {"name": name, "arguments": arguments, "_meta": meta}
        more = {"MCP-Protocol-Version": STATELESS, "Mcp-Method": "tools/call", "Mcp-Name": name}
        return post({"id": 4, "method": "tools/call", "params": params}, **more)

    try:
        # Of each era.
        name, (arguments, wanted) = next(iter(CALLS.items()))
        response, body = stateless(name, arguments)
        if wanted not in json.dumps(_result(response, body)["content"]):
            raise Failed(f"{name} did not answer with {wanted!r}: {body!r:.500}")
        if UNDER_WINE:
            return
        client = {"name": "first-call", "version": "1"}
        hello = {"protocolVersion": REVISION, "capabilities": {}, "clientInfo": client}
        response, body = post({"id": 1, "method": "initialize", "params": hello})
        if _result(response, body)["protocolVersion"] != REVISION:
            raise Failed(f"it speaks another revision: {body!r:.500}")
        more = {"MCP-Protocol-Version": REVISION}
        if session := response.getheader("Mcp-Session-Id"):
            more["Mcp-Session-Id"] = session
        response, body = post({"method": "notifications/initialized"}, **more)
        if response.status != 202:
            raise Failed(f"a notification was answered with {response.status} {body!r:.500}")
        deadline = time.monotonic() + TIMEOUT_S
        # A backend that starts slowly joins the list when it is up.
        while not CALLS.keys() <= _listed(*post({"id": 2, "method": "tools/list"}, **more)):
            if time.monotonic() > deadline:
                raise Failed(f"not all of {', '.join(CALLS)} can be called")
            time.sleep(POLL_S)
        for name, (arguments, wanted) in CALLS.items():
            call = {"name": name, "arguments": arguments}
            response, body = post({"id": 3, "method": "tools/call", "params": call}, **more)
            if wanted not in json.dumps(_result(response, body)["content"]):
                raise Failed(f"{name} did not answer with {wanted!r}: {body!r:.500}")
    finally:
        connection.close()


def _listed(response: http.client.HTTPResponse, body: bytes) -> set[str]:
    return {tool["name"] for tool in _result(response, body)["tools"]}


def _result(response: http.client.HTTPResponse, body: bytes) -> dict[str, Any]:
    """Return the result in a body of JSON, or in the last event of a stream."""
    if response.status != 200:
        raise Failed(f"answered with {response.status} {body!r:.500}")
    text = body.decode()
    if (response.getheader("Content-Type") or "").startswith("text/event-stream"):
        text = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")][-1]
    result: dict[str, Any] = json.loads(text)["result"]
    return result


def main() -> int:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        first_call(sys.argv[1:])
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
