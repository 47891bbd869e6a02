"""Relaying many events at once: what goes to the client, what is left to others, and that the twins agree on both."""

from __future__ import annotations

import importlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.json_texts import json_texts, mutated

from only1mcp._fast.relay_reference import UNFINISHED, UNUSUAL

TOKEN, MINE = b"12", b'"mine"'


def relays(*names: str) -> list[Any]:
    if "compiled" in names:
        pytest.importorskip("only1mcp._fast.relay", reason="the compiled parts are not built: make build")
    modules = {"reference": "relay_reference", "compiled": "relay"}
    return [importlib.import_module(f"only1mcp._fast.{modules[name]}").relay_events for name in names]


@pytest.fixture(params=["reference", "compiled"], scope="session")
def relay(request: pytest.FixtureRequest) -> Any:
    return relays(request.param)[0]


def progress(token: bytes = TOKEN, more: bytes = b"") -> bytes:
    return (
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":' + token + b',"progress":1'
        + more + b"}}"
    )  # fmt: skip


LOG = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":{"progressToken":12}}}'


def sent(text: bytes) -> bytes:
    return b"event: message\ndata: " + text + b"\n\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_progress_gets_the_token_of_the_client(relay: Any, end: bytes) -> None:
    events = [
        b"event: message",
        b"id: 7",
        b"data: " + progress(),
        b"",
        b": ping",
        b"",
        b"data:" + LOG,
        b"retry: 5",
        b"",
    ]
    data = b"".join(line + end for line in events)
    expected = sent(progress(MINE)) + sent(LOG)
    assert relay(data, 0, TOKEN, MINE, True) == (len(data), expected, UNFINISHED)
    assert relay(b"data: x\n\n" + data, 9, TOKEN, MINE, True) == (len(data) + 9, expected, UNFINISHED)


@pytest.mark.parametrize(
    "text",
    [
        progress().replace(b",", b" , ").replace(b":", b" : ").replace(b"}", b" }"),
        b'{"params":{"total":1,"message":"\xc3\xa9","progressToken":12},"method":"notifications/progress","jsonrpc":"2.0"}',
    ],
)
def test_other_spellings_of_progress(relay: Any, text: bytes) -> None:
    data = b"data: " + text + b"\n\n"
    replaced = text.replace(b": 12", b": " + MINE).replace(b":12", b":" + MINE)
    assert relay(data, 0, TOKEN, MINE, False) == (len(data), sent(replaced), UNFINISHED)


@pytest.mark.parametrize(
    "event",
    [
        b"data: " + LOG + b"\n\n",  # nobody wants it
        b"data: " + progress(b"13") + b"\n\n",
        b"data: " + progress(b'"12"') + b"\n\n",
        b"data: " + progress(more=b',"progressToken":12') + b"\n\n",
        b"data: " + progress(more=b',"other":1') + b"\n\n",
        b"data: " + progress(more=b',"_meta":1') + b"\n\n",
        b"data: " + progress(more=b',"\\u0074otal":1') + b"\n\n",
        b"data: " + progress(more=b',"message":"\xff"') + b"\n\n",
        b"data: " + progress(more=b',"message":' + b"[" * 63 + b"]" * 63) + b"\n\n",
        b"data: " + progress().replace(b"2.0", b"2.1") + b"\n\n",
        b"data: " + progress().replace(b'"params"', b'"id":1,"params"') + b"\n\n",
        b"data: " + progress().replace(b'progress"', b'cancelled"') + b"\n\n",
        b"data: " + progress()[:-1] + b"\n\n",
        b"data: " + progress() + b"x\n\n",
        b'data: {"jsonrpc":"2.0","id":12,"result":{}}\n\n',
        b"data: []\n\n",
        b"data: " + progress()[:20] + b"\ndata: " + progress()[20:] + b"\n\n",
        b"event: other\ndata: " + progress() + b"\n\n",
        b"\xef\xbb\xbfdata: " + progress() + b"\n\n",
        b"unknown: 1\n\n",
    ],
)
def test_what_is_not_of_the_plainest_form_is_left(relay: Any, event: bytes) -> None:
    before = b"data: " + progress() + b"\n\n"
    whole = before + event + before
    position, out, end = relay(whole, 0, TOKEN, MINE, False)
    assert (position, out, end) == (len(before), sent(progress(MINE)), len(before + event))


def test_without_a_token_of_the_client_nothing_is_relayed(relay: Any) -> None:
    data = b"data: " + progress() + b"\n\n"
    assert relay(data, 0, TOKEN, None, True) == (0, b"", len(data))


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"", UNFINISHED),
        (b"data: x", UNFINISHED),
        (b"data: x\n", UNFINISHED),
        (b"data: x\n\r", UNFINISHED),
        (b"data: x\r", UNFINISHED),
        (b"data: x\rdata", UNUSUAL),
        (b"data: x\r\r", UNUSUAL),
        (b"data: x\r\r\n", UNUSUAL),
        (b"\rdata: x\n\n", UNUSUAL),
    ],
)
def test_what_is_not_there_yet(relay: Any, data: bytes, end: int) -> None:
    assert relay(data, 0, TOKEN, MINE, True) == (0, b"", end)


def test_many_events(relay: Any) -> None:
    data = b"".join(b"data: " + progress(more=b',"total":%d' % n) + b"\n\n" for n in range(500))
    expected = b"".join(sent(progress(b'"' + b"t" * 200 + b'"', b',"total":%d' % n)) for n in range(500))
    assert relay(data, 0, TOKEN, b'"' + b"t" * 200 + b'"', False) == (len(data), expected, UNFINISHED)


ends = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])
values = json_texts.filter(lambda text: b"\n" not in text and b"\r" not in text)
keys = st.sampled_from(["progressToken", "progress", "total", "message", "_meta", "level", "data", "name", "x"])
params = st.one_of(
    st.just(b'{"progressToken":12,"progress":1}'),
    st.lists(st.tuples(keys, values | st.just(b"12") | st.just(b"{}")), max_size=5).map(
        lambda pairs: b"{" + b",".join(orjson.dumps(key) + b":" + value for key, value in pairs) + b"}"
    ),
)
methods = st.sampled_from([b"notifications/progress", b"notifications/progress", b"notifications/message", b"x"])


def notification(method: bytes, params: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","method":"' + method + b'","params":' + params + b"}"


texts = st.one_of(
    st.builds(notification, methods, params),
    st.sampled_from([progress(), LOG, b"", b'{"jsonrpc":"2.0","id":12,"result":{}}']),
)  # fmt: skip
lines = st.one_of(
    (texts | mutated(texts)).map(lambda text: b"data: " + text),
    st.sampled_from([b"event: message", b"event: x", b"id: 1", b": c", b"retry: 1", b"data", b"", b"data: "]),
)


@given(
    st.lists(st.tuples(lines, ends), max_size=12), st.booleans(), st.sampled_from([None, MINE, b"1"]), st.integers(0, 9)
)
def test_twins_agree(stream: list[tuple[bytes, bytes]], logs: bool, replacement: bytes | None, cut: int) -> None:
    reference, compiled = relays("reference", "compiled")
    data = b"".join(line + end for line, end in stream)
    data = data[: len(data) - cut]
    position = 0
    while True:
        expected = reference(data, position, TOKEN, replacement, logs)
        assert compiled(data, position, TOKEN, replacement, logs) == expected
        if expected[2] < 0:
            break
        position = expected[2]
