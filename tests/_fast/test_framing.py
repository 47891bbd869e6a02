"""What the compiled parts take for plain, h11 and the code around it read the same and write the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.http_heads import CAPTURED, REQUEST_HEADS, RESPONSE_HEADS, UPGRADES
from tests.bytes_feed import cut_at, places, segmentations
from tests.wire import test_http1 as corpus

from only1mcp._fast import framing_reference, index_fields
from only1mcp.errors import ProtocolError
from only1mcp.wire import http1_body, http1_write
from only1mcp.wire.http1_body import ChunkedBody
from only1mcp.wire.http1_events import RequestHead
from only1mcp.wire.http1_head import (
    HeadCutter,
    check_request_line,
    check_status_line,
    read_request_head,
    read_response_head,
)
from only1mcp.wire.http1_server import ServerConnection

REASON = "the compiled parts are not built: make build"
framing = pytest.importorskip("only1mcp._fast.framing", reason=REASON)
sending = pytest.importorskip("only1mcp._fast.sending", reason=REASON)
chunks = pytest.importorskip("only1mcp._fast.chunks", reason=REASON)

MAX_HEAD = 16 * 1024
ODD_REQUESTS = [
    raw for raw, _ in [*corpus.ACCEPTED.values(), *corpus.LAST.values(), *corpus.REFUSED.values()] if len(raw) < 5000
]
ODD_RESPONSES = [*(raw for raw, _ in corpus.RESPONSES.values()), *corpus.BAD_RESPONSES.values()]


def request_by_h11(data: bytes) -> Any:
    """Return what the compiled reader would, from h11 and its checks; None for what they refuse or find incomplete."""
    buffer = bytearray(data)
    try:
        raw = HeadCutter(MAX_HEAD, "request", check_request_line).maybe_cut(buffer)
        if raw is None:
            return None
        head = read_request_head(raw, sys.maxsize)
    except ProtocolError:
        return None
    assert not head.expect_continue or b"expect" in index_fields(head.headers)
    close = b"close" in head.tokens(b"connection") or head.http_version == b"1.0"
    index = index_fields(head.headers)
    size = len(data) - len(buffer)
    return head.method, head.target, head.headers, index, head.content_length, head.chunked, close, size


def response_by_h11(data: bytes) -> Any:
    buffer = bytearray(data)
    try:
        raw = HeadCutter(MAX_HEAD, "response", check_status_line).maybe_cut(buffer)
        head = None if raw is None else read_response_head(raw, http1_write.h11_after(b"POST"))
    except ProtocolError:
        return None
    if head is None:
        return None
    close = b"close" in head.tokens(b"connection") or head.http_version == b"1.0"
    size = len(data) - len(buffer)
    return head.status, head.headers, index_fields(head.headers), head.content_length, head.chunked, close, size


READERS: dict[str, tuple[Callable[[bytearray, int], Any], Callable[[bytes], Any]]] = {
    "request": (framing.read_request, request_by_h11),
    "response": (framing.read_response, response_by_h11),
}


def read(role: str, data: bytes) -> Any:
    """Return what the compiled reader says after seeing that h11 says the same, or that it was declined."""
    compiled, oracle = READERS[role]
    buffer = bytearray(data)
    seen = compiled(buffer, MAX_HEAD)
    assert buffer == data
    if seen is not None:
        assert seen == oracle(data)
        assert data[: seen[-1]].endswith(b"\r\n\r\n")
    return seen


def is_plain(role: str, data: bytes) -> bool:
    return read(role, data) is not None


HEADS = [("request", name) for name in REQUEST_HEADS] + [("response", name) for name in RESPONSE_HEADS]


def test_every_captured_head_but_a_wish_for_another_protocol_is_plain() -> None:
    declined = [name for role, name, head in CAPTURED if not is_plain(role, head) and head not in UPGRADES]
    assert declined == []
    labels = [name for _, name, _ in CAPTURED]
    for sender in ("python sdk 1", "python sdk 2", "typescript sdk 1", "node undici", "go", "java", "curl", "nginx"):
        assert any(label.startswith(sender) for label in labels)


def test_a_wish_for_another_protocol_is_read_by_h11_and_not_granted() -> None:
    assert UPGRADES
    for head in UPGRADES:
        assert not is_plain("request", head)
        connection = ServerConnection(MAX_HEAD, 1000)
        connection.receive_data(head + b"x" * 46)
        request = connection.next_event()
        assert isinstance(request, RequestHead)
        assert (request.method, request.content_length) == (b"POST", 46)


PLAIN_HEADS = [
    *[pytest.param(role, (REQUEST_HEADS if role == "request" else RESPONSE_HEADS)[name], id=name)
      for role, name in HEADS],
    *[pytest.param(role, head, id=name) for role, name, head in CAPTURED if head not in UPGRADES],
]  # fmt: skip


@pytest.mark.parametrize(("role", "data"), PLAIN_HEADS)
def test_real_heads_are_plain(role: str, data: bytes) -> None:
    expected = read(role, data)
    assert expected is not None
    for trailing in (b"\r\n", b"{}", data, b"\x00"):
        assert read(role, data + trailing) == expected
    for end in range(len(data)):
        assert not is_plain(role, data[:end])
    assert READERS[role][0](bytearray(data), len(data)) == expected
    assert READERS[role][0](bytearray(data), len(data) - 1) is None


@pytest.mark.parametrize(("role", "name"), HEADS)
def test_real_heads_with_any_octet_changed_inserted_or_gone(role: str, name: str) -> None:
    data = (REQUEST_HEADS if role == "request" else RESPONSE_HEADS)[name][:250] + b"\r\n\r\n"
    for place in range(len(data)):
        for octet in (*b'\r\n\x00\t :,;"(/?#%@-_~0a\x7f\x80', data[place] ^ 0x20, data[place] ^ 0x80):
            for rest in (place, place + 1):
                read(role, data[:place] + bytes((octet,)) + data[rest:])
        read(role, data[:place] + data[place + 1 :])


@pytest.mark.parametrize("data", ODD_REQUESTS)
def test_odd_requests(data: bytes) -> None:
    read("request", data)


@pytest.mark.parametrize("data", ODD_RESPONSES)
def test_odd_responses(data: bytes) -> None:
    read("response", data)


def request(*lines: bytes, line: bytes = b"POST /mcp HTTP/1.1", host: bytes = b"Host: a") -> bytes:
    return b"\r\n".join((line, *([host] if host else []), *lines)) + b"\r\n\r\n"


def response(*lines: bytes, line: bytes = b"HTTP/1.1 200 OK", length: bytes = b"Content-Length: 2") -> bytes:
    return b"\r\n".join((line, *([length] if length else []), *lines)) + b"\r\n\r\n"


PLAIN_REQUESTS = [
    *[request(line=method + b" / HTTP/1.1") for method in (b"GET", b"POST", b"DELETE", b"HEAD", b"OPTIONS")],
    request(line=b"GET /" + b"x" * 7999 + b" HTTP/1.1"),
    request(line=b"GET /a-z_~.!$&'()*+,;=:@//?/?a=b%20&c HTTP/1.1"),
    *[request(host=b"hOsT:" + host) for host in (b"a", b" a-b.C_~1:0", b"\t127.0.0.1:65535 ", b"[::1]", b"[::1]:80")],
    request(b"Content-Length: 999999999999999"),
    request(b"Content-Length: 000000000000005"),
    request(b"content-length:0"),
    request(b"tRANSFER-eNCODING: cHUNKED"),
    request(b"Connection: Keep-Alive"),
    request(b"Connection: CLOSE"),
    request(b"x:", b"X: ", b"y:\t \t", b"!#$%&'*+-.^_`|~0aZ: \"(),/:;<=>?@[\\]{} a \t b"),
    request(b"a: 1", b"A: 1", b"a: 1", b"b:", b"b:"),
    request(b"x" * 5000 + b": y", b"y: " + b"z" * 5000),
    request(*[b"a: b"] * 99),
]
DECLINED_REQUESTS = [
    request(line=b"PUT / HTTP/1.1"),
    request(line=b"get / HTTP/1.1"),
    request(line=b"GETS / HTTP/1.1"),
    request(line=b"GET  / HTTP/1.1"),
    request(line=b"GET / HTTP/1.0"),
    request(line=b"GET / HTTP/1.2"),
    request(line=b"GET / http/1.1"),
    request(line=b"GET /%41 HTTP/1.1"),
    request(line=b"GET /{} HTTP/1.1"),
    request(line=b"GET * HTTP/1.1"),
    request(line=b"GET a HTTP/1.1"),
    request(line=b"GET /" + b"x" * 8000 + b" HTTP/1.1"),
    b"\r\n" + request(),
    request(host=b""),
    request(b"Host: a"),
    *[request(host=b"Host: " + host) for host in [*corpus.HOSTS, b"[::2]", b"[::1]x", b"a:", b"a:000080", b"[::1]:"]],
    request(b"Content-Length: 2", b"Content-Length: 2"),
    request(b"Content-Length: 2", b"Transfer-Encoding: chunked"),
    request(b"Transfer-Encoding: chunked", b"Content-Length: 2"),
    request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    *[request(b"Content-Length: " + v) for v in (b"", b"1 2", b"+1", b"-1", b"0x1", b"1,1", b"1" * 16, b"\xb2")],
    *[request(b"Transfer-Encoding: " + v) for v in (b"", b"gzip", b"gzip, chunked", b"chunked, chunked", b"chunkedx")],
    *[request(b"Connection: " + v) for v in (b"", b"upgrade", b"close, te", b"keep-alive, close", b"x")],
    request(b"Connection: close", b"Connection: close"),
    *[request(name + b": 100-continue") for name in (b"Expect", b"Upgrade", b"TE", b"Trailer", b"HTTP2-Settings")],
    request(b"Content-Encoding: identity"),
    request(b"x: \xe9"),
    request(b"x y: z"),
    request(b"x : z"),
    request(b": z"),
    request(b"x"),
    request(b"x: a", b" b"),
    request(b"x: a\rb"),
    request(*[b"a: b"] * 100),
    request().replace(b"\r\n", b"\n"),
    b"GET / HTTP/1.1\r\nHost: a\nx: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\n",
]
PLAIN_RESPONSES = [
    response(),
    response(line=b"HTTP/1.1 200 "),
    response(line=b"HTTP/1.1 599 ~ what !"),
    response(b"Transfer-Encoding: CHUNKED", length=b""),
    response(b"Content-Encoding: gzip"),
    response(*[b"a: b"] * 99),
]
DECLINED_RESPONSES = [
    response(length=b""),
    response(b"Transfer-Encoding: chunked"),
    response(b"Content-Length: 2"),
    response(b"Trailer: x"),
    response(b"Upgrade: h2"),
    response(b"Connection: upgrade"),
    response(b"Content-Type: \xe9"),
    response(*[b"a: b"] * 100),
    *[response(line=b"HTTP/1.1 " + s) for s in (b"100 x", b"101 x", b"204 x", b"304 x", b"199 x", b"600 x", b"20 x")],
    *[response(line=line) for line in (b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/1.1  200 OK")],
    *[response(line=b"HTTP/1.1 2" + s) for s in (b"/0 x", b"0: x", b"00\tx", b"00 \xe9", b"00 a\x7f", b"000 x")],
]


def test_what_is_plain() -> None:
    for data in PLAIN_REQUESTS:
        assert is_plain("request", data), data
    for data in PLAIN_RESPONSES:
        assert is_plain("response", data), data


def test_what_is_not() -> None:
    for data in DECLINED_REQUESTS:
        assert not is_plain("request", data), data
    for data in DECLINED_RESPONSES:
        assert not is_plain("response", data), data


def test_every_octet_in_every_kind_of_place() -> None:
    for octet in (bytes((i,)) for i in range(256)):
        read("request", request(line=b"GET /a" + octet + b"b HTTP/1.1"))
        read("request", request(line=b"GET /?a" + octet + b"b HTTP/1.1"))
        read("request", request(host=b"Host: a" + octet + b"b"))
        read("request", request(b"x" + octet + b"y: z"))
        for before in (b"", b"1234567", b"12345678"):
            read("request", request(b"x: " + before + octet + b"0123456789"))
            read("request", request(b"x: " + before + octet))
        read("request", request(b"Content-Length: 1" + octet))
        read("request", request(b"Connection: clos" + octet))
        read("response", response(line=b"HTTP/1.1 200 a" + octet))
        read("response", response(line=b"HTTP/1.1 2" + octet + b"0 a"))


pieces = st.one_of(
    st.binary(max_size=3),
    st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b",", b"close", b"Host: a\r\n", b"\r\n\r\n"]),
    st.sampled_from([b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]),
)
mutations = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 4), pieces), max_size=4)


def changed(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, gone, piece in changes:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + gone :]
    return data


def mutated(corpora: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(changed, st.sampled_from(corpora), mutations)


requests = mutated([*REQUEST_HEADS.values(), *PLAIN_REQUESTS, *DECLINED_REQUESTS, *ODD_REQUESTS])
responses = mutated([*RESPONSE_HEADS.values(), *PLAIN_RESPONSES, *DECLINED_RESPONSES, *ODD_RESPONSES])


@given(requests)
def test_h11_reads_requests_the_same(data: bytes) -> None:
    read("request", data)


@given(responses)
def test_h11_reads_responses_the_same(data: bytes) -> None:
    read("response", data)


def lines_of(head: list[bytes]) -> bytes:
    return b"".join(line + b"\r\n" for line in head) + b"\r\n"


field_names = st.sampled_from(
    [b"Host", b"host", b"content-length", b"Transfer-Encoding", b"connection", b"X", b"accept", b"Expect", b"te"]
) | st.text("aZ-_0~!", min_size=1, max_size=40).map(str.encode)
field_values = st.sampled_from([b"a", b"2", b"chunked", b"close", b"", b"a b", b"\xff", b"keep-alive", b"a:80"])
field_lines = st.builds(
    lambda name, space, value, end: name + b":" + space + value + end,
    field_names, st.sampled_from([b"", b" ", b"\t ", b"  "]), field_values, st.sampled_from([b"", b" ", b"\t"]),
)  # fmt: skip


@given(st.lists(field_lines, max_size=6), st.booleans())
def test_h11_reads_built_heads_the_same(fields: list[bytes], with_host: bool) -> None:
    first = [b"Host: a"] if with_host else []
    read("request", lines_of([b"POST /mcp HTTP/1.1", *first, *fields]))
    read("response", lines_of([b"HTTP/1.1 200 OK", *fields]))


def test_names_are_lowered_and_shared() -> None:
    heads = [read("request", request(b"Accept: a", b"X-Own: b")) for _ in range(2)]
    assert heads[0][2] == [(b"host", b"a"), (b"accept", b"a"), (b"x-own", b"b")]
    assert heads[0][2][1][0] is heads[1][2][1][0]


def test_fields_that_come_twice() -> None:
    # One-octet values are one object wherever they occur.
    index = read("request", request(b"a: 1", b"A: 1", b"b: x", b"a: 2"))[3]
    assert index == {b"host": b"a", b"a": [b"1", b"1", b"2"], b"b": b"x"}


def test_the_plain_python_twin_declines() -> None:
    for data in (*REQUEST_HEADS.values(), *RESPONSE_HEADS.values()):
        assert framing_reference.read_request(bytearray(data), MAX_HEAD) is None
        assert framing_reference.read_response(bytearray(data), MAX_HEAD) is None


# --- sending ---------------------------------------------------------------------------------------------------------

octets = st.one_of(st.binary(max_size=12), st.text("aZ-_09 \t:", max_size=12).map(str.encode))
names = st.one_of(octets, st.sampled_from([b"content-length", b"Connection", b"te", b"upgrade", b"host", b"expect"]))
headers = st.lists(st.tuples(names | st.just(b"x-own"), octets | st.just(b"value")), max_size=4)


def outcome(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except ValueError:
        return "refused"


def response_in_python(status_line: bytes, fields: Any, length: int, chunked: bool, close: bool, body: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1_write, "write_response", framing_reference.write_response)
        return http1_write.response_bytes(200, fields, length, chunked, close, body)


def request_in_python(method: bytes, target: bytes, fields: Any, length: int, body: bytes) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1_write, "write_request", framing_reference.write_request)
        return http1_write.request_bytes(method, target, fields, length, body)[0]


@given(headers, st.integers(-1, 2**62), st.booleans(), st.booleans(), st.binary(max_size=20))
def test_responses_are_the_same_bytes(fields: Any, length: int, chunked: bool, close: bool, body: bytes) -> None:
    args = (b"HTTP/1.1 200 OK\r\n", fields, length, chunked, close, body)
    written = sending.write_response(*args)
    if written is not None:
        assert written == response_in_python(*args)


@given(
    st.sampled_from([b"GET", b"POST", b"PUT", b"CONNECT", b"get", b""]),
    st.one_of(st.sampled_from([b"/mcp", b"/mcp?a=b%20c"]), octets.map(lambda path: b"/" + path)),
    st.one_of(headers, headers.map(lambda fields: [(b"host", b"a"), *fields])),
    st.integers(-1, 10**15),
    st.binary(max_size=20),
)
def test_requests_are_the_same_bytes(method: bytes, target: bytes, fields: Any, length: int, body: bytes) -> None:
    args = (method, target, fields, length, body)
    written = sending.write_request(*args)
    if written is not None:
        assert written == outcome(request_in_python, *args)


@given(st.binary(max_size=30), st.binary(max_size=1100))
def test_messages_are_finished_the_same(head: bytes, body: bytes) -> None:
    assert sending.finish_message(head, body) == framing_reference.finish_message(head, body)


@pytest.mark.parametrize("octet", range(256))
def test_every_octet_in_what_is_sent(octet: int) -> None:
    one = bytes((octet,))
    for name in (one, b"x" + one, one + b"x"):
        for value in (b"", b"v"):
            compare([(name, value)])
    for value in (one, b"x" + one, one + b"x", b"x" + one + b"x", b"01234567" + one + b"x", one + b"01234567"):
        compare([(b"x", value)])


def compare(fields: list[tuple[bytes, bytes]]) -> None:
    for args in ((b"HTTP/1.1 200 OK\r\n", fields, 2, False, False, b"hi"),):
        written = sending.write_response(*args)
        assert written is None or written == response_in_python(*args)
        if written is None and fields[0][0].islower():
            # Lower-case names are declined only for what is not to be sent, and for values outside of ASCII.
            assert outcome(response_in_python, *args) == "refused" or not fields[0][1].isascii()
    with_host = (b"GET", b"/", [(b"host", b"a"), *fields], -1, b"")
    written = sending.write_request(*with_host)
    assert written is None or written == request_in_python(*with_host)


def test_usual_messages_are_written() -> None:
    fields = [(b"content-type", b"application/json"), (b"x", b""), (b"date", b"Sun, 22 Nov 2026 18:04:06 GMT")]
    assert sending.write_response(b"HTTP/1.1 200 OK\r\n", fields, 2, False, True, b"hi") == (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx: \r\ndate: Sun, 22 Nov 2026 18:04:06 GMT\r\n"
        b"connection: close\r\ncontent-length: 2\r\n\r\nhi"
    )
    assert sending.write_response(b"HTTP/1.1 200 OK\r\n", [], -1, True, False, b"") == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    assert sending.write_request(b"POST", b"/mcp", [(b"host", b"a"), (b"x", b"y")], 0, b"") == (
        b"POST /mcp HTTP/1.1\r\nhost: a\r\nx: y\r\ncontent-length: 0\r\n\r\n"
    )
    assert sending.write_request(b"GET", b"/", [(b"host", b"a")], -1, b"") == b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
    length = 2**63 - 1
    assert b"%d" % length in sending.write_request(b"POST", b"/", [(b"host", b"a")], length, b"")


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"x", b"y"), (b"host", b"a")],
        [(b"host", b"a"), (b"host", b"a")],
        [(b"Host", b"a")],
        [(b"host", b"a"), (b"expect", b"100-continue")],
        [(b"host", b"a"), (b"upgrade", b"h2c")],
        [(b"host", b"a"), (b"content-length", b"1")],
        [(b"host", b"a"), (b"x", "y")],
        [(b"host", b"a"), ["x", b"y"]],
        [(b"host", b"a"), (b"x",)],
        [(b"host", b"a"), (b"x", bytearray(b"y"))],
    ],
)
def test_requests_that_are_not_written(fields: Any) -> None:
    assert sending.write_request(b"GET", b"/", fields, -1, b"") is None


def test_targets_and_methods_that_are_not_written() -> None:
    for method, target in (
        *[(b"GET", target) for target in (b"", b"a", b"*", b"/ ", b"/\r\nx: y", b"/#", b"/\x00", b"/" + b"x" * 8000)],
        *[(method, b"/") for method in (b"CONNECT", b"", b"GET ", b"get", b"PUT")],
    ):
        assert sending.write_request(method, target, [(b"host", b"a")], -1, b"") is None


# --- chunks ----------------------------------------------------------------------------------------------------------

MAX_BODY = 1000


def decoded(segments: list[bytes]) -> Any:
    """Return the data and how it ended: complete with what is left over, waiting, or the refusing status."""
    body = ChunkedBody(MAX_BODY, 200)
    buffer = bytearray()
    data = b""
    try:
        for segment in segments:
            buffer += segment
            while (piece := body.maybe_read(buffer)) is not None:
                assert piece
                data += piece
    except ProtocolError as error:
        # How much came before the refusal depends on the cuts; the refusal does not.
        return error.http_status
    return data, body.complete, bytes(buffer) if body.complete else None


def decoded_in_python(segments: list[bytes]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http1_body, "read_chunks", framing_reference.read_chunks)
        return decoded(segments)


sizes = st.one_of(
    st.integers(0, 20).map(lambda n: b"%x" % n),
    st.sampled_from([b"3e8", b"3E9", b"0000000000000001", b"00000000000000001", b"ffffffffffffffff", b"", b"g", b" 1"]),
)
extensions = st.lists(
    st.sampled_from([b";a", b"; a = b", b';a="x\\"y;"', b";", b";a=", b" ;a", b";a\x00", b';a="', b";" + b"a" * 900]),
    max_size=2,
).map(b"".join)
data_of_chunks = st.one_of(st.integers(0, 20).map(lambda n: b"x" * n), st.just(b"x" * 1000))
chunk_streams = st.lists(
    st.one_of(
        st.integers(1, 20).map(lambda n: b"%x\r\n%b\r\n" % (n, b"x" * n)),
        st.tuples(sizes, extensions, st.sampled_from([b"\r\n", b"\n", b"\r"]), data_of_chunks, st.just(b"\r\n")).map(
            b"".join
        ),
        st.sampled_from([b"1;a=\"\t\xff\"\r\nx\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"\r\n"]),
    ),
    max_size=8,
).map(b"".join)  # fmt: skip


@given(chunk_streams | mutated([body for body in corpus.CHUNKED.values() if len(body) < 3000]), places)
def test_chunks_are_read_the_same(data: bytes, places: list[int]) -> None:
    expected = decoded_in_python([data])
    assert decoded([data]) == expected
    assert decoded(cut_at(data, places)) == expected
    assert decoded_in_python(cut_at(data, places)) == expected


def test_chunks_at_every_split() -> None:
    for data in (
        *[raw for raw in corpus.CHUNKED.values() if len(raw) < 200],
        b"5;a\r\nhello\r\n1\r\n!\r\n0\r\n\r\nmore",
    ):
        expected = decoded_in_python([data])
        for segments in segmentations(data):
            assert decoded(segments) == expected


def test_whole_chunks_are_taken_and_others_left() -> None:
    def taken(data: bytes, room: int = 100, extension_room: int = 100) -> tuple[bytes, bytes, int]:
        out = bytearray(b"held ")
        position, extension_octets = chunks.read_chunks(bytearray(b"xx" + data), 2, out, room, extension_room)
        return bytes(out[5:]), data[position - 2 :], extension_octets

    assert taken(b"1\r\na\r\n2;x=y\r\nbc\r\n") == (b"abc", b"", 0)
    assert taken(b"1\r\na\r\n0\r\n\r\n") == (b"a", b"0\r\n\r\n", 0)
    assert taken(b"1\r\na\r\n2\r\nbc\r") == (b"a", b"2\r\nbc\r", 0)
    assert taken(b"1\r\na\r\n2\r\nbcd\n") == (b"a", b"2\r\nbcd\n", 0)
    assert taken(b"2\r\nab\r\n2\r\ncd\r\n", room=3) == (b"ab", b"2\r\ncd\r\n", 0)
    long = b"1;" + b"x" * 20 + b"\r\na\r\n"
    assert taken(long * 2) == (b"aa", b"", 12)
    assert taken(long * 2, extension_room=11) == (b"a", long, 6)
    assert taken(b"ffffffffffffffff\r\na\r\n")[0] == b""
    assert taken(b"") == (b"", b"", 0)
    with pytest.raises(ValueError, match="position"):
        chunks.read_chunks(bytearray(b"x"), 2, bytearray(), 1, 1)
    with pytest.raises(ValueError, match="another"):
        chunks.read_chunks(same := bytearray(b"x"), 0, same, 1, 1)
