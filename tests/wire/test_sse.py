"""The event-stream decoder against the WHATWG rules at every split of the bytes, the encoder against the decoder."""

from __future__ import annotations

import tracemalloc
from collections import deque
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.errors import ProtocolError
from only1mcp.wire.sse import Event, SSEDecoder, encode, open_event

LIMIT = 10_000


def decode(stream: bytes, sizes: list[int] | None = None, limit: int = LIMIT) -> tuple[list[Event], SSEDecoder]:
    """Decode `stream` cut into pieces of `sizes`, the rest in one."""
    decoder = SSEDecoder(limit)
    events = []
    position = 0
    for size in sizes or []:
        events += decoder.receive_data(stream[position : position + size])
        position += size
    events += decoder.receive_data(stream[position:])
    return events, decoder


def message(data: bytes, event: str = "message", id: str | None = None) -> Event:
    return Event(event, data, id)


TRANSCRIPTS = [
    pytest.param(b"data: a\n\n", [message(b"a")], id="one line"),
    pytest.param(b"data:a\n\n", [message(b"a")], id="no space"),
    pytest.param(b"data:  a \n\n", [message(b" a ")], id="one space is dropped"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [message(b"a"), message(b"b")], id="CRLF"),
    pytest.param(b"data: a\r\rdata: b\r\r", [message(b"a"), message(b"b")], id="CR"),
    pytest.param(b"data: a\r\n\n", [message(b"a")], id="CRLF then LF"),
    pytest.param(b"data: a\n\r\n", [message(b"a")], id="LF then CRLF"),
    pytest.param(b"data: a\r\n\rdata: b\n\r", [message(b"a"), message(b"b")], id="mixed ends"),
    pytest.param(b"data: a\ndata: b\ndata\n\n", [message(b"a\nb\n")], id="several data lines"),
    pytest.param(b"data\n\n", [message(b"")], id="field without colon"),
    pytest.param(b"data:\n\n", [message(b"")], id="empty data is an event"),
    pytest.param(b"id: 1\ndata:\n\n", [message(b"", id="1")], id="priming event"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n", [message(b"a")], id="BOM"),
    pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", [], id="only one BOM is dropped"),
    pytest.param(b"\xef\xbbdata: a\n\n", [], id="half a BOM is part of the name"),
    pytest.param(b"\n\xef\xbb\xbfdata: a\n\n", [], id="a BOM later is part of the name"),
    pytest.param(b": hello\n:\n\ndata: a\n: there\ndata: b\n\n", [message(b"a\nb")], id="comments"),
    pytest.param(b"event: endpoint\ndata: /m\n\ndata: b\n\n", [message(b"/m", "endpoint"), message(b"b")], id="event"),
    pytest.param(b"event: x\n\ndata: b\n\n", [message(b"b")], id="event without data leaves nothing"),
    pytest.param(b"event:\ndata: b\n\n", [message(b"b")], id="empty event name"),
    pytest.param(b"event: a\nevent: b\ndata\n\n", [message(b"", "b")], id="last event name counts"),
    pytest.param(b"event: \xff\xc3\xa9\ndata\n\n", [message(b"", "\ufffdé")], id="event name is decoded leniently"),
    pytest.param(b"id: 1\ndata: a\n\ndata: b\n\n", [message(b"a", id="1"), message(b"b", id="1")], id="id stays"),
    pytest.param(b"id: 1\n\ndata: b\n\n", [message(b"b", id="1")], id="id without data"),
    pytest.param(b"id: 1\ndata: a\n\nid\ndata: b\n\n", [message(b"a", id="1"), message(b"b", id="")], id="id reset"),
    pytest.param(b"id: 1\nid: 2\0\ndata: a\n\n", [message(b"a", id="1")], id="id with NUL is ignored"),
    pytest.param(b"Data: a\n data: b\nfoo: c\nfoo\n: d\n\n", [], id="unknown fields"),
    pytest.param(
        b"data: a\x0b\x0c\x1c\x85b\xe2\x80\xa8c\n\n",
        [message(b"a\x0b\x0c\x1c\x85b\xe2\x80\xa8c")],
        id="no other line end",
    ),
    pytest.param(b"data: \xff\xfe\0\n\n", [message(b"\xff\xfe\0")], id="data is not decoded"),
    pytest.param(b"data: a\n", [], id="cut before the blank line"),
    pytest.param(b"data: a\n\ndata: b", [message(b"a")], id="cut in a line"),
    pytest.param(b"", [], id="nothing"),
    pytest.param(b"\n\r\n\r\r\n", [], id="blank lines"),
]


@pytest.mark.parametrize(("stream", "expected"), TRANSCRIPTS)
def test_decodes_at_every_split(stream: bytes, expected: list[Event]) -> None:
    assert decode(stream)[0] == expected
    assert decode(stream, [1] * len(stream))[0] == expected
    for cut in range(len(stream)):
        assert decode(stream, [cut])[0] == expected
        assert decode(stream, [cut, 0, 1])[0] == expected
    assert decode(stream + b"\n\ndata: trailing\n\n")[0][-1].data == b"trailing"


fragments = st.sampled_from(
    [
        b"\r",
        b"\n",
        b"\r\n",
        b"data:",
        b"data: x",
        b"data",
        b"id: 7",
        b"id: \0",
        b"event: e",
        b"retry: 5",
        b":",
        b" ",
        b"y",
        b"\xef\xbb\xbf",
    ]
)


@given(st.lists(fragments, max_size=30).map(b"".join), st.lists(st.integers(0, 9), max_size=40), st.integers(0, 30))
def test_splitting_changes_nothing(stream: bytes, sizes: list[int], limit: int) -> None:
    def outcome(sizes: list[int]) -> tuple[list[Event], int | None, bool]:
        decoder = SSEDecoder(limit)
        events: list[Event] = []
        position = 0
        try:
            for size in [*sizes, len(stream), 0]:
                events += decoder.receive_data(stream[position : position + size])
                position += size
        except ProtocolError:
            return events, decoder.retry_ms, True
        return events, decoder.retry_ms, False

    assert outcome(sizes) == outcome([1] * len(stream)) == outcome([])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"3000", 3000),
        (b"0", 0),
        (b"007", 7),
        (b"", None),
        (b"+1", None),
        (b"-1", None),
        (b"1 ", None),
        (b"1_0", None),
        (b"0x1", None),
        ("٣".encode(), None),
        (b"9" * 5000, None),
    ],
)
def test_retry(value: bytes, expected: int | None) -> None:
    _, decoder = decode(b"retry: " + value + b"\n")
    assert decoder.retry_ms == expected


