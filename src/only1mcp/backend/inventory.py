"""What a backend offers: its lists, read page by page and kept as the bytes that came."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import orjson

from only1mcp._fast import ERROR, Envelope, elements, members
from only1mcp.backend.base import CALLER, BackendCall, Transport
from only1mcp.backend.era import Peer
from only1mcp.errors import METHOD_NOT_FOUND, BackendAnswerError, BackendTimeout, ProtocolError
from only1mcp.wire import jsonrpc, mcp
from only1mcp.wire.eras import Caller, own_params

log = logging.getLogger("only1mcp.backend")

# A backend that pages for ever, or lists without end, would fill our memory and never finish its refresh.
MAX_PAGES = 100
MAX_ITEMS = 20_000
MAX_BYTES = 64 << 20
# Longer than any sane server needs, short enough not to hang a refresh.
PAGE_TIMEOUT_S = 30.0

# Servers list more to clients that declare these. What a client makes of it is its own matter.
LISTING: Final = Caller(
    CALLER.client_info, orjson.dumps({"extensions": {mcp.TASKS_EXTENSION: {}, mcp.UI_EXTENSION: mcp.UI_SETTINGS}})
)

Ask = Callable[[str, dict[str, bytes]], Awaitable[Envelope]]


@dataclass(frozen=True, slots=True)
class ItemList:
    """One list: the JSON text of each item, and how long the backend says it stays true (stateless era).

    Gateways count that time down, so it does not make two lists different.
    """

    items: tuple[bytes, ...] = ()
    ttl_ms: int = field(default=0, compare=False)
    public: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """All lists of one endpoint, by list method; `peer` is who offers them.

    `unread` are the methods whose list could not be read: it is the last good one, or missing.
    """

    peer: Peer
    lists: dict[str, ItemList] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def count(self, method: str) -> int:
        found = self.lists.get(method)
        return 0 if found is None else len(found.items)


async def read_inventory(
    transport: Transport, peer: Peer, next_id: Callable[[], bytes], last: Inventory | None = None
) -> Inventory:
    """Read every list that the peer's capabilities promise, each page within `PAGE_TIMEOUT_S`.

    A list that cannot be read keeps its last good copy from `last`. Raise `BackendError` for a dead connection, and for
    one that gives no answer in time where there is no last copy.
    """

    async def ask(method: str, fields: dict[str, bytes]) -> Envelope:
        id = next_id()
        params = own_params(peer.era, peer.revision, LISTING, fields)
        return await transport.call(BackendCall(method, jsonrpc.request(id, method, params), id, PAGE_TIMEOUT_S))

    lists: dict[str, ItemList] = {}
    unread: list[str] = []
    for method in mcp.LIST_METHODS:
        if not peer.offers(mcp.CAPABILITY_OF[method]):
            continue
        kept = None if last is None else last.lists.get(method)
        try:
            lists[method] = await _read_list(method, ask)
        except (ProtocolError, BackendAnswerError, BackendTimeout) as error:
            if kept is None and isinstance(error, BackendTimeout):
                raise
            log.warning("backend.list_failed", extra={"fields": {"method": method, "reason": error.message}})
            unread.append(method)
            if kept is not None:
                lists[method] = kept
    return Inventory(peer, lists, tuple(unread))


async def _read_list(method: str, ask: Ask) -> ItemList:
    key = mcp.LIST_METHODS[method]
    items: list[bytes] = []
    cursor: bytes | None = None
    seen: set[bytes] = set()
    ttl_ms: int | None = None
    public = True
    size = 0
    for _ in range(MAX_PAGES):
        answer = await ask(method, {} if cursor is None else {"cursor": cursor})
        if answer.kind == ERROR:
            return _refused(method, answer)
        data = answer.data
        assert answer.result is not None
        fields = members(data, *answer.result)
        if key not in fields or data[fields[key][0] : fields[key][0] + 1] != b"[":
            raise BackendAnswerError(f"{method} answered without an array {key!r}")
        items.extend(data[start:end] for start, end in elements(data, *fields[key]))
        page_ttl = jsonrpc.decode(data, fields["ttlMs"]) if "ttlMs" in fields else 0
        page_ttl = page_ttl if type(page_ttl) is int and page_ttl > 0 else 0
        ttl_ms = page_ttl if ttl_ms is None else min(ttl_ms, page_ttl)
        public = public and "cacheScope" in fields and jsonrpc.decode(data, fields["cacheScope"]) == "public"
        size += len(data)
        if len(items) > MAX_ITEMS or size > MAX_BYTES:
            raise BackendAnswerError(f"{method} lists more than {MAX_ITEMS} items or {MAX_BYTES >> 20} MiB")
        if "nextCursor" not in fields:
            return ItemList(tuple(items), ttl_ms, public)
        cursor = data[slice(*fields["nextCursor"])]
        if cursor == b"null":
            return ItemList(tuple(items), ttl_ms, public)
        if cursor in seen:
            raise BackendAnswerError(f"{method} gave the cursor {cursor.decode()[:40]} twice")
        seen.add(cursor)
    raise BackendAnswerError(f"{method} has more than {MAX_PAGES} pages")


def _refused(method: str, answer: Envelope) -> ItemList:
    assert answer.error is not None
    error = orjson.loads(answer.data[slice(*answer.error)])
    if isinstance(error, dict) and error.get("code") == METHOD_NOT_FOUND:
        return ItemList()  # promised by the capability and not there: commonly templates beside resources
    raise BackendAnswerError(f"{method} was refused: {str(error)[:200]}")
