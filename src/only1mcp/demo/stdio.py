"""The demo server on standard input and output: `python -m only1mcp.demo.stdio`."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime
from typing import Any

from only1mcp import __version__
from only1mcp.demo.dispatch import DemoServer, Prompt, Resource, RpcError, Tool, ToolError, decode, encode, failure


def add(a: float, b: float) -> dict[str, Any]:
    try:
        total = a + b
    except OverflowError:
        total = math.inf
    if not math.isfinite(total):
        raise ToolError("the sum is too large for a number")
    return {"sum": total}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


SERVER = DemoServer(
    name="only1mcp-demo-stdio",
    version=__version__,
    instructions="A demo server on standard input and output: it echoes, adds and tells the time.",
    tools=(
        Tool("echo", "Return the text that was given.", {"text": ("string", "What to return")}, lambda text: text),
        Tool(
            "add",
            "Add two numbers.",
            {"a": ("number", "The first number"), "b": ("number", "The second number")},
            add,
            output={"type": "object", "properties": {"sum": {"type": "number"}}, "required": ["sum"]},
        ),
        Tool("now", "Return the current time in UTC (ISO 8601).", {}, now, always_same=False),
    ),
    resources=(
        Resource(
            "demo://stdio/about",
            "about-stdio",
            "What this server is",
            "This text comes from a child process that Only1MCP started.\n",
        ),
    ),
    prompts=(Prompt("greet", "Greet somebody by name.", "name", "Write one friendly sentence to greet {argument}."),),
)


def main() -> None:
    """Answer line by line until standard input ends."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        try:
            reply = SERVER.answer(decode(line))
        except RpcError as error:
            reply = failure(None, error)
        if reply is not None:
            out.write(encode(reply.message) + b"\n")
            out.flush()


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(0)
