"""Blocks of content that older revisions do not know become blocks that they know, and nothing else changes."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import validity
from tests._fast.json_texts import json_texts

from only1mcp.errors import ProtocolError
from only1mcp.wire.content import UNKNOWN, for_revision, has_unknown

OLDEST, OLDER = UNKNOWN
LATER = [revision for revision in validity.REVISIONS if revision not in UNKNOWN]
SOUND = base64.b64encode(b"RIFF").decode()
AUDIO = {"type": "audio", "data": SOUND, "mimeType": "audio/wav"}
LINK = {"type": "resource_link", "uri": "file:///a.txt", "name": "a"}
TEXT = {"type": "text", "text": "hi"}
EMBEDDED = {"type": "resource", "resource": {"uri": "only1mcp:audio", "mimeType": "audio/wav", "blob": SOUND}}


def answer(*blocks: Any, **more: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"content": [*blocks], **more}}).encode()


def content_of(body: bytes) -> list[Any]:
    content: list[Any] = json.loads(body)["result"]["content"]
    return content


@pytest.mark.parametrize("revision", UNKNOWN)
def test_a_result_is_valid_in_the_clients_revision(revision: str) -> None:
    whole = {"annotations": {"audience": ["user"], "priority": 0.5}, "_meta": {"vendor.example/x": [1]}}
    body = answer(TEXT, {**AUDIO, **whole}, {**LINK, **whole, "title": "A", "size": 3, "icons": []}, EMBEDDED)
    assert has_unknown(body, revision)
    older = json.loads(for_revision(body, "tools/call", revision))
    validity.check(older, revision, "tools/call")
    sound = {**EMBEDDED, **whole} if revision == OLDEST else {**AUDIO, **whole}
    assert older["result"]["content"] == [TEXT, sound, {"type": "text", "text": "A: file:///a.txt", **whole}, EMBEDDED]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "a: file:///a.txt"),
        ({"title": "The A", "description": "all\nof it"}, "The A: file:///a.txt\nall\nof it"),
        ({"name": None, "title": 7}, "file:///a.txt"),
        ({"name": 'q"\u00e4\U0001f600', "description": ""}, 'q"\u00e4\U0001f600: file:///a.txt'),
    ],
)
def test_a_link_becomes_a_line(more: dict[str, Any], text: str) -> None:
    for revision in UNKNOWN:
        assert content_of(for_revision(answer({**LINK, **more}), "tools/call", revision)) == [
            {"type": "text", "text": text}
        ]


@pytest.mark.parametrize("revision", UNKNOWN)
def test_messages_of_prompts(revision: str) -> None:
    messages = [{"role": "user", "content": each} for each in (AUDIO, LINK, TEXT)]
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"messages": messages}}).encode()
    older = json.loads(for_revision(body, "prompts/get", revision))
    validity.check(older, revision, "prompts/get")
    kinds = [message["content"]["type"] for message in older["result"]["messages"]]
    assert kinds == ["resource" if revision == OLDEST else "audio", "text", "text"]


def test_what_is_known_is_left_alone() -> None:
    for revision in (*LATER, "", "1999-01-01"):
        body = answer(AUDIO, LINK)
        assert not has_unknown(body, revision)
        assert for_revision(body, "tools/call", revision) is body
    body = answer(AUDIO)
    assert for_revision(body, "tools/call", OLDER) is body


@pytest.mark.parametrize(
    "body",
    [
        answer({"type": "text", "text": '{"type":"resource_link","uri":"a:b"}'}),
        answer(TEXT, structuredContent={"type": "resource_link", "content": [LINK]}),
        answer({"type": "audio"}, {"type": "audio", "data": 7, "mimeType": "audio/wav"}),
        answer({"type": "resource_link"}, {"type": "resource_link", "uri": ["a"]}, {"type": ["audio"]}, "audio", None),
        b'{"jsonrpc":"2.0","id":1,"result":{"content":"resource_link"}}',
        b'{"jsonrpc":"2.0","id":1,"result":["audio"]}',
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x","data":{"content":[{"type":"audio"}]}}}',
    ],
)
def test_what_is_no_such_block_is_left_alone(body: bytes) -> None:
    assert for_revision(body, "tools/call", OLDEST) is body


def test_other_answers_hold_no_blocks() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"resource_link","uri":"a:b"}]}}'
    for method in ("resources/read", "tools/list", "completion/complete"):
        assert for_revision(body, method, OLDEST) is body


def test_two_readings_are_refused() -> None:
    with pytest.raises(ProtocolError):
        for_revision(
            b'{"result":{"content":[{"type":"audio","type":"text","data":"","mimeType":""}]}}', "tools/call", OLDEST
        )


@given(before=json_texts, after=json_texts)
def test_other_bytes_stay(before: bytes, after: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"x":%b,"content":[ {"type":"text","y":%b} ,%b, 1.0e0]}}'
    link = json.dumps(LINK).encode()
    try:
        found = for_revision(body % (before, after, link), "tools/call", OLDER)
    except ProtocolError:
        return  # not JSON, or a key twice
    assert found == body % (before, after, b'{"type":"text","text":"a: file:///a.txt"}')


@given(st.binary(max_size=40))
def test_a_name_of_any_kind_is_a_string(octets: bytes) -> None:
    name = octets.decode("latin-1")
    (block,) = content_of(for_revision(answer({**LINK, "name": name}), "tools/call", OLDER))
    assert block["text"] == (f"{name}: file:///a.txt" if name else "file:///a.txt")
