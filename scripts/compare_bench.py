"""Runs the loopback benchmark of two checkouts side by side and says what has changed: for pull requests.

`python -m scripts.compare_bench BASE_DIR HEAD_DIR` builds each checkout in an environment of its own, runs a few rows
of both in turn (head's benchmark for both, so that the work is the same), and prints Markdown. Each round gives one
ratio of CPU time a call, head to base; what counts is their median with its 95 % interval, from how far the rounds lie
apart. A row is slower when even the lower end of the interval is above 1 by more than the threshold, and faster when
the upper end is as far below. `--strict` exits 1 when any row is slower.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROWS = ("call-stateless", "call-handshake", "full", "cached", "stdio")
SUBJECT = "only1mcp"
THRESHOLD = 0.10
BUILD_TIMEOUT_S, RUN_TIMEOUT_S = 900, 300
FEWEST_ROUNDS = 3
MARKER = "<!-- compare-bench -->"
# The median of few values strays this much more than their mean does.
MEDIAN_LOSS = 1.25
# The two-sided 95 % point of Student's t by the rounds less one (where one is missing, the one before).
STUDENT_T = {2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 14: 2.14, 19: 2.09}


@dataclass(frozen=True)
class Compared:
    """One row: CPU µs a call in each round, and what follows from them."""

    key: str
    base: list[float]
    head: list[float]

    @property
    def ratios(self) -> list[float]:
        return [head / base for base, head in zip(self.base, self.head, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the ends of the 95 % interval of the ratio; half and double are as far from 1."""
        count = len(self.ratios)
        t = STUDENT_T[max(freedom for freedom in STUDENT_T if freedom < count)]
        # Not a robust spread: with five rounds, three that agree by chance would make it look like nothing.
        spread = statistics.stdev(math.log(ratio) for ratio in self.ratios)
        factor = math.exp(t * MEDIAN_LOSS * spread / math.sqrt(count))
        return self.ratio / factor, self.ratio * factor

    def verdict(self, threshold: float) -> str:
        low, high = self.interval
        if low > 1 + threshold:
            return "slower"
        return "faster" if high < 1 / (1 + threshold) else "same"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.compare_bench", description=__doc__)
    parser.add_argument("base", type=Path, help="the checkout to compare with")
    parser.add_argument("head", type=Path, help="the checkout with the changes")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), help="of `python -m benches.loopback`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1, help="of load for each row in each round")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="what is a change beyond the noise (0.10)")
    parser.add_argument("--no-build", action="store_true", help="both checkouts have a .venv that is up to date")
    parser.add_argument("--output", type=Path, help="write the Markdown there too")
    parser.add_argument("--github", action="store_true", help="to the summary and the output `report` of a step, too")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a row is slower")
    options = parser.parse_args()
    if options.rounds < FEWEST_ROUNDS:
        parser.error(f"fewer than {FEWEST_ROUNDS} rounds say nothing about noise")
    base, head = options.base.resolve(), options.head.resolve()
    if not options.no_build:
        for checkout in (base, head):
            note(f"building {checkout}")
            subprocess.run(["make", "build"], cwd=checkout, check=True, timeout=BUILD_TIMEOUT_S, stdout=sys.stderr)
    compared = compare(base, head, options.rows, options.rounds, options.seconds)
    text = render(compared, options.threshold, options.rounds, options.seconds)
    print(text)
    if options.output is not None:
        options.output.write_text(text + "\n")
    if options.github:
        to_github(text)
    if options.strict and any(row.verdict(options.threshold) == "slower" for row in compared):
        sys.exit(1)


def compare(base: Path, head: Path, rows: list[str], rounds: int, seconds: int) -> list[Compared]:
    """Run both in turn, the other one first in every second round."""
    taken: dict[Path, dict[str, list[float]]] = {checkout: {row: [] for row in rows} for checkout in (base, head)}
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for checkout in (base, head) if number % 2 == 0 else (head, base):
            for row, cpu_us in measure(checkout, head, rows, seconds).items():
                taken[checkout][row].append(cpu_us)
    return [Compared(row, taken[base][row], taken[head][row]) for row in rows]


def measure(checkout: Path, harness: Path, rows: list[str], seconds: int) -> dict[str, float]:
    """Return the CPU µs a call of each row, of the proxy that is installed in the environment of a checkout."""
    with tempfile.TemporaryDirectory(prefix="compare-bench-") as name:
        output = Path(name) / "loopback.json"
        command = [str(checkout / ".venv" / "bin" / "python"), "-m", "benches.loopback", "--output", str(output)]
        command += ["--rounds", "1", "--seconds", str(seconds), "--subjects", SUBJECT, "--rows", *rows]
        done = subprocess.run(command, cwd=harness, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, check=False)
        if done.returncode:
            raise SystemExit(f"the benchmark of {checkout} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        report = json.loads(output.read_text())
    return {row: report["rows"][row]["subjects"][SUBJECT]["median"]["cpu_us"] for row in rows}


def render(compared: list[Compared], threshold: float, rounds: int, seconds: int) -> str:
    verdicts = [row.verdict(threshold) for row in compared]
    slower, faster = verdicts.count("slower"), verdicts.count("faster")
    told = [f"{count} {word}" for count, word in ((slower, "slower"), (faster, "faster")) if count]
    heading = ", ".join(told) if told else "no change beyond the noise"
    lines = [
        MARKER,
        f"### Benchmark: {heading}",
        "",
        "| work | base, CPU µs a call | head, CPU µs a call | head / base | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for row, verdict in zip(compared, verdicts, strict=True):
        base, head = statistics.median(row.base), statistics.median(row.head)
        low, high = row.interval
        shown = f"**{verdict}**" if verdict != "same" else ""
        lines.append(f"| {row.key} | {base:.1f} | {head:.1f} | {row.ratio:.2f} ({low:.2f}–{high:.2f}) | {shown} |")
    notes = (
        f"Medians of {rounds} interleaved rounds of {seconds} s on one machine, with their 95 % intervals. "
        f"A row has changed when the whole interval is more than {threshold:.0%} away from 1."
    )
    lines += ["", notes]
    return "\n".join(lines)


def to_github(text: str) -> None:
    """Append to the files that GitHub names; what ends the value is random, so that nothing in the report can."""
    end = f"end-{secrets.token_hex(16)}"
    for variable, written in (("GITHUB_STEP_SUMMARY", text), ("GITHUB_OUTPUT", f"report<<{end}\n{text}\n{end}")):
        with open(os.environ[variable], "a", encoding="utf-8") as file:
            file.write(written + "\n")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
