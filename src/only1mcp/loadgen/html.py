"""The figures of a run as one HTML file with two pictures in it; nothing is loaded from anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Final

from only1mcp.loadgen.text import gate_text, grouped, render

WIDTH: Final = 860
HEIGHT: Final = 300
LEFT: Final = 64
RIGHT: Final = 16
TOP: Final = 16
BOTTOM: Final = 40
BARS: Final = 48
CURVES: Final = {"p50": "#2a9d8f", "p90": "#e9a23b", "p99": "#d1495b", "max": "#8d99ae"}

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 880px; padding: 0 1rem;
       color: #1d2433; background: #fff; }
h1 { font-size: 1.3rem } h2 { font-size: 1.05rem; margin-top: 2rem }
pre { overflow-x: auto; background: #f4f5f7; padding: 1rem; font-size: 13px; line-height: 1.35 }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #555e70 }
.axis { stroke: #9aa3b2 } .grid { stroke: #e4e7ec } .bar { fill: #3d7ea6 }
.missed, .warning { color: #b3261e }
"""


def render_html(document: dict[str, Any]) -> str:
    """Return the file's text."""
    target, plan = document["target"], document["plan"]
    missed = [gate_text(gate) for gate in document["gates"] if not gate["ok"]]
    loop = "closed loop" if plan["rate"] is None else f"{plan['rate']:g} requests a second"
    load = f"{plan['connections']} connections, {loop}"
    head = (target["address"], target["revision"], load, document["started_at"], f"only1mcp {document['only1mcp']}")
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        # Whatever the texts of a target hold, nothing in this file runs or loads.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{escape(target['url'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(target['url'])}</h1>",
        f"<p>{escape(', '.join(head))}</p>",
    ]
    parts += [f'<p class="missed">missed: {escape(each)}</p>' for each in missed]
    parts += [f'<p class="warning">{escape(each)}</p>' for each in document["warnings"]]
    if document["histogram"]:
        parts += ["<h2>Latency: how many answers took how long</h2>", _histogram(document["histogram"])]
    if any(each["latency_ms"] for each in document["intervals"]):
        parts += ["<h2>Latency over time, in ms</h2>", _curves(document["intervals"])]
    parts += ["<h2>Figures</h2>", f"<pre>{escape(chr(10).join(render(document)))}</pre>", "</body></html>\n"]
    return "\n".join(parts)


def _histogram(buckets: Sequence[dict[str, Any]]) -> str:
    ranges = grouped(buckets, BARS)
    most = max(count for _, _, count in ranges)
    low, high = ranges[0][0], ranges[-1][1]
    across = _logarithmic(low, high, LEFT, WIDTH - RIGHT)
    bottom = HEIGHT - BOTTOM
    room = bottom - TOP
    shapes = _marks_left((count, bottom - room * count / most) for count in _even_values(most))
    for start, end, count in ranges:
        tall = room * count / most
        left, right = across(start), across(end)
        shapes.append(
            f'<rect class="bar" x="{left:.1f}" y="{bottom - tall:.1f}" width="{max(1.0, right - left - 1):.1f}" '
            f'height="{tall:.1f}"><title>{start:.3g} to {end:.3g} ms: {count}</title></rect>'
        )
    shapes += _marks_below(((value, across(value)) for value in _round_values(low, high)), "ms")
    return _picture("histogram of latencies", shapes)


def _curves(intervals: Sequence[dict[str, Any]]) -> str:
    shown = [each for each in intervals if each["latency_ms"]]
    ends_at: float = max(each["at_s"] + each["seconds"] for each in intervals)
    low = max(1e-3, min(each["latency_ms"]["p50"] for each in shown)) * 0.9
    high = max(low, *(each["latency_ms"]["max"] for each in shown)) * 1.1
    up = _logarithmic(low, high, HEIGHT - BOTTOM, TOP)

    def across(at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / ends_at

    shapes = []
    shapes += _marks_below(((at_s, across(at_s)) for at_s in _even_values(ends_at)), "s")
    shapes += _marks_left((value, up(value)) for value in _round_values(low, high))
    for place, (name, color) in enumerate(CURVES.items()):
        points = " ".join(
            f"{across(each['at_s'] + each['seconds'] / 2):.1f},{up(max(low, each['latency_ms'][name])):.1f}"
            for each in shown
        )
        shapes.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{points}"/>')
        at = LEFT + 12 + 64 * place
        shapes += [
            f'<rect x="{at}" y="{TOP}" width="12" height="4" fill="{color}"/>',
            f'<text x="{at + 17}" y="{TOP + 7}">{name}</text>',
        ]
    for each in intervals:
        if each["failed"]:
            x = across(each["at_s"] + each["seconds"] / 2)
            shapes.append(
                f'<circle cx="{x:.1f}" cy="{HEIGHT - BOTTOM}" r="3" fill="#b3261e">'
                f"<title>{each['failed']} failed</title></circle>"
            )
    return _picture("percentiles of latency over time, in milliseconds", shapes)


def _picture(label: str, shapes: Iterable[str]) -> str:
    frame = (
        f'<line class="axis" x1="{LEFT}" y1="{HEIGHT - BOTTOM}" x2="{WIDTH - RIGHT}" y2="{HEIGHT - BOTTOM}"/>'
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{HEIGHT - BOTTOM}"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">\n' + "\n".join(shapes) + f"\n{frame}</svg>"
    )


def _marks_below(marks: Iterable[tuple[float, float]], unit: str) -> list[str]:
    return [
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g} {unit}</text>'
        for value, x in marks
    ]


def _marks_left(marks: Iterable[tuple[float, float]]) -> list[str]:
    return [
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        for value, y in marks
    ]


def _logarithmic(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return what maps values from `low` to `high` to places from `start` to `end`."""
    scale = (end - start) / math.log(high / low) if high > low else 0.0

    def place(value: float) -> float:
        return start + scale * math.log(value / low)

    return place


def _round_values(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within the range; fewer of them when it is wide."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    values = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [value for value in values if low <= value <= high]


def _even_values(most: float) -> list[float]:
    """Return about five round values from 0 to `most`."""
    rough = most / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return [step * number for number in range(math.floor(most / step) + 1)]
