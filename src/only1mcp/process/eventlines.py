"""Writes the lines of one event whose fields are always the same, such as a request, without a record of `logging`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from only1mcp._fast import event_line
from only1mcp.process.logsink import Sink


class Format(Protocol):
    """How lines look."""

    # Whether strings always stand between quotation marks.
    quoted: bool

    def second(self, second: int) -> str:
        """Return a second of Unix time without its fraction and zone."""

    def pieces(self, level: str, logger: str, event: str) -> tuple[bytes, bytes, bytes]:
        """Return what stands before the time, between the time and the fields, and at the end."""

    def name(self, name: str) -> bytes:
        """Return what stands before the value of a field."""

    def line(self, created: float, level: str, logger: str, event: str, fields: Mapping[str, object]) -> bytes:
        """Return a whole line, whatever the values are."""


class EventLines:
    """Makes and hands over the lines of one event. `names` are fields of which none is among the line's own."""

    def __init__(
        self, format: Format, sink: Sink, *, level: str, logger: str, event: str, names: tuple[str, ...]
    ) -> None:
        self._format = format
        self._sink = sink
        self._level, self._logger, self._event = level, logger, event
        self._names = names
        self._quoted = format.quoted
        self._before, self._between, self._end = format.pieces(level, logger, event)
        self._encoded = tuple(map(format.name, names))
        # Of the last line: its second, what stands before the milliseconds, and all that stands before the fields.
        self._second = -1
        self._until_second = b""
        self._milliseconds = -1
        self._start = b""

    def write(self, created: float, values: tuple[object, ...]) -> None:
        """Write a line with the fields that are not None; never blocks, never raises."""
        second = int(created)
        milliseconds = int((created - second) * 1000)
        if second != self._second or milliseconds != self._milliseconds:
            self._tick(second, milliseconds)
        line = event_line(self._start, self._encoded, values, self._end, self._quoted)
        if line is None:
            line = self._encode(created, values)
        if line is not None:
            self._sink.put(line)

    def _tick(self, second: int, milliseconds: int) -> None:
        if second != self._second:
            self._until_second = self._before + self._format.second(second).encode() + b"."
        self._second, self._milliseconds = second, milliseconds
        self._start = self._until_second + b"%03dZ" % milliseconds + self._between

    def _encode(self, created: float, values: tuple[object, ...]) -> bytes | None:
        fields = {name: value for name, value in zip(self._names, values, strict=True) if value is not None}
        try:
            return self._format.line(created, self._level, self._logger, self._event, fields)
        except Exception:  # noqa: BLE001  a value's own __str__ may do anything; logging must not break the caller
            self._sink.drop()
            return None
