"""The official clients, each in every mode that it has, against the proxy: their view of all backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.e2e.gateway import Gateway
from tests.e2e.wire_client import HANDSHAKE, STATELESS

RunClient = Callable[..., dict[str, Any]]
CLIENTS = [
    ("python", "auto", STATELESS),
    ("python", "legacy", HANDSHAKE),
    ("python", STATELESS, STATELESS),
    ("typescript-1", "legacy", HANDSHAKE),
    ("typescript-2", "auto", STATELESS),
    ("typescript-2", "legacy", HANDSHAKE),
    ("typescript-2", STATELESS, STATELESS),
]


@pytest.mark.parametrize(("kind", "mode", "revision"), CLIENTS)
def test_client_does_everything(gateway: Gateway, run_client: RunClient, kind: str, mode: str, revision: str) -> None:
    path = gateway.files / f"{kind}-{mode}.txt"
    report = run_client(
        kind,
        mode,
        gateway.url,
        ("tools/list", {}),
        ("resources/list", {}),
        ("resources/templates/list", {}),
        ("prompts/list", {}),
        ("tools/call", {"name": "write_file", "arguments": {"path": str(path), "content": f"by {kind}"}}),
        ("tools/call", {"name": "get-sum", "arguments": {"a": 2, "b": 3}}),
        ("tools/call", {"name": "hand_add", "arguments": {"a": 2, "b": 3}}),
        ("tools/call", {"name": "flow_add", "arguments": {"a": 2, "b": 3}}),
        ("tools/call", {"name": "pipe_add", "arguments": {"a": 2, "b": 3}}),
        ("resources/read", {"uri": "flow://note/3"}),
        ("prompts/get", {"name": "pipe_review", "arguments": {"language": "rust"}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "hand_review"}, "argument": {"name": "language", "value": "r"}},
        ),
        ("tools/call", {"name": "no_such_tool", "arguments": {}}),
    )
    assert report["version"] == revision
    if (kind, mode) != ("python", STATELESS):  # which takes the revision for granted and asks for nothing
        assert {"tools", "resources", "prompts", "completions"} <= report["capabilities"].keys()
    tools, resources, templates, prompts, _, *results = report["steps"]
    total, hand, flow, pipe, note, review, completion, unknown = results
    assert {"write_file", "read_graph", "hand_filler_19", "flow_filler_19"} <= {tool["name"] for tool in tools}
    assert {"flow://note/10", "memory://knowledge-graph"} <= {each["uri"] for each in resources}
    assert "hand://square/{n}" in {each["uriTemplate"] for each in templates}
    assert {"hand_review", "simple-prompt"} <= {each["name"] for each in prompts}
    assert path.read_text() == f"by {kind}"
    assert "5" in total["content"][0]["text"]
    for added in (hand, flow, pipe):
        assert added["structuredContent"] == {"sum": 5}
    assert note["contents"][0]["text"] == "flow: note number 3"
    assert review["messages"][0]["content"]["text"] == "Review this rust code."
    assert completion["completion"]["values"] == ["rust", "ruby"]
    assert unknown["error"]["code"] == -32602
