"""How commands print documents, tables, texts of others and errors, so that nothing printed can steer a terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click
import orjson

from only1mcp.cli import BAD_CONFIGURATION
from only1mcp.errors import ConfigError

# JSON lets these stand, but terminals take them for commands or directions.
_BEYOND_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# One endless name must not push the other columns of every row out of sight.
_MAX_PADDING = 48


def print_json(value: Any) -> None:
    """Print one JSON document, indented, in UTF-8 whatever the locale says (RFC 8259 section 8.1)."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    click.echo(_BEYOND_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode())


def print_text(text: str) -> None:
    """Print what a tool said: as it is into a file or a pipe, harmless on a terminal."""
    if sys.stdout is not None and sys.stdout.isatty():
        text = printable(text, keep="\n\t")
    click.echo(text, color=True)  # color: click would cut escape sequences out of what goes into a pipe


def print_error(message: str, hint: str | None = None) -> None:
    """Print what went wrong, and what to do about it where that is known, on standard error."""
    click.echo(f"error: {printable(message)}", err=True)
    if hint is not None:
        click.echo(printable(hint), err=True)


def fail(error: ConfigError) -> NoReturn:
    """Print every problem and leave with the exit code of a bad configuration."""
    for problem in error.problems:
        click.echo(problem, err=True)
    sys.exit(BAD_CONFIGURATION)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, err: bool = False) -> None:
    """Print rows in columns; on a terminal each is cut to its width. `empty` is said where there are none."""
    if not rows:
        click.echo(empty, err=err)
        return
    clean = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [min(max(_width(row[column]) for row in clean), _MAX_PADDING) for column in range(len(header))]
    stream = sys.stderr if err else sys.stdout
    import shutil  # noqa: PLC0415 (a proxy prints no tables)

    limit = shutil.get_terminal_size((120, 24)).columns if stream is not None and stream.isatty() else None
    for row in clean:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        line = "  ".join(cells).rstrip()
        click.echo(line if limit is None else _cut(line, limit), err=err)


def printable(text: str, keep: str = "") -> str:
    """Return the text without control characters and lone surrogates, but for those in `keep`."""
    return "".join(char if char.isprintable() or char in keep else "\N{REPLACEMENT CHARACTER}" for char in text)


def _width(text: str) -> int:
    """Return how many cells of a terminal the text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(map(_cells, text))


def _cells(char: str) -> int:
    import unicodedata  # noqa: PLC0415 - a megabyte that ASCII has no use for

    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _cut(line: str, limit: int) -> str:
    if _width(line) <= limit:
        return line
    room = limit - 1
    kept = []
    for char in line:
        room -= _cells(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + "…"
