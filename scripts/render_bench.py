"""Puts the tables of the results into the README, each between its two markers, and draws docs/bench.svg.

`python -m scripts.render_bench`; `--check` only says whether both are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from benches.loopback import chart, table
from benches.peers import table as peers_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benches" / "results" / "loopback.json"
PEERS = ROOT / "benches" / "results" / "peers.json"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "bench.svg"
START, END = "<!-- bench:loopback -->", "<!-- /bench:loopback -->"
PEERS_START, PEERS_END = "<!-- bench:peers -->", "<!-- /bench:peers -->"
COMMAND = "python -m scripts.render_bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when something is out of date")
    check = parser.parse_args().check
    for file, fresh in rendered().items():
        if check and (not file.exists() or file.read_text() != fresh):
            raise SystemExit(f"{file.relative_to(ROOT)} does not show the results that are kept: {COMMAND}")
        if not check:
            file.write_text(fresh)


def rendered() -> dict[Path, str]:
    """Return what the files should hold."""
    report = json.loads(RESULTS.read_text())
    picture = f"![What a call costs, against nginx]({CHART.relative_to(ROOT).as_posix()})"
    text = between(README.read_text(), START, END, f"{picture}\n\n{table.render(report)}")
    text = between(text, PEERS_START, PEERS_END, peers_table.render(json.loads(PEERS.read_text())))
    return {README: text, CHART: chart.draw(report)}


def between(text: str, start: str, end: str, shown: str) -> str:
    """Return the text with what stands between two markers replaced."""
    pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"expected {start} and {end} once")
    return pattern.sub(lambda _: f"{start}\n{shown}\n{end}", text)


if __name__ == "__main__":
    main()
