"""How commands print documents and tables."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import click
import orjson


def print_json(value: Any) -> None:
    """Print one JSON document, indented."""
    click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str, err: bool = False) -> None:
    """Print rows in columns, cut to the width of the terminal; `empty` where there are none."""
    if not rows:
        click.echo(empty, err=err)
        return
    clean = [[_printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in clean) for column in range(len(header))]
    limit = shutil.get_terminal_size((120, 24)).columns
    for row in clean:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        click.echo(line if len(line) <= limit else line[: limit - 1] + "…", err=err)


def _printable(text: str) -> str:
    """Return the text without control characters: what backends say must not steer a terminal."""
    return "".join(char if char.isprintable() else "�" for char in text)
