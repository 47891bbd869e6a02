from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterable, Iterator

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.bytes_feed import cut_at, places, segmentations

from only1mcp._fast import framing_reference
from only1mcp.errors import ProtocolError
from only1mcp.wire import http1_body, http1_client, http1_server, http1_write
from only1mcp.wire.http1_client import ClientConnection
from only1mcp.wire.http1_events import CLOSED, END, RequestHead, ResponseHead
from only1mcp.wire.http1_server import ServerConnection

MAX_HEADER = 16 * 1024
MAX_BODY = 1000


@pytest.fixture(params=["as built", "plain Python"], scope="module", autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test runs over the compiled parts, where they are built, and over their twins."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "plain Python":
            patch.setattr(http1_server, "read_request", framing_reference.read_request)
            patch.setattr(http1_client, "read_response", framing_reference.read_response)
            patch.setattr(http1_body, "read_chunks", framing_reference.read_chunks)
            patch.setattr(http1_write, "write_request", framing_reference.write_request)
            patch.setattr(http1_write, "write_response", framing_reference.write_response)
        yield


def post(*fields: bytes, body: bytes = b"", line: bytes = b"POST /mcp HTTP/1.1", host: bytes = b"Host: a\r\n") -> bytes:
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


def served(segments: Iterable[bytes], *, eof: bool = False) -> list[object]:
    """Feed a server that answers every request, and return what it saw: heads, whole bodies, the refusing status."""
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    seen: list[object] = []
    body = b""

    def step() -> bool:
        nonlocal body
        try:
            event = connection.next_event()
        except ProtocolError as error:
            seen.append(error.http_status)
            return False
        if isinstance(event, RequestHead):
            seen.append((event.method, event.target, event.headers, event.http_version, event.expect_continue))
        elif isinstance(event, bytes):
            assert event
            body += event
        elif event is END:
            seen.append(body)
            body = b""
            connection.send_response(200, [], b"")
            if not connection.start_next_cycle():
                seen.append("close")
                return False
        elif event is CLOSED:
            seen.append("closed")
            return False
        return event is not None

    for segment in segments:
        connection.receive_data(segment)
        while step():
            pass
    if eof:
        connection.receive_eof()
        while step():
            pass
    # A refusal repeats itself.
    last = next((index for index, item in enumerate(seen) if isinstance(item, int) or item == "close"), len(seen))
    return seen[: last + 1]


ACCEPTED = {
    "get": (post(line=b"GET /mcp HTTP/1.1"), b""),
    "head": (post(line=b"HEAD / HTTP/1.1"), b""),
    "unknown method": (post(line=b"BREW /pot?milk=1 HTTP/1.1"), b""),
    "length": (post(b"Content-Length: 5", body=b"hello"), b"hello"),
    "length with zeros": (post(b"content-length: 005", body=b"hello"), b"hello"),
    "length zero": (post(b"Content-Length: 0"), b""),
    "length within blanks": (post(b"Content-Length: \t 5 \t", body=b"hello"), b"hello"),
    "get with a body": (post(b"Content-Length: 2", body=b"{}", line=b"GET / HTTP/1.1"), b"{}"),
    "chunked": (chunked(b"5\r\nhello\r\n3\r\n yo\r\n0\r\n\r\n"), b"hello yo"),
    "chunked, other case": (post(b"tRANSFER-eNCODING: CHUNKED", body=b"A\r\n0123456789\r\n00\r\n\r\n"), b"0123456789"),
    "chunked, empty": (chunked(b"0\r\n\r\n"), b""),
    "chunk extensions": (chunked(b'2;a;b=c; d = "x;\\"y" ;e\r\n{}\r\n0;z\r\n\r\n'.replace(b" ;", b";")), b"{}"),
    "chunk data that looks like framing": (chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), b"0\r\n\r\n"),
    "sixteen digits": (chunked(b"0000000000000002\r\n{}\r\n0\r\n\r\n"), b"{}"),
    "trailers": (chunked(b"2\r\n{}\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"), b"{}"),
    "one blank line before": (b"\r\n" + post(line=b"GET / HTTP/1.1"), b""),
    "minor version from the future": (post(line=b"GET / HTTP/1.2"), b""),
    "expect": (post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"x"), b"x"),
    "identity": (post(b"Content-Encoding: identity", b"Content-Length: 1", body=b"x"), b"x"),
    "obs-text in a value": (post(b"X: \xe9\x80", line=b"GET / HTTP/1.1"), b""),
    "empty value": (post(b"X:", b"Y: ", line=b"GET / HTTP/1.1"), b""),
    "target of 7,900": (post(line=b"GET /" + b"x" * 7899 + b" HTTP/1.1"), b""),
    "field of 4 KiB": (post(b"X: " + b"y" * 4096, line=b"GET / HTTP/1.1"), b""),
    "99 fields and a host": (post(*[b"a: b"] * 99, line=b"GET / HTTP/1.1"), b""),
    "percent and query": (post(line=b"GET /a%20b;c=d/@?q={x}|[1]&r=/?%zz HTTP/1.1"), b""),
    "double slash": (post(line=b"GET //a HTTP/1.1"), b""),
    "host with port": (post(line=b"GET / HTTP/1.1", host=b"Host: a-b.example_1:8080\r\n"), b""),
    "host with an empty port": (post(line=b"GET / HTTP/1.1", host=b"Host: a:\r\n"), b""),
    "host ipv4": (post(line=b"GET / HTTP/1.1", host=b"Host: 127.0.0.1:1\r\n"), b""),
    "host ipv6": (post(line=b"GET / HTTP/1.1", host=b"Host: [::1]:8080\r\n"), b""),
}
LAST = {
    "http/1.0": (post(line=b"GET / HTTP/1.0"), b""),
    "http/1.0 without host": (b"GET / HTTP/1.0\r\n\r\n", b""),
    "http/1.0 with a body and an expectation": (
        post(b"Content-Length: 2", b"Expect: tea", body=b"{}", line=b"POST / HTTP/1.0"),
        b"{}",
    ),
    "http/1.0 keep-alive": (post(b"Connection: keep-alive", line=b"GET / HTTP/1.0"), b""),
    "connection close": (post(b"Connection: TE, Close", line=b"GET / HTTP/1.1"), b""),
}
HOSTS = [
    b"",
    b"a, b",
    b"a,b",
    b"a/path",
    b"http://a",
    b"user@a",
    b"a:b",
    b"a:-1",
    b"a:65536",
    b"a:80:80",
    b"a b",
    b"<script>",
    b'"a"',
    b"a\\b",
    b"a?b",
    b"a#b",
    b"a%2e",
    b"[::1",
    b"::1",
    b"[::1]x",
    b"[]",
    b"[:::1]",
    b"[1.2.3.4]",
    b"[fe80::1%25en0]",
    b"\xc3\xa9",
]
TARGETS = [
    b"*",
    b"a",
    b"http://a/",
    b"a:80",
    b"/#x",
    b"/\xc3\xa9",
    b"/a<b>",
    b'/"',
    b"/\\",
    b"/%",
    b"/%zz",
    b"/{x}",
    b"?a",
]
CHUNKED = {
    "no size": b"\r\nhello\r\n0\r\n\r\n",
    "no hex digit": b"g\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "minus": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "blank before": b" 5\r\nhello\r\n0\r\n\r\n",
    "blank after": b"5 \r\nhello\r\n0\r\n\r\n",
    "tab after": b"5\t\r\nhello\r\n0\r\n\r\n",
    "empty extension": b"5;\r\nhello\r\n0\r\n\r\n",
    "empty second extension": b"5;a;\r\nhello\r\n0\r\n\r\n",
    "blank before an extension": b"5 ;a\r\nhello\r\n0\r\n\r\n",
    "extension without a value": b"5;a=\r\nhello\r\n0\r\n\r\n",
    "unterminated quotes": b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "NUL in an extension": b"5;a\x00\r\nhello\r\n0\r\n\r\n",
    "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "LF in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "long extension": b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
    "extensions in sum": (b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 20,
    "two octets instead of CRLF": b"5\r\nhelloXX0\r\n\r\n",
    "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "bare CR after the data": b"5\r\nhello\rX0\r\n\r\n",
    "data longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "trailer without a colon": b"0\r\nx\r\n\r\n",
    "folded trailer": b"0\r\nx: y\r\n z\r\n\r\n",
    "bare LF in the trailer": b"0\r\nx: y\n\r\n",
    "bare LF at the end": b"0\r\n\n",
    "NUL in the trailer": b"0\r\nx: \x00\r\n\r\n",
    "length in the trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "coding in the trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
}
REFUSED = {
    "length and chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!"), 400),
    "two equal lengths": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    "lengths in a list": (post(b"Content-Length: 5, 5", body=b"hello"), 400),
    **{
        f"length {value!r}": (post(b"Content-Length: " + value, body=b"hello"), 400)
        for value in (b"", b"+5", b"-5", b"0x5", b"5_0", b"5.0", b"5 5", b"five", b"\xb2")
    },
    "length beyond the limit": (post(b"Content-Length: 1001"), 413),
    "length of 30 digits": (post(b"Content-Length: " + b"9" * 30), 413),
    "length of 5,000 digits": (post(b"Content-Length: " + b"9" * 5000), 413),
    "chunks beyond the limit": (chunked(b"3e8\r\n" + b"x" * 1000 + b"\r\n1\r\n"), 413),
    "chunk beyond the limit": (chunked(b"3e9\r\n"), 413),
    "huge chunk": (chunked(b"ffffffffffffffff\r\n"), 413),
    "gzip": (post(b"Transfer-Encoding: gzip"), 400),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked"), 501),
    "chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip"), 400),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked"), 400),
    "two codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "two different codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), 400),
    **{
        f"coding {value!r}": (post(b"Transfer-Encoding: " + value), 400)
        for value in (
            b"",
            b"xchunked",
            b"chunkedx",
            b'"chunked"',
            b"chunked;a",
            b"identity",
            b"\x0bchunked",
            b"chunked\x00",
        )
    },
    "chunked in http/1.0": (post(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0"), 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (post(b"Host: a"), 400),
    "two hosts in http/1.0": (post(b"Host: a", line=b"GET / HTTP/1.0"), 400),
    **{f"host {value!r}": (post(host=b"Host: " + value + b"\r\n"), 400) for value in HOSTS},
    **{f"target {value!r}": (post(line=b"GET " + value + b" HTTP/1.1"), 400) for value in TARGETS},
    "options *": (post(line=b"OPTIONS * HTTP/1.1"), 400),
    "connect": (post(line=b"CONNECT a:443 HTTP/1.1"), 400),
    "connect with a path": (post(line=b"CONNECT / HTTP/1.1"), 400),
    "long target": (post(line=b"GET /" + b"x" * 8000 + b" HTTP/1.1"), 414),
    "endless target": (b"GET /" + b"x" * 20000, 414),
    "endless method": (b"G" * 20000, 400),
    "http/0.9": (b"GET /\r\n", 400),
    "http/0.9 as a version": (post(line=b"GET / HTTP/0.9"), 505),
    "http/2.0": (post(line=b"GET / HTTP/2.0"), 505),
    "http/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "version in lower case": (post(line=b"GET / http/1.1"), 400),
    "version too long": (post(line=b"GET / HTTP/1.10"), 400),
    "no version": (post(line=b"GET /"), 400),
    "two blanks": (post(line=b"GET  / HTTP/1.1"), 400),
    "tab": (post(line=b"GET\t/ HTTP/1.1"), 400),
    "blank at the end": (post(line=b"GET / HTTP/1.1 "), 400),
    "blank at the start": (post(line=b" GET / HTTP/1.1"), 400),
    "method that is no token": (post(line=b"G@T / HTTP/1.1"), 400),
    "tls hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "two blank lines before": (b"\r\n\r\n" + post(), 400),
    "bare LF": (post().replace(b"\r\n", b"\n"), 400),
    "bare LF after a field": (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "bare LF as the empty line": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "bare CR": (post(b"X: a\rb"), 400),
    "CR CR LF": (post(b"X: a\r"), 400),
    "folded field": (post(b"X: a\r\n b"), 400),
    "folded field by a tab": (post(b"X: a\r\n\tb"), 400),
    "folded first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "blank before the colon": (post(b"X : a"), 400),
    "blank before the colon of a length": (post(b"Content-Length : 5", body=b"hello"), 400),
    "no name": (post(b": a"), 400),
    "no colon": (post(b"X"), 400),
    "name that is no token": (post(b"X(y): a"), 400),
    "name outside of ASCII": (post(b"X\xe9: a"), 400),
    **{
        f"octet {octet:#x} in a value": (post(b"X: a" + bytes([octet]) + b"b"), 400)
        for octet in (*range(9), *range(11, 13), *range(14, 32), 127)
    },
    "100 fields and a host": (post(*[b"a: b"] * 100), 431),
    "large field": (post(b"X: " + b"y" * MAX_HEADER), 431),
    "endless fields": (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000, 431),
    "gzip as content coding": (post(b"Content-Encoding: gzip", b"Content-Length: 1", body=b"x"), 415),
    "unknown expectation": (post(b"Expect: tea"), 417),
    "two expectations": (post(b"Expect: 100-continue, tea"), 417),
    **{f"chunks: {name}": (chunked(body), 400) for name, body in CHUNKED.items()},
    "101 trailers": (chunked(b"0\r\n" + b"a: b\r\n" * 101), 431),
    "long trailer": (chunked(b"0\r\n" + b"a: " + b"b" * MAX_HEADER), 431),
}
NEXT = post(b"Content-Length: 4", body=b"next", line=b"PUT /next HTTP/1.1")


@pytest.mark.parametrize(("raw", "body"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepts(raw: bytes, body: bytes) -> None:
    expected = served([raw])
    assert len(expected) == 2
    assert expected[1] == body
    for segments in segmentations(raw):
        assert served(segments) == expected
    for segments in segmentations(raw + NEXT):
        assert served(segments) == expected + served([NEXT])


@pytest.mark.parametrize(("raw", "body"), LAST.values(), ids=LAST)
def test_accepts_and_closes(raw: bytes, body: bytes) -> None:
    expected = served([raw])
    assert expected[1:] == [body, "close"]
    for trailing in (b"", NEXT, b"\x00"):
        for segments in segmentations(raw + trailing):
            assert served(segments) == expected


@pytest.mark.parametrize(("raw", "status"), REFUSED.values(), ids=REFUSED)
def test_refuses(raw: bytes, status: int) -> None:
    for trailing in (b"", NEXT, b"\x00"):
        for segments in segmentations(raw + trailing):
            # What came before the refusal may be a head, but never an end.
            assert [item for item in served(segments) if not isinstance(item, tuple)] == [status]


@pytest.mark.parametrize(
    "raw", [raw for raw, _ in ACCEPTED.values() if raw.count(b"\r\n\r\n") == 1 and raw.endswith(b"\n")]
)
def test_refuses_what_ends_too_early(raw: bytes) -> None:
    assert served([raw[:-1]], eof=True) == [400]


def test_refuses_a_body_that_ends_too_early() -> None:
    assert served([post(b"Content-Length: 5", body=b"hell")], eof=True)[1:] == [400]
    assert served([chunked(b"5\r\nhello\r\n0\r\n")], eof=True)[1:] == [400]


def test_reports_a_close_between_requests_once_they_are_answered() -> None:
    assert served([b""], eof=True) == ["closed"]
    assert served([b"\r\n"], eof=True) == ["closed"]
    assert served([NEXT, NEXT, b"\r\n"], eof=True)[-1] == "closed"


@given(
    st.lists(
        st.sampled_from([*ACCEPTED.values(), *REFUSED.values()]).map(lambda case: case[0]), min_size=1, max_size=3
    ),
    places,
)
def test_the_verdict_does_not_depend_on_the_cuts(parts: list[bytes], places: list[int]) -> None:
    raw = b"".join(parts)
    assert served(cut_at(raw, places)) == served([raw])


mutations = st.tuples(
    st.sampled_from([*ACCEPTED.values(), *LAST.values(), *REFUSED.values()]).map(lambda case: case[0][:3000]),
    st.integers(0, 3000),
    st.integers(0, 4),
    st.one_of(st.binary(max_size=3), st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b";", b"0", b"\x00"])),
).map(lambda m: m[0][: m[1] % len(m[0])] + m[3] + m[0][m[1] % len(m[0]) + m[2] :])


@given(st.one_of(st.binary(max_size=200), mutations), places)
def test_random_bytes_raise_nothing_but_protocol_errors(raw: bytes, places: list[int]) -> None:
    assert served(cut_at(raw, places), eof=True) == served([raw], eof=True)


@given(mutations)
@example(chunked(b"5;a=b\r\nhello\r\n0\r\nx: y\r\n\r\n"))
def test_h11_accepts_what_is_accepted_and_reads_the_same(raw: bytes) -> None:
    seen = served([raw])
    if not seen or not isinstance(seen[0], tuple) or len(seen) < 2 or not isinstance(seen[1], bytes):
        return
    # h11 does not ignore a blank line before the request, though RFC 9112 section 2.2 asks for it.
    reference = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    reference.receive_data(raw[2:] if raw.startswith(b"\r\n") else raw)
    request = reference.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target, list(request.headers)) == seen[0][:3]
    body = b""
    while not isinstance(event := reference.next_event(), h11.EndOfMessage):
        assert isinstance(event, h11.Data)
        body += event.data
    assert body == seen[1]


def test_many_tiny_chunks_cost_linear_time_and_little_memory() -> None:
    def seconds(count: int) -> float:
        connection = ServerConnection(MAX_HEADER, 1 << 20)
        connection.receive_data(chunked(b""))
        connection.next_event()
        raw = b"1\r\nx\r\n" * count
        started = time.process_time()
        for start in range(0, len(raw), 1000):
            connection.receive_data(raw[start : start + 1000])
            while connection.next_event() is not None:
                pass
        return time.process_time() - started

    small = min(seconds(5_000) for _ in range(3))
    # Quadratic growth would give 64.
    assert min(seconds(40_000) for _ in range(3)) / small < 24

    connection = ServerConnection(MAX_HEADER, 1 << 20)
    connection.receive_data(chunked(b""))
    connection.next_event()
    raw = b"1\r\nx\r\n" * 100_000
    tracemalloc.start()
    try:
        connection.receive_data(raw)
        body = connection.next_event()
        assert isinstance(body, bytes)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(body) == 100_000
    assert peak < 3 * len(raw)


def test_asks_for_the_body_only_while_it_is_not_coming() -> None:
    raw = post(b"Expect: 100-continue", b"Content-Length: 2")
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    connection.receive_data(raw)
    connection.next_event()
    assert connection.continue_expected
    assert connection.send_continue() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert not connection.continue_expected

    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    connection.receive_data(raw + b"{")
    connection.next_event()
    assert not connection.continue_expected

    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    connection.receive_data(post(b"Expect: 100-continue"))
    connection.next_event()
    assert not connection.continue_expected


def ready(raw: bytes) -> ServerConnection:
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    connection.receive_data(raw)
    while connection.next_event() is not None:
        pass
    return connection


def test_whole_responses() -> None:
    connection = ready(post(line=b"GET / HTTP/1.1"))
    assert (
        connection.send_response(200, [(b"x", b"y")], b"hi")
        == b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 2\r\n\r\nhi"
    )
    assert connection.start_next_cycle()
    connection = ready(post(line=b"HEAD / HTTP/1.1"))
    assert connection.send_response(200, [], b"hi") == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    connection = ready(post(line=b"DELETE / HTTP/1.1"))
    assert connection.send_response(204, [], b"") == b"HTTP/1.1 204 No Content\r\n\r\n"
    connection = ready(post(line=b"GET / HTTP/1.1"))
    connection.close_after = True
    assert connection.send_response(499, [], b"") == b"HTTP/1.1 499 \r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    assert not connection.start_next_cycle()


def test_an_early_response_waits_for_the_rest_of_the_request() -> None:
    connection = ready(post(b"Content-Length: 5", body=b"he"))
    connection.send_response(401, [], b"")
    assert not connection.must_close
    assert not connection.start_next_cycle()
    connection.receive_data(b"llo")
    assert [connection.next_event(), connection.next_event()] == [b"llo", END]
    assert connection.start_next_cycle()


def test_streams_are_chunked_and_closed_to_http_1_0() -> None:
    connection = ready(post(line=b"GET / HTTP/1.1"))
    assert connection.send_head(200, []) == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert connection.send_data(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
    assert connection.send_data(b"") == b""
    assert connection.send_end() == b"0\r\n\r\n"
    assert connection.start_next_cycle()

    connection = ready(post(line=b"GET / HTTP/1.0"))
    assert connection.send_head(200, []) == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
    assert connection.send_data(b"abc") == b"abc"
    assert connection.send_end() == b""
    assert not connection.start_next_cycle()

    connection = ready(post(line=b"HEAD / HTTP/1.1"))
    assert connection.send_head(200, []).endswith(b"transfer-encoding: chunked\r\n\r\n")
    assert connection.send_data(b"abc") + connection.send_end() == b""
    assert connection.start_next_cycle()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_streams_of_an_announced_length_need_no_chunks(version: bytes) -> None:
    connection = ready(post(line=b"GET / HTTP/" + version))
    head = connection.send_head(200, [], 5)
    assert head.endswith(b"content-length: 5\r\n\r\n")
    assert connection.send_data(b"abc") == b"abc"
    with pytest.raises(RuntimeError, match="at most 2 more"):
        connection.send_data(b"def")
    with pytest.raises(RuntimeError, match="2 more octets"):
        connection.send_end()
    assert connection.frame_data(2) == (b"", b"")
    assert connection.send_end() == b""
    assert connection.start_next_cycle() == (version == b"1.1")


def test_what_stands_around_data_that_is_sent_as_it_is() -> None:
    connection = ready(post(line=b"GET / HTTP/1.1"))
    with pytest.raises(RuntimeError, match="started stream"):
        connection.frame_data(1)
    connection.send_head(200, [])
    assert connection.frame_data(255) == (b"ff\r\n", b"\r\n")
    assert connection.frame_data(0) == (b"", b"")


def test_pieces_of_a_large_body_are_not_copied() -> None:
    piece = b"x" * 5000
    for head, end in (
        (b"Content-Length: 15001\r\n\r\n", b"y"),
        (b"Transfer-Encoding: chunked\r\n\r\n3a99\r\n", b"y\r\n0\r\n\r\n"),
        (b"Connection: close\r\n\r\n", b"y"),
    ):
        connection = ClientConnection(MAX_HEADER)
        connection.send_request(b"POST", b"/", [(b"host", b"a")])
        connection.receive_data(b"HTTP/1.1 200 OK\r\n" + head)
        assert isinstance(connection.next_event(), ResponseHead)
        connection.next_event()  # the line of the chunk
        connection.receive_data(piece)
        connection.receive_data(piece)
        assert not connection.reusable
        assert connection.next_event() is piece
        connection.receive_data(piece)
        assert [connection.next_event(), connection.next_event(), connection.next_event()] == [piece, piece, None]
        connection.receive_data(end)
        assert connection.next_event() == b"y"
        connection.receive_eof()
        assert connection.next_event() is END


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nb: c"),
        (b"x", b"a\x00"),
        (b"x", b"a "),
        (b"x y", b"a"),
        (b"", b"a"),
        (b"Content-Length", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"connection", b"close"),
    ],
)
def test_fields_that_must_not_be_sent(field: tuple[bytes, bytes]) -> None:
    connection = ready(post(line=b"GET / HTTP/1.1"))
    with pytest.raises(ValueError, match=r"."):
        connection.send_response(200, [field], b"")
    with pytest.raises(ValueError, match=r"."):
        connection.send_head(200, [field])
    # Nothing was sent, so another answer still can be.
    assert connection.send_response(500, [], b"").startswith(b"HTTP/1.1 500 ")
    with pytest.raises(ValueError, match=r"."):
        ClientConnection(MAX_HEADER).send_request(b"GET", b"/", [(b"host", b"a"), field])


