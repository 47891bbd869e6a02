"""`only1mcp test`: connect to the configured backends one by one, time every step, say what to do when one fails."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import click

from only1mcp import __version__
from only1mcp.backend.base import Transport
from only1mcp.backend.era import establish
from only1mcp.backend.guard import Guard
from only1mcp.backend.http import HttpTransport
from only1mcp.backend.inventory import read_inventory
from only1mcp.backend.stdio import StdioTransport
from only1mcp.cli import CANNOT_CONNECT, FAILURE, USAGE
from only1mcp.cli.config import config_option, fail, json_option
from only1mcp.cli.output import print_json
from only1mcp.config.load import load
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import ConfigError, Only1MCPError

TIMEOUT_S = 30.0


@click.command("test")
@click.argument("backend", required=False)
@config_option
@json_option
def test_command(backend: str | None, config_path: Path | None, as_json: bool) -> None:
    """Connect to BACKEND, or to every backend: open, handshake, list; with the time of each step."""
    try:
        config = load(config_path, os.environ, {}).config
    except ConfigError as error:
        fail(error)
    chosen = [entry for entry in config.servers if entry.id == backend or (backend is None and entry.enabled)]
    if backend is not None and not chosen:
        known = ", ".join(entry.id for entry in config.servers) or "none"
        click.echo(f"error: there is no backend {backend!r}; configured: {known}", err=True)
        sys.exit(USAGE)
    logging.disable(logging.CRITICAL)  # the reports below say what went wrong, and what to do
    reports = []
    for entry in chosen:
        report = asyncio.run(_examine(entry))
        reports.append(report)
        if not as_json:
            _print_report(report)
    if as_json:
        print_json(reports)
    failed = [report for report in reports if "error" in report]
    if failed:
        sys.exit(CANNOT_CONNECT if any(report["failed_at"] == "connect" for report in failed) else FAILURE)
    if not reports:
        click.echo("no backends are configured", err=True)
        sys.exit(FAILURE)


async def _examine(entry: BackendConfig) -> dict[str, Any]:
    """Return what happened at each step; `error`, `failed_at` and `hint` where one failed."""
    report: dict[str, Any] = {"backend": entry.id, "transport": entry.transport, "ms": {}}
    if entry.transport == "sse":
        return {**report, "error": "the sse transport is not served in this version", "failed_at": "connect"}
    guard = Guard()
    transport = _transport(entry, guard)
    ids = count(1)
    step = "connect"
    began = time.perf_counter()

    def done() -> None:
        nonlocal began
        now = time.perf_counter()
        report["ms"][step] = round((now - began) * 1000, 1)
        began = now

    try:
        await transport.start()
        done()
        step = "handshake"
        peer = await establish(transport, lambda: b"%d" % next(ids), timeout_s=TIMEOUT_S, client_version=__version__)
        done()
        report |= {"era": peer.era.value, "revision": peer.revision, "server": peer.server_info.get("name")}
        step = "list"
        inventory = await read_inventory(transport, peer, lambda: b"%d" % next(ids))
        done()
        report["items"] = {method: len(offered.items) for method, offered in inventory.lists.items()}
    except Only1MCPError as error:
        # HTTP connects with the first request.
        failed_at = "connect" if step == "handshake" and error.http_status == 503 else step
        report |= {"error": error.message, "failed_at": failed_at, "hint": _hint(entry, failed_at)}
    finally:
        await transport.aclose()
        await guard.aclose()
    return report


def _transport(entry: BackendConfig, guard: Guard) -> Transport:
    if entry.transport == "stdio":
        return StdioTransport(entry, guard=guard, log=logging.getLogger("only1mcp.backend"))
    return HttpTransport(entry, name=entry.id)


def _hint(entry: BackendConfig, failed_at: str) -> str:
    if failed_at == "connect":
        if entry.transport == "stdio":
            return f"run it by hand and see what it says: {entry.command} {' '.join(entry.args)}".rstrip()
        return f"is the server running, and is {entry.url} its MCP endpoint?"
    if failed_at == "handshake":
        return "it answers, but not as an MCP server: check the URL's path, the arguments and the credentials"
    return "it speaks MCP, but its lists cannot be read: its own log should say why"


def _print_report(report: dict[str, Any]) -> None:
    times = "  ".join(f"{step} {value:.0f} ms" for step, value in report["ms"].items())
    if "error" in report:
        click.echo(f"FAIL  {report['backend']} ({report['transport']})  {times}".rstrip())
        click.echo(f"      {report['failed_at']}: {report['error']}")
        if "hint" in report:
            click.echo(f"      {report['hint']}")
        return
    items = ", ".join(f"{number} {method.rpartition('/')[0]}" for method, number in report["items"].items())
    click.echo(f"ok    {report['backend']} ({report['transport']}, {report['revision']})  {times}")
    click.echo(f"      {items or 'offers nothing'}")
