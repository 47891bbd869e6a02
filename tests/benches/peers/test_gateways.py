"""A gateway that cannot be measured gets a row with the reason, whatever goes wrong with it; ours is measured."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from benches.loopback.stage import ROOT, Stage
from benches.peers.__main__ import Row, started, survive
from benches.peers.gateways import PEERS, Backend, Peer, Running, backend_command, run
from benches.peers.install import NotInstalled
from tests.e2e.processes import free_port

OCTETS = 256


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, ()) as stage:
        yield stage


def contend(stage: Stage, peer: Peer) -> Row:
    """Put a gateway through all but the rounds, and return its row."""
    (url,) = stage.backend("handshake", octets=OCTETS)
    options = argparse.Namespace(octets=OCTETS, connections=8)
    rows: list[Row] = []
    with ExitStack() as stack:
        contender = started(stack, peer, stage.directory, Backend(url, backend_command(OCTETS)), options, rows)
        if contender is not None:
            survive(contender, stage.for_rest)
    (row,) = rows
    return row


def test_one_that_cannot_be_installed(stage: Stage) -> None:
    def program() -> Path:
        raise NotInstalled("no matching distribution")

    row = contend(stage, Peer("x", "npm", "mcp-hub", "http", program, lambda *_: pytest.fail("it was started")))
    assert row.reason == "cannot be installed: no matching distribution"


def test_one_that_does_not_start(stage: Stage) -> None:
    def start(program: Path, directory: Path, backend: Backend) -> Running:
        process = run(directory, [str(program), "-c", "raise SystemExit('the reason it gives')"])
        return Running(process, f"http://127.0.0.1:{free_port()}/mcp")

    row = contend(stage, Peer("x", "npm", "mcp-hub", "http", lambda: Path(sys.executable), start))
    assert row.reason.startswith("does not start: ")
    assert "the reason it gives" in row.reason


def backend_as_gateway(octets: int) -> Peer:
    """Return a `gateway` that is only another backend, which answers with so many octets."""

    def start(program: Path, directory: Path, backend: Backend) -> Running:
        command = [str(program), "-m", "benches.loopback.backend", "--era", "handshake", "--octets", str(octets)]
        process = run(directory, command, PYTHONPATH=str(ROOT))
        return Running(process, process.wait_for_line(r"^listening (\S+)$").group(1))

    return Peer("x", "npm", "mcp-hub", "http", lambda: Path(sys.executable), start)


def test_one_that_answers_wrongly(stage: Stage) -> None:
    assert contend(stage, backend_as_gateway(OCTETS + 1)).reason.startswith("answers wrongly: ")


def test_one_that_answers_right(stage: Stage) -> None:
    row = contend(stage, backend_as_gateway(OCTETS))
    assert (row.reason, row.connections) == ("", 8)


def test_versions_are_pinned() -> None:
    for peer in PEERS:
        assert peer.version[0].isdigit(), peer
        assert not set(peer.version) & set("<>~^* "), peer


@pytest.mark.slow
def test_a_run_with_ours_alone(tmp_path: Path) -> None:
    output = tmp_path / "peers.json"
    command = [sys.executable, "-m", "benches.peers", "--rounds", "1", "--seconds", "1", "--connections", "4"]
    done = subprocess.run(
        [*command, "--output", str(output), "--only"], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())["rows"]
    assert [(row["name"], row["backend"]) for row in rows] == [("Only1MCP", "http"), ("Only1MCP", "stdio")]
    for row in rows:
        assert 0 < row["median"]["cpu_us"] < 100_000
        assert row["rounds"][0]["requests"] > 50
