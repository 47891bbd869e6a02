"""The `servers` entries of the backends that the tests use, and the proxy of the run that stands before all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import third_party
from tests.e2e.processes import Proxy, Server, until
from tests.e2e.wire_client import STATELESS, RpcError, WireClient

BACKENDS_START_S = 60.0


def npx_backend(node_packages: Path, id: str, program: str, *args: str, **env: str) -> dict[str, Any]:
    """Return the `servers` entry of an npm package, started as users start it."""
    return {
        "id": id,
        "name": id,
        "transport": "stdio",
        "command": "npx",
        "args": ["--no-install", program, *args],
        "cwd": str(node_packages),
        "env": {"npm_config_update_notifier": "false", **env},
    }


def stdio_backend(id: str, python: Path, script: str, *args: str) -> dict[str, Any]:
    return {
        "id": id,
        "name": id,
        "transport": "stdio",
        "command": str(python),
        "args": [str(third_party.SERVERS / script), "--stdio", *args],
    }


def http_backend(id: str, url: str, **more: Any) -> dict[str, Any]:
    return {"id": id, "name": id, "transport": "http", "url": url, **more}


def sdk_server(sdk: Path, directory: Path, name: str, era: str, *more: str) -> Server:
    script = third_party.SERVERS / "sdk_server.py"
    return Server(sdk, script, directory / f"{name}-{era}.log", "--name", name, "--era", era, *more)


def tool_names(url: str) -> list[str]:
    async def names() -> list[str]:
        async with WireClient(url, STATELESS) as client:
            try:
                return [tool["name"] for tool in await client.all("tools/list")]
            except RpcError as error:
                # No backend is up yet, so the method does not exist yet.
                assert error.code == -32601, error
                return []

    return asyncio.run(names())


def wait_for_tools(proxy: Proxy, *names: str) -> None:
    """Wait until the catalog has all these tools: backends come up one by one, and the proxy waits for none."""
    try:
        until(lambda: set(names) <= set(tool_names(proxy.url)), BACKENDS_START_S, f"the tools {names}")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{proxy.output}") from None


@dataclass
class Gateway:
    """The proxy of the run, in front of every kind of server, and the directory that the filesystem server serves."""

    proxy: Proxy
    files: Path

    @property
    def url(self) -> str:
        return self.proxy.url
