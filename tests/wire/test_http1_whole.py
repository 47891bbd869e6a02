"""Messages that come in one piece are taken at once, and mean what they mean when their events are asked for."""

from __future__ import annotations

import pytest
from tests.wire.test_http1 import MAX_BODY, MAX_HEADER, post

from only1mcp.errors import ProtocolError
from only1mcp.wire.http1_client import LARGE_PIECE_BYTES, ClientConnection
from only1mcp.wire.http1_events import END, ResponseHead
from only1mcp.wire.http1_server import ServerConnection

pytest.importorskip("only1mcp._fast.framing", reason="the compiled parts are not built: make build")


def ask(connection: ServerConnection, *lines: bytes, body: bytes = b"{}") -> tuple[object, ...] | None:
    """Feed one request to `maybe_whole` and answer it; None where it is not taken."""
    whole = connection.maybe_whole(post(*lines, b"Content-Length: %d" % len(body), body=body))
    if whole is None:
        return None
    assert connection.request_complete
    connection.send_response(200, [], b"")
    connection.start_next_cycle()
    head, taken = whole
    return head.method, head.target, head.headers, head.content_length, head.get(b"content-length"), taken


def test_a_request_that_comes_whole_is_what_its_events_would_be() -> None:
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    for body in (b"{}", b"{}", b'{"a":1}', b"", b"x" * 100):
        size = b"%d" % len(body)
        fields = [(b"host", b"a"), (b"content-type", b"text/x"), (b"content-length", size)]
        assert ask(connection, b"Content-Type: text/x", body=body) == (
            b"POST",
            b"/mcp",
            fields,
            len(body),
            size,
            body,
        )
    assert ask(connection, b"Content-Type: text/y") is not None


def test_a_verdict_stays_with_a_head_that_comes_again() -> None:
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    heads = []
    for fields, body in ((b"A: 1", b"{}"), (b"A: 1", b"{}"), (b"A: 1", b"12345"), (b"A: 2", b"{}")):
        whole = connection.maybe_whole(post(fields, b"Content-Length: %d" % len(body), body=body))
        assert whole is not None
        heads.append(whole[0])
        whole[0].verdict = whole[0].verdict or object()
        connection.send_response(200, [], b"")
        connection.start_next_cycle()
    assert heads[0] is heads[1]
    assert heads[2] is not heads[1]
    assert heads[2].verdict is heads[1].verdict
    assert heads[3].verdict is not heads[2].verdict


@pytest.mark.parametrize(
    "raw",
    [
        post(b"Content-Length: 2", body=b"{"),
        post(b"Content-Length: 2", body=b"{}x"),
        post(b"Content-Length: %d" % (MAX_BODY + 1), body=b"x" * (MAX_BODY + 1)),
        post(line=b"GET / HTTP/1.1"),
        post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post(b"Content-Length: 2", b"Expect: 100-continue", body=b"{}"),
        b"\r\n" + post(b"Content-Length: 2", body=b"{}"),
        b"",
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_what_is_no_whole_request_is_left_to_the_events(raw: bytes, known: bool) -> None:
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    if known:
        ask(connection)
    assert connection.maybe_whole(raw) is None
    connection.receive_data(raw)
    assert connection.pending_bytes == len(raw)
    assert connection.maybe_whole(post(b"Content-Length: 2", body=b"{}")) is None or not raw


def test_a_head_too_long_is_refused_also_when_all_but_its_length_is_known() -> None:
    padding = b"x" * (MAX_HEADER - len(post(b"P: ", b"Content-Length: 2")))
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    ask(connection, b"P: " + padding)
    assert ask(connection, b"P: " + padding, body=b"0123456789") is None


def test_an_answer_that_comes_whole_is_what_its_events_would_be() -> None:
    connection = ClientConnection(MAX_HEADER)
    for body in (b"{}", b"{}", b"12345", b""):
        connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"")
        whole = connection.maybe_whole(b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert whole is not None
        head, taken = whole
        assert (head.status, head.get(b"a"), head.content_length, taken) == (200, b"b", len(body), body)
        assert head.get(b"content-length") == b"%d" % len(body)
        connection.start_next_cycle()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_what_is_no_whole_answer_is_left_to_the_events(raw: bytes) -> None:
    connection = ClientConnection(MAX_HEADER)
    connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"")
    whole = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"
    if connection.maybe_whole(whole) is not None:
        connection.start_next_cycle()
        connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"")
    assert connection.maybe_whole(raw) is None
    connection.receive_data(raw)
    assert connection.maybe_whole(whole) is None


BODY = bytes(range(256)) * 800
FRAMED = {
    "length": (b"Content-Length: %d" % len(BODY), BODY),
    "chunks": (
        b"Transfer-Encoding: chunked",
        b"%x\r\n%b\r\n5\r\n%b\r\n0\r\n\r\n" % (len(BODY) - 5, BODY[:-5], BODY[-5:]),
    ),
    "the end": (b"Connection: close", BODY),
}


def read(connection: ClientConnection) -> tuple[list[ResponseHead], bytes, bool]:
    """Return the heads, the body and whether it has ended, as far as they are here."""
    heads, body = [], b""
    while (event := connection.next_event()) is not None:
        if event is END:
            return heads, body, True
        if isinstance(event, ResponseHead):
            heads.append(event)
        else:
            assert isinstance(event, bytes)
            body += event
    return heads, body, False


@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
@pytest.mark.parametrize("framing", FRAMED)
@pytest.mark.parametrize("missing", [0, 1, 6, 20_000])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_response_may_begin_with_a_large_piece(framing: str, missing: int, at_once: bool, interim: bytes) -> None:
    field, framed = FRAMED[framing]
    raw = interim + b"HTTP/1.1 200 OK\r\n%b\r\n\r\n%b" % (field, framed)
    connection = ClientConnection(MAX_HEADER)
    connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"{}")
    connection.receive_data(raw[: len(raw) - missing])
    assert connection.maybe_whole(raw) is None
    heads, body, ended = ([], b"", False) if at_once else read(connection)
    if missing:
        assert not ended
        connection.receive_data(raw[len(raw) - missing :])
    connection.receive_eof()
    more_heads, more_body, _ = read(connection)
    assert ([head.status for head in heads + more_heads], body + more_body) == ([200], BODY)


def test_what_follows_a_short_response_in_a_large_piece_is_not_lost() -> None:
    connection = ClientConnection(MAX_HEADER)
    connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"{}")
    connection.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + bytes(LARGE_PIECE_BYTES))
    assert read(connection)[1:] == (b"ok", True)
    assert not connection.reusable


def test_a_head_is_no_longer_for_coming_in_a_large_piece() -> None:
    connection = ClientConnection(MAX_HEADER)
    connection.send_prepared(b"POST / HTTP/1.1\r\nhost: a\r\n", b"{}")
    connection.receive_data(b"HTTP/1.1 200 OK\r\nA: %b\r\n\r\n" % (b"x" * LARGE_PIECE_BYTES))
    with pytest.raises(ProtocolError):
        connection.next_event()
