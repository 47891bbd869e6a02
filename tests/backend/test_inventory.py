"""Lists read page by page: bytes kept as they came, and bounds for backends that do not end."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.backend.fakes import FakeServer, FakeTransport, Raw
from tests.virtual import virtual

from only1mcp._fast import Envelope
from only1mcp.backend import inventory as module
from only1mcp.backend.base import BackendCall
from only1mcp.backend.era import Peer
from only1mcp.backend.inventory import Inventory, ItemList, read_inventory
from only1mcp.errors import BackendAnswerError, BackendTimeout, BackendUnavailable
from only1mcp.wire.mcp import META_VERSION, Era


def peer(era: Era = Era.HANDSHAKE, **capabilities: Any) -> Peer:
    revision = "2025-11-25" if era is Era.HANDSHAKE else "2026-07-28"
    return Peer(era, revision, capabilities or {"tools": {}}, {}, None, (revision,))


class Pages(FakeServer):
    """Answers `tools/list` with the pages of a script, JSON texts of results or errors to raise."""

    def __init__(self, *pages: Any) -> None:
        super().__init__()
        self.cursors: list[Any] = []
        script = iter(pages)

        async def page(params: dict[str, Any]) -> Any:
            self.cursors.append(params.get("cursor", "first"))
            given = next(script)
            if isinstance(given, Exception):
                raise given
            return given if isinstance(given, Raw) else Raw(result=given)

        self.handlers["tools/list"] = page


async def read(server: FakeServer, of: Peer | None = None, last: Inventory | None = None) -> Inventory:
    ids = count(1)
    return await read_inventory(server(), of or peer(), lambda: b"%d" % next(ids), last)


@virtual
async def test_items_keep_their_bytes_and_their_order() -> None:
    first = b'{"tools": [ {"name":"a" , "x":1.0e5},\n"odd", null, {"name":"b","\\u0061":"\\u00e9"} ],"nextCursor":"p2"}'
    server = Pages(first, b'{"tools":[{"name":"c"}]}')
    found = await read(server)
    assert found.lists["tools/list"] == ItemList(
        (b'{"name":"a" , "x":1.0e5}', b'"odd"', b"null", b'{"name":"b","\\u0061":"\\u00e9"}', b'{"name":"c"}')
    )
    assert server.cursors == ["first", "p2"]
    assert found.count("tools/list") == 5
    assert found.count("prompts/list") == 0
    assert found.unread == ()


@virtual
async def test_only_promised_lists_are_asked_for() -> None:
    server = FakeServer()
    found = await read(server, peer(resources={}, prompts=None, completions={}, tools=False))
    assert sorted(found.lists) == ["resources/list", "resources/templates/list"]
    assert [method for method, _ in server.asked] == ["resources/list", "resources/templates/list"]


@virtual
async def test_a_stateless_server_hears_who_asks_on_every_page() -> None:
    server = FakeServer(era=Era.STATELESS)
    server.handlers.update(Pages(b'{"tools":[],"nextCursor":"2"}', b'{"tools":[]}').handlers)
    await read(server, peer(Era.STATELESS))
    assert [params["_meta"][META_VERSION] for _, params in server.asked] == ["2026-07-28"] * 2


@given(cursors=st.lists(st.text(max_size=5), unique=True, max_size=5))
def test_any_cursor_is_sent_back_as_it_came(cursors: list[str]) -> None:
    @virtual
    async def run() -> None:
        pages = [b'{"tools":[1],"nextCursor":' + orjson.dumps(cursor) + b"}" for cursor in cursors]
        server = Pages(*pages, b'{"tools":[2],"nextCursor":null}')
        found = await read(server)
        assert server.cursors == ["first", *cursors]
        assert found.count("tools/list") == len(cursors) + 1

    run()


HOSTILE = [
    pytest.param([b'{"tools":[1],"nextCursor":"a"}'] * 2, id="the same cursor again"),
    pytest.param([b'{"tools":[],"nextCursor":"%d"}' % (i % 3) for i in range(9)], id="a cycle of cursors"),
    pytest.param([b'{"tools":[],"nextCursor":"%d"}' % i for i in range(1000)], id="pages without end"),
    pytest.param([b'{"tools":[],"nextCursor":""}'] * 3, id="an empty cursor again and again"),
    pytest.param([b'{"tools":[' + b"1," * 20_000 + b"1]}"], id="too many items"),
    pytest.param([b'{"tools":{}}'], id="no array"),
    pytest.param([b'{"tools":null}'], id="null"),
    pytest.param([b"{}"], id="nothing"),
    pytest.param([b'{"Tools":[]}'], id="another case"),
    pytest.param([b"[]"], id="an array as result"),
    pytest.param([b"7"], id="a number as result"),
    pytest.param([b'{"tools":[],"tools":[]}'], id="the list twice"),
    pytest.param([b'{"tools":[],"\\u0074ools":[]}'], id="the list twice, escaped"),
    pytest.param([Raw(error=b'{"code":-32603,"message":"x"}')], id="an error"),
    pytest.param([Raw(error=b"{}")], id="an error without code"),
    pytest.param([Raw(error=b'{"code":"-32601"}')], id="a code in quotes"),
    pytest.param([b'{"tools":[1],"nextCursor":"2"}', Raw(error=b'{"code":-32602}')], id="a second page refused"),
    pytest.param([BackendAnswerError("the connection broke")], id="a broken answer"),
]


@pytest.mark.parametrize("pages", HOSTILE)
@virtual
async def test_a_list_that_cannot_be_read_keeps_its_last_copy(pages: list[Any]) -> None:
    kept = ItemList((b"1",), 5, True)
    last = Inventory(peer(), {"tools/list": kept})
    found = await read(Pages(*pages), last=last)
    assert found.lists == {"tools/list": kept}
    assert found.unread == ("tools/list",)
    found = await read(Pages(*pages))
    assert found.lists == {}
    assert found.unread == ("tools/list",)


@virtual
async def test_one_bad_list_leaves_the_others() -> None:
    server = FakeServer(tools=[{"name": "a"}], prompts=[{"name": "p"}])
    server.handlers.update(Pages(b"7").handlers)
    found = await read(server, peer(tools={}, prompts={}))
    assert found.lists == {"prompts/list": ItemList((b'{"name":"p"}',))}


@virtual
async def test_a_promised_method_that_is_missing_is_an_empty_list() -> None:
    found = await read(Pages(Raw(error=b'{"code":-32601,"message":"no"}')))
    assert found.lists == {"tools/list": ItemList()}
    assert found.unread == ()


@virtual
async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    page = b'{"tools":["' + b"x" * 3_000 + b'"],"nextCursor":"%d"}'
    server = Pages(*[page % i for i in range(10)])
    assert (await read(server)).unread == ("tools/list",)
    assert len(server.cursors) == 4


@pytest.mark.parametrize("error", [BackendTimeout("slow"), BackendUnavailable("gone")])
@virtual
async def test_without_an_answer_there_is_no_inventory(error: Exception) -> None:
    with pytest.raises(type(error)):
        await read(Pages(error))


@virtual
async def test_a_slow_list_keeps_its_last_copy_and_a_dead_connection_is_told() -> None:
    last = Inventory(peer(), {"tools/list": ItemList((b"1",))})
    assert (await read(Pages(BackendTimeout("slow")), last=last)).unread == ("tools/list",)
    with pytest.raises(BackendUnavailable):
        await read(Pages(BackendUnavailable("gone")), last=last)


@virtual
async def test_a_page_has_a_deadline() -> None:
    seen: list[BackendCall] = []

    class Watching(FakeTransport):
        async def call(self, call: BackendCall) -> Envelope:
            seen.append(call)
            return await super().call(call)

    await read_inventory(Watching(Pages(b'{"tools":[]}')), peer(), lambda: b"1")
    assert [call.timeout_s for call in seen] == [module.PAGE_TIMEOUT_S]


HINTS = [
    # pages, ttl, public
    ([b'{"tools":[],"ttlMs":500,"cacheScope":"public"}'], 500, True),
    ([b'{"tools":[],"ttlMs":500,"cacheScope":"private"}'], 500, False),
    ([b'{"tools":[]}'], 0, False),
    ([b'{"tools":[],"ttlMs":-5,"cacheScope":"Public"}'], 0, False),
    ([b'{"tools":[],"ttlMs":"500","cacheScope":["public"]}'], 0, False),
    ([b'{"tools":[],"ttlMs":1.5,"cacheScope":null}'], 0, False),
    ([b'{"tools":[],"ttlMs":true,"cacheScope":true}'], 0, False),
    ([b'{"tools":[],"ttlMs":1e300}'], 0, False),
    (
        [
            b'{"tools":[],"ttlMs":500,"cacheScope":"public","nextCursor":"2"}',
            b'{"tools":[],"ttlMs":300,"cacheScope":"public","nextCursor":"3"}',
            b'{"tools":[],"ttlMs":400,"cacheScope":"public"}',
        ],
        300,
        True,
    ),
    ([b'{"tools":[],"ttlMs":500,"cacheScope":"public","nextCursor":"2"}', b'{"tools":[]}'], 0, False),
]


@pytest.mark.parametrize(("pages", "ttl_ms", "public"), HINTS)
@virtual
async def test_the_strictest_hint_of_all_pages_holds(pages: list[bytes], ttl_ms: int, public: bool) -> None:
    found = (await read(Pages(*pages))).lists["tools/list"]
    assert (found.ttl_ms, found.public) == (ttl_ms, public)
