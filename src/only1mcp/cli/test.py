"""`only1mcp test`: connect to the configured backends one by one, time every step, say what to do when one fails."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import ssl
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import click

from only1mcp import __version__
from only1mcp.backend.base import Transport
from only1mcp.backend.connecting import connect
from only1mcp.backend.era import Peer, establish
from only1mcp.backend.guard import Guard
from only1mcp.backend.inventory import read_inventory
from only1mcp.backend.registry import transport_for
from only1mcp.backend.target import parse_target
from only1mcp.cli import CANNOT_CONNECT, FAILURE, USAGE
from only1mcp.cli.config import config_option, json_option
from only1mcp.cli.output import fail, print_error, print_json, printable
from only1mcp.config.load import load
from only1mcp.config.schema import BackendConfig
from only1mcp.errors import BackendError, BackendRefused, BackendTimeout, BackendUnavailable, ConfigError, Only1MCPError
from only1mcp.process import descriptors

log = logging.getLogger("only1mcp.backend")

# The last words of a child usually say why it died.
KEPT_LINES: Final = 5
_OPENING: Final = frozenset({"spawn", "connect"})


@click.command("test")
@click.argument("backend", required=False)
@config_option
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600, min_open=True),
    default=30.0,
    show_default=True,
    help="Wait this many seconds for each answer.",
)
@json_option
def test_command(backend: str | None, config_path: Path | None, timeout: float, as_json: bool) -> None:
    """Connect to BACKEND, or to every backend: open, handshake, list; with the time of each step."""
    try:
        descriptors.require()
        config = load(config_path, os.environ, {}).config
    except ConfigError as error:
        fail(error)
    except Only1MCPError as error:
        print_error(error.message)
        sys.exit(FAILURE)
    chosen = [entry for entry in config.servers if entry.id == backend or (backend is None and entry.enabled)]
    if backend is not None and not chosen:
        known = ", ".join(entry.id for entry in config.servers) or "none"
        print_error(f"there is no backend {backend!r}; configured: {known}")
        sys.exit(USAGE)
    reports = []
    for entry in chosen:
        with _progress(f"testing {entry.id} ..."):
            report = asyncio.run(_Examination(entry, timeout).report())
        reports.append(report)
        if not as_json:
            _print_report(report)
    if as_json:
        print_json(reports)
    if not reports:
        print_error("no backend is configured" if not config.servers else "no backend is enabled")
        sys.exit(FAILURE)
    failed = [report for report in reports if "error" in report]
    if failed:
        sys.exit(CANNOT_CONNECT if any(report["failed_at"] in _OPENING for report in failed) else FAILURE)


class _Examination(logging.Handler):
    """One backend, step by step; as a log handler it hears what a transport has to say besides its errors."""

    def __init__(self, entry: BackendConfig, timeout_s: float) -> None:
        super().__init__()
        self._entry = entry
        self._timeout_s = timeout_s
        self._step = "spawn" if entry.transport == "stdio" else "connect"
        self._ms: dict[str, float] = {}
        self._ids = count(1)
        self._lost = False
        self._stderr: deque[str] = deque(maxlen=KEPT_LINES)
        self._garbage: deque[str] = deque(maxlen=KEPT_LINES)
        self._unread: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "fields", {})
        if record.msg == "child.stderr":
            self._stderr.append(fields["line"])
        elif record.msg == "child.garbage":
            self._garbage.append(fields["line"])
        elif record.msg == "backend.list_failed":
            self._unread[fields["method"]] = fields["reason"]

    async def report(self) -> dict[str, Any]:
        """Return what happened at each step; `error`, `failed_at` and mostly `hint` where one failed."""
        report: dict[str, Any] = {"backend": self._entry.id, "transport": self._entry.transport, "ms": self._ms}
        before = log.level, log.propagate
        log.addHandler(self)
        log.setLevel(logging.INFO)
        log.propagate = False
        try:
            await self._examine(report)
        except Only1MCPError as error:
            report |= {"error": error.message, "failed_at": self._step, "hint": self._hint(error)}
        finally:
            log.removeHandler(self)
            log.level, log.propagate = before
        for key, lines in (("stderr", self._stderr), ("garbage", self._garbage)):
            if lines:
                report[key] = list(lines)
        return report

    async def _examine(self, report: dict[str, Any]) -> None:
        guard = Guard()
        transport: Transport | None = None
        try:
            with self._timed(self._step):
                transport = await self._open(guard)
            with self._timed("handshake"):
                try:
                    peer = await self._meet(transport, probe=self._entry.transport != "sse")
                except BackendError:
                    if not self._lost:
                        raise
                    # Some servers end when their first message is not the handshake; the proxy tries both, too.
                    await transport.aclose()
                    transport = await self._open(guard)
                    peer = await self._meet(transport, probe=False)
            report |= {"era": peer.era.value, "revision": peer.revision, "server": peer.server_info.get("name")}
            with self._timed("list"):
                try:
                    async with asyncio.timeout(self._timeout_s):
                        inventory = await read_inventory(transport, peer, self._next_id)
                except TimeoutError:
                    raise BackendTimeout(f"its lists were not complete within {self._timeout_s:g} s") from None
                report["items"] = {method: len(offered.items) for method, offered in inventory.lists.items()}
                if inventory.unread:
                    reasons = (f"{method}: {self._unread.get(method, 'cannot be read')}" for method in inventory.unread)
                    raise BackendError("; ".join(reasons))
        finally:
            if transport is not None:
                await transport.aclose()
            await guard.aclose()

    async def _open(self, guard: Guard) -> Transport:
        transport = transport_for(self._entry, guard)()
        if self._entry.transport == "http":
            # The transport connects with its first request: a connection of its own tells the time that takes.
            target = parse_target(self._entry.url or "")
            context = ssl.create_default_context() if target.tls else None
            (await connect(target.host, target.port, context)).abort()
        transport.on_lost = self._note_loss
        await transport.start()
        return transport

    def _note_loss(self, _reason: str) -> None:
        self._lost = True

    async def _meet(self, transport: Transport, *, probe: bool) -> Peer:
        return await establish(
            transport, self._next_id, timeout_s=self._timeout_s, client_version=__version__, probe=probe
        )

    def _next_id(self) -> bytes:
        return b"%d" % next(self._ids)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        self._step = step
        began = time.perf_counter()
        try:
            yield
        finally:
            self._ms[step] = round((time.perf_counter() - began) * 1000, 1)

    def _hint(self, error: Only1MCPError) -> str:
        entry = self._entry
        if entry.transport == "stdio":
            by_hand = f"run it by hand and see what it says: {shlex.join((entry.command or '', *entry.args))}"
            if self._step == "spawn" or isinstance(error, BackendUnavailable) or self._lost:
                return by_hand
            if self._garbage:
                return "standard output must carry MCP messages only: its log belongs on standard error"
            if isinstance(error, BackendTimeout):
                return f"it runs, but does not answer (the first run of npx or uvx downloads): {by_hand}"
        elif self._step == "connect":
            return f"is the server running, and is {entry.url} its address?"
        elif isinstance(error, BackendRefused):
            if error.status in (401, 403, 407):
                return "it wants other credentials: see auth and headers of this backend"
            if error.status in (404, 405):
                return f"is {entry.url} the path of its MCP endpoint? many servers use /mcp"
            return "it answers, but not as an MCP server: its own log should say why"
        elif isinstance(error, BackendTimeout):
            return "it takes connections, but does not answer: its own log should say why"
        if self._step == "list":
            return "it speaks MCP, but its lists cannot be read: its own log should say why"
        return "it answers, but not as an MCP server: check URL, arguments and credentials"


@contextmanager
def _progress(text: str) -> Iterator[None]:
    """Show on a terminal what is being waited for; nothing of it stays."""
    shown = sys.stderr is not None and sys.stderr.isatty()
    if shown:
        click.echo(text, nl=False, err=True)
    try:
        yield
    finally:
        if shown:
            click.echo("\r" + " " * len(text) + "\r", nl=False, err=True)


def _print_report(report: dict[str, Any]) -> None:
    times = "  ".join(f"{step} {value:.0f} ms" for step, value in report["ms"].items())
    name = f"{report['backend']} ({report['transport']}{', ' + report['revision'] if 'revision' in report else ''})"
    lines = []
    if "error" in report:
        lines.append(f"FAIL  {name}  {times}".rstrip())
        lines.append(f"      {report['failed_at']}: {report['error']}")
        lines += [f"      stderr: {line}" for line in report.get("stderr", ())]
        lines += [f"      not a message: {line}" for line in report.get("garbage", ())]
        if "hint" in report:
            lines.append(f"      {report['hint']}")
    else:
        counts = ((method.split("/")[-2].removesuffix("s"), number) for method, number in report["items"].items())
        items = ", ".join(f"{number} {name}{'' if number == 1 else 's'}" for name, number in counts)
        lines += [f"ok    {name}  {times}", f"      {items or 'offers nothing'}"]
    for line in lines:
        click.echo(printable(line))
