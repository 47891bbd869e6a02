"""The lines of one event are what the formatters would have written, hostile values included."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.process.eventlines import EventLines
from only1mcp.process.logs import JSONFormatter, TextFormatter
from only1mcp.process.logsink import Sink, StreamTarget

NAMES = ("client", "status", "duration_ms", "method")
HOSTILE = ("a\nb\r\x1b[31m\x00\x9b2J\u202e\u2028z", 'quote" = \\', "\x7f", "\ud800", b"\xff\n", "é", "")
FORMATS = pytest.mark.parametrize("formatter", [JSONFormatter(), TextFormatter()], ids=["json", "text"])
VALUES = st.none() | st.text() | st.text(st.characters(codec="ascii")) | st.integers() | st.floats() | st.binary()


class Written:
    """What an `EventLines` has written."""

    def __init__(self, formatter: Any) -> None:
        self._console = io.StringIO()
        self.sink = Sink(StreamTarget(self._console), notice=formatter.dropped)
        self.lines = EventLines(
            formatter, self.sink, level="info", logger="only1mcp.test", event="happened", names=NAMES
        )

    def __call__(self, created: float, *values: object) -> str:
        self._console.seek(0)
        self._console.truncate()
        self.lines.write(created, values)
        self.sink.flush(10)
        return self._console.getvalue()


@pytest.fixture
def written(formatter: Any) -> Any:
    written = Written(formatter)
    yield written
    written.sink.close()


def of_record(formatter: logging.Formatter, created: float, values: tuple[object, ...]) -> str:
    fields = {name: value for name, value in zip(NAMES, values, strict=True) if value is not None}
    record = logging.makeLogRecord(
        {"name": "only1mcp.test", "levelname": "INFO", "msg": "happened", "fields": fields, "created": created}
    )
    return formatter.format(record).encode("utf-8", "backslashreplace").decode() + "\n"


@FORMATS
def test_plain_and_hostile_values_are_written_as_in_any_other_event(formatter: Any, written: Written) -> None:
    created = 1_800_000_000.25
    for method in ("tools/call", *HOSTILE):
        for client in ("192.0.2.1", *HOSTILE):
            values = (client, 200, 0.125, method)
            line = written(created, *values)
            assert line == of_record(formatter, created, values)
            assert line.endswith("\n")
            assert "\x7f" not in line
            assert line.isprintable() or line[:-1].isprintable()


@FORMATS
@given(values=st.tuples(VALUES, VALUES, VALUES, VALUES), created=st.floats(0, 4e9))
def test_every_line_is_what_the_formatter_writes(formatter: Any, values: tuple[Any, ...], created: float) -> None:
    line = _line(formatter, created, values)
    assert line == of_record(formatter, created, values)
    if isinstance(formatter, JSONFormatter):
        assert json.loads(line)["event"] == "happened"


def _line(formatter: Any, created: float, values: tuple[Any, ...]) -> str:
    # Without a thread: what waits in a sink that has none is written by `flush`.
    taken: list[bytes] = []

    class Target:
        name = "memory"

        def write(self, data: bytes) -> None:
            taken.append(data)

        def close(self) -> None: ...

    sink = Sink(Target(), notice=formatter.dropped)  # type: ignore[arg-type]
    EventLines(formatter, sink, level="info", logger="only1mcp.test", event="happened", names=NAMES).write(
        created, values
    )
    sink.close()
    return b"".join(taken).decode()


@FORMATS
def test_the_time_goes_on_and_back(formatter: Any, written: Written) -> None:
    seen = [written(created, "a", 1, 0.5, "b") for created in (10.0, 10.001, 10.999, 11.0, 10.0, 1e9 + 0.5)]
    times = ["1970-01-01T00:00:10.000Z", "1970-01-01T00:00:10.000Z", "1970-01-01T00:00:10.999Z"]
    times += ["1970-01-01T00:00:11.000Z", "1970-01-01T00:00:10.000Z", "2001-09-09T01:46:40.500Z"]
    for line, time in zip(seen, times, strict=True):
        assert time[:-3] in line
    assert seen[0] == seen[4]


@FORMATS
def test_a_value_that_raises_costs_its_line_alone(formatter: Any, written: Written) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert written(1.0, Hostile(), 1, 0.5, "b") == ""
    assert written.sink.dropped == 1
    assert "log.dropped" in written(1.0, "a", 1, 0.5, "b")
