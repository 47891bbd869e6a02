"""The metrics listener: one path, for those who scrape, with the numbers of the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.mcp_caller import Caller, Fields

from only1mcp.frontend.limits import Limits, Timeouts
from only1mcp.frontend.listener import Listener
from only1mcp.frontend.origin import OriginPolicy
from only1mcp.metrics import Metrics
from only1mcp.process.scrape import ScrapeApplication


class Sampled:
    """Metrics with a gauge that is set at the moment of the scrape."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.scrapes = 0

    def sample(self) -> None:
        self.scrapes += 1
        self.metrics.connections_active(self.scrapes)


@pytest.fixture
def sampled() -> Sampled:
    return Sampled()


@pytest.fixture
async def scraper(sampled: Sampled) -> AsyncIterator[Caller]:
    application = ScrapeApplication(
        sampled.metrics, "/metrics", OriginPolicy("127.0.0.1", ("prometheus.example",), ()), sampled.sample
    )
    limits, timeouts = Limits(8192, 0, 10), Timeouts(10, 10, 10)
    listener = Listener(application, "127.0.0.1", 0, limits=limits, timeouts=timeouts)
    await listener.start()
    async with Caller(listener.port) as caller:
        yield caller
    await listener.aclose()


async def get(scraper: Caller, fields: Fields | None = None, *, method: str = "GET", path: str = "/metrics") -> str:
    reply = await scraper.send(
        method=method, path=path, fields={"content-type": None, "accept": None, **(fields or {})}
    )
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(("text/plain", "application/openmetrics-text"))
    return reply.body.decode()


async def test_every_scrape_sees_the_moment(scraper: Caller, sampled: Sampled) -> None:
    sampled.metrics.request_finished("tools/call", 200, 0.002)
    sampled.metrics.error("backend")
    first = await get(scraper)
    assert "\nonly1mcp_connections_active 1.0\n" in first
    assert 'only1mcp_requests_total{method="tools/call",status="2xx"} 1.0' in first
    assert 'only1mcp_errors_total{source="backend"} 1.0' in first
    assert "\nonly1mcp_connections_active 2.0\n" in await get(scraper, path="/metrics?x=1")


@pytest.mark.parametrize("accept", ["", "*/*", "text/plain", "application/openmetrics-text", "\xff", ";;q=,"])
async def test_any_accept_is_answered(scraper: Caller, accept: str) -> None:
    assert "only1mcp_build_info" in await get(scraper, {"accept": accept})


async def test_head(scraper: Caller) -> None:
    assert await get(scraper, method="HEAD") == ""
    assert "only1mcp_build_info" in await get(scraper)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/Metrics", "/%6detrics", "/health", "/mcp"])
async def test_other_paths(scraper: Caller, sampled: Sampled, path: str) -> None:
    assert (await scraper.send(method="GET", path=path)).status == 404
    assert sampled.scrapes == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
async def test_other_methods(scraper: Caller, sampled: Sampled, method: str) -> None:
    reply = await scraper.send(method=method, path="/metrics")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    assert sampled.scrapes == 0
    assert "only1mcp_build_info" in await get(scraper)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"accept": ["text/plain", "text/plain"]}, 400),
    ],
)
async def test_foreign_pages_and_hosts(scraper: Caller, fields: Fields, status: int) -> None:
    reply = await scraper.send(method="GET", path="/metrics", fields=fields)
    assert reply.status == status
    assert b"only1mcp_" not in reply.body
    assert "only1mcp_build_info" in await get(scraper, {"host": "prometheus.example"})


async def test_a_body_is_not_read(scraper: Caller, sampled: Sampled) -> None:
    reply = await scraper.send(b"x", method="GET", path="/metrics")
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert sampled.scrapes == 0
    assert await scraper.is_closed()
