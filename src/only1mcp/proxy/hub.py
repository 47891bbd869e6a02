"""Who wants to hear of what: lists that change, resources that change, for clients of both eras.

A client is told once for each change of what it sees itself, however many backends came, went or were read again. What
it is told of a resource comes from one subscription at the backend that has it (`proxy.topics`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp.errors import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Only1MCPError,
    Overloaded,
    ProtocolError,
    RequestRefused,
    error_message,
)
from only1mcp.proxy import uris
from only1mcp.proxy.capabilities import offers_tasks
from only1mcp.proxy.desk import Work
from only1mcp.proxy.listeners import Listener, SessionListener, view_of
from only1mcp.proxy.silent import SilentBackends
from only1mcp.proxy.task_watch import MAX_WATCHES, MAX_WATCHES_EACH, TaskWatch
from only1mcp.proxy.tasks import require
from only1mcp.proxy.topics import Topics
from only1mcp.proxy.views import Views
from only1mcp.wire import jsonrpc, listen
from only1mcp.wire.listen import MAX_URI_CHARS, MAX_URIS, Filter
from only1mcp.wire.mcp import RESOURCE_NOT_FOUND, STATELESS
from only1mcp.wire.tasks import retold

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.proxy.catalog import Catalog
    from only1mcp.proxy.exchange import Exchange
    from only1mcp.proxy.group import Group

# Backends that come back together make one change: it is told when nothing has changed for the first time, and at the
# latest after the second.
DELAY_S: Final = 0.1
MAX_DELAY_S: Final = 1.0
# Backends tell of a resource more often than clients can read it; what comes within this time is told once.
UPDATE_DELAY_S: Final = 0.02
# A backend that does not answer by then has its resources left out of the acknowledgement.
ACKNOWLEDGE_S: Final = 5.0
# Listens of one principal; all anonymous clients are one, and have as many as there may be connections.
MAX_LISTENS: Final = 1024
# Clients told in one turn of the event loop.
TOLD_AT_ONCE: Final = 200
# The default of `proxy.cache.ttl_seconds`.
AGE_S: Final = 300.0
# What a session subscribed to is kept this long without a stream.
LINGER_S: Final = 3600.0


class Hub:
    """All listeners of one process. `wall_clock` is Unix time, by which sessions expire.

    `age_s` is how old the lists of a backend that tells of no changes may become while somebody listens.
    """

    def __init__(
        self, groups: Mapping[str, Group], wall_clock: Callable[[], float] = time.time, age_s: float = AGE_S
    ) -> None:
        self._groups = groups
        self._silent = SilentBackends(groups, age_s, self._is_heard)
        self._topics = Topics(groups, self.updated)
        self._wall_clock = wall_clock
        self._catalog: Catalog | None = None
        self._views: Views | None = None
        self._listeners: dict[Listener, None] = {}
        self._listens: dict[str, int] = {}
        self._sessions: dict[str, SessionListener] = {}
        self._watches: Counter[str] = Counter()
        self._pending: dict[tuple[str, str, str], None] = {}
        self._update_timer: asyncio.TimerHandle | None = None
        self._change_timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """How many streams are open or about to be, and how many sessions are remembered."""
        return len(self._listeners) + len(self._sessions)

    def listen(self, exchange: Exchange, message: Envelope) -> None:
        """`subscriptions/listen`: begin the stream; raise `RequestRefused`, `ProtocolError`."""
        self._check_open()
        assert exchange.principal is not None
        wanted = self._allowed(exchange, message, listen.parse(message))
        count = self._listens.get(exchange.principal.id, 0)
        if count >= MAX_LISTENS and exchange.principal.kind != "anonymous":
            raise Overloaded("too many listens", data={"hint": "end one, or ask for more in one"})
        self._listens[exchange.principal.id] = count + 1
        self._silent.watch()
        listener = Listener(exchange, self._listener_ended, self._wall_clock)
        self._listeners[listener] = None
        if wanted.uris or wanted.task_ids:
            exchange.http.defer(listener.gone)
            self._spawn(self._begin(listener, wanted, exchange))
        else:
            listener.open(Filter(wanted.kinds), self._views_for(exchange))

    def attach(self, exchange: Exchange, last_event_id: str | None) -> None:
        """Make this GET exchange the session's stream of notifications.

        Answer 409 where it has one already: to take it over would let two clients with one session steal it from each
        other for ever.
        """
        self._check_open()
        told = None
        if last_event_id is not None:
            told = view_of(last_event_id)
            if told is None:
                _refuse(exchange, 400, RequestRefused("Last-Event-ID is not one of ours", code=INVALID_PARAMS))
                return
        session = self._session(exchange)
        if session.attached:
            error = RequestRefused("this session has a stream already", code=INVALID_REQUEST)
            _refuse(exchange, 409, error)
            return
        self._silent.watch()
        session.open(exchange, told, self._views_for(exchange))
        self._remember(session, exchange)

    def subscribe(self, exchange: Exchange, message: Envelope, *, on: bool) -> Work:
        """`resources/subscribe` and `resources/unsubscribe`."""
        self._check_open()
        assert exchange.session is not None
        catalog = exchange.snapshot.catalog
        if not catalog.capabilities.get("resources", {}).get("subscribe"):
            raise RequestRefused("no backend offers subscriptions", code=METHOD_NOT_FOUND, http_status=404)
        if message.uri is None:
            raise ProtocolError("params.uri must be a string", code=INVALID_PARAMS)
        uri = jsonrpc.decode_string(message.data, message.uri)
        if len(uri) > MAX_URI_CHARS:
            raise ProtocolError(f"params.uri is longer than {MAX_URI_CHARS} characters", code=INVALID_PARAMS)
        if on:
            if catalog.resource_owner(uri) is None:
                raise RequestRefused(f"unknown resource: {uri[:200]}", code=RESOURCE_NOT_FOUND, data={"uri": uri})
            return self._subscribe(exchange, uri)
        session = self._sessions.get(exchange.session.id)
        if session is not None:
            self._topics.remove(session, uri)
            session.forget(uri)
            self._tidy(session)
        exchange.reply(200, jsonrpc.result(exchange.id, b"{}"))
        return None

    def catalog_changed(self, catalog: Catalog) -> None:
        """The merged view may be another; those who asked are told once for any number of changes at a time."""
        self._catalog = catalog
        self._views = Views(catalog)
        self._topics.move(catalog)
        if not len(self) or self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._due is None:
            self._due = loop.time() + MAX_DELAY_S
        if self._change_timer is not None:
            self._change_timer.cancel()
        self._change_timer = loop.call_later(max(0.0, min(DELAY_S, self._due - loop.time())), self._tell_of_lists)

    def updated(self, group: str, uri: str, owner: str = "") -> None:
        """A backend says that this resource of its own has changed, an instance of it that it has for its owner."""
        if self._closed or not self._topics or (group, uri, owner) in self._pending:
            return
        if any(True for _ in self._topics.interested(group, uri, owner)):
            self._pending[group, uri, owner] = None
            if self._update_timer is None:
                loop = asyncio.get_running_loop()
                self._update_timer = loop.call_later(UPDATE_DELAY_S, self._tell_of_resources)

    def tell(self, session_id: str, message: bytes) -> bool:
        """Say this on the stream of the session; False: it has none."""
        session = self._sessions.get(session_id)
        return session is not None and session.say(message)

    def ended(self, session_id: str) -> None:
        """The session was deleted, or has expired."""
        session = self._sessions.pop(session_id, None)
        if session is not None:
            session.over = True
            if session.timer is not None:
                session.timer.cancel()
            for uri in session.uris:
                self._topics.remove(session, uri)
            session.uris.clear()
            session.close()

    async def aclose(self) -> None:
        """End every stream in order."""
        self._closed = True
        self._silent.close()
        for timer in (self._change_timer, self._update_timer):
            if timer is not None:
                timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._topics.aclose()
        for listener in list(self._listeners):
            listener.close()
        for session_id in list(self._sessions):
            self.ended(session_id)

    async def _begin(self, listener: Listener, wanted: Filter, exchange: Exchange) -> None:
        """Ask the backends for resources and tasks, then acknowledge those that are watched."""
        loop = asyncio.get_running_loop()
        catalog = exchange.snapshot.catalog
        asked = {uri: loop.create_task(self._topics.add(listener, uri, catalog), name="listen") for uri in wanted.uris}
        watching = self._spawn(self._watch_tasks(listener, wanted, exchange))
        try:
            await asyncio.wait([*asked.values(), watching], timeout=ACKNOWLEDGE_S)
        finally:
            for task in asked.values():
                task.cancel()
            outcomes = await asyncio.gather(*asked.values(), return_exceptions=True)
            granted = tuple(uri for uri, error in zip(asked, outcomes, strict=True) if error is None)
            listener.uris = granted
            await asyncio.gather(watching, return_exceptions=True)
        if listener.over:
            self._leave(listener)
            return
        try:
            listener.open(Filter(wanted.kinds, granted, listener.task_ids), self._views_for(exchange))
        except Exception:
            listener.gone()
            raise

    async def _watch_tasks(self, listener: Listener, wanted: Filter, exchange: Exchange) -> None:
        desk = exchange.snapshot.desk.tasks
        places = {id: place for id in wanted.task_ids if (place := desk.find(exchange, id)) is not None}
        each = self._watches.get(listener.principal_id, 0)
        if not places or listener.over or each >= MAX_WATCHES_EACH or self._watches.total() >= MAX_WATCHES:
            return
        self._watches[listener.principal_id] += 1

        def on_task(id: str, message: Envelope) -> None:
            told, catalog = retold(message, orjson.dumps(id), listener.id), self._catalog
            if catalog is not None and catalog.rewrites_uris:
                group = places[id].group.id
                told = uris.rewrite(told, "notifications/tasks", lambda uri: catalog.public_uri(group, uri))
            listener.task_told(id, told)

        listener.watch = TaskWatch(exchange.owner, places, on_task, listener.end)
        listener.task_ids = await listener.watch.open(self._spawn, ACKNOWLEDGE_S)

    def _allowed(self, exchange: Exchange, message: Envelope, wanted: Filter) -> Filter:
        """Return the filter without what nobody can grant; raise `RequestRefused` for tasks that are not declared."""
        if not offers_tasks(exchange.snapshot.catalog.capabilities, STATELESS):
            return Filter(wanted.kinds, wanted.uris)
        if wanted.task_ids:
            require(message)
        return wanted

    async def _subscribe(self, exchange: Exchange, uri: str) -> None:
        session = self._session(exchange)
        session.busy += 1
        try:
            if len(session.uris) >= MAX_URIS and uri not in session.uris:
                raise Overloaded(f"one session may subscribe to {MAX_URIS} resources")
            await self._topics.add(session, uri, exchange.snapshot.catalog)
            if session.over:
                self._topics.remove(session, uri)
                raise RequestRefused("the session has ended", code=INVALID_REQUEST, http_status=404)
            session.uris.add(uri)
            self._remember(session, exchange)
        except Only1MCPError as error:
            exchange.refuse(error)
        else:
            exchange.reply(200, jsonrpc.result(exchange.id, b"{}"))
        finally:
            session.busy -= 1
            self._tidy(session)

    def _session(self, exchange: Exchange) -> SessionListener:
        assert exchange.session is not None
        session = self._sessions.get(exchange.session.id)
        if session is None:
            session = SessionListener(exchange, self._detached, self._wall_clock)
            self._sessions[exchange.session.id] = session
            self._remember(session, exchange)
        return session

    def _remember(self, session: SessionListener, exchange: Exchange) -> None:
        """Keep the session until it expires, or for `LINGER_S` without a stream."""
        assert exchange.session is not None
        if session.timer is not None:
            session.timer.cancel()
        left_s = max(0.0, min(exchange.session.expires_at - self._wall_clock(), 2 * 24 * LINGER_S))
        if not session.attached:
            left_s = min(left_s, LINGER_S)
        session.timer = asyncio.get_running_loop().call_later(left_s, self.ended, session.session_id)

    def _detached(self, session: SessionListener) -> None:
        if session.over:
            return
        if session.timer is not None:
            loop = asyncio.get_running_loop()
            when = min(session.timer.when(), loop.time() + LINGER_S)
            session.timer.cancel()
            session.timer = loop.call_at(when, self.ended, session.session_id)
        self._tidy(session)

    def _tidy(self, session: SessionListener) -> None:
        """Forget a session that has neither a stream nor subscriptions."""
        if not (session.attached or session.uris or session.busy or session.over):
            self.ended(session.session_id)

    def _listener_ended(self, listener: Listener) -> None:
        del self._listeners[listener]
        left = self._listens[listener.principal_id] - 1
        if left > 0:
            self._listens[listener.principal_id] = left
        else:
            del self._listens[listener.principal_id]
        self._leave(listener)

    def _leave(self, listener: Listener) -> None:
        for uri in listener.uris:
            self._topics.remove(listener, uri)
        watch, listener.watch = listener.watch, None
        if watch is not None:
            watch.close()
            self._watches[listener.principal_id] -= 1
            if not self._watches[listener.principal_id]:
                del self._watches[listener.principal_id]

    def _is_heard(self) -> bool:
        return bool(self._listeners) or any(session.attached for session in self._sessions.values())

    def _tell_of_lists(self) -> None:
        self._change_timer = self._due = None
        self._spawn(self._look([*self._listeners, *self._sessions.values()]))

    async def _look(self, everybody: list[Listener | SessionListener]) -> None:
        for number, one in enumerate(everybody, 1):
            if self._views is not None:
                one.look(self._views)
            if number % TOLD_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _tell_of_resources(self) -> None:
        self._update_timer = None
        pending, self._pending = self._pending, {}
        self._spawn(self._say(list(pending)))

    async def _say(self, changes: list[tuple[str, str, str]]) -> None:
        number = 0
        for group, original, owner in changes:
            told = [
                (who, topic.uri if same or self._catalog is None else self._catalog.public_uri(group, original))
                for topic, same in self._topics.interested(group, original, owner)
                for who in topic.wanting
            ]
            for who, uri in dict.fromkeys(told):
                if not who.over:
                    who.updated(uri)
                number += 1
                if number % TOLD_AT_ONCE == 0:
                    await asyncio.sleep(0)

    def _views_for(self, exchange: Exchange) -> Views:
        if self._views is None:
            self._catalog = exchange.snapshot.catalog
            self._views = Views(self._catalog)
        return self._views

    def _check_open(self) -> None:
        if self._closed:
            raise Overloaded("the proxy is shutting down", data={"hint": "connect again after a moment"})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name="hub")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _refuse(exchange: Exchange, status: int, error: Only1MCPError) -> None:
    """Answer a GET, whose refusals keep their status within a session too."""
    exchange.error = error
    exchange.reply(status, error_message(error))
