"""Content-Type and Accept of a POST: what counts as JSON, and as taking both forms of answer."""

from __future__ import annotations

import pytest

from only1mcp.errors import ProtocolError, RequestRefused
from only1mcp.frontend.media import check_media_types
from only1mcp.wire.http1_events import RequestHead

BOTH = b"application/json, text/event-stream"


def check(content_type: bytes | None = b"application/json", *accept: bytes) -> None:
    headers = [(b"accept", value) for value in accept]
    if content_type is not None:
        headers.append((b"content-type", content_type))
    check_media_types(RequestHead(b"POST", b"/mcp", headers))


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"APPLICATION/JSON",
        b"application/json;charset=utf-8",
        b"application/json; charset=UTF-8",
        b'application/json ; charset="utf-8"',
        b"application/json;\tcharset=utf-8",
        b"application/json;",
    ],
)
def test_json(content_type: bytes) -> None:
    check(content_type, BOTH)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        b"",
        b"text/plain",
        b"text/json",
        b"application/jsonx",
        b"application/json-rpc",
        b"application/ld+json",
        b"application/json, text/plain",
        b"text/plain; x=application/json",
        b"multipart/form-data; boundary=application/json",
        b"application/json; charset=utf-16",
        b"application/json; charset=latin1",
        b"application/json; charset=utf-8; charset=utf-7",
        b"\xff\xfe",
    ],
)
def test_not_json(content_type: bytes | None) -> None:
    with pytest.raises(RequestRefused, match="expected Content-Type application/json") as caught:
        check(content_type, BOTH)
    assert (caught.value.http_status, caught.value.code) == (400, -32600)


def test_two_content_types() -> None:
    with pytest.raises(ProtocolError):
        check_media_types(
            RequestHead(b"POST", b"/mcp", [(b"content-type", b"application/json")] * 2 + [(b"accept", BOTH)])
        )


@pytest.mark.parametrize(
    "accept",
    [
        (BOTH,),
        (b"text/event-stream,application/json",),
        (b"application/json", b"text/event-stream"),
        (b"*/*",),
        (b"application/*, text/*",),
        (b"application/json;q=0.5 , text/event-stream ; q=0.1",),
        (b"APPLICATION/JSON, Text/Event-Stream;charset=utf-8",),
        (b"text/html, */*;q=0.001",),
        (b",, application/json,,text/event-stream,",),
        (b"application/json;q=0.9;q=1, text/event-stream",),
    ],
)
def test_takes_both(accept: tuple[bytes, ...]) -> None:
    check(b"application/json", *accept)


@pytest.mark.parametrize(
    "accept",
    [
        (),
        (b"",),
        (b"application/json",),
        (b"text/event-stream",),
        (b"text/*",),
        (b"application/json, text/event-stream;q=0",),
        (b"application/json;q=0.000, text/event-stream",),
        (b"*/*;q=0",),
        (b"*/*, text/event-stream;q=0",),
        (b"application/json;q=0, application/*, text/*",),
        (b"application/jsonx, text/event-streams",),
        (b"application/json text/event-stream",),
    ],
)
def test_does_not_take_both(accept: tuple[bytes, ...]) -> None:
    with pytest.raises(RequestRefused, match="Accept header must list") as caught:
        check(b"application/json", *accept)
    assert (caught.value.http_status, caught.value.code) == (406, -32600)


def test_an_endless_accept_is_read_once() -> None:
    check(b"application/json", b"," * 30_000 + BOTH)