def test_one_response_to_a_request() -> None:
    connection = ready(post(line=b"GET / HTTP/1.1"))
    with pytest.raises(RuntimeError):
        connection.send_data(b"x")
    connection.send_response(200, [], b"")
    for again in (
        lambda: connection.send_response(200, [], b""),
        lambda: connection.send_head(200, []),
        connection.send_end,
    ):
        with pytest.raises(RuntimeError):
            again()


def test_a_refused_head_request_is_answered_without_a_body() -> None:
    connection = ServerConnection(MAX_HEADER, MAX_BODY)
    connection.receive_data(b"HEAD / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError):
        connection.next_event()
    assert connection.send_response(400, [], b"why").endswith(b"connection: close\r\ncontent-length: 3\r\n\r\n")


def test_single_fields() -> None:
    head = RequestHead(b"GET", b"/", [(b"a", b"1"), (b"b", b"2"), (b"a", b"X, y ,,")])
    assert head.get(b"b") == b"2"
    assert head.get(b"c") is None
    assert head.get_all(b"a") == [b"1", b"X, y ,,"]
    assert head.tokens(b"a") == [b"1", b"x", b"y"]
    with pytest.raises(ProtocolError, match="several"):
        head.get(b"a")


def answered(segments: Iterable[bytes], *, eof: bool = False, method: bytes = b"POST") -> list[object]:
    """Send one request and return what its response was: status, fields, whole body, whether we may go on."""
    connection = ClientConnection(MAX_HEADER)
    connection.send_request(method, b"/mcp", [(b"host", b"a")], b"{}")
    seen: list[object] = []
    body = b""
    for segment in [*segments, None] if eof else segments:
        if segment is None:
            connection.receive_eof()
        else:
            connection.receive_data(segment)
        try:
            while (event := connection.next_event()) is not None:
                if isinstance(event, ResponseHead):
                    seen += [event.status, event.headers]
                elif isinstance(event, bytes):
                    assert event
                    body += event
                else:
                    seen.append(body)
        except ProtocolError as error:
            return [error.http_status]
    return [*seen, connection.reusable]


LENGTH_2 = [(b"content-length", b"2")]
RESPONSES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", [200, LENGTH_2, b"hi", True]),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", [200, LENGTH_2, b"hi", True]),
    "empty": (b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", [202, [(b"content-length", b"0")], b"", True]),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nhi\r\n0\r\nt: u\r\n\r\n",
        [200, [(b"transfer-encoding", b"chunked")], b"hi", True],
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", [204, [], b"", True]),
    "304 with a length": (b"HTTP/1.1 304 x\r\nContent-Length: 2\r\n\r\n", [304, LENGTH_2, b"", True]),
    "interim responses": (
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        ),
        [200, LENGTH_2, b"hi", True],
    ),
    "close": (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        [200, [(b"connection", b"close"), *LENGTH_2], b"hi", False],
    ),
    "http/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", [200, LENGTH_2, b"hi", False]),
}
BAD_RESPONSES = {
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "bad length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
    "unknown coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked in http/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no status line": b"hello\r\n",
    "garbage": b"\x00\x01\x02",
    "http/2": b"HTTP/2.0 200 OK\r\n\r\n",
    "status 99": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\n\r\n",
    "status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "switching protocols": b"HTTP/1.1 101 x\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "folded field": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "large head": b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEADER,
    "101 fields": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    "interim responses without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 17,
}


