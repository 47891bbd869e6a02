"""Fetching ahead of the tests fails for nothing that is not there, and needs nothing that is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests import fetch
from tests.e2e import third_party
from wheels import environments


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_npm() -> None:
        raise third_party.NotAvailable("no npm")

    def no_mvn() -> None:
        raise environments.NotAvailable("no mvn")

    wanted = {"servers": no_npm, "suite": lambda: None, "headers": no_mvn}
    monkeypatch.setattr(fetch, "WANTED", wanted)
    fetch.main()
    assert capsys.readouterr().out.splitlines() == [
        "not to be had: servers: no npm",
        "there: suite",
        "not to be had: headers: no mvn",
    ]


def test_what_goes_wrong_otherwise_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def forged() -> None:
        raise environments.Failed("another hash")

    monkeypatch.setattr(fetch, "WANTED", {"headers": forged})
    with pytest.raises(environments.Failed, match="another hash"):
        fetch.main()


def test_it_needs_the_standard_library_only() -> None:
    root = Path(__file__).parents[1]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); from tests import fetch; print(len(fetch.WANTED))"
    alone = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(alone, cwd="/", capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(fetch.WANTED) >= 8
