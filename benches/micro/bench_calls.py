"""A plain call of a tool: read and written for the backend, and its answer written for the client."""

from __future__ import annotations

from typing import Any

HEAD = b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\naccept: application/json\r\n"
CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"'
    + b"what a model asks " * 5
    + b'"},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}'
)
ANSWER = b'{"jsonrpc":"2.0","id":41,"result":{"content":[{"type":"text","text":"' + b"x" * 256 + b'"}]}}'


def test_request(benchmark: Any, fast: Any) -> None:
    message = benchmark(lambda: fast.maybe_call(CALL, 0, 64).request(HEAD, 41, b'"say"'))
    assert message.endswith(CALL.replace(b'"id":7', b'"id":41').replace(b'"echo"', b'"say"'))


def test_answer(benchmark: Any, fast: Any) -> None:
    call = fast.maybe_call(CALL, 0, 64)
    message = benchmark(call.answer, b"HTTP/1.1 200 OK\r\n", ANSWER, 0, 41, False)
    assert message.endswith(ANSWER.replace(b'"id":41', b'"id":7'))
