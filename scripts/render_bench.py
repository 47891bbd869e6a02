"""Puts the table of the last loopback run into the README, between its two markers.

`python -m scripts.render_bench`; `--check` only says whether the README is up to date.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from benches.loopback.table import render

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benches" / "results" / "loopback.json"
README = ROOT / "README.md"
START, END = "<!-- bench:loopback -->", "<!-- /bench:loopback -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the README is out of date")
    check = parser.parse_args().check
    text = README.read_text()
    table = render(json.loads(RESULTS.read_text()))
    pattern = re.compile(re.escape(START) + r".*?" + re.escape(END), re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"README.md: expected {START} and {END} once")
    fresh = pattern.sub(lambda _: f"{START}\n{table}\n{END}", text)
    if check and fresh != text:
        raise SystemExit("README.md: the benchmark's table is out of date: python -m scripts.render_bench")
    if not check:
        README.write_text(fresh)


if __name__ == "__main__":
    main()
