"""Puts what installing costs into docs/install.md, from docs/install.json: `python -m scripts.render_install`.

Each row says what was measured of one artifact, and where it was used (`verified`); `--check` only says whether the
page is up to date. `python scripts/measure_install.py` makes rows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.render_bench import between

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "install.json"
PAGE = ROOT / "docs" / "install.md"
START, END = "<!-- install:table -->", "<!-- /install:table -->"
COMMAND = "python -m scripts.render_install"
COLUMNS = ("artifact", "size_bytes", "start_ms", "first_call_ms", "verified")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the page is out of date")
    check = parser.parse_args().check
    text = PAGE.read_text(encoding="utf-8")
    fresh = between(text, START, END, table(json.loads(RESULTS.read_text(encoding="utf-8"))))
    if check and fresh != text:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} does not show the results that are kept: {COMMAND}")
    if not check:
        PAGE.write_text(fresh, encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table, in their order; raise `SystemExit` where one has not what it should."""
    lines = ["| artifact | size | `--version` | first call | verified |", "|---|--:|--:|--:|---|"]
    for row in rows:
        if tuple(sorted(row)) != tuple(sorted(COLUMNS)):
            raise SystemExit(f"docs/install.json: expected {', '.join(COLUMNS)} in each row, got {', '.join(row)}")
        cells = (
            f"`{row['artifact']}`",
            size(row["size_bytes"]),
            duration(row["start_ms"]),
            duration(row["first_call_ms"]),
            row["verified"].replace("|", "\\|").replace("\n", " "),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def size(number: int | None) -> str:
    return "–" if number is None else f"{number / 1e6:.1f} MB"


def duration(ms: float | None) -> str:
    """Return a time in milliseconds; what was not measured is a dash."""
    return "–" if ms is None else f"{ms:.0f} ms"


if __name__ == "__main__":
    main()
