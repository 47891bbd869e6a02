"""The matrix of the official SDKs, each calling each through the proxy: who takes part, and what a cell must see."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import third_party
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server

PAGE = third_party.ROOT / "docs" / "eras.md"
BEGIN, END = "<!-- written by scripts/matrix.py -->", "<!-- end of what scripts/matrix.py writes -->"
PYTHON_CLIENTS = Path(__file__).with_name("clients")
ROW_TIMEOUT_S = 240.0
ROWS_AT_ONCE = 2
TOOLS = list(json.loads((third_party.SERVERS / "matrix_tools.json").read_text()))
FEATURES = ["list", "call", "elicitation", "sampling", "both in turn", "progress", "cancellation", "list change"]

# What a client has seen of a server, by feature; {"error": ...} in its place where it could not even connect.
Seen = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What a client has seen of each server: by HTTP, without the proxy, and of servers on pipes."""

    http: dict[str, Seen]
    alone: dict[str, Seen]
    pipe: dict[str, Seen]


@dataclass(frozen=True)
class Party:
    """An SDK and the era that it is held to. The names of a server's tools begin with its `name`."""

    name: str
    sdk: str
    era: str
    client_mode: str = ""

    @property
    def title(self) -> str:
        return self.versioned + (f", {self.era}" if self.sdk.endswith(" 2") else "")

    @property
    def versioned(self) -> str:
        return f"{self.sdk.split()[0]} {_version(self.sdk)}"


PARTIES = [
    # "auto" asks a server which era it has, so these two speak both.
    Party("py2s", "Python 2", "stateless", "auto"),
    Party("py2h", "Python 2", "handshake", "legacy"),
    Party("py1", "Python 1", "handshake"),
    Party("ts2s", "TypeScript 2", "stateless", "auto"),
    Party("ts2h", "TypeScript 2", "handshake", "legacy"),
    Party("ts1", "TypeScript 1", "handshake"),
]
# On a pipe a server has no era of its own: the proxy speaks the stateless one wherever the SDK has it.
ON_PIPES = [Party("pipe_" + each.name, each.sdk, each.era) for each in PARTIES if each.client_mode != "legacy"]


@dataclass(frozen=True)
class Installed:
    """The SDKs, out of the registries."""

    python_2: Path
    python_1: Path
    node_packages: Path

    @classmethod
    def install(cls) -> Installed:
        return cls(third_party.python_sdk(), third_party.python_sdk(third_party.OLD_SDK), third_party.node_packages())

    @property
    def env(self) -> dict[str, str]:
        return {"NODE_PACKAGES": str(self.node_packages)}

    def client(self, sdk: str) -> list[str]:
        return {
            "Python 2": [str(self.python_2), str(PYTHON_CLIENTS / "matrix_client.py")],
            "Python 1": [str(self.python_1), str(PYTHON_CLIENTS / "old_matrix_client.py")],
            "TypeScript 2": ["node", str(third_party.NODE_SOURCES / "matrix_client_v2.mjs")],
            "TypeScript 1": ["node", str(third_party.NODE_SOURCES / "matrix_client_v1.mjs")],
        }[sdk]

    def server(self, party: Party, *more: str) -> list[str]:
        command = {
            "Python 2": [str(self.python_2), str(third_party.SERVERS / "matrix_server.py"), "--era", party.era],
            "Python 1": [str(self.python_1), str(third_party.SERVERS / "old_matrix_server.py")],
            "TypeScript 2": ["node", str(third_party.NODE_SOURCES / "matrix_server_v2.mjs"), "--era", party.era],
            "TypeScript 1": ["node", str(third_party.NODE_SOURCES / "matrix_server_v1.mjs")],
        }[party.sdk]
        return [*command, "--name", party.name, *more]


