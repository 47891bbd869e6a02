"""Makes the table of a loopback run, for the terminal and for the README."""

from __future__ import annotations

from typing import Any

TITLES = {
    "stateless": "`tools/call`, stateless era (2026-07-28)",
    "handshake": "`tools/call`, handshake era (2025-11-25)",
}


def render(report: dict[str, Any]) -> str:
    lines = [
        "| call | proxy | CPU µs a call | against nginx | calls/s | p50 ms | p99 ms |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for case, found in report["cases"].items():
        for who in ("nginx", "only1mcp"):
            median = found[who]["median"]
            ratio = f"{found['cpu_ratio']:.2f}" if who == "only1mcp" else "1"
            numbers = [
                f"{median['cpu_us']:.1f}",
                ratio,
                f"{median['requests_per_s']:,.0f}",
                f"{median['p50_us'] / 1000:.2f}",
                f"{median['p99_us'] / 1000:.2f}",
            ]
            lines.append(f"| {TITLES[case] if who == 'nginx' else ''} | {who} | " + " | ".join(numbers) + " |")
    settings, versions, machine = report["settings"], report["versions"], report["machine"]
    circumstances = (
        f"Medians of {settings['rounds']} interleaved rounds of {settings['seconds']:g} s at {settings['connections']} "
        f"connections, results of {settings['octets']} octets; {machine['cpu']}, {machine['cpus']} CPUs, "
        f"Linux {machine['kernel']}; {versions['only1mcp']}, Python {versions['python']}, {versions['nginx']}, "
        f"{versions['load']}; {report['date']}, `{report['command']}`."
    )
    return "\n".join([*lines, "", circumstances])
