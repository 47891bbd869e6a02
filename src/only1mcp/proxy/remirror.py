"""Calls whose headers a backend has refused: its tools are read again, and the call is made once more.

MCP 2026-07-28, "Custom Headers from Tool Parameters". Which arguments are mirrored may change at any time; a server
that finds other headers than it wants refuses the request before it does anything, so that nothing is done twice.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import orjson

from only1mcp._fast import members
from only1mcp.backend.base import Passed
from only1mcp.errors import HeadersRefused, ProtocolError
from only1mcp.proxy.call import Answer, perform
from only1mcp.proxy.catalog import annotations_of
from only1mcp.proxy.route import Target
from only1mcp.wire import jsonrpc
from only1mcp.wire.mcp import HEADER_MISMATCH

if TYPE_CHECKING:
    from only1mcp.backend.endpoint import Endpoint
    from only1mcp.backend.inventory import Inventory
    from only1mcp.metrics import Metrics
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.wire.mirror import Annotation

log = logging.getLogger("only1mcp.proxy")

# No call waits longer for the tools to be read again. What is being read meanwhile may have been asked for before.
WAIT_S: Final = 10.0
MAX_READINGS: Final = 2


async def call_again(
    exchange: Exchange, target: Target, metrics: Metrics, request_s: float, refused: HeadersRefused
) -> Answer:
    """Return the answer to the call with the headers that its tool wants now; raise `refused` where that is no help."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + request_s
    endpoint = target.group.endpoints.get(exchange.backend or "")
    item = target.item
    if endpoint is None or item is None or endpoint.config.transport != "http":
        raise refused
    wanted = await _annotations(endpoint, item.original, item.annotations, min(WAIT_S, request_s))
    fields = {"backend": endpoint.id, "tool": item.original, "changed": wanted is not None}
    log.info("backend.headers_refused", extra={"fields": fields})
    if wanted is None:
        raise refused
    again = Target(target.group, target.original, target.replace, replace(item, annotations=wanted), target.hash_key)
    answer = await perform(exchange, again, metrics, deadline - loop.time(), first=endpoint)
    if _is_refusal(answer):
        raise refused
    return answer


async def _annotations(
    endpoint: Endpoint, tool: str, known: tuple[Annotation, ...], timeout_s: float
) -> tuple[Annotation, ...] | None:
    """Return which arguments are mirrored now, None where it is the same as was `known`, or cannot be known."""
    asked_at = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(timeout_s):
            for _ in range(MAX_READINGS):
                # Another call may have had them read already.
                found = _listed(endpoint.inventory, tool)
                if found != known or endpoint.read_at >= asked_at:
                    break
                endpoint.reread()
                await endpoint.lists_read.wait()
    except TimeoutError:
        return None
    found = _listed(endpoint.inventory, tool)
    return None if found == known else found


def _listed(inventory: Inventory | None, tool: str) -> tuple[Annotation, ...] | None:
    offered = None if inventory is None else inventory.lists.get("tools/list")
    for raw in () if offered is None else offered.items:
        try:
            name = members(raw, 0, len(raw)).get("name")
            if name is not None and jsonrpc.decode(raw, name) == tool:
                return annotations_of(raw)
        except (ProtocolError, ValueError):
            continue
    return None


def _is_refusal(answer: Answer) -> bool:
    if isinstance(answer.outcome, Passed) or answer.message.error is None:
        return False
    error = orjson.loads(answer.message.data[slice(*answer.message.error)])
    return isinstance(error, dict) and error.get("code") == HEADER_MISMATCH
