"""Draws the rows that are compared with nginx as bars with their goals, in SVG, for light and dark pages."""

from __future__ import annotations

from html import escape
from typing import Any

from benches.loopback.cases import OURS
from benches.loopback.table import verdict

NAMES = ("nginx", "haproxy", "floor", OURS)
WIDTH, LEFT, RIGHT, TOP = 900, 370, 140, 84
BAR, GAP = 15, 20
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
# Anything longer leaves the picture's end; its number still says what it is.
LONGEST = 6.0

STYLE = f"""
  text {{ font: 13px {FONT}; fill: #24292f; }}
  .page {{ fill: #ffffff; }} .small {{ font-size: 12px; fill: #57606a; }}
  .title {{ font-size: 16px; font-weight: 600; }}
  .axis {{ stroke: #d0d7de; }} .goal {{ stroke: #cf222e; stroke-width: 2; }}
  .nginx {{ fill: #8c959f; }} .haproxy {{ fill: #b8a37a; }} .floor {{ fill: #7fb8ad; }} .{OURS} {{ fill: #2f6fde; }}
  @media (prefers-color-scheme: dark) {{
    text {{ fill: #e6edf3; }} .page {{ fill: #0d1117; }} .small {{ fill: #9198a1; }}
    .axis {{ stroke: #3d444d; }} .goal {{ stroke: #ff7b72; }}
    .nginx {{ fill: #7d8590; }} .haproxy {{ fill: #8f7f5e; }} .floor {{ fill: #4f8f84; }} .{OURS} {{ fill: #4c8dff; }}
  }}
"""


def draw(report: dict[str, Any]) -> str:
    """Return the picture; a row whose numbers are missing is left out."""
    rows = [
        row
        for row in report["rows"].values()
        if row["kind"] == "ratio" and row["against"] == "nginx" and row["measured"] is not None
    ]
    ratios = [ratio for row in rows for ratio in _ratios(row).values()]
    longest = min(max([*ratios, *(row["goal"] for row in rows), 1.5]), LONGEST)
    scale = (WIDTH - LEFT - RIGHT) / longest
    parts: list[str] = []
    y = TOP
    for row in rows:
        top = y
        parts.append(_text(16, y + 12, row["title"].replace("`", "")))
        unit = "throughput" if row["metric"] == "answers_per_s" else "CPU a call"
        parts.append(_text(16, y + 28, f"{unit}, goal {_goal(row)}: {verdict(row)}", "small"))
        for name, ratio in _ratios(row).items():
            shown = min(ratio, longest)
            parts.append(f'<rect class="{name}" x="{LEFT}" y="{y}" width="{shown * scale:.1f}" height="{BAR - 2}"/>')
            more = "… " if ratio > longest else ""
            parts.append(_text(WIDTH - RIGHT + 8, y + 11, f"{more}{ratio:.2f} {name}", "small"))
            y += BAR
        y = max(y, top + 32)
        x = LEFT + row["goal"] * scale
        parts.append(f'<line class="goal" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{y + 1}"/>')
        y += GAP
    one = LEFT + scale
    axis = f'<line class="axis" x1="{one:.1f}" x2="{one:.1f}" y1="{TOP - 8}" y2="{y - GAP + 4}"/>'
    head = [
        _text(16, 28, "Only1MCP beside nginx, the same bytes in the same run", "title"),
        _text(16, 50, "nginx is 1 (thin line); the red line is the goal. CPU a call: shorter is better;"),
        _text(16, 68, "throughput: longer is better. The floor is a TCP proxy on uvloop that parses nothing."),
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}">',
            "<title>What Only1MCP costs, against nginx</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{WIDTH}" height="{y}"/>',
            *head,
            axis,
            *parts,
            "</svg>\n",
        ]
    )


def _ratios(row: dict[str, Any]) -> dict[str, float]:
    medians = {name: row["subjects"][name]["median"][row["metric"]] for name in NAMES if name in row["subjects"]}
    return {name: value / medians["nginx"] for name, value in medians.items()} | {OURS: row["measured"]}


def _goal(row: dict[str, Any]) -> str:
    return f"{'≤' if row['sense'] == 'at most' else '≥'} {row['goal']:g}"


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"' + (f' class="{kind}"' if kind else "") + f">{escape(text)}</text>"