class Matrix:
    """All servers over HTTP, and the proxy before them."""

    def __init__(self, installed: Installed, servers: dict[str, str], url: str, directory: Path) -> None:
        self._installed = installed
        self._servers = servers
        self._url = url
        self._directory = directory

    def rows(self) -> dict[Party, Row]:
        """Run all clients, some at a time, so that they also stand in each other's way."""
        with ThreadPoolExecutor(ROWS_AT_ONCE) as executor:
            return dict(zip(PARTIES, executor.map(self._row, PARTIES), strict=True))

    def _row(self, client: Party) -> Row:
        # A proxy and children that nobody else has: one user's, and what children ask is certain to be for them.
        return Row(
            http=self._run(client, "http", dict.fromkeys(self._servers, self._url)),
            alone=self._run(client, "alone", self._servers),
            pipe=self._piped(client),
        )

    def _piped(self, client: Party) -> dict[str, Seen]:
        servers = []
        for party in ON_PIPES:
            program, *args = self._installed.server(party, "--stdio")
            servers.append(
                {
                    "id": party.name,
                    "name": party.name,
                    "transport": "stdio",
                    "command": program,
                    "args": args,
                    "env": self._installed.env,
                }
            )
        with Proxy(self._directory / f"pipes-of-{client.name}", servers) as proxy:
            wait_for_tools(proxy, *(f"{party.name}_grow" for party in ON_PIPES))
            return self._run(client, "pipe", {party.name: proxy.url for party in ON_PIPES})

    def _run(self, client: Party, way: str, urls: dict[str, str]) -> dict[str, Seen]:
        cells = [{"server": name, "url": url, "key": key(client, name, way)} for name, url in urls.items()]
        done = subprocess.run(
            self._installed.client(client.sdk),
            input=json.dumps({"client": client.name, "mode": client.client_mode, "cells": cells}),
            env={**os.environ, **self._installed.env},
            capture_output=True,
            text=True,
            timeout=ROW_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{client.title} failed:\n{done.stderr[-4000:]}"
        report: dict[str, Seen] = json.loads(done.stdout)
        return report


@contextmanager
def started(installed: Installed, directory: Path) -> Iterator[Matrix]:
    with ExitStack() as stack:
        servers = {}
        for party in PARTIES:
            program, script, *arguments = installed.server(party)
            log = directory / f"{party.name}.log"
            server = Server(Path(program), Path(script), log, *arguments, env=installed.env)
            servers[party.name] = stack.enter_context(server).url
        backends = [http_backend(name, url) for name, url in servers.items()]
        proxy = stack.enter_context(Proxy(directory / "http", backends))
        wait_for_tools(proxy, *(f"{name}_grow" for name in servers))
        yield Matrix(installed, servers, proxy.url, directory)


def key(client: Party, server: str, way: str) -> str:
    """Return what no other cell calls its own."""
    return f"{client.name}_{server}_{way}"


def problems(seen: Seen, client: Party, server: str) -> dict[str, Any]:
    """Return what was seen of the features that did not do what they should."""
    if "error" in seen:
        return dict.fromkeys(FEATURES, seen["error"])
    form, praise = f"Who calls {server}?", f"Praise {server}"
    named, praised = f"accept {client.name}", f"{client.name} praises"
    expected = {
        "call": {"text": "5", "asked": [], "progress": []},
        "elicitation": {"text": named, "asked": [form], "progress": []},
        "sampling": {"text": praised, "asked": [praise], "progress": []},
        "both in turn": {"text": f"{named}, {praised}", "asked": [form, praise], "progress": [[1, 2], [2, 2]]},
        "progress": {"text": "counted to 3", "asked": [], "progress": [[1, 3], [2, 3], [3, 3]]},
        "cancellation": "cancelled",
        "list change": {"before": False, "after": True},
    }
    wrong = {feature: seen[feature] for feature, right in expected.items() if _plain(seen[feature]) != right}
    if not isinstance(seen["list"], list) or not {f"{server}_{tool}" for tool in TOOLS} <= set(seen["list"]):
        wrong["list"] = seen["list"]
    return wrong


def _plain(seen: Any) -> Any:
    """Leave out the progress that the TypeScript SDK 2 itself reports to its caller with each round of questions."""
    if isinstance(seen, dict) and "progress" in seen:
        return {**seen, "progress": [each for each in seen["progress"] if each[1] is not None]}
    return seen


def table_row(client: Party, row: Row) -> str:
    """Return the client's line in the table of docs/eras.md."""
    cells = []
    for server in PARTIES:
        cell = _cell(row.http[server.name], client, server)
        alone = _cell(row.alone[server.name], client, server)
        cells.append(cell if cell == alone else f"{cell} (alone: {alone})")
    cells += [_cell(row.pipe[server.name], client, server) for server in ON_PIPES]
    return f"| {client.title} | " + " | ".join(cells) + " |"


def table_head() -> list[str]:
    titles = [*(party.title for party in PARTIES), *(f"{party.versioned} on a pipe" for party in ON_PIPES)]
    return ["| client \\ server | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]


def _cell(seen: Seen, client: Party, server: Party) -> str:
    missing = problems(seen, client, server.name)
    if len(missing) == len(FEATURES):
        return "nothing"
    return f"all but {', '.join(missing)}" if missing else "all"


def _version(sdk: str) -> str:
    manifest: dict[str, Any] = json.loads((third_party.NODE_SOURCES / "package.json").read_text())
    return {
        "Python 2": third_party.SDK.removeprefix("mcp=="),
        "Python 1": third_party.OLD_SDK.removeprefix("mcp=="),
        "TypeScript 2": manifest["dependencies"]["@modelcontextprotocol/client"],
        "TypeScript 1": manifest["dependencies"]["@modelcontextprotocol/sdk"],
    }[sdk]
