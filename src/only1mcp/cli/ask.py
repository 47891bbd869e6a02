"""The commands that ask a running proxy: `list`, `call`, `status`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click
import orjson

from only1mcp.cli import DEFAULT_URL, FAILURE, USAGE
from only1mcp.cli.client import ClientError, ProxyClient
from only1mcp.cli.output import print_error, print_json, print_table, print_text

_KINDS = {
    "tools": ("tools/list", "name"),
    "resources": ("resources/list", "uri"),
    "templates": ("resources/templates/list", "uriTemplate"),
    "prompts": ("prompts/list", "name"),
}
_STATUS_COLUMNS = ("id", "transport", "state", "revision", "tools", "error")

Answer = TypeVar("Answer")


def _connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--timeout",
            type=click.FloatRange(0, 86400, min_open=True),
            default=120.0,
            show_default=True,
            help="Give up when nothing arrives for this many seconds.",
        ),
        click.option("--insecure", is_flag=True, help="Do not verify the proxy's TLS certificate."),
        click.option("--token", envvar="ONLY1MCP_TOKEN", help="JWT or API key [env: ONLY1MCP_TOKEN]."),
        click.option(
            "--url",
            envvar="ONLY1MCP_URL",
            default=DEFAULT_URL,
            show_default=True,
            help="The proxy's endpoint [env: ONLY1MCP_URL].",
        ),
    ):
        command = option(command)
    return command


@click.command("list")
@click.argument("kind", type=click.Choice(list(_KINDS)), default="tools")
@_connection_options
def list_command(kind: str, url: str, token: str | None, insecure: bool, timeout: float, as_json: bool) -> None:
    """List what a running proxy offers: tools, resources, templates or prompts."""
    method, key = _KINDS[kind]
    items = _asking(lambda: ProxyClient(url, token, timeout_s=timeout, insecure=insecure).list(method))
    if as_json:
        print_json(items)
        return
    print_table(
        (key, "description"),
        [(str(item.get(key)), " ".join(str(item.get("description") or "").split())) for item in items],
        empty=f"no {kind} (the state of every backend: only1mcp status)",
    )


@click.command("call")
@click.argument("tool")
@click.argument("arguments", default="{}")
@_connection_options
def call_command(
    tool: str, arguments: str, url: str, token: str | None, insecure: bool, timeout: float, as_json: bool
) -> None:
    """Call TOOL with ARGUMENTS, a JSON object ("-" reads it from standard input)."""
    text = _json_object(sys.stdin.buffer.read() if arguments == "-" else arguments.encode(errors="surrogateescape"))
    result = _asking(lambda: ProxyClient(url, token, timeout_s=timeout, insecure=insecure).call_tool(tool, text))
    if as_json:
        print_json(result)
    else:
        content = result.get("content")
        for block in content if isinstance(content, list) else []:
            is_text = isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
            print_text(block["text"] if is_text else orjson.dumps(block).decode())
    if result.get("isError"):
        sys.exit(FAILURE)


def _json_object(text: bytes) -> bytes:
    """Return the text if it is a JSON object, else leave with the reason."""
    try:
        if isinstance(orjson.loads(text), dict):
            return text
        reason = f"got {text[:60].decode(errors='replace')!r}"
    except orjson.JSONDecodeError as error:
        reason = str(error)
    print_error(f"ARGUMENTS: expected a JSON object: {reason}")
    sys.exit(USAGE)


@click.command("status")
@_connection_options
def status_command(url: str, token: str | None, insecure: bool, timeout: float, as_json: bool) -> None:
    """Show whether a running proxy is ready, and the state of each backend."""
    status, document = _asking(lambda: ProxyClient(url, token, timeout_s=timeout, insecure=insecure).get("/ready"))
    backends = document.get("backends") if isinstance(document, dict) else None
    if not isinstance(backends, list) or not all(isinstance(backend, dict) for backend in backends):
        print_error(f"what answers at {url} is not an only1mcp (HTTP {status})")
        sys.exit(FAILURE)
    if as_json:
        print_json(document)
    else:
        print_text(f"only1mcp {document.get('version')}: {document.get('status')}")
        print_table(
            ("backend", *_STATUS_COLUMNS[1:-1], "last error"),
            [[str(backend.get(column, "")) for column in _STATUS_COLUMNS] for backend in backends],
            empty="no backends",
        )
    if status != 200:
        sys.exit(FAILURE)


def _asking(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except ClientError as error:
        print_error(str(error), error.hint)
        sys.exit(error.exit_code)
