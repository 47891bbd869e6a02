"""What the README shows is true: its configuration is valid, its commands exist, its links lead somewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.readme import ways_to_install

from only1mcp.cli import COMMANDS, main
from only1mcp.cli.config import config as config_group

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [one for one in os.environ if one.startswith("ONLY1MCP_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"[a-z]+_env: ([A-Z_]+)", README):
        monkeypatch.setenv(name, "0123456789abcdef" * 4)


def test_the_configuration_is_valid_and_all_of_it_has_an_effect(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (tmp_path / "only1mcp.yaml").write_text(text, encoding="utf-8")
    result = CliRunner().invoke(main, ["validate", "only1mcp.yaml"])
    assert (result.exit_code, result.output) == (0, "OK: only1mcp.yaml, 2 servers\n")


def test_every_command_is_in_the_table_and_every_row_is_a_command() -> None:
    rows = re.findall(r"^\| `only1mcp ([a-z ]+)", README, re.MULTILINE)
    known = [name for name in COMMANDS if name != "config"] + [f"config {name}" for name in config_group.commands]
    assert sorted(row.strip() for row in rows) == sorted(known)


def test_the_options_it_names_exist() -> None:
    options = {
        command: CliRunner().invoke(main, [*command.split(), "--help"]).stdout
        for command in ("start", "validate", "test", "list", "call", "benchmark", "status", "config show")
    }
    assert all("--json" in text for command, text in options.items() if command != "start")
    for flag in ("--config", "--host", "--port", "--demo"):
        assert flag in options["start"]
    for command in ("list", "call", "benchmark", "status"):
        assert all(flag in options[command] for flag in ("--url", "--token", "--insecure"))
    _, _, section = README.partition("## Measure it")
    flags = re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", section.partition("\n## ")[0])
    assert len(flags) > 8
    assert [flag for flag in flags if flag not in options["benchmark"]] == []


def test_every_way_to_install_is_one_that_tests_go() -> None:
    """They take the commands from there: tests/wheels/test_build.py and tests/binary, which needs no docker to run."""
    assert sorted(" ".join(words[:3]) for words in ways_to_install()) == [
        "dist/only1mcp-linux-x86_64 start --demo",
        "docker run --rm",
        "make binary",
        "make image",
        "pip install .",
        "pip install only1mcp",
    ]


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z]+)\b", README):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
