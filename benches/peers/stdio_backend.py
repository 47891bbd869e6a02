"""The backend of the loopback benchmark as a child process: `python -m benches.peers.stdio_backend OCTETS`.

The same tool with the same answer, one JSON message a line on standard input and output.
"""

from __future__ import annotations

import sys

import orjson
from benches.loopback.backend import describe


def main(octets: int) -> None:
    result = b'"result":' + orjson.dumps({"content": [{"type": "text", "text": "x" * octets}]}) + b"}\n"
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    for line in source:
        message = orjson.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if message["method"] == "tools/call":
            rest = result
        elif (found := describe(message["method"], message.get("params") or {})) is None or is_foreign(message):
            rest = b'"error":{"code":-32601,"message":"method not found"}}\n'
        else:
            rest = b'"result":' + orjson.dumps(found) + b"}\n"
        sink.write(b'{"jsonrpc":"2.0","id":' + orjson.dumps(message["id"]) + b"," + rest)
        sink.flush()


def is_foreign(message: dict[str, object]) -> bool:
    """Whether the method is of the era that this server does not speak."""
    return message["method"] == "server/discover"


if __name__ == "__main__":
    main(int(sys.argv[1]))
