"""`only1mcp stdio`: be a server on standard input and output to the program that starts us, as desktop clients do."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from only1mcp.cli import FAILURE
from only1mcp.cli.output import fail, print_error
from only1mcp.config.load import load
from only1mcp.errors import ConfigError, Only1MCPError
from only1mcp.frontend.stdio import StdioDoor
from only1mcp.process import descriptors, logs
from only1mcp.process.worker import Worker, run
from only1mcp.proxy.auth import ANONYMOUS


@click.command("stdio")
@click.option("--config", "path", type=click.Path(path_type=Path), help="The configuration file.")
def stdio_command(path: Path | None) -> None:
    """Serve the one client that starts this, on standard input and output, until it closes them.

    Nothing listens on the network, metrics and admin API included; logs for standard output go to standard error.
    """
    try:
        descriptors.require()
        fd_in, fd_out = _take_streams()
        loaded = load(path, os.environ, {})
        for notice in loaded.notices:
            click.echo(f"notice: {notice}", err=True)
        logs.configure(loaded.config.logging, console=sys.stderr)
        proxy = loaded.config.proxy
        door = StdioDoor(
            fd_in,
            fd_out,
            ANONYMOUS,
            path=proxy.path,
            max_bytes=proxy.limits.max_body_mb << 20,
            max_depth=proxy.limits.max_depth,
        )
        run(loaded.config, _announce, door)
    except ConfigError as error:
        fail(error)
    except Only1MCPError as error:
        print_error(error.message)
        sys.exit(FAILURE)


def _take_streams() -> tuple[int, int]:
    """Return our own copies of standard input and output, and put others in their place.

    Whatever else prints, ourselves, a library or a child, must not reach the client, nor read what it says.
    """
    fd_in, fd_out = os.dup(0), os.dup(1)
    sys.stdout.flush()
    nothing, end = os.pipe()  # not /dev/null: where the static binary runs there may be no /dev
    os.dup2(nothing, 0)
    os.close(nothing)
    os.close(end)
    os.dup2(2, 1)
    if os.name == "posix":
        for fd in (fd_in, fd_out):
            os.set_blocking(fd, True)
    return fd_in, fd_out


def _announce(worker: Worker) -> None:
    endpoints = worker.registry.endpoints.values()
    up = sum(endpoint.peer is not None for endpoint in endpoints)
    click.echo(f"only1mcp: {up} of {len(endpoints)} backends are up", err=True)
