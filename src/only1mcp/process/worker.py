"""One process with one event loop: puts the parts together, serves until it is told to stop, leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from importlib import import_module
from typing import Any, Protocol

from only1mcp.admin.api import AdminApi
from only1mcp.backend.endpoint import Endpoint
from only1mcp.backend.loglevel import LogLevels
from only1mcp.backend.registry import Registry
from only1mcp.config.schema import TLS, Config
from only1mcp.errors import ConfigError, Only1MCPError
from only1mcp.frontend.http_exchange import Application
from only1mcp.frontend.legacy_sse import STOP_S
from only1mcp.frontend.listener import Limits, Listener, Timeouts
from only1mcp.frontend.origin import OriginPolicy
from only1mcp.frontend.session import SESSION_LIFETIME_S, SessionSealer
from only1mcp.metrics import Metrics
from only1mcp.process import descriptors
from only1mcp.process.memory import keep_freed_memory
from only1mcp.process.notify import READY, STOPPING, notify
from only1mcp.process.scrape import ScrapeApplication
from only1mcp.proxy.asker import ClientAsker
from only1mcp.proxy.audience import ClientAudience
from only1mcp.proxy.auth import Authenticator
from only1mcp.proxy.cache import ResponseCache
from only1mcp.proxy.catalog import Catalog
from only1mcp.proxy.desk import Desk
from only1mcp.proxy.exchange import Snapshot
from only1mcp.proxy.group import make_groups
from only1mcp.proxy.hub import Hub
from only1mcp.proxy.pages import PAGES_SHARE
from only1mcp.proxy.parking import Lot
from only1mcp.proxy.pipeline import Pipeline
from only1mcp.proxy.ratelimit import RateLimiter
from only1mcp.proxy.sessions import Sessions
from only1mcp.proxy.tasks import Tasks

log = logging.getLogger("only1mcp.process")

# How long the first answers wait for backends that are still coming up: a client that connects at once should not be
# told of an empty catalog, and one dead backend should not keep the others from serving.
SETTLE_S = 2.0
# The same for a client that launched us: it asks for the lists once, and gives up after ten seconds (official SDKs).
DOOR_SETTLE_S = 8.0
# Objects made and not freed before the youngest generation is searched for cycles, and how much rarer the older ones
# are. Python's own 700 means a search every few requests.
COLLECT_AFTER = (20_000, 20, 20)
# The metrics listener serves scrapers only.
SCRAPE_CONNECTIONS = 100
# A session that cannot be told from its process, and ends with it, must not end before (ten years).
DOOR_SESSION_S = 10 * 365 * 24 * 3600


class Door(Protocol):
    """A way in for one client, where no address is listened on."""

    async def serve(self, app: Application) -> None:
        """Serve until the client has gone."""

    async def drain(self, timeout_s: float) -> None:
        """Finish what is in flight, then end it; may be called at any time."""


class Worker:
    """Everything that serves one configuration, from `start` to `stop`; with a `door`, to its client alone."""

    def __init__(self, config: Config, door: Door | None = None) -> None:
        self.config = config
        self.door = door
        self.metrics = Metrics()
        self.registry = Registry(config, self._backends_changed, self._stale)
        self.groups = make_groups(self.registry.endpoints.values(), config.proxy.load_balancer)
        # Everything that clients carry for us is sealed with keys made of this one.
        self.key = os.urandom(32)
        self.levels = LogLevels(self.registry.endpoints.values(), self.registry.tell_level)
        sessions = Sessions(self.levels)
        self.desk = Desk(hub=Hub(self.groups, age_s=config.proxy.cache.ttl_seconds), sessions=sessions)
        self.desk.on_session_ended = self.registry.session_ended
        self.desk.on_roots_changed = self.registry.roots_changed
        self.registry.introduce(ClientAudience(self.desk, sessions.level_of), sessions.level_of)
        input_s = config.proxy.timeouts.input_s
        self.desk.asker = ClientAsker(self.desk.worker, input_s, self.metrics, self.desk.hub.tell)
        self.desk.lot = Lot(self.key, worker=self.desk.worker, input_s=input_s, wall_clock=time.time)
        lasting = config.state.key
        self.desk.tasks = Tasks(self.key if lasting is None else blake2b(lasting.reveal().encode()).digest()[:32])
        self._inventories: tuple[object, ...] = ()
        cache, limit = config.proxy.cache, config.auth.rate_limit
        limit_bytes = cache.max_size_mb << 20
        self.cache = (
            ResponseCache(limit_bytes - limit_bytes // PAGES_SHARE, int(cache.ttl_seconds * 1000), self.metrics)
            if cache.enabled
            else None
        )
        self.pipeline = Pipeline(
            self._snapshot(),
            origin=OriginPolicy(config.proxy.host, config.proxy.allowed_hosts, config.proxy.allowed_origins),
            authenticator=Authenticator(config.auth, clock=time.time),
            limiter=None if limit is None else RateLimiter(limit.requests_per_minute, limit.burst),
            sealer=SessionSealer(self.key, self.desk.worker, SESSION_LIFETIME_S if door is None else DOOR_SESSION_S),
            cache=self.cache,
            metrics=self.metrics,
            wall_clock=time.time,
            admin=AdminApi(
                config.admin.api_key,
                cache=self.cache,
                pages=lambda: self.pipeline.snapshot.pages,
                metrics=self.metrics,
                limit_bytes=limit_bytes,
            ).answer,
        )
        self.listener: Listener | None = None
        self.scraper: Listener | None = None

    async def start(self) -> None:
        """Bind, connect the backends, then answer clients; those that come early wait for `SETTLE_S` at most.

        Raise `Only1MCPError` with one line for an address that cannot be had, `ConfigError` for names that collide
        under `naming: bare` or a certificate that cannot be read.
        """
        if self.door is None:
            await self._bind()
        settle_s = SETTLE_S if self.door is None else DOOR_SETTLE_S
        await self.registry.start(settle_s)
        self._refresh()
        collisions = self.pipeline.snapshot.catalog.collisions
        if self.config.proxy.naming == "bare" and collisions:
            raise ConfigError([f"proxy.naming: bare names collide: {collision}" for collision in collisions])
        self.pipeline.open()

    async def _bind(self) -> None:
        proxy, metrics = self.config.proxy, self.config.metrics
        tls = _tls_context(proxy.tls) if proxy.tls.enabled else None
        timeouts = Timeouts(proxy.timeouts.header_s, proxy.timeouts.request_s, proxy.timeouts.idle_s)
        limits = Limits(proxy.limits.max_header_kb << 10, proxy.limits.max_body_mb << 20, proxy.limits.max_connections)
        self.listener = Listener(
            self.pipeline,
            proxy.host,
            proxy.port,
            limits=limits,
            timeouts=timeouts,
            ssl=tls,
            on_refused=self._refused,
        )
        await self.listener.start()
        if metrics.enabled:
            self.scraper = Listener(
                ScrapeApplication(
                    self.metrics, metrics.path, OriginPolicy(metrics.host, proxy.allowed_hosts, ()), self._sample
                ),
                metrics.host,
                metrics.port,
                limits=Limits(limits.max_header_bytes, 0, SCRAPE_CONNECTIONS),
                timeouts=timeouts,
            )
            try:
                await self.scraper.start()
            except Only1MCPError as error:
                raise Only1MCPError(f"metrics: {error.message}") from error

    async def stop(self, drain_s: float) -> None:
        """Finish what is in flight within `drain_s`, then close everything; may be called at any stage of `start`."""
        self.pipeline.close()
        await self.desk.aclose()
        if self.door is not None:
            await self.door.drain(drain_s)
        if self.listener is not None:
            # Streams of clients end by themselves; each of them is a request that would be waited for.
            late_s = STOP_S if len(self.pipeline.sse) else 0.0
            await asyncio.gather(self.pipeline.sse.drain(drain_s), self.listener.drain(drain_s + late_s))
            await self.listener.aclose()
        await self.registry.aclose()
        if self.scraper is not None:
            await self.scraper.aclose()

    def _refused(self, _peer: str, error: Only1MCPError) -> None:
        """Count an answer that was given before there was a request to speak of."""
        self.metrics.request_finished(None, error.http_status, 0.0)
        self.metrics.error(error.source)

    def _backends_changed(self) -> None:
        for endpoint in self.registry.endpoints.values():
            self.metrics.backend_up(endpoint.id, endpoint.peer is not None)
        self.levels.renew()
        self._refresh()

    def _stale(self, endpoint: Endpoint, kind: str | None, uri: str | None) -> None:
        """Forget what a backend has said to be no longer true, before its lists are read again."""
        if self.cache is not None:
            self.cache.invalidate(endpoint.config.group, kind, uri)
        if uri is not None:
            self.desk.hub.updated(endpoint.config.group, uri)

    def _refresh(self) -> None:
        inventories = tuple(group.inventory for group in self.groups.values())
        if len(inventories) != len(self._inventories) or any(
            new is not old for new, old in zip(inventories, self._inventories, strict=True)
        ):
            for group, old in zip(self.groups, self._inventories or inventories, strict=True):
                if self.cache is not None and old is not self.groups[group].inventory:
                    self.cache.invalidate(group)
            self._inventories = inventories
            self.pipeline.snapshot = self._snapshot()
            self.desk.hub.catalog_changed(self.pipeline.snapshot.catalog)

    def _snapshot(self) -> Snapshot:
        proxy = self.config.proxy
        return Snapshot(self.config, self.groups, Catalog(self.groups, proxy.naming, proxy.cache), self.desk)

    def _sample(self) -> None:
        """Set the gauges that are only true at the moment of a scrape."""
        if self.listener is not None:
            self.metrics.connections_active(self.listener.connections)
        if self.cache is not None:
            pages = self.pipeline.snapshot.pages
            self.metrics.cache_size(len(self.cache) + len(pages), self.cache.used_bytes + pages.used_bytes)
        self.metrics.stdio_children(self.registry.children)


def _tame_garbage_collector() -> None:
    """Keep the collector off what lives as long as we do, and let requests, which end without cycles, pass it by."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def run(config: Config, on_started: Callable[[Worker], None], door: Door | None = None) -> None:
    """Serve until SIGTERM or SIGINT; raise as `Worker.start` does. A second SIGINT ends the drain at once.

    With a `door` nothing listens, and the client's leaving is the end as well.
    """
    keep_freed_memory()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(config, on_started, door))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with contextlib.suppress(ImportError):
        factory: Callable[[], asyncio.AbstractEventLoop]
        factory = import_module("winloop" if os.name == "nt" else "uvloop").new_event_loop
        return factory
    log.warning("loop.fallback", extra={"fields": {"reason": "uvloop is not installed; asyncio's own loop is slower"}})
    return None


