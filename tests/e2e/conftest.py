"""One proxy in front of every third-party server, shared by the whole run, and how to reach it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.e2e import third_party
from tests.e2e.gateway import Gateway, http_backend, npx_backend, sdk_server, stdio_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server
from tests.e2e.wire_client import HANDSHAKE, STATELESS

HERE = Path(__file__).parent
# Installing comes first and may take minutes; the calls themselves have their own deadlines.
TEST_TIMEOUT_S = 600
CLIENT_TIMEOUT_S = 60.0
Installed = TypeVar("Installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


def installed(install: Callable[[], Installed]) -> Installed:
    try:
        return install()
    except third_party.NotAvailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def node_packages() -> Path:
    return installed(third_party.node_packages)


@pytest.fixture(scope="session")
def sdk() -> Path:
    """The interpreter that has the official Python SDK 2.x."""
    return installed(third_party.python_sdk)


@pytest.fixture(scope="session")
def old_sdk() -> Path:
    """The interpreter that has the official Python SDK 1.x."""
    return installed(lambda: third_party.python_sdk(third_party.OLD_SDK))


@pytest.fixture(scope="session")
def conformance_suite() -> None:
    """The official conformance suite is installed."""
    installed(third_party.conformance_suite)


@pytest.fixture(scope="session")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, node_packages: Path, sdk: Path, old_sdk: Path
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("gateway")
    files = directory / "files"
    files.mkdir()
    with ExitStack() as stack:
        hand = stack.enter_context(sdk_server(sdk, directory, "hand", "handshake"))
        flow = stack.enter_context(sdk_server(sdk, directory, "flow", "stateless", "--json"))
        twin = stack.enter_context(sdk_server(sdk, directory, "flow", "dual", "--scheme", "twin"))
        old = stack.enter_context(Server(old_sdk, third_party.SERVERS / "old_sdk_server.py", directory / "old.log"))
        servers = [
            npx_backend(node_packages, "files", "mcp-server-filesystem", str(files)),
            npx_backend(node_packages, "everything", "mcp-server-everything"),
            npx_backend(node_packages, "memory", "mcp-server-memory", MEMORY_FILE_PATH=str(directory / "memory.jsonl")),
            http_backend("hand", hand.url),
            http_backend("flow", flow.url),
            http_backend("twin", twin.url),
            http_backend("old", old.url),
            stdio_backend("pipe", sdk, "sdk_server.py", "--name", "pipe"),
            stdio_backend("oldpipe", old_sdk, "old_sdk_server.py"),
        ]
        proxy = stack.enter_context(Proxy(directory, servers))
        wait_for_tools(
            proxy,
            "write_file",
            "get-sum",
            "create_entities",
            "hand_filler_19",
            "flow_filler_19",
            "twin__flow_filler_19",
            "old_add",
            "pipe_filler_19",
            "oldpipe__old_add",
        )
        yield Gateway(proxy, files)


@pytest.fixture(params=[HANDSHAKE, STATELESS])
def era(request: pytest.FixtureRequest) -> str:
    """A revision of each era, for the client side."""
    revision: str = request.param
    return revision


def report_of(python: Path, script: str, plan: dict[str, Any]) -> dict[str, Any]:
    """Run an official client through a plan; return its report."""
    done = subprocess.run(
        [str(python), str(HERE / "clients" / script)],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=CLIENT_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Traceback" not in done.stderr
    assert "Failed to parse" not in done.stderr, "something that is no message on standard output"
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.fixture(scope="session")
def run_client(sdk: Path, node_packages: Path) -> Callable[..., dict[str, Any]]:
    """Run an official client through some steps: `run_client(kind, mode, url, *steps)` returns its report."""
    commands = {
        "python": [str(sdk), str(HERE / "clients" / "python_client.py")],
        "typescript-1": ["node", str(HERE / "node" / "client_v1.mjs")],
        "typescript-2": ["node", str(HERE / "node" / "client_v2.mjs")],
    }

    def run(kind: str, mode: str, url: str, *steps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
        done = subprocess.run(
            commands[kind],
            input=json.dumps({"url": url, "mode": mode, "steps": steps}),
            env={**os.environ, "NODE_PACKAGES": str(node_packages)},
            capture_output=True,
            text=True,
            timeout=CLIENT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{kind} ({mode}) failed:\n{done.stderr[-4000:]}"
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run
