"""The whole proxy inside a test: a worker on a free port, with the backends that the test serves itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from tests.mcp_backend import Backend

from only1mcp.config.schema import Auth, BackendConfig, Config, Metrics, Proxy
from only1mcp.process.worker import Worker


def configured(
    *backends: Backend, auth: Auth | None = None, metrics: Metrics | None = None, each: Any = None, **proxy: Any
) -> Config:
    """Return a configuration with the backends as `b0`, `b1`, ...; `each` holds settings that all of them share."""
    servers = tuple(
        BackendConfig(id=f"b{number}", transport="http", url=backend.url, **(each or {}))
        for number, backend in enumerate(backends)
    )
    return Config(
        version="1.0",
        proxy=Proxy(port=0, **proxy),
        auth=auth or Auth(),
        metrics=metrics or Metrics(enabled=False),
        servers=servers,
    )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Worker]:
    """Serve `config`, and leave nothing behind."""
    worker = Worker(config)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.stop(0)


@asynccontextmanager
async def proxied(*backends: Backend, **settings: Any) -> AsyncIterator[int]:
    """Serve the backends too, and give the port of the proxy."""
    async with AsyncExitStack() as stack:
        for backend in backends:
            await stack.enter_async_context(backend)
        worker = await stack.enter_async_context(running(configured(*backends, **settings)))
        assert worker.listener is not None
        yield worker.listener.port