def test_event_of_the_limit_passes_and_one_byte_more_does_not() -> None:
    assert decode(b"data:" + b"x" * 4 + b"\n\n", limit=9)[0] == [message(b"xxxx")]
    with pytest.raises(ProtocolError, match="longer than 9 bytes"):
        decode(b"data:" + b"x" * 5 + b"\n\n", limit=9)


@pytest.mark.parametrize("endless", [b"x", b":x", b"data: y\n", b"data\n", b": c"])
def test_endless_event_is_refused_with_bounded_memory(endless: bytes) -> None:
    decoder = SSEDecoder(100_000)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            deque(map(decoder.receive_data, repeat(endless, 1_000_000)), maxlen=0)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    with pytest.raises(ProtocolError):
        decoder.receive_data(b"\n\ndata: a\n\n")


def test_endless_comments_and_unknown_fields_cost_nothing() -> None:
    decoder = SSEDecoder(100)
    for _ in range(1000):
        assert decoder.receive_data(b": keep-alive\nfoo: bar\n") == []
    assert decoder.receive_data(b"data: a\n\n") == [message(b"a")]


def test_events_before_an_oversized_one_are_returned() -> None:
    decoder = SSEDecoder(20)
    assert decoder.receive_data(b"data: a\n\ndata: " + b"x" * 30) == [message(b"a")]
    with pytest.raises(ProtocolError):
        decoder.receive_data(b"")


def taken_apart(stream: bytes, before: int, sizes: list[int]) -> tuple[bytes, list[Event]] | None:
    """Open the event that is unfinished after `before` bytes; return its data, and the events behind it."""
    decoder = SSEDecoder(LIMIT)
    if decoder.receive_data(stream[:before]) or (data := decoder.unfinished_data()) is None:
        return None
    event = decoder.open_event()
    assert decoder.unfinished_bytes == 0
    position = before
    for size in [*sizes, len(stream)]:
        data += b"".join(event.receive_data(stream[position : position + size]))
        position = min(position + size, len(stream))
        if event.complete:
            break
    assert event.complete
    return data, decoder.receive_data(event.rest + stream[position:])


ends = st.sampled_from([b"\n", b"\r\n", b"\r"])
values = st.binary(max_size=12).map(lambda value: value.translate(None, b"\r\n"))
field_lines = st.one_of(
    values.map(lambda value: b"data: " + value),
    values.map(lambda value: b"data:" + value),
    st.sampled_from([b"data", b"data:", b": comment", b"id: 7", b"retry: 5", b"dat: x", b"event: message", b"event:"]),
)


