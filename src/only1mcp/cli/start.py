"""`only1mcp start`: run the proxy, and tell in a few lines where it is and what to try."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import orjson

from only1mcp import __version__
from only1mcp.cli import FAILURE
from only1mcp.cli.config import fail
from only1mcp.cli.output import print_table
from only1mcp.config.load import load
from only1mcp.config.schema import BackendConfig, Config, Logging, Proxy
from only1mcp.demo.launch import http_server
from only1mcp.errors import ConfigError, Only1MCPError
from only1mcp.process.logs import configure
from only1mcp.process.worker import Worker, run
from only1mcp.wire import mcp


@click.command("start")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The configuration file.")
@click.option("--host", help="Listen on this address.")
@click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port; 0 takes a free one.")
@click.option("--demo", is_flag=True, help="Serve two small demo backends instead of a configuration.")
def start_command(path: Path | None, host: str | None, port: int | None, demo: bool) -> None:
    """Run the proxy in the foreground until Ctrl-C or SIGTERM."""

    if demo and path is not None:
        raise click.UsageError("--demo takes no --config")
    with ExitStack() as closing:
        try:
            config, notices = _demo(closing, host, port) if demo else _configured(path, host, port)
            for notice in notices:
                click.echo(f"notice: {notice}", err=True)
            configure(config.logging)
            run(config, lambda worker: _announce(worker, demo=demo))
        except ConfigError as error:
            fail(error)
        except Only1MCPError as error:
            click.echo(f"error: {error.message}", err=True)
            sys.exit(FAILURE)


def _configured(path: Path | None, host: str | None, port: int | None) -> tuple[Config, list[str]]:
    loaded = load(path, os.environ, {"proxy.host": host, "proxy.port": port})
    return loaded.config, loaded.notices


def _demo(closing: ExitStack, host: str | None, port: int | None) -> tuple[Config, list[str]]:
    """Start the HTTP demo server and return a configuration with it and the stdio one."""
    url = closing.enter_context(http_server())
    config = Config(
        version="1.0",
        proxy=Proxy(host=host or "127.0.0.1", port=8080 if port is None else port),
        logging=Logging(level="warning", format="text"),
        servers=(
            BackendConfig(
                id="demo-stdio", transport="stdio", command=sys.executable, args=("-m", "only1mcp.demo.stdio")
            ),
            BackendConfig(id="demo-http", transport="http", url=url),
        ),
    )
    return config, []


def _announce(worker: Worker, *, demo: bool) -> None:
    """Print where the proxy listens, what came up, and lines to paste."""
    config = worker.config
    assert worker.listener is not None
    scheme = "https" if config.proxy.tls.enabled else "http"
    url = f"{scheme}://{_authority(config.proxy.host, worker.listener.port)}{config.proxy.path}"
    # Where standard output carries JSON logs, it stays JSON.
    json_logs = config.logging.format == "json" and any(output.type == "stdout" for output in config.logging.outputs)

    def say(text: str = "") -> None:
        click.echo(text, err=json_logs)

    say(f"only1mcp {__version__} listens on {url}")
    if worker.scraper is not None:
        say(f"metrics on http://{_authority(config.metrics.host, worker.scraper.port)}{config.metrics.path}")
    say()
    rows = []
    for endpoint in worker.registry.endpoints.values():
        count = endpoint.inventory.count("tools/list") if endpoint.inventory is not None else None
        detail = endpoint.peer.revision if endpoint.peer is not None else endpoint.last_error or "still starting"
        tools = "" if count is None else f"{count} tools"
        rows.append((endpoint.id, endpoint.config.transport, endpoint.state.value, tools, detail))
    print_table(("backend", "transport", "state", "tools", ""), rows, empty="no backends are configured", err=json_logs)
    say()
    say("try it:")
    say("  " + _curl_line(url, demo=demo, with_token=bool(config.auth.jwt or config.auth.api_keys)))
    program = _program()
    flag = "" if url == "http://127.0.0.1:8080/mcp" else f" --url {url}"
    say(f'  {program} call{flag} echo \'{{"text":"hello"}}\'' if demo else f"  {program} list{flag}")


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
    words = ["curl", "-s", url, *(f"-H {shlex.quote(header)}" for header in headers)]
    if with_token:
        words.append('-H "Authorization: Bearer $ONLY1MCP_TOKEN"')
    return " ".join([*words, "-d", shlex.quote(body)])


def _authority(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{shown}:{port}"


def _program() -> str:
    """Return how the user can call this program again: by name where the PATH has it, else by the path used now."""
    found = shutil.which("only1mcp")
    if found is not None and os.path.samefile(found, sys.argv[0]):
        return "only1mcp"
    return shlex.quote(os.path.relpath(sys.argv[0]))
