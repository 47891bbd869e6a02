"""Tasks as users meet them: a proxy that restarts, two backends with tasks, the official SDK of the handshake era."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import third_party
from tests.e2e.conftest import CLIENT_TIMEOUT_S
from tests.e2e.gateway import http_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server, until
from tests.e2e.wire_client import META, RpcError, WireClient

DONE_S = 30.0
EXTENSION = "io.modelcontextprotocol/tasks"
DECLARED = {META + "clientCapabilities": {"extensions": {EXTENSION: {}}}}


async def ask(url: str, method: str, **params: Any) -> dict[str, Any]:
    async with WireClient(url) as client:
        return await client.request(method, _meta=DECLARED, **params)


def done(url: str, id: str) -> dict[str, Any]:
    """Return the task when it has come to something."""

    def settled() -> dict[str, Any] | None:
        task = asyncio.run(ask(url, "tasks/get", taskId=id))
        return None if task["status"] == "working" else task

    return until(settled, DONE_S, "a task that is over")


@pytest.mark.parametrize("lasting", [True, False])
def test_a_task_outlives_the_proxy_that_has_a_key(tmp_path: Path, lasting: bool) -> None:
    (tmp_path / "key").write_text("a key of more than thirty-two bytes")
    sections = {"state": {"key_file": str(tmp_path / "key")}} if lasting else {}
    script = third_party.SERVERS / "tasks_server.py"
    with (
        Server(Path(sys.executable), script, tmp_path / "one.log") as one,
        Server(Path(sys.executable), script, tmp_path / "two.log") as two,
    ):
        servers = [http_backend("one", one.url), http_backend("two", two.url)]
        with Proxy(tmp_path / "before", servers, **sections) as proxy:
            wait_for_tools(proxy, "slow_compute", "two__slow_compute")
            ids = {
                name: asyncio.run(ask(proxy.url, "tools/call", name=name, arguments={"seconds": 0.1, "label": name}))[
                    "taskId"
                ]
                for name in ("slow_compute", "two__slow_compute")
            }
        with Proxy(tmp_path / "after", servers, **sections) as proxy:
            wait_for_tools(proxy, "slow_compute", "two__slow_compute")
            for name, id in ids.items():
                if lasting:
                    task = done(proxy.url, id)
                    assert task["result"]["content"][0]["text"] == f"computed {name}"
                else:
                    with pytest.raises(RpcError) as caught:
                        asyncio.run(ask(proxy.url, "tasks/get", taskId=id))
                    assert caught.value.code == -32602


def test_tasks_of_the_official_sdk_of_the_handshake_era(tmp_path: Path, old_sdk: Path) -> None:
    script = third_party.SERVERS / "old_tasks_server.py"
    with Server(old_sdk, script, tmp_path / "tasks.log") as server:
        with Proxy(tmp_path, [http_backend("old", server.url)]) as proxy:
            wait_for_tools(proxy, "old_job")
            client = Path(__file__).parent / "clients" / "old_task_client.py"
            ran = subprocess.run(
                [str(old_sdk), str(client), proxy.url],
                capture_output=True,
                text=True,
                timeout=CLIENT_TIMEOUT_S,
                check=False,
            )
            assert ran.returncode == 0, ran.stderr + proxy.output
        report = json.loads(ran.stdout)
        assert report["tasks"]["requests"]["tools"]["call"] is not None
        assert report["tasks"]["list"] is None
        assert report["support"] == {"old_job": "required", "old_question": "required"}
        assert (report["old_job"]["text"], report["old_question"]["text"]) == ("hi", "Ann")
        for name in ("old_job", "old_question"):
            assert report[name]["related"][META + "related-task"] == {"taskId": report[name]["id"]}
        assert report["unknown"] == -32602
