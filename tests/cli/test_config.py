"""`validate` and `config` as they are typed."""

import json
import os
import stat
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from only1mcp.cli import main
from only1mcp.config.load import load


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [one for one in os.environ if one.startswith("ONLY1MCP_")]:
        monkeypatch.delenv(name)

    def run(*arguments):
        return CliRunner().invoke(main, arguments)

    return run


def test_validate_says_ok_and_what_has_no_effect(run, tmp_path):
    (tmp_path / "c.yaml").write_text('version: "1.0"\nproxy: {health: {interval_seconds: 1}}')
    for arguments in (["c.yaml"], ["--config", "c.yaml"]):
        result = run("validate", *arguments)
        assert result.exit_code == 0
        assert "notice: proxy.health: accepted, but has no effect in this version" in result.stdout
        assert "OK: c.yaml, 0 servers" in result.stdout


def test_validate_finds_the_file_itself(run, tmp_path):
    (tmp_path / "only1mcp.yaml").write_text('version: "1.0"')
    assert "OK: only1mcp.yaml" in run("validate").stdout


def test_validate_tells_every_problem_and_exits_3(run, tmp_path):
    (tmp_path / "c.yaml").write_text('version: "1.0"\nprox: {}\nmetrics: {port: -1}')
    result = run("validate", "c.yaml")
    assert result.exit_code == 3
    assert result.stdout == ""
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == ["c.yaml:2:1", "c.yaml:3:17"]


def test_validate_for_machines(run, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text('version: "1.0"\nservers: [{id: a, transport: stdio, command: x, retries: 1}]')
    result = run("validate", "c.yaml", "--json")
    report = json.loads(result.stdout)
    assert (report["ok"], report["source"], report["servers"], len(report["notices"])) == (True, "c.yaml", ["a"], 1)
    path.write_text("version: [")
    result = run("validate", "c.yaml", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["problems"][0].startswith("c.yaml:")


def test_validate_takes_one_file(run):
    assert run("validate", "a", "--config", "b").exit_code == 2
    assert run("validate", "missing.yaml").exit_code == 3


def test_init_writes_a_file_that_validates(run, tmp_path):
    assert run("config", "init").exit_code == 0
    path = tmp_path / "only1mcp.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("validate").exit_code == 0


def test_init_replaces_nothing_without_force(run, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("mine")
    path.chmod(0o644)
    result = run("config", "init", "mine.yaml")
    assert (result.exit_code, path.read_text()) == (1, "mine")
    assert "--force" in result.stderr
    assert run("config", "init", "mine.yaml", "--force").exit_code == 0
    assert load(path, {}, {}).config.version == "1.0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_where_nothing_can_be_written(run, tmp_path):
    (tmp_path / "dangling.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    (tmp_path / "folder").mkdir()
    for name in ("nowhere/c.yaml", "dangling.yaml"):
        result = run("config", "init", name)
        assert (result.exit_code, result.exception.__class__) == (1, SystemExit)
    assert run("config", "init", "folder", "--force").exit_code == 1
    assert not (tmp_path / "elsewhere.yaml").exists()


def test_show_prints_the_configuration_in_force(run, tmp_path, monkeypatch):
    monkeypatch.setenv("ONLY1MCP_PORT", "8123")
    monkeypatch.setenv("ONLY1MCP_JWT_SECRET", "s" * 40)
    (tmp_path / "c.yaml").write_text('version: "1.0"\nproxy: {path: /x}')
    result = run("config", "show", "--config", "c.yaml")
    shown = yaml.safe_load(result.stdout)
    assert (shown["proxy"]["port"], shown["proxy"]["path"], shown["auth"]["jwt"]["secret"]) == (8123, "/x", "***")
    assert json.loads(run("config", "show", "--config", "c.yaml", "--json").stdout) == shown
    assert "s" * 40 not in result.stdout


def test_show_of_a_bad_file(run, tmp_path):
    (tmp_path / "c.yaml").write_text("nonsense")
    result = run("config", "show", "--config", "c.yaml")
    assert (result.exit_code, result.stdout) == (3, "")


def test_schema_is_json(run):
    schema = json.loads(run("config", "schema").stdout)
    assert schema["$ref"] == "#/$defs/Config"


def test_version_and_help_import_no_command():
    code = (
        "import sys; from only1mcp.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print([name for name in sys.modules if name in ('msgspec', 'yaml', 'asyncio')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.endswith("[]\n")
    assert "validate" in result.stdout
