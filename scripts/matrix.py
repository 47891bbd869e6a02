"""Runs the matrix of the official SDKs and writes the table of it into docs/eras.md.

`python -m scripts.matrix`, from the repository's root; `tests/e2e/test_matrix.py` holds the page to it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.e2e import matrix, third_party


def measure() -> list[str]:
    """Return the lines of the table."""
    installed = matrix.Installed.install()
    with (
        tempfile.TemporaryDirectory(prefix="only1mcp-matrix-") as name,
        matrix.started(installed, Path(name)) as started,
    ):
        rows = started.rows()
    return [*matrix.table_head(), *(matrix.table_row(client, row) for client, row in rows.items())]


def written(page: str, table: list[str]) -> str:
    """Return the page with the table in the place of the one that it has."""
    before, begin, rest = page.partition(matrix.BEGIN)
    _, end, after = rest.partition(matrix.END)
    if not (begin and end):
        raise ValueError(f"{matrix.PAGE.name} has no place for the table: {matrix.BEGIN} ... {matrix.END}")
    return "\n".join([before + begin, *table, end + after])


def main() -> None:
    written(matrix.PAGE.read_text(), [])
    try:
        table = measure()
    except third_party.NotAvailable as reason:
        raise SystemExit(f"cannot run the matrix: {reason}") from None
    matrix.PAGE.write_text(written(matrix.PAGE.read_text(), table))
    print(f"written: {matrix.PAGE}")


if __name__ == "__main__":
    main()
