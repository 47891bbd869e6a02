"""Makes the table of a run against other gateways, for the terminal and for the README."""

from __future__ import annotations

from typing import Any


def render(report: dict[str, Any]) -> str:
    lines = [
        "| gateway | backend | CPU µs a call | against Only1MCP | calls/s | p50 ms | p99 ms | connections |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = report["rows"]
    ours = {row["backend"]: row["median"]["cpu_us"] for row in rows if row["ours"] and row["median"]}
    for row in sorted(
        rows, key=lambda row: (row["backend"], row["median"] is None, (row["median"] or {}).get("cpu_us"))
    ):
        title = f"{row['name']} {row['version']}" + ("" if row["ours"] else f" ({row['registry']})")
        median = row["median"]
        if median is None:
            lines.append(f"| {title} | {row['backend']} | not measured: {_plain(row['reason'])} | | | | | |")
            continue
        ratio = f"{median['cpu_us'] / ours[row['backend']]:.1f}" if row["backend"] in ours else ""
        numbers = [
            f"{median['cpu_us']:,.0f}",
            "1" if row["ours"] else ratio,
            f"{median['requests_per_s']:,.0f}",
            f"{median['p50_us'] / 1000:,.2f}",
            f"{median['p99_us'] / 1000:,.2f}",
            str(row["connections"]),
        ]
        lines.append(f"| {title} | {row['backend']} | " + " | ".join(numbers) + " |")
    settings, machine = report["settings"], report["machine"]
    notes = (
        f"One `tools/call` of the handshake era, a session for each connection, {settings['octets']} octets of result; "
        f"medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s, each gateway on one CPU; "
        "the CPU of backends is not counted. A gateway that fails calls is tried again with fewer connections. "
        f"{machine['cpu']}, {machine['cpus']} CPUs, Linux {machine['kernel']}, Python {machine['python']}, "
        f"Node {machine['node']}; {report['date']}, `{report['command']}`."
    )
    return "\n".join([*lines, "", notes])


def _place(row: dict[str, Any]) -> tuple[str, float]:
    return row["backend"], row["median"]["cpu_us"] if row["median"] else float("inf")


def _plain(reason: str) -> str:
    return " ".join(reason.replace("|", "/").split())[:160]
