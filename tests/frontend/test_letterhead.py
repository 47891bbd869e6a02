"""The heads of responses: the Date of the second, checked fields, and no more kept than there is room for."""

from __future__ import annotations

import pytest

from only1mcp.frontend import letterhead
from only1mcp.frontend.letterhead import MAX_KEPT, MAX_KEPT_BYTES, Letterhead

JSON = (b"content-type", b"application/json")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [0.5]
    monkeypatch.setattr(letterhead.time, "time", lambda: clock[0])
    return clock


def test_the_date_is_the_time(clock: list[float]) -> None:
    paper = Letterhead()
    assert paper.date_field() == (b"date", b"Thu, 01 Jan 1970 00:00:00 GMT")
    assert paper.date_field() is paper.date_field()
    clock[0] = 1.0
    assert paper.date_field() == (b"date", b"Thu, 01 Jan 1970 00:00:01 GMT")


def test_a_head_is_the_same_for_a_second(clock: list[float]) -> None:
    paper = Letterhead()
    head = paper.head(200, [JSON])
    assert head == (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n")
    assert paper.head(200, [JSON]) is head
    assert paper.head(404, [JSON]).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert paper.head(200, [JSON, (b"vary", b"origin")]) != head
    clock[0] = 1.0
    assert b"00:00:01" in paper.head(200, [JSON])


@pytest.mark.parametrize("field", [(b"x", b"a\r\nb: c"), (b"content-length", b"3"), (b"", b"x"), (b"a b", b"x")])
def test_what_must_not_be_sent_is_refused_every_time(field: tuple[bytes, bytes]) -> None:
    paper = Letterhead()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"header field|sets"):
            paper.head(200, [field])


def test_only_so_much_is_kept(clock: list[float]) -> None:
    paper = Letterhead()
    for number in range(2 * MAX_KEPT):
        paper.head(200, [(b"n", b"%d" % number)])
    assert paper.head(200, [(b"n", b"0")]) is paper.head(200, [(b"n", b"0")])
    last = [(b"n", b"%d" % (2 * MAX_KEPT - 1))]
    assert paper.head(200, last) is not paper.head(200, last)
    clock[0] = 1.0
    large = [(b"n", b"x" * MAX_KEPT_BYTES)]
    assert paper.head(200, large) is not paper.head(200, large)
