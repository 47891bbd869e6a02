"""Official clients that launch the proxy as a stdio server, as desktop clients do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.conftest import report_of
from tests.e2e.gateway import sdk_server, stdio_backend
from tests.e2e.wire_client import HANDSHAKE, STATELESS

CLIENTS = Path(__file__).parent / "clients"
SERVED = ["hand_add", "flow_add", "pipe_add"]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory, sdk: Path) -> Any:
    """How a client is told to launch a proxy before backends of either era and transport."""
    directory = tmp_path_factory.mktemp("launched")
    with (
        sdk_server(sdk, directory, "hand", "handshake") as hand,
        sdk_server(sdk, directory, "flow", "stateless") as flow,
    ):
        servers = [
            {"id": "hand", "transport": "http", "url": hand.url},
            {"id": "flow", "transport": "http", "url": flow.url},
            stdio_backend("pipe", sdk, "sdk_server.py", "--name", "pipe"),
        ]
        (directory / "c.yaml").write_text(yaml.safe_dump({"version": "1.0", "servers": servers}))
        program = str(Path(sys.executable).with_name("only1mcp"))
        # Clients hand down few variables; this one says which sources are under test.
        env = {name: value for name, value in os.environ.items() if name in ("PYTHONPATH", "PYTHONWARNINGS")}
        yield {"command": program, "args": ["stdio", "--config", str(directory / "c.yaml")], "env": env}


@pytest.mark.parametrize(("mode", "revision"), [("auto", STATELESS), ("legacy", HANDSHAKE), (STATELESS, STATELESS)])
def test_the_newer_sdk(launch: dict[str, Any], sdk: Path, mode: str, revision: str) -> None:
    steps: list[Any] = [("tools/call", {"name": name, "arguments": {"a": 2, "b": 3}}) for name in SERVED]
    steps += [("tools/list", {}), ("resources/read", {"uri": "flow://note/3"}), ("tools/call", {"name": "nobody's"})]
    report = report_of(sdk, "python_client.py", {"launch": launch, "mode": mode, "steps": steps})
    assert report["version"] == revision
    *sums, tools, note, refused = report["steps"]
    assert [each["structuredContent"] for each in sums] == [{"sum": 5}] * 3
    assert set(SERVED) <= {tool["name"] for tool in tools}
    assert note["contents"][0]["uri"] == "flow://note/3"
    assert refused["error"]["code"] == -32602


def test_the_older_sdk(launch: dict[str, Any], old_sdk: Path) -> None:
    calls = [(name, {"a": 2, "b": 3}) for name in SERVED]
    report = report_of(old_sdk, "old_python_client.py", {"launch": launch, "calls": calls})
    assert (report["version"], report["server"]) == (HANDSHAKE, "only1mcp")
    assert [each["structuredContent"] for each in report["steps"]] == [{"sum": 5}] * 3
    assert set(SERVED) <= set(report["tools"])