async def _serve(config: Config, on_started: Callable[[Worker], None], door: Door | None) -> None:
    stop = asyncio.Event()
    hurry = asyncio.Event()
    _install_signals(stop, hurry)
    descriptors.allow(descriptors.wanted(config))
    worker = Worker(config, door)
    drain_s = 0.0
    try:
        if await _unless(stop, worker.start()):
            _tame_garbage_collector()
            on_started(worker)
            notify(READY)
            if door is None:
                await stop.wait()
            else:
                await _unless(stop, door.serve(worker.pipeline))
            drain_s = config.proxy.timeouts.drain_s
            log.info("process.stopping", extra={"fields": {"drain_s": drain_s}})
            notify(STOPPING)
    finally:
        if not await _unless(hurry, worker.stop(drain_s)):
            await worker.stop(0.0)


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, or stop it when the event is set first; tell whether it was completed."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if task.done():
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def _install_signals(stop: asyncio.Event, hurry: asyncio.Event) -> None:
    def on_stop() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    def on_hangup() -> None:
        log.warning("process.reload_ignored", extra={"fields": {"reason": "restart to apply a new configuration"}})

    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # Nobody can send SIGTERM there; Ctrl-Break is what ends a process group, and what service managers send.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(on_stop))
        return
    loop.add_signal_handler(signal.SIGINT, on_stop)
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def _tls_context(tls: TLS) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    assert tls.cert is not None
    assert tls.key is not None
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            [f"proxy.tls: cannot use the certificate {tls.cert!r} with the key {tls.key!r}: {error.strerror or error}"]
        ) from error
    return context
