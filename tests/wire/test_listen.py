"""The messages of `subscriptions/listen`, as the revision that has it defines them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests import validity

from only1mcp._fast import scan
from only1mcp.errors import INVALID_PARAMS, ProtocolError
from only1mcp.wire import listen
from only1mcp.wire.listen import Filter


def parsed(params: Any) -> Filter:
    return listen.parse(
        scan(orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}))
    )


def test_a_filter_is_read_and_written() -> None:
    wanted = {"toolsListChanged": True, "promptsListChanged": False, "resourceSubscriptions": ["a://b", "a://b"]}
    found = parsed({"notifications": {**wanted, "taskIds": ["t"], "unknown": 7}})
    assert found == Filter(frozenset({"tools"}), ("a://b",), ("t",))
    assert orjson.loads(found.text()) == {
        "toolsListChanged": True,
        "resourceSubscriptions": ["a://b"],
        "taskIds": ["t"],
    }
    assert parsed({"notifications": {}}).text() == b"{}"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"notifications": []},
        {"notifications": {"resourceSubscriptions": "a://b"}},
        {"notifications": {"resourceSubscriptions": [7]}},
        {"notifications": {"resourceSubscriptions": ["x" * (listen.MAX_URI_CHARS + 1)]}},
        {"notifications": {"taskIds": ["x"] * (listen.MAX_URIS + 1)}},
    ],
)
def test_what_is_no_filter_is_refused(params: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        parsed(params)
    assert caught.value.code == INVALID_PARAMS


@pytest.mark.parametrize("id", [b"7", b'"x"'])
def test_every_message_of_a_listen_carries_its_id(id: bytes) -> None:
    granted = Filter(frozenset({"tools", "resources"}), ("a://b",))
    told = [listen.acknowledged(id, granted), listen.changed("tools", id), listen.updated("a://b", id)]
    for message in map(orjson.loads, told):
        validity.check(message, "2026-07-28")
        assert message["params"]["_meta"] == {listen.META_SUBSCRIPTION_ID: orjson.loads(id)}
    last = orjson.loads(listen.ended(id))
    validity.check(last, "2026-07-28", "subscriptions/listen")
    assert last["id"] == last["result"]["_meta"][listen.META_SUBSCRIPTION_ID] == orjson.loads(id)


@pytest.mark.parametrize("revision", ["2024-11-05", "2025-11-25"])
def test_handshake_clients_get_them_without_one(revision: str) -> None:
    for kind in listen.KINDS:
        message = orjson.loads(listen.changed(kind, None))
        validity.check(message, revision)
        assert "params" not in message
    message = orjson.loads(listen.updated("a://b", None))
    validity.check(message, revision)
    assert message["params"] == {"uri": "a://b"}