@pytest.mark.parametrize(("raw", "expected"), RESPONSES.values(), ids=RESPONSES)
def test_reads_responses(raw: bytes, expected: list[object]) -> None:
    for segments in segmentations(raw):
        assert answered(segments) == expected
    for trailing in (b"\r\n", b"HTTP/1.1 200 OK\r\n\r\n"):
        for segments in segmentations(raw + trailing):
            assert answered(segments) == [*expected[:-1], False]
    assert answered([raw], eof=True) == [*expected[:-1], False]


@pytest.mark.parametrize("raw", BAD_RESPONSES.values(), ids=BAD_RESPONSES)
def test_refuses_responses(raw: bytes) -> None:
    for segments in segmentations(raw):
        assert answered(segments) == [502]


def test_a_body_without_length_ends_with_the_connection() -> None:
    raw = b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nhello"
    for segments in segmentations(raw):
        assert answered(segments, eof=True) == [200, [(b"x", b"y")], b"hello", False]


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200", RESPONSES["length"][0][:-1], RESPONSES["chunked"][0][:-1]])
def test_refuses_responses_that_end_too_early(raw: bytes) -> None:
    assert answered([raw], eof=True) == [502]


def test_responses_to_head_have_no_body() -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    assert answered([raw], method=b"HEAD") == [200, LENGTH_2, b"", True]
    assert answered([raw + b"hi"], method=b"HEAD") == [200, LENGTH_2, b"", False]