@given(
    st.lists(field_lines, min_size=1, max_size=6), ends, st.integers(1, 80), st.lists(st.integers(1, 9), max_size=40)
)
def test_an_event_that_is_taken_apart_has_the_same_data(
    lines: list[bytes], end: bytes, before: int, sizes: list[int]
) -> None:
    first = b"".join(line + end for line in [b"data: begin", *lines, b""])
    stream = first + b"data: next" + end + end
    (whole, following), _ = decode(stream)
    taken = taken_apart(stream, min(before, len(first) - len(end)), sizes)
    if taken is not None:
        assert taken[0] == whole.data
        assert [event.data for event in taken[1]] == [following.data]


def test_an_event_can_be_taken_apart_from_its_first_octets_on() -> None:
    assert taken_apart(b"data: ab\n\n", 6, [1] * 9) is None
    assert taken_apart(b"data: ab\n\n", 7, [1] * 9) == (b"ab", [])
    assert taken_apart(b"data: ab\ndata: cd\n\n", 9, [1] * 20) == (b"ab\ncd", [])
    assert taken_apart(b"id: 1\ndata: ab\n\n", 6, []) is None
    assert taken_apart(b"event: other\ndata: ab\n\n", 20, []) is None


@pytest.mark.parametrize("before", [b"", b"event: message\n", b"id: 7\r\nevent:message\r\n: c\nretry: 5\n"])
def test_the_beginning_of_a_large_event_is_opened(before: bytes) -> None:
    opened = open_event(before + b"data: abc", LIMIT)
    assert opened is not None
    assert opened[0] == b"abc"
    assert opened[1].receive_data(b"d\ndata: e\n\nrest") == [b"d", b"\ne"]
    assert opened[1].rest == b"rest"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data",
        b"data:",
        b"data: ",
        b"event: other\ndata: a",
        b"x: y\ndata: a",
        b"data: a\n",
        b"data: a\r",
        b"\ndata: a",
    ],
)
def test_the_beginning_of_other_events_is_not(data: bytes) -> None:
    assert open_event(data, LIMIT) is None


def test_an_event_that_turns_out_to_be_another_is_refused() -> None:
    with pytest.raises(ProtocolError, match="no message"):
        taken_apart(b"data: ab\nevent: other\n\n", 8, [1] * 30)


def test_a_line_between_the_data_lines_is_not_held_without_limit() -> None:
    decoder = SSEDecoder(LIMIT)
    decoder.receive_data(b"data: ab\n: ")
    assert decoder.unfinished_data() is None
    decoder = SSEDecoder(LIMIT)
    decoder.receive_data(b"data: ab\n")
    event = decoder.open_event()
    assert event.receive_data(b":" + b"x" * (LIMIT - 1)) == []
    with pytest.raises(ProtocolError, match="longer"):
        event.receive_data(b"x")


def test_parts_of_an_event_are_not_copied() -> None:
    decoder = SSEDecoder(LIMIT)
    decoder.receive_data(b"data: ab")
    piece = b"x" * 5000
    (part,) = decoder.open_event().receive_data(piece)
    assert part is piece


def test_encode() -> None:
    assert encode(b"{}") == b"event: message\ndata: {}\n\n"
    assert encode(b"", "endpoint", "7-1") == b"event: endpoint\nid: 7-1\ndata: \n\n"
    assert encode(b"a\rb\nc\r\nd\n") == b"event: message\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"


@pytest.mark.parametrize("bad", ["a\nb", "a\rb", "a\0b", "\n", "x\r\ndata: forged"])
def test_encode_refuses_injection(bad: str) -> None:
    with pytest.raises(ValueError, match="without CR, LF and NUL"):
        encode(b"{}", event=bad)
    with pytest.raises(ValueError, match="without CR, LF and NUL"):
        encode(b"{}", id=bad)


names = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)


@given(
    st.lists(
        st.tuples(st.binary(max_size=60) | st.sampled_from([b"\r", b"\n", b"data: x\n\n", b"id: 1\r\r"]), names, names)
    )
)
def test_what_is_encoded_is_decoded(items: list[tuple[bytes, str, str]]) -> None:
    stream = b"".join(encode(data, event, id) for data, event, id in items)
    assert decode(stream)[0] == [
        Event(event or "message", data.replace(b"\r\n", b"\n").replace(b"\r", b"\n"), id) for data, event, id in items
    ]
