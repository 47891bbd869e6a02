"""URIs in answers are rewritten where MCP says that a string is a resource URI, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests._fast.json_texts import json_texts
from tests._fast.test_envelope import is_json

from only1mcp.errors import ProtocolError
from only1mcp.proxy import uris


def public(uri: str) -> str:
    return uri if uri.startswith("keep:") else "new:" + uri


def answer(result: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"result":' + result.encode() + b"}"


def error(data: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"a:b","data":' + data.encode() + b"}}"


# `@` is the URI.
CASES = [
    ("resources/read", answer('{"contents":[{"uri":@,"text":"a:b"}]}')),
    ("resources/read", answer('{"contents":[{"uri" :\t@ , "x":1.0e5}, 5, null]}')),
    ("resources/read", answer('{"contents":[{"u\\u0072i":@}]}')),
    ("tools/call", answer('{"content":[{"type":"resource_link","uri":@}]}')),
    ("tools/call", answer('{"content":[{"type":"resource","resource":{"uri":@}}]}')),
    ("prompts/get", answer('{"messages":[{"content":{"type":"resource_link","uri":@}}]}')),
    ("prompts/get", answer('{"messages":[{"content":[{"type":"resource_link","uri":@}]}]}')),
    ("tasks/result", answer('{"content":[{"type":"resource_link","uri":@}]}')),
    ("tasks/get", answer('{"taskId":"t","result":{"content":[{"type":"resource_link","uri":@}]},"uri":"a:b"}')),
    (
        "notifications/tasks",
        b'{"method":"notifications/tasks","params":{"result":{"content":[{"type":"resource","resource":{"uri":@}}]}}}',
    ),
    ("resources/read", error('{"uri":@,"x":{"uri":"a:b"}}')),
]


@pytest.mark.parametrize(("method", "text"), CASES)
@pytest.mark.parametrize("uri", [b'"a:b"', b'"a:\\u0062"'])
def test_rewrites(method: str, text: bytes, uri: bytes) -> None:
    before, after = text.replace(b"@", uri), text.replace(b"@", b'"new:a:b"')
    assert uris.rewrite(before, method, public) == after
    assert uris.rewrite(b" \n" + before + b"\t", method, public) == b" \n" + after + b"\t"


SAME = [
    ("tools/call", answer('{"contents":[{"uri":"a:b"}]}')),
    ("resources/read", answer('{"content":[{"type":"resource_link","uri":"a:b"}]}')),
    ("tools/call", answer('{"content":[{"type":"text","uri":"a:b"},{"uri":"a:b"},{"type":"resource","uri":"a:b"}]}')),
    ("tools/call", answer('{"content":[{"type":"resource_link","uri":"keep:x"}]}')),
    ("tools/call", answer('{"content":[{"type":"resource_link","uri":["a:b"]},{"type":"resource","resource":"a:b"}]}')),
    ("tools/call", answer('{"structuredContent":{"uri":"a:b"},"content":{"uri":"a:b"}}')),
    ("prompts/get", answer('{"messages":{"content":[]}}')),
    ("prompts/get", answer('{"messages":[{"content":"a:b"},{},null,[]]}')),
    ("completion/complete", answer('{"uri":"a:b"}')),
    ("resources/read", answer("[]")),
    ("resources/read", answer('"a:b"')),
    ("resources/read", error('"a:b"')),
    ("resources/read", error('["a:b"]')),
    ("resources/read", error('{"uri":null}')),
]


@pytest.mark.parametrize(("method", "body"), SAME)
def test_leaves_alone(method: str, body: bytes) -> None:
    assert uris.rewrite(body, method, public) is body


@pytest.mark.parametrize(
    "body", [answer('{"contents":[{"uri":"a:b","uri":"c:d"}]}'), answer('{"contents":[],"contents":[]}')]
)
def test_two_readings_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        uris.rewrite(body, "resources/read", public)


@pytest.mark.parametrize("method", ["resources/read", "tools/call", "prompts/get"])
@given(value=json_texts)
def test_other_bytes_stay_whatever_is_there(method: str, value: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":{"contents":[{"x":' + value + b'}],"content":[{"y":' + value + b"}]}}"
    try:
        assert uris.rewrite(body, method, lambda uri: uri) == body
    except ProtocolError:
        pass  # not JSON, or a key twice


readable = json_texts.filter(is_json).filter(lambda value: b"@" not in value)
# Contents, blocks and messages with a URI (`@`) among other members, in any order and with any space.
linked = st.builds(
    lambda pairs: b"{" + b" , ".join(pairs) + b"}",
    st.tuples(readable, readable).flatmap(
        lambda values: st.permutations(
            [b'"uri" :@ ', b'"type":"resource_link"', b'"a":' + values[0], b'"b"\t:' + values[1]]
        )
    ),
)
embedded = st.builds(lambda inner: b'{"resource": ' + inner + b' ,"type":"resource"}', linked)
blocks = st.lists(linked | embedded | readable.map(lambda value: b'{"type":"text","uri":' + value + b"}"), max_size=4)
ANSWERS = {
    "resources/read": (st.lists(linked, max_size=4), b'{"contents":[', b"]}"),
    "tools/call": (blocks, b'{"x":1.0e0,"content": [', b"] }"),
    "prompts/get": (blocks.map(lambda some: [b'{"role":"user","content":' + one + b"}" for one in some]),
                    b'{"messages":[', b"]}"),
}  # fmt: skip


@pytest.mark.parametrize("method", ANSWERS)
@given(data=st.data())
def test_nothing_but_the_uris_changes(method: str, data: st.DataObject) -> None:
    parts, before, after = ANSWERS[method]
    result = before + b" ,\n".join(data.draw(parts)) + after
    body = b'{"jsonrpc":"2.0","result":' + result + b',"id":1}'
    assert uris.rewrite(body.replace(b"@", b'"a:\\u0062"'), method, public) == body.replace(b"@", b'"new:a:b"')
    kept = body.replace(b"@", b'"keep:\\u0062"')
    assert uris.rewrite(kept, method, public) is kept