def test_requests_and_reuse() -> None:
    connection = ClientConnection(MAX_HEADER)
    assert connection.reusable
    assert connection.send_request(b"GET", b"/x", [(b"host", b"a")]) == b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"
    assert not connection.reusable
    assert not connection.response_started
    with pytest.raises(RuntimeError):
        connection.start_next_cycle()
    with pytest.raises(RuntimeError):
        connection.send_request(b"GET", b"/x", [(b"host", b"a")])
    connection.receive_data(RESPONSES["length"][0])
    assert connection.response_started
    while connection.next_event() is not None:
        pass
    assert connection.reusable
    connection.start_next_cycle()
    assert not connection.response_started
    raw = connection.send_request(b"POST", b"/x", [(b"host", b"a"), (b"x", b"y")], b"")
    assert raw == b"POST /x HTTP/1.1\r\nhost: a\r\nx: y\r\ncontent-length: 0\r\n\r\n"


def test_bytes_between_two_exchanges_spoil_the_connection() -> None:
    connection = ClientConnection(MAX_HEADER)
    connection.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert not connection.reusable
    connection = ClientConnection(MAX_HEADER)
    connection.receive_eof()
    assert not connection.reusable


@pytest.mark.parametrize("target", [b"", b"a b", b"/\r\nX: y", b"/\x00"])
def test_requests_that_must_not_be_sent(target: bytes) -> None:
    with pytest.raises(ValueError, match="expected a request"):
        ClientConnection(MAX_HEADER).send_request(b"GET", target, [(b"host", b"a")])


responses = st.one_of(
    st.binary(max_size=200),
    st.tuples(
        st.sampled_from([*(raw for raw, _ in RESPONSES.values()), *BAD_RESPONSES.values()]).map(lambda raw: raw[:3000]),
        st.integers(0, 3000),
        st.integers(0, 4),
        st.binary(max_size=3),
    ).map(lambda m: m[0][: m[1] % len(m[0])] + m[3] + m[0][m[1] % len(m[0]) + m[2] :]),
)


@given(responses, places)
def test_random_responses_raise_nothing_but_protocol_errors(raw: bytes, places: list[int]) -> None:
    assert answered(cut_at(raw, places), eof=True) == answered([raw], eof=True)
