"""The figures of a run for a terminal: a summary, a histogram, failures and warnings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

ROWS: Final = 11
BAR_CELLS: Final = 40
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def render(document: dict[str, Any], *, unicode: bool = True) -> list[str]:
    """Return the lines; `unicode` allows block characters."""
    requests, client = document["requests"], document["client"]
    seconds = document["measured_s"]
    how = "interrupted after" if document["interrupted"] else "measured"
    lines = [
        f"{how} {seconds:.2f} s: {requests['good']:,} good answers, {requests['failed']:,} failed",
        "",
        f"  rate      {document['answers_per_second']:,.1f} good answers a second",
        f"  bytes     {_size(document['bytes']['received'])} received, {_size(document['bytes']['sent'])} sent",
        f"  client    {client['cpu_share']:.0%} of a core",
    ]
    if document["backlog"] is not None:
        late = client["late_ms"]
        shown = f", sent late by p99 {_ms(late['p99'])}" if late is not None else ""
        lines.append(
            f"  backlog   at most {document['backlog']['max']:,}, {document['backlog']['end']:,} unsent{shown}"
        )
    latency = document["latency_ms"]
    if latency is not None:
        counted = "from when it was due" if document["backlog"] is not None else "from sending"
        lines += ["", f"latency of good answers ({counted})"]
        lines += _pairs(latency)
        lines += ["", *histogram(document["histogram"], unicode=unicode)]
    if len(document["by_operation"]) > 1:
        lines += ["", "operations"]
        lines += _operations(document["by_operation"])
    failures = document["failures"]
    if failures["total"]:
        lines += ["", f"failures ({failures['total']:,})"]
        for each in failures["details"]:
            what = " ".join(part for part in (each["kind"], each["what"]) if part)
            example = each["example"]
            lines.append(f"  {each['count']:>9,}  {what}" + (f": {example}" if example and example != what else ""))
        if failures["latency_ms"] is not None:
            values = failures["latency_ms"]
            lines.append(f"  they took p50 {_ms(values['p50'])}, p99 {_ms(values['p99'])}, max {_ms(values['max'])}")
    if document["warnings"]:
        lines.append("")
        lines += [f"warning: {each}" for each in document["warnings"]]
    missed = [each for each in document["gates"] if not each["ok"]]
    if missed:
        lines.append("")
        lines += [f"missed: {gate_text(each)}" for each in missed]
    return lines


def gate_text(gate: dict[str, Any]) -> str:
    """Return one gate in words."""
    name = "--" + gate["gate"].replace("_", "-")
    limit = gate["limit"] if isinstance(gate["limit"], str) else f"{gate['limit']:g}"
    value = "nothing" if gate["value"] is None else f"{gate['value']:,}"
    return f"{name} {limit}: got {value}"


def histogram(buckets: Sequence[dict[str, Any]], *, unicode: bool = True) -> list[str]:
    """Return a bar for each of a few ranges of latency, each as wide on a logarithmic scale."""
    ranges = grouped(buckets, ROWS)
    if not ranges:
        return []
    total = sum(count for _, _, count in ranges)
    most = max(count for _, _, count in ranges)
    width = max(len(_ms(high)) for _, high, _ in ranges)
    return [
        f"  up to {_ms(high):>{width}}  {_bar(count / most, unicode=unicode):<{BAR_CELLS}}  "
        f"{count:>11,}  {100 * count / total:6.2f} %"
        for _, high, count in ranges
    ]


def grouped(buckets: Sequence[dict[str, Any]], rows: int) -> list[tuple[float, float, int]]:
    """Return (from, to, count) for at most `rows` ranges of the buckets' span, logarithmically even."""
    if not buckets:
        return []
    low = max(buckets[0]["from_ms"], 1e-3)
    high = buckets[-1]["to_ms"]
    step = math.log(high / low) / rows if high > low else 0.0
    if step == 0.0:
        return [(low, high, sum(each["count"] for each in buckets))]
    counts = [0] * rows
    for each in buckets:
        middle = max((each["from_ms"] + each["to_ms"]) / 2, low)
        counts[min(rows - 1, int(math.log(middle / low) / step))] += each["count"]
    return [(low * math.exp(step * row), low * math.exp(step * (row + 1)), count) for row, count in enumerate(counts)]


def _pairs(latency: dict[str, float]) -> list[str]:
    rows = (("p50", "p90", "p99", "p999"), ("min", "max", "mean", "stdev"))
    labels = {"p999": "p99.9"}
    return [
        "  " + "".join(f"{labels.get(name, name):<6}{_ms(latency[name]):<12}" for name in row).rstrip() for row in rows
    ]


def _operations(operations: Sequence[dict[str, Any]]) -> list[str]:
    rows: list[tuple[str, ...]] = [("", "good", "failed", "p50", "p99", "max")]
    for each in operations:
        latency = each["latency_ms"]
        values = [_ms(latency[key]) if latency is not None else "-" for key in ("p50", "p99", "max")]
        label = each["method"] if each["name"] is None else f"{each['method']} {each['name']}"
        rows.append((label[:48], f"{each['good']:,}", f"{each['failed']:,}", *values))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        "  " + "  ".join([row[0].ljust(widths[0]), *(cell.rjust(widths[i]) for i, cell in enumerate(row) if i)])
        for row in rows
    ]


def _bar(share: float, *, unicode: bool) -> str:
    if not unicode:
        return "#" * (round(share * BAR_CELLS) or (1 if share else 0))
    eighths = round(share * BAR_CELLS * 8) or (1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _ms(value: float) -> str:
    if value >= 10_000:
        return f"{value / 1000:,.1f} s"
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
