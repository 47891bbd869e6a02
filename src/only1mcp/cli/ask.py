"""The commands that ask a running proxy: `list`, `call`, `status`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
import orjson

from only1mcp.cli import CANNOT_CONNECT, FAILURE, USAGE
from only1mcp.cli.client import DEFAULT_URL, ClientError, ProxyClient
from only1mcp.cli.output import print_json, print_table

_KINDS = {
    "tools": ("tools/list", "name"),
    "resources": ("resources/list", "uri"),
    "templates": ("resources/templates/list", "uriTemplate"),
    "prompts": ("prompts/list", "name"),
}


def _connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--insecure", is_flag=True, help="Do not verify the proxy's TLS certificate."),
        click.option("--token", envvar="ONLY1MCP_TOKEN", help="JWT or API key [env: ONLY1MCP_TOKEN]."),
        click.option(
            "--url", envvar="ONLY1MCP_URL", default=DEFAULT_URL, show_default=True, help="The proxy's endpoint."
        ),
    ):
        command = option(command)
    return command


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)), default="tools")
@_connection_options
def list_command(kind: str, url: str, token: str | None, insecure: bool, as_json: bool) -> None:
    """List what a running proxy offers: tools, resources, templates or prompts."""
    method, key = _KINDS[kind]
    items = _asking(lambda: ProxyClient(url, token, insecure=insecure).list(method))
    if as_json:
        print_json(items)
        return
    print_table(
        (key, "description"),
        [(str(item.get(key)), " ".join(str(item.get("description", "")).split())) for item in items],
        empty=f"no {kind}",
    )


@click.command("call")
@click.argument("tool")
@click.argument("arguments", default="{}")
@_connection_options
def call_command(tool: str, arguments: str, url: str, token: str | None, insecure: bool, as_json: bool) -> None:
    """Call TOOL with ARGUMENTS, a JSON object ("-" reads it from standard input)."""
    text = sys.stdin.read() if arguments == "-" else arguments
    try:
        decoded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        click.echo(f"error: ARGUMENTS: expected a JSON object: {error}", err=True)
        sys.exit(USAGE)
    if not isinstance(decoded, dict):
        click.echo(f"error: ARGUMENTS: expected a JSON object, got {text[:60]!r}", err=True)
        sys.exit(USAGE)
    params = {"name": tool, "arguments": decoded}
    result = _asking(lambda: ProxyClient(url, token, insecure=insecure).call("tools/call", params, name=tool))
    if as_json:
        print_json(result)
    else:
        for block in result.get("content", []):
            click.echo(block["text"] if block.get("type") == "text" else orjson.dumps(block).decode())
    if result.get("isError"):
        sys.exit(FAILURE)


@click.command("status")
@_connection_options
def status_command(url: str, token: str | None, insecure: bool, as_json: bool) -> None:
    """Show whether a running proxy is ready, and the state of each backend."""
    status, document = _asking(lambda: ProxyClient(url, token, insecure=insecure).get("/ready"))
    if not isinstance(document, dict) or "backends" not in document:
        click.echo(f"error: {url} is not an only1mcp (HTTP {status})", err=True)
        sys.exit(FAILURE)
    if as_json:
        print_json(document)
    else:
        click.echo(f"only1mcp {document['version']}: {document['status']}")
        rows = [
            (
                backend["id"],
                backend["transport"],
                backend["state"],
                backend.get("revision", "-"),
                str(backend.get("tools", "-")),
                backend.get("error", ""),
            )
            for backend in document["backends"]
        ]
        print_table(("backend", "transport", "state", "revision", "tools", "last error"), rows, empty="no backends")
    if status != 200:
        sys.exit(FAILURE)


def _asking(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except ClientError as error:
        click.echo(f"error: {error}", err=True)
        if error.cannot_connect:
            click.echo("is the proxy running? start it with: only1mcp start", err=True)
            sys.exit(CANNOT_CONNECT)
        sys.exit(FAILURE)
