"""The finders of the static binary, in an ordinary interpreter, on what every interpreter has frozen and built in."""

from __future__ import annotations

import importlib
import importlib.resources
import subprocess
import sys
from importlib.machinery import BuiltinImporter
from pathlib import Path

import pytest
from binary import boot

ROOT = Path(__file__).parents[2]


def test_built_in_modules_are_found_whatever_package_asks() -> None:
    spec = boot.Builtin.find_spec("sys", ["/somewhere"])
    assert spec is not None
    assert spec.loader is BuiltinImporter
    assert boot.Builtin.find_spec("only1mcp", None) is None


def test_data_files_beside_a_frozen_package_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = "__phello__"  # every CPython has this package frozen, for tests
    monkeypatch.setattr(sys, "meta_path", [boot.WithData({frozen: {"a.yaml": b"x: 1\n"}}), *sys.meta_path])
    monkeypatch.delitem(sys.modules, frozen, raising=False)
    package = importlib.import_module(frozen)
    try:
        assert (importlib.resources.files(package) / "a.yaml").read_text(encoding="utf-8") == "x: 1\n"
        with pytest.raises(FileNotFoundError):
            (importlib.resources.files(package) / "b.yaml").read_text(encoding="utf-8")
    finally:
        sys.modules.pop(frozen, None)


def test_packages_without_data_are_left_to_others() -> None:
    assert boot.WithData({"a": {}}).find_spec("os") is None


@pytest.mark.parametrize("module", ["json.tool", "", "only1mcp.cli", "only1mcp.backend.guard"])
def test_dash_m_runs_our_own_programs_only(module: str) -> None:
    program = f"import sys; sys.argv = ['only1mcp', '-m', {module!r}]; from binary import boot\n"
    # With nothing but frozen modules to import from, the command line is not found: that is what is tried.
    done = subprocess.run(
        [sys.executable, "-c", program + "boot.main({})"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "No module named 'only1mcp'" in done.stderr


def test_the_programs_exist() -> None:
    for name in boot.PROGRAMS:
        assert importlib.util.find_spec(name) is not None
