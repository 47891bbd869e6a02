"""Official clients that know HTTP+SSE alone, in front of backends of every era and transport."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from tests.e2e import third_party
from tests.e2e.conftest import CLIENT_TIMEOUT_S, report_of
from tests.e2e.gateway import http_backend, sdk_server, stdio_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server
from tests.e2e.wire_client import HANDSHAKE, STATELESS

CLIENTS = Path(__file__).parent / "clients"
# Which tools stand for which kind of backend.
SERVED = ["hand_add", "flow_add", "pipe_add", "old_add", "oldhttp__old_add", "oldpipe__old_add"]
ASKING = ["old_ask", "oldhttp__old_ask", "oldpipe__old_ask"]
# The newer Python SDK takes no event above 1 MiB.
LARGE = 1_000_000
RunClient = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, sdk: Path, old_sdk: Path) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("legacy")
    script = third_party.SERVERS / "old_sdk_server.py"
    with ExitStack() as stack:
        hand = stack.enter_context(sdk_server(sdk, directory, "hand", "handshake"))
        flow = stack.enter_context(sdk_server(sdk, directory, "flow", "stateless"))
        sse = stack.enter_context(Server(old_sdk, script, directory / "sse.log", "--sse"))
        http = stack.enter_context(Server(old_sdk, script, directory / "http.log"))
        # What these ask on a pipe, or a stream like one, is relayed where the pipe is one client's own.
        own = {"instances": {"mode": "per_session", "max": 16}}
        servers = [
            http_backend("hand", hand.url),
            http_backend("flow", flow.url),
            stdio_backend("pipe", sdk, "sdk_server.py", "--name", "pipe"),
            {"id": "old", "transport": "sse", "url": sse.url, **own},
            http_backend("oldhttp", http.url),
            {**stdio_backend("oldpipe", old_sdk, "old_sdk_server.py"), **own},
        ]
        proxy = stack.enter_context(Proxy(directory, servers))
        wait_for_tools(proxy, *SERVED, *ASKING)
        yield proxy


@pytest.fixture(scope="module")
def url(proxy: Proxy) -> str:
    return f"{proxy.origin}/sse"


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("python", "auto"),
        ("python", "legacy"),
        ("typescript-1", "legacy"),
        ("typescript-2", "auto"),
        ("typescript-2", "legacy"),
    ],
)
def test_a_client_does_everything(url: str, run_client: RunClient, kind: str, mode: str) -> None:
    argument = {"ref": {"type": "ref/prompt", "name": "hand_review"}, "argument": {"name": "language", "value": "r"}}
    report = run_client(
        kind,
        mode,
        url,
        *(("tools/call", {"name": name, "arguments": {"a": 2, "b": 3}}) for name in SERVED),
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("resources/read", {"uri": "flow://note/3"}),
        ("prompts/get", {"name": "pipe_review", "arguments": {"language": "rust"}}),
        ("completion/complete", argument),
        ("tools/call", {"name": "hand_large", "arguments": {"size": LARGE}}),
        ("tools/call", {"name": "no_such_tool", "arguments": {}}),
    )
    # Revisions are negotiated on this transport as on any other.
    assert (report["version"], report["server"]) == (HANDSHAKE, "only1mcp")
    sums, rest = report["steps"][: len(SERVED)], report["steps"][len(SERVED) :]
    assert [each["structuredContent"] for each in sums] == [{"sum": 5}] * 3 + [{"result": 5}] * 3
    tools, resources, templates, prompts, note, review, completion, large, unknown = rest
    assert {*SERVED, *ASKING, "hand_filler_19"} <= {tool["name"] for tool in tools}
    assert "flow://note/10" in {each["uri"] for each in resources}
    assert "hand://square/{n}" in {each["uriTemplate"] for each in templates}
    assert {"hand_review", "old_review"} <= {each["name"] for each in prompts}
    assert note["contents"][0]["text"] == "flow: note number 3"
    assert review["messages"][0]["content"]["text"] == "Review this rust code."
    assert completion["completion"]["values"] == ["rust", "ruby"]
    assert len(large["content"][0]["text"]) == LARGE
    assert unknown["error"]["code"] == -32602


@pytest.mark.parametrize("tool", ASKING)
def test_a_backend_asks_in_the_middle_of_a_call(url: str, old_sdk: Path, tool: str) -> None:
    asked = {"elicitation": "accept Ann, asked Who?", "sampling": "So.", "roots": "file:///home/ann"}
    if tool == "oldhttp__old_ask":
        del asked["roots"]  # over Streamable HTTP this SDK asks for roots outside of any call
    report = report_of(
        old_sdk, "old_python_client.py", {"sse": url, "calls": [(tool, {"what": what}) for what in asked]}
    )
    assert [step["content"][0]["text"] for step in report["steps"]] == list(asked.values())


@pytest.mark.parametrize("door", ["/mcp", "/sse"])
@pytest.mark.parametrize(("mode", "tool"), [(mode, tool) for mode in ("legacy", "auto") for tool in ASKING])
def test_a_client_of_both_eras_is_asked_as_well(
    proxy: Proxy, run_client: RunClient, door: str, mode: str, tool: str
) -> None:
    asked = {"elicitation": "accept Ann, asked Who?", "sampling": "So."}
    steps = [("tools/call", {"name": tool, "arguments": {"what": what}}) for what in asked]
    report = run_client("python", mode, f"{proxy.origin}{door}", *steps)
    assert report["version"] == (STATELESS if (door, mode) == ("/mcp", "auto") else HANDSHAKE)
    assert [step["content"][0]["text"] for step in report["steps"]] == list(asked.values())


@pytest.mark.parametrize("backend", ["", "oldhttp__", "oldpipe__"])
def test_progress_log_messages_and_changed_lists(url: str, old_sdk: Path, backend: str) -> None:
    changed = "notifications/tools/list_changed"
    # What grows is read by the connection that has the lists, which an instance of one session is not.
    shared = backend == "oldhttp__"
    calls = [(f"{backend}old_report", {"steps": 3})] + ([(f"{backend}old_grow", {})] if shared else [])
    report = report_of(
        old_sdk, "old_python_client.py", {"sse": url, "calls": calls, "until": [changed] if shared else []}
    )
    assert report["steps"][0]["content"][0]["text"] == "reported"
    assert report["progress"] == [[1, 3], [2, 3], [3, 3]]
    assert report["logged"] == ["step 1", "step 2", "step 3"]
    if shared:
        assert changed in report["told_of"]


def test_the_older_sdk(url: str, old_sdk: Path) -> None:
    calls = [(name, {"a": 2, "b": 3}) for name in SERVED]
    report = report_of(old_sdk, "old_python_client.py", {"sse": url, "calls": [*calls, ("nobody's", {}), *calls]})
    assert (report["version"], report["server"]) == (HANDSHAKE, "only1mcp")
    assert [len(report["steps"]), report["steps"][len(SERVED)]["error"]["code"]] == [2 * len(SERVED) + 1, -32602]
    assert set(SERVED) <= set(report["tools"])


def test_a_stop_ends_streams_in_order_and_waits_for_nobody(proxy: Proxy, url: str) -> None:
    """The last test: it stops the proxy."""
    with urlopen(url, timeout=CLIENT_TIMEOUT_S) as stream:
        assert stream.readline() == b"event: endpoint\n"
        proxy.signal(signal.SIGTERM)
        assert stream.read().endswith(b"\n\n")  # raises where the last chunk is missing
    assert proxy.wait() == 0
    assert "Traceback" not in proxy.output
