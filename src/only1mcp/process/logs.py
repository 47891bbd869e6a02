"""Sets up logging as `logging` in the configuration says: one event with fields a line, to standard output and files.

Modules log with the standard library: `log.info("backend.up", extra={"fields": {"backend": "files"}})`. The caller only
formats the line; a thread for each output writes it, so that a full disk or a reader that stopped reading never holds
up the event loop. What cannot be written is dropped and counted, with one warning on standard error.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from only1mcp.config.messages import printable
from only1mcp.config.schema import Logging, Output
from only1mcp.errors import ConfigError
from only1mcp.process.eventlines import EventLines
from only1mcp.process.logsink import FileTarget, Sink, StreamTarget, Target
from only1mcp.proxy.access import ACCESS, EVENT, FIELDS

_ROOTS = ("only1mcp", "asyncio")
# JSON lets these stand, but terminals take them for commands or directions, and some readers for the end of a line.
_BEYOND_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_OWN_FIELDS = frozenset({"ts", "level", "logger", "event", "exception"})


def configure(config: Logging, *, console: IO[str] | None = None) -> None:
    """Install the outputs and remove those of an earlier call.

    `console` takes the place of standard output (which is the protocol's own channel for `only1mcp stdio`). Raise
    `ConfigError` for files that cannot be opened; the outputs of before then stay.
    """
    targets, problems = _open(config, console)
    if problems:
        for _, target in targets:
            target.close()
        raise ConfigError(problems)
    shutdown()
    # Costly parts of a record that no format shows (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False

    level = logging.WARNING if config.level == "warn" else logging.getLevelName(config.level.upper())
    formatter = JSONFormatter() if config.format == "json" else TextFormatter()
    access = logging.getLogger(ACCESS)
    # Without an output of its own nothing formats access lines at all.
    access.setLevel(logging.CRITICAL + 1)
    access.propagate = False
    for output, target in targets:
        handler = _Handler(sink := Sink(target, notice=formatter.dropped))
        handler.setFormatter(formatter)
        if output.type == "access":
            handler.event_lines = EventLines(formatter, sink, level="info", logger=ACCESS, event=EVENT, names=FIELDS)
            access.setLevel(logging.INFO)
            access.addHandler(handler)
            continue
        for name in _ROOTS:
            logging.getLogger(name).addHandler(handler)
    logging.getLogger("only1mcp").setLevel(level)
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))


def shutdown() -> None:
    """Write out what is pending and remove every output; may be repeated."""
    handlers: set[_Handler] = set()
    for name in (*_ROOTS, ACCESS):
        logger = logging.getLogger(name)
        for handler in [one for one in logger.handlers if isinstance(one, _Handler)]:
            logger.removeHandler(handler)
            handlers.add(handler)
    for handler in handlers:
        handler.close()


def flush() -> None:
    """Wait until what was logged so far is written or dropped."""
    for name in ("only1mcp", ACCESS):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, _Handler):
                handler.flush()


class _LineFormatter(logging.Formatter, ABC):
    """What both formats share: time, name of the level, fields."""

    def __init__(self) -> None:
        super().__init__()
        self._second = -1
        self._prefix = ""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        parts = self._parts(
            record.created,
            record.levelname.lower(),
            record.name,
            _message(record),
            fields if isinstance(fields, dict) else {},
        )
        if record.exc_info and record.exc_info[0] is not None:
            parts["exception"] = self.formatException(record.exc_info)
        return self._join(parts)

    def line(self, created: float, level: str, logger: str, event: str, fields: Mapping[str, object]) -> bytes:
        """Return the line of an event, as `format` does that of a record."""
        text = self._join(self._parts(created, level, logger, event, fields))
        return text.encode("utf-8", "backslashreplace") + b"\n"

    def dropped(self, count: int) -> bytes:
        """Return the line that tells of lines lost before it."""
        return self.line(time.time(), "warning", "only1mcp.process", "log.dropped", {"lines": count})

    def second(self, second: int) -> str:
        """Return a second of Unix time without its fraction and zone."""
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))

    def _time(self, created: float) -> str:
        second = int(created)
        if second != self._second:
            self._prefix = self.second(second)
            self._second = second
        return f"{self._prefix}.{int((created - second) * 1000):03d}Z"

    def _parts(
        self, created: float, level: str, logger: str, event: str, fields: Mapping[str, object]
    ) -> dict[str, Any]:
        parts: dict[str, Any] = {"ts": self._time(created), "level": level, "logger": logger, "event": event}
        for name, value in fields.items():
            parts[f"{name}_" if name in _OWN_FIELDS else str(name)] = value
        return parts

    @abstractmethod
    def _join(self, parts: dict[str, Any]) -> str: ...


class JSONFormatter(_LineFormatter):
    """One JSON object a line: ts, level, logger, event, the fields, and exception where there is one."""

    quoted = True

    def pieces(self, level: str, logger: str, event: str) -> tuple[bytes, bytes, bytes]:
        """Return what stands before the time, between the time and the fields, and at the end."""
        return b'{"ts":"', b'",' + orjson.dumps({"level": level, "logger": logger, "event": event})[1:-1], b"}\n"

    def name(self, name: str) -> bytes:
        """Return what stands before the value of a field."""
        return b"," + orjson.dumps(name) + b":"

    def _join(self, parts: dict[str, Any]) -> str:
        try:
            line = orjson.dumps(parts, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # Integers beyond 64 bits, lone surrogates, deep or circular values: they are shown, not encoded.
            line = orjson.dumps({_clean(name): _encodable(value) for name, value in parts.items()}).decode()
        if line.isprintable():
            return line
        return _BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class TextFormatter(_LineFormatter):
    """Time, level, logger, event and name=value pairs for people.

    Nothing that a client or backend sent can begin a line of its own or reach the terminal as a control sequence.
    """

    quoted = False

    def pieces(self, level: str, logger: str, event: str) -> tuple[bytes, bytes, bytes]:
        """Return what stands before the time, between the time and the fields, and at the end."""
        return b"", f" {level:<7} {_clean(logger)} {_clean(event)}".encode(), b"\n"

    def name(self, name: str) -> bytes:
        """Return what stands before the value of a field."""
        return f" {_clean(name)}=".encode()

    def _join(self, parts: dict[str, Any]) -> str:
        exception = parts.pop("exception", None)
        head = [parts.pop("ts"), f"{parts.pop('level'):<7}", _clean(parts.pop("logger")), _clean(parts.pop("event"))]
        line = " ".join([*head, *(f"{_clean(name)}={_quoted(value)}" for name, value in parts.items())])
        if exception is None:
            return line
        return "\n    | ".join([line, *map(_clean, exception.split("\n"))])


class _Handler(logging.Handler):
    """Formats in the caller's thread and hands the line over."""

    # What writes the one event of this output without a record.
    event_lines: EventLines | None = None

    def __init__(self, sink: Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace")
        except Exception:  # noqa: BLE001  a field's own __str__ may do anything; logging must not break the caller
            self._sink.drop()
            return
        self._sink.put(line + b"\n")

    def flush(self) -> None:
        self._sink.flush()

    def close(self) -> None:
        self._sink.close()
        super().close()


def _open(config: Logging, console: IO[str] | None) -> tuple[list[tuple[Output, Target]], list[str]]:
    targets: list[tuple[Output, Target]] = []
    problems: list[str] = []
    for index, output in enumerate(config.outputs):
        if output.path is None:
            targets.append((output, StreamTarget(console if console is not None else sys.stdout)))
            continue
        path = Path(output.path)
        try:
            targets.append((output, FileTarget(path, output.max_size_mb << 20, output.max_backups)))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            if isinstance(error, FileNotFoundError):
                reason = f"the directory {path.parent} does not exist, create it writable for this user"
            problems.append(_clean(f"logging.outputs[{index}].path: {path} cannot be opened: {reason}"))
    return targets, problems


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # The arguments do not fit the format: the format alone still says what happened.
        return str(record.msg)


def _encodable(value: object) -> object:
    try:
        orjson.dumps(value)
    except TypeError:
        return _clean(value)
    return value


def _plain(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, (bytes, bytearray)) else str(value)


def _clean(value: object) -> str:
    """Return text without control characters, line separators, direction marks and surrogates: escaped instead."""
    return printable(_plain(value))


def _quoted(value: object) -> str:
    text = _plain(value)
    if text and text.isprintable() and not any(char in text for char in ' "=\\'):
        return text
    return '"' + _clean(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'
