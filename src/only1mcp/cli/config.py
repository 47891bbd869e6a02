"""`validate` and `config init|show|schema`: look at a configuration without starting anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import yaml

from only1mcp.cli import BAD_CONFIGURATION, FAILURE
from only1mcp.cli.output import fail, print_json
from only1mcp.config.load import Loaded, load
from only1mcp.config.show import example, json_schema, redacted
from only1mcp.errors import ConfigError

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Configuration file; without it the usual places."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@click.command()
@config_option
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def validate(config_path: Path | None, file: Path | None, as_json: bool) -> None:
    """Check a configuration and name everything wrong with it. Starts and connects to nothing."""
    if config_path is not None and file is not None:
        raise click.UsageError("expected one file, got --config and FILE")
    try:
        loaded = load(config_path or file, os.environ, {})
    except ConfigError as error:
        if as_json:
            print_json({"ok": False, "problems": error.problems})
            sys.exit(BAD_CONFIGURATION)
        fail(error)
    if as_json:
        print_json(
            {
                "ok": True,
                "source": str(loaded.source),
                "profile": loaded.profile,
                "notices": loaded.notices,
                "servers": [backend.id for backend in loaded.config.servers],
            }
        )
        return
    for notice in loaded.notices:
        click.echo(f"notice: {notice}")
    click.echo(f"OK: {_summary(loaded)}")


@click.group()
def config() -> None:
    """Write, show or describe a configuration."""


@config.command()
@click.argument("file", required=False, default="only1mcp.yaml", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the file if there is one.")
def init(file: Path, force: bool) -> None:
    """Write a commented example to FILE (only1mcp.yaml), readable by its owner only."""
    try:
        if force:
            file.unlink(missing_ok=True)
        # O_EXCL: what exists, were it made this moment or a dangling link, is never written to.
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(example())
    except FileExistsError:
        click.echo(f"{file} exists; --force replaces it", err=True)
        sys.exit(FAILURE)
    except OSError as error:
        click.echo(f"{file} cannot be written: {(error.strerror or str(error)).lower()}", err=True)
        sys.exit(FAILURE)
    click.echo(f"{file} written; add your servers, then: only1mcp validate {file}")


@config.command()
@config_option
@json_option
def show(config_path: Path | None, as_json: bool) -> None:
    """Print the configuration in force, environment and defaults included, without secrets."""
    try:
        loaded = load(config_path, os.environ, {})
    except ConfigError as error:
        fail(error)
    values = redacted(loaded.config, loaded.from_env)
    if as_json:
        print_json(values)
        return
    click.echo(f"# {_summary(loaded)}")
    click.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120), nl=False)


@config.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file, for editors and pipelines."""
    print_json(json_schema())


def _summary(loaded: Loaded) -> str:
    servers = len(loaded.config.servers)
    profile = f", profile {loaded.profile}" if loaded.profile else ""
    return f"{loaded.source}{profile}, {servers} server{'' if servers == 1 else 's'}"
