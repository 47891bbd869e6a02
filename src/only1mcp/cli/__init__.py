"""The command line: each command parses, calls and prints; nothing is decided here.

Commands are imported when they are called, so that `only1mcp --version` and `--help` cost no more than click itself.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from importlib import import_module
from typing import Any

import click

from only1mcp import __version__

# Exit codes.
OK = 0
FAILURE = 1
USAGE = 2
BAD_CONFIGURATION = 3
CANNOT_CONNECT = 4

# Where a proxy listens that was told nothing.
DEFAULT_URL = "http://127.0.0.1:8080/mcp"

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})

# name: (module, attribute, one line for --help)
COMMANDS = {
    "start": ("only1mcp.cli.start", "start_command", "Run the proxy."),
    "stdio": ("only1mcp.cli.stdio", "stdio_command", "Be a stdio server to the client that starts this."),
    "status": ("only1mcp.cli.ask", "status_command", "Show a running proxy's backends."),
    "list": ("only1mcp.cli.ask", "list_command", "List the tools, resources or prompts of a running proxy."),
    "call": ("only1mcp.cli.ask", "call_command", "Call a tool through a running proxy."),
    "test": ("only1mcp.cli.test", "test_command", "Connect to each configured backend and time every step."),
    "benchmark": ("only1mcp.cli.benchmark", "benchmark_command", "Load a proxy or another MCP server, and report."),
    "validate": ("only1mcp.cli.config", "validate", "Check a configuration and name everything wrong with it."),
    "config": ("only1mcp.cli.config", "config", "Write, show or describe a configuration."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on demand; the list of `--help` imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and say in one line when what is printed cannot be written (a full disk behind standard output)."""
        for stream in (sys.stdout, sys.stderr):
            # Locales without UTF-8 cannot print all that backends say.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            click.echo(f"error: cannot write the output: {(error.strerror or str(error)).lower()}", err=True)
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - what is left in the buffer would fail again at exit
            sys.exit(FAILURE)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        with warnings.catch_warnings(action="ignore"):  # what the warning says is printed here
            compiled = import_module("only1mcp._fast").COMPILED
        click.echo(f"only1mcp {__version__} ({'compiled' if compiled else 'plain Python, slow'})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def main() -> None:
    """One MCP endpoint in front of any number of MCP servers."""
