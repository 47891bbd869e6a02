"""The queue towards a child that reads slowly: order, bounds, and taking back what has not left."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from only1mcp.backend.outbox import MAX_PARTS, WRITE_BYTES, Line, Outbox, on_one_line


def drain(outbox: Outbox, at_once: int) -> bytes:
    """Write everything in portions of `at_once` bytes."""
    sent = b""
    while parts := outbox.data_to_send():
        portion = b"".join(parts)[:at_once]
        sent += portion
        outbox.wrote(len(portion))
    return sent


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 30))
def test_lines_leave_whole_and_in_order(messages: list[bytes], at_once: int) -> None:
    outbox = Outbox(1000)
    for message in messages:
        assert outbox.maybe_add(Line(message))
    assert outbox.waiting_bytes == sum(len(message) + 1 for message in messages[1:])
    assert drain(outbox, at_once) == b"".join(message + b"\n" for message in messages)
    assert len(outbox) == outbox.waiting_bytes == 0


def test_the_first_line_may_be_long_the_others_share_the_limit() -> None:
    outbox = Outbox(100)
    assert outbox.maybe_add(Line(b"x" * 10_000))
    assert outbox.maybe_add(Line(b"x" * 49))
    assert outbox.maybe_add(Line(b"x" * 49))
    assert not outbox.maybe_add(Line(b""))
    assert outbox.waiting_bytes == 100
    outbox.wrote(10_001)
    assert outbox.waiting_bytes == 50
    assert outbox.maybe_add(Line(b""))
    outbox.clear()
    assert outbox.waiting_bytes == len(outbox) == 0


def test_what_has_begun_to_leave_cannot_be_taken_back() -> None:
    outbox = Outbox(100)
    first, second, third, never = Line(b"first"), Line(b"second"), Line(b"third"), Line(b"never queued")
    for line in (first, second, third):
        assert outbox.maybe_add(line)
    assert outbox.withdraw(second)
    assert not outbox.withdraw(second)
    assert not outbox.withdraw(never)
    outbox.wrote(2)
    assert not outbox.withdraw(first)
    assert outbox.waiting_bytes == third.size
    assert drain(outbox, 100) == b"rst\nthird\n"


def test_the_first_line_can_be_taken_back_before_its_first_byte() -> None:
    outbox = Outbox(100)
    first, second = Line(b"first"), Line(b"second")
    assert outbox.maybe_add(first)
    assert outbox.maybe_add(second)
    assert outbox.withdraw(first)
    assert outbox.waiting_bytes == 0
    assert drain(outbox, 100) == b"second\n"


def test_a_large_line_is_not_copied() -> None:
    message = b"x" * 1_000_000
    outbox = Outbox()
    assert outbox.maybe_add(Line(message))
    assert outbox.data_to_send()[0] is message
    outbox.wrote(10)
    rest = outbox.data_to_send()[0]
    assert isinstance(rest, memoryview)
    assert rest.obj is message


def test_small_lines_leave_in_one_write() -> None:
    outbox = Outbox()
    for message in (b"first", b"", b"third"):
        assert outbox.maybe_add(Line(message))
    assert b"".join(outbox.data_to_send()) == b"first\n\nthird\n"
    outbox.wrote(6)  # to the end of a line: the next has not begun
    assert b"".join(outbox.data_to_send()) == b"\nthird\n"
    outbox.wrote(3)
    assert b"".join(outbox.data_to_send()) == b"ird\n"
    outbox.wrote(3)  # all but the newline
    assert list(outbox.data_to_send()) == [b"\n"]
    outbox.wrote(1)
    assert not outbox.data_to_send()


def test_a_write_is_bounded_in_bytes_and_parts() -> None:
    outbox = Outbox()
    for _ in range(MAX_PARTS):
        assert outbox.maybe_add(Line(b"x"))
        assert not outbox.fills_a_write()
    assert len(outbox.data_to_send()) == MAX_PARTS
    outbox.clear()
    for _ in range(3):
        assert outbox.maybe_add(Line(b"x" * (WRITE_BYTES // 2)))
    assert outbox.fills_a_write()
    assert len(outbox.data_to_send()) == 4
    outbox.clear()
    assert outbox.maybe_add(Line(b"x" * WRITE_BYTES))
    assert outbox.fills_a_write()


def test_line_breaks_between_tokens_become_spaces() -> None:
    assert on_one_line(b'{\r\n"a":\n"b\\nc"\r}') == b'{  "a": "b\\nc" }'
    message = b'{"a":1}'
    assert on_one_line(message) is message
