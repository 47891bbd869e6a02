"""Answers name resources and tasks as clients know them, whichever backend gave them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.jobs import DECLARED, EXTENSION
from tests.proxy.exchanges import exchange_of, snapshot_of
from tests.proxy.offers import offer

from only1mcp.errors import BackendAnswerError, RequestRefused
from only1mcp.proxy.exchange import Exchange
from only1mcp.proxy.public import as_public
from only1mcp.proxy.tasks import Tasks
from only1mcp.wire.mcp import STATELESS

LINK = {"content": [{"type": "resource_link", "uri": "test://a", "name": "a"}]}
TASK = {"resultType": "task", "taskId": "t", "status": "working"}


def exchange(meta: Any = None) -> Exchange:
    """Return a call in front of two groups with the same resource and with tasks."""
    capabilities = {"resources": {}, "tools": {}, "extensions": {EXTENSION: {}}}
    groups = [offer(id, era=STATELESS, capabilities=capabilities, resources=["test://a"]) for id in "ab"]
    snapshot = snapshot_of(*groups)
    snapshot.desk.tasks = Tasks(bytes(32))
    made, _ = exchange_of(snapshot, params={"name": "x", "_meta": meta or DECLARED}, era=STATELESS)
    made.backend = "b"
    return made


def answer(result: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": result})


def test_resources_of_the_later_group_are_qualified() -> None:
    assert as_public(exchange(), "a", "tools/call", answer(LINK)) == answer(LINK)
    changed = as_public(exchange(), "b", "tools/call", answer(LINK))
    assert changed == answer(LINK).replace(b"test://a", b"only1mcp://b/test://a")


def test_tasks_have_ids_of_ours() -> None:
    given = exchange()
    result = orjson.loads(as_public(given, "b", "tools/call", answer(TASK)))["result"]
    place = given.snapshot.desk.tasks.find(given, result["taskId"])
    assert place is None  # no such endpoint has been met in this era
    given.snapshot.groups["b"].endpoints["b"].era = STATELESS
    place = given.snapshot.desk.tasks.find(given, result["taskId"])
    assert place is not None
    assert (place.endpoint.id, place.id) == ("b", "t")
    assert as_public(given, "b", "prompts/get", answer(TASK)) == answer(TASK)


def test_what_cannot_be_given_to_the_client() -> None:
    with pytest.raises(RequestRefused) as caught:
        as_public(exchange(meta={"x": 1}), "b", "tools/call", answer(TASK))
    assert caught.value.code == -32021
    for body in (
        b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"resource_link","uri":"a:b","uri":"c:d"}]}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"a","taskId":"b"}}',
    ):
        with pytest.raises(BackendAnswerError):
            as_public(exchange(), "b", "tools/call", body)
