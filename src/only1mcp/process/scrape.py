"""The application behind the metrics listener: one path that Prometheus scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from only1mcp.errors import Only1MCPError, error_message
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.origin import OriginPolicy
from only1mcp.metrics import Metrics


class ScrapeApplication:
    """Renders `metrics` at `path`; `sample` is called first, to set the gauges of the moment."""

    def __init__(self, metrics: Metrics, path: str, origin: OriginPolicy, sample: Callable[[], None]) -> None:
        self._metrics = metrics
        self._path = path.encode()
        self._origin = origin
        self._sample = sample

    def on_head(self, exchange: HttpExchange) -> None:
        """Refuse what is no scrape."""
        head = exchange.head
        try:
            self._origin.check(head)
        except Only1MCPError as error:
            exchange.respond(error.http_status, [(b"content-type", b"application/json")], error_message(error))
            return
        if head.target.partition(b"?")[0] != self._path:
            exchange.respond(404, [])
        elif head.method not in (b"GET", b"HEAD"):
            exchange.respond(405, [(b"allow", b"GET, HEAD")])

    def on_request(self, exchange: HttpExchange) -> Coroutine[Any, Any, None]:
        """Render beside the event loop: hundreds of backends take longer than a request may wait."""
        return self._answer(exchange)

    async def _answer(self, exchange: HttpExchange) -> None:
        self._sample()
        accept = (exchange.head.get(b"accept") or b"").decode("latin-1")
        content_type, body = await asyncio.to_thread(self._metrics.render, accept)
        exchange.respond(200, [(b"content-type", content_type.encode())], body)
