"""`only1mcp start`: run the proxy, and tell in a few lines where it is and what to try."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import orjson

from only1mcp import __version__
from only1mcp.cli import DEFAULT_URL, FAILURE
from only1mcp.cli.output import fail, print_error, print_table
from only1mcp.config.load import Loaded, load
from only1mcp.config.schema import Metrics
from only1mcp.demo.launch import http_server
from only1mcp.errors import ConfigError, Only1MCPError
from only1mcp.process import descriptors
from only1mcp.process.logs import configure
from only1mcp.process.worker import Worker, run
from only1mcp.wire import mcp

_BUSY = "address already in use"
_STDIO_SERVER = ["-m", "only1mcp.demo.stdio"]


@click.command("start")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The configuration file.")
@click.option("--host", help="Listen on this address.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port; 0 takes a free one.")
@click.option("--demo", is_flag=True, help="Serve two small demo backends instead of a configuration.")
def start_command(path: Path | None, host: str | None, port: int | None, demo: bool) -> None:
    """Run the proxy in the foreground until Ctrl-C or SIGTERM; a second Ctrl-C does not wait for running calls."""
    if demo and path is not None:
        raise click.UsageError("--demo takes no --config")
    overrides = {"proxy.host": host, "proxy.port": port}
    with ExitStack() as closing:
        try:
            descriptors.require()
            loaded = _demo(closing, overrides) if demo else load(path, os.environ, overrides)
            for notice in loaded.notices:
                click.echo(f"notice: {notice}", err=True)
            configure(loaded.config.logging)
            run(loaded.config, lambda worker: _announce(worker, demo=demo))
        except ConfigError as error:
            fail(error)
        except Only1MCPError as error:
            print_error(error.message + _way_out(error.message))
            sys.exit(FAILURE)


def _demo(closing: ExitStack, overrides: dict[str, Any]) -> Loaded:
    """Start the HTTP demo server and return a configuration with it and the stdio one.

    It is loaded like any other, so that environment and flags mean the same, and the same rules hold.
    """
    values = {
        "version": "1.0",
        "logging": {"level": "warning", "format": "text"},
        "metrics": {"port": _metrics_port(overrides["proxy.port"])},
        "servers": [
            {"id": "demo-stdio", "transport": "stdio", "command": sys.executable, "args": _STDIO_SERVER},
            {"id": "demo-http", "transport": "http", "url": closing.enter_context(http_server())},
        ],
    }
    # JSON is YAML. No file: where this runs there may be no folder to write to.
    return load(None, os.environ, overrides, text=json.dumps(values).replace("${", "$${").encode())


def _metrics_port(port: int | None) -> int:
    """Return the usual port of the metrics where it is free: it is Prometheus' own, too."""
    usual = Metrics().port
    if port == 0:
        return 0
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((Metrics().host, usual))
        except OSError:
            return 0
    return usual


def _way_out(message: str) -> str:
    if not message.endswith(_BUSY):
        return ""
    if message.startswith("metrics"):
        return "; set metrics.port (ONLY1MCP_METRICS_PORT) to another, or metrics.enabled to false"
    return "; --port takes another, 0 a free one"


def _announce(worker: Worker, *, demo: bool) -> None:
    """Print where the proxy listens, what came up, and lines to paste."""
    config = worker.config
    # Where standard output carries JSON logs, it stays JSON.
    json_logs = config.logging.format == "json" and any(output.type == "stdout" for output in config.logging.outputs)
    try:
        _print_banner(worker, demo=demo, err=json_logs)
    except OSError:
        # Nobody reads: no reason not to serve. What is left in the buffer would fail once more at exit.
        setattr(sys, "stderr" if json_logs else "stdout", open(os.devnull, "w"))  # noqa: SIM115


def _print_banner(worker: Worker, *, demo: bool, err: bool) -> None:
    config = worker.config
    assert worker.listener is not None
    scheme = "https" if config.proxy.tls.enabled else "http"
    url = f"{scheme}://{_authority(config.proxy.host, worker.listener.port)}{config.proxy.path}"

    def say(text: str = "") -> None:
        click.echo(text, err=err)

    say(f"only1mcp {__version__} listens on {url}")
    if worker.scraper is not None:
        say(f"metrics on http://{_authority(config.metrics.host, worker.scraper.port)}{config.metrics.path}")
    say()
    rows = []
    for endpoint in worker.registry.endpoints.values():
        count = endpoint.inventory.count("tools/list") if endpoint.inventory is not None else None
        detail = endpoint.peer.revision if endpoint.peer is not None else endpoint.last_error or "still starting"
        tools = "" if count is None else f"{count} tool{'' if count == 1 else 's'}"
        rows.append((endpoint.id, endpoint.config.transport, endpoint.state.value, tools, detail))
    print_table(("backend", "transport", "state", "tools", ""), rows, empty="no backends are configured", err=err)
    say()
    with_token = bool(config.auth.jwt or config.auth.api_keys)
    say("try it, with a JWT or an API key in ONLY1MCP_TOKEN:" if with_token else "try it:")
    say("  " + _curl_line(url, demo=demo, with_token=with_token))
    flag = "" if url == (os.environ.get("ONLY1MCP_URL") or DEFAULT_URL) else f" --url {shlex.quote(url)}"
    what = "echo " + shlex.quote('{"text":"hello"}')
    say(f"  {_program()} call{flag} {what}" if demo else f"  {_program()} list{flag}")


def _curl_line(url: str, *, demo: bool, with_token: bool) -> str:
    method = "tools/call" if demo else "tools/list"
    params: dict[str, Any] = {"name": "echo", "arguments": {"text": "hello"}} if demo else {}
    params["_meta"] = {mcp.META_VERSION: mcp.LATEST_STATELESS, mcp.META_CAPABILITIES: {}}
    body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).decode()
    headers = [
        "Content-Type: application/json",
        "Accept: application/json, text/event-stream",
        f"MCP-Protocol-Version: {mcp.LATEST_STATELESS}",
        f"Mcp-Method: {method}",
    ]
    if demo:
        headers.append("Mcp-Name: echo")
    words = ["curl", "-s", shlex.quote(url), *(f"-H {shlex.quote(header)}" for header in headers)]
    if with_token:
        words.append('-H "Authorization: Bearer $ONLY1MCP_TOKEN"')
    return " ".join([*words, "-d", shlex.quote(body)])


def _authority(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{shown}:{port}"


def _program() -> str:
    """Return how the user can call this program again: by name where the PATH has it, else by the path used now."""
    found = shutil.which("only1mcp")
    if not os.path.isfile(sys.argv[0]):
        return "only1mcp"
    if found is not None and os.path.samefile(found, sys.argv[0]):
        return "only1mcp"
    return shlex.quote(os.path.relpath(sys.argv[0]))
