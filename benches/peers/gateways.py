"""The other gateways: what each is called, and how it is started in front of the benchmark's backend.

Each runs as its documentation says, with one process, without logs of single requests, and open to this machine.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from benches.loopback.stage import ROOT, STDIO_BACKEND
from benches.peers.install import node_package, python_package, version
from tests.e2e.processes import Process, free_port, http_status, until

KEY = "sk-of-the-benchmark-and-of-nobody-else"
START_S = 90.0


@dataclass(frozen=True)
class Backend:
    """What a gateway is put before: `url` for those that take HTTP, `command` for those that take a child process."""

    url: str
    command: list[str]


@dataclass
class Running:
    """A started gateway: how it is reached, and what a client has to send with every request."""

    process: Process
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    # How the answers come: on the response ("http"), or on the one stream of the session (HTTP+SSE of 2024-11-05).
    transport: str = "http"


@dataclass(frozen=True)
class Peer:
    """A gateway from a package; `backend` is what it is put before here, `start` runs its program in a directory."""

    name: str
    registry: str
    package: str
    backend: str
    program: Callable[[], Path]
    start: Callable[[Path, Path, Backend], Running]

    @property
    def version(self) -> str:
        return version(self.registry, self.package)


def backend_command(octets: int) -> list[str]:
    """Return a command that runs anywhere, also where the gateway clears the environment."""
    setting = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ['--era=handshake', '--octets={octets}']"
    return [sys.executable, "-c", f"{setting}; from {STDIO_BACKEND} import serve; serve()"]


def run(directory: Path, command: list[str], **env: str) -> Process:
    """Start a gateway at home in its own directory, so that it neither finds nor leaves anything elsewhere."""
    home = {"HOME": str(directory), "XDG_CONFIG_HOME": str(directory), "XDG_DATA_HOME": str(directory)}
    return Process(command, directory / "gateway.log", env={"PYTHONPATH": "", **home, **env})


def answering(process: Process, url: str) -> None:
    """Wait until something listens there; raise `AssertionError` with the output when the gateway has ended."""

    def is_there() -> bool:
        assert process.is_running, f"ended: {process.output.strip()[-300:]}"
        return http_status(url) is not None

    until(is_there, START_S, url)


def fastmcp(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    script = directory / "gateway.py"
    # A client that opens one session with the backend and keeps it: what is said for a proxy that is to be fast.
    script.write_text(
        "from fastmcp.server import create_proxy\n"
        f"proxy = create_proxy({backend.url!r}, name='bench')\n"
        f"proxy.run(transport='http', host='127.0.0.1', port={port}, log_level='ERROR', show_banner=False)\n"
    )
    process = run(directory, [str(program / "python"), str(script)], FASTMCP_CHECK_FOR_UPDATES="off")
    return Running(process, f"http://127.0.0.1:{port}/mcp")


def python_mcp_proxy(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    options = ["--port", str(port), "--pass-environment", "--log-level", "ERROR", "--"]
    process = run(directory, [str(program / "mcp-proxy"), *options, *backend.command])
    return Running(process, f"http://127.0.0.1:{port}/mcp")


def litellm(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    config = directory / "litellm.yaml"
    servers = {"bench": {"url": backend.url, "transport": "http", "allow_all_keys": True}}
    config.write_text(json.dumps({"mcp_servers": servers, "general_settings": {"master_key": KEY}}))
    command = [str(program / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    # Without it, it asks the network for prices, again and again.
    process = run(directory, command, LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR")
    headers = {"x-litellm-api-key": f"Bearer {KEY}", "authorization": f"Bearer {KEY}"}
    return Running(process, f"http://127.0.0.1:{port}/mcp/", headers)


def contextforge(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    env = {
        "DATABASE_URL": f"sqlite:///{directory}/gateway.db",
        "CACHE_TYPE": "memory",
        "AUTH_REQUIRED": "false",
        "MCP_REQUIRE_AUTH": "false",
        "ALLOW_UNAUTHENTICATED_ADMIN": "true",
        "MCPGATEWAY_UI_ENABLED": "false",
        "MCPGATEWAY_ADMIN_API_ENABLED": "false",
        "RATE_LIMITING_ENABLED": "false",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "JWT_SECRET_KEY": KEY,
        "AUTH_ENCRYPTION_SECRET": KEY,
        "PLATFORM_ADMIN_EMAIL": "admin@example.com",
        "PLATFORM_ADMIN_PASSWORD": KEY,
        "LOG_LEVEL": "ERROR",
    }
    process = run(directory, [str(program / "mcpgateway"), "--host", "127.0.0.1", "--port", str(port)], **env)
    origin = f"http://127.0.0.1:{port}"
    answering(process, f"{origin}/health")
    post(f"{origin}/gateways", {"name": "bench", "url": backend.url, "transport": "STREAMABLEHTTP"})
    return Running(process, f"{origin}/mcp/")


def supergateway(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    options = ["--outputTransport", "streamableHttp", "--stateful", "--port", str(port), "--logLevel", "none"]
    process = run(directory, ["node", str(program), "--stdio", shlex.join(backend.command), *options])
    return Running(process, f"http://127.0.0.1:{port}/mcp")


def node_mcp_proxy(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream", "--"]
    process = run(directory, ["node", str(program), *options, *backend.command])
    return Running(process, f"http://127.0.0.1:{port}/mcp")


def mcp_hub(program: Path, directory: Path, backend: Backend) -> Running:
    port = free_port()
    config = directory / "servers.json"
    config.write_text(json.dumps({"mcpServers": {"bench": {"url": backend.url}}}))
    process = run(directory, ["node", str(program), "--port", str(port), "--config", str(config)])
    return Running(process, f"http://127.0.0.1:{port}/mcp", transport="sse")


def post(url: str, message: dict[str, Any], timeout_s: float = 30.0) -> Any:
    """Post to a gateway's own API, which may not be ready yet; return its answer."""
    deadline = time.monotonic() + timeout_s
    request = Request(url, json.dumps(message).encode(), {"content-type": "application/json"})
    while True:
        try:
            with urlopen(request, timeout=timeout_s) as answer:
                return json.loads(answer.read())
        except HTTPError as error:
            assert error.code >= 500, f"{url}: {error.code} {error.read()[:300]!r}"
            assert time.monotonic() < deadline, f"{url}: {error}"
        except URLError as error:
            assert time.monotonic() < deadline, f"{url}: {error}"
        time.sleep(0.2)


def pypi(name: str) -> Callable[[], Path]:
    return lambda: python_package(name)


def npm(name: str) -> Callable[[], Path]:
    return lambda: node_package(name)


PEERS = (
    Peer("supergateway", "npm", "supergateway", "stdio", npm("supergateway"), supergateway),
    Peer("mcp-proxy (punkpeye)", "npm", "mcp-proxy", "stdio", npm("mcp-proxy"), node_mcp_proxy),
    Peer("mcp-hub", "npm", "mcp-hub", "http", npm("mcp-hub"), mcp_hub),
    Peer("mcp-proxy (sparfenyuk)", "PyPI", "mcp-proxy", "stdio", pypi("mcp-proxy"), python_mcp_proxy),
    Peer("FastMCP proxy", "PyPI", "fastmcp", "http", pypi("fastmcp"), fastmcp),
    Peer(
        "ContextForge",
        "PyPI",
        "mcp-contextforge-gateway",
        "http",
        pypi("mcp-contextforge-gateway"),
        contextforge,
    ),
    Peer("LiteLLM", "PyPI", "litellm", "http", pypi("litellm"), litellm),
)
