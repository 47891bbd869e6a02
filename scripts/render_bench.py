"""Puts the tables of the loopback results into the README, between their two markers, and draws docs/bench.svg.

`python -m scripts.render_bench`; `--check` only says whether both are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from benches.loopback import chart, table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benches" / "results" / "loopback.json"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "bench.svg"
START, END = "<!-- bench:loopback -->", "<!-- /bench:loopback -->"
COMMAND = "python -m scripts.render_bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is out of date")
    check = parser.parse_args().check
    for file, fresh in rendered().items():
        if check and (not file.exists() or file.read_text() != fresh):
            raise SystemExit(f"{file.relative_to(ROOT)} does not show {RESULTS.relative_to(ROOT)}: {COMMAND}")
        if not check:
            file.write_text(fresh)


def rendered() -> dict[Path, str]:
    """Return what the files should hold."""
    report = json.loads(RESULTS.read_text())
    text = README.read_text()
    pattern = re.compile(re.escape(START) + r".*?" + re.escape(END), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"README.md: expected {START} and {END} once")
    picture = f"![What a call costs, against nginx]({CHART.relative_to(ROOT).as_posix()})"
    shown = f"{START}\n{picture}\n\n{table.render(report)}\n{END}"
    return {README: pattern.sub(lambda _: shown, text), CHART: chart.draw(report)}


if __name__ == "__main__":
    main()
