"""Where tasks are named in messages of both eras, and what is said of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from tests.jobs import DECLARED, EXTENSION, META, RELATED

from only1mcp._fast import scan
from only1mcp.errors import ProtocolError
from only1mcp.wire import tasks
from only1mcp.wire.mcp import HANDSHAKE, STATELESS, Era


def message(**members: Any) -> Any:
    return scan(orjson.dumps({"jsonrpc": "2.0", **members}))


def names(body: bytes, era: Era, *, created: bool) -> list[bytes]:
    return [body[slice(*span)] for span in tasks.id_spans(body, era, created=created)]


@pytest.mark.parametrize(
    ("meta", "declares"),
    [
        (None, False),
        ({}, False),
        (DECLARED, True),
        ({META + "clientCapabilities": {"extensions": {EXTENSION: {"a": 1}}}}, True),
        ({META + "clientCapabilities": {"extensions": {EXTENSION: None}}}, False),
        ({META + "clientCapabilities": {"extensions": [EXTENSION]}}, False),
        ({META + "clientCapabilities": {EXTENSION: {}}}, False),
        ({META + "clientCapabilities": EXTENSION}, False),
        ({"x": EXTENSION}, False),
    ],
)
def test_who_declares_the_extension(meta: Any, declares: bool) -> None:
    params = {} if meta is None else {"_meta": meta}
    assert tasks.declares(message(id=1, method="tools/call", params=params)) is declares


@pytest.mark.parametrize(
    ("result", "era", "created", "found"),
    [
        ({"resultType": "task", "taskId": "a"}, STATELESS, True, [b'"a"']),
        ({"resultType": "complete", "taskId": "a"}, STATELESS, True, []),
        ({"taskId": "a"}, STATELESS, True, []),
        ({"resultType": "task"}, STATELESS, True, []),
        ({"resultType": "task", "taskId": 7}, STATELESS, True, []),
        ({"resultType": ["task"], "taskId": "a"}, STATELESS, True, []),
        ({"resultType": "complete", "taskId": "a", "task": {"taskId": "b"}}, STATELESS, False, [b'"a"']),
        ({"resultType": "complete"}, STATELESS, False, []),
        ({"task": {"taskId": "a"}, "_meta": {RELATED: {"taskId": "a"}}}, HANDSHAKE, True, [b'"a"', b'"a"']),
        ({"task": "a", "taskId": "b", "_meta": {RELATED: "c"}}, HANDSHAKE, True, []),
        ({"taskId": "a"}, HANDSHAKE, False, [b'"a"']),
        ({"content": [], "_meta": {RELATED: {"taskId": "a"}}}, HANDSHAKE, False, [b'"a"']),
        ([], HANDSHAKE, False, []),
        ("task", STATELESS, True, []),
    ],
)
def test_where_an_answer_names_its_task(result: Any, era: Era, created: bool, found: list[bytes]) -> None:
    body = b" \n" + orjson.dumps({"jsonrpc": "2.0", "id": 1, "result": result}) + b"\n"
    assert names(body, era, created=created) == found


def test_errors_name_none_and_what_can_be_read_in_two_ways_is_refused() -> None:
    error = orjson.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "m", "data": {"taskId": "a"}}})
    assert names(error, STATELESS, created=False) == []
    twice = b'{"jsonrpc":"2.0","id":1,"result":{"resultType":"task","taskId":"a","taskId":"b"}}'
    with pytest.raises(ProtocolError):
        names(twice, STATELESS, created=True)


@pytest.mark.parametrize("params", [None, {}, {"taskId": None}, {"taskId": 7}, {"taskId": ["a"]}])
def test_a_request_must_name_its_task(params: Any) -> None:
    request = message(id=1, method="tasks/get", **({} if params is None else {"params": params}))
    with pytest.raises(ProtocolError, match="taskId") as caught:
        tasks.named(request)
    assert caught.value.code == -32602


def test_what_a_listener_is_told() -> None:
    told = message(method="notifications/tasks", params={"_meta": {"k": 1}, "taskId": "a", "big": 12345678901234567890})
    assert tasks.told(told) == "a"
    assert orjson.loads(tasks.retold(told, b'"b"', b"7")) == {
        "jsonrpc": "2.0",
        "method": "notifications/tasks",
        "params": {"_meta": {META + "subscriptionId": 7, "k": 1}, "taskId": "b", "big": 12345678901234567890},
    }
    assert tasks.told(message(method="notifications/tasks")) is None
    assert tasks.told(message(method="notifications/tasks", params={"taskId": 7})) is None


def test_what_a_listener_is_granted() -> None:
    for value, ids in [({"taskIds": ["a", 7, "b"]}, {"a", "b"}), ({"taskIds": "a"}, set()), ([], set()), (None, set())]:
        params = {} if value is None else {"notifications": value}
        ack = message(method="notifications/subscriptions/acknowledged", params=params)
        assert tasks.granted(ack) == ids


def test_the_task_that_a_servers_request_belongs_to() -> None:
    request = message(id=1, method="elicitation/create", params={"_meta": {RELATED: {"taskId": "a"}}})
    span = tasks.related_span(request)
    assert span is not None
    assert request.data[slice(*span)] == b'"a"'
    for meta in ({}, {RELATED: "a"}, {RELATED: {"taskId": 7}}, {"x": RELATED}):
        assert tasks.related_span(message(id=1, method="roots/list", params={"_meta": meta})) is None
    assert tasks.related_span(message(id=1, method="roots/list")) is None
