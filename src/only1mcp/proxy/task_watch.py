"""What the tasks of one listen come to, heard over a listen of its own at each endpoint that has some of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final

import orjson

from only1mcp.backend.base import CALLER, BackendCall
from only1mcp.errors import Only1MCPError, ProtocolError
from only1mcp.wire import jsonrpc
from only1mcp.wire import tasks as wire
from only1mcp.wire.eras import Caller, own_params

if TYPE_CHECKING:
    from only1mcp._fast.envelope import Envelope
    from only1mcp.backend.endpoint import Endpoint
    from only1mcp.proxy.tasks import Place

log = logging.getLogger("only1mcp.proxy")

# The listens of clients that name tasks, each of which holds a connection open at one backend or more; and those of
# one principal (all anonymous clients are one). What is more is not granted: its client asks for its tasks instead.
MAX_WATCHES: Final = 1024
MAX_WATCHES_EACH: Final = 128
# Tasks are told of to those who have declared them.
_CALLER: Final = Caller(CALLER.client_info, orjson.dumps(wire.REQUIRED))

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class TaskWatch:
    """The watched tasks of one client. `owner` is whose calls may share an instance with the client's.

    `on_task(task, message)` is called with the client's id and a `notifications/tasks` as the backend sent it, and
    `on_end` once, when a backend that has agreed to tell tells no more.
    """

    def __init__(
        self,
        owner: str,
        places: dict[str, Place],
        on_task: Callable[[str, Envelope], None],
        on_end: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._places = places
        self._on_task = on_task
        self._on_end = on_end
        self._granted: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def open(self, spawn: Spawn, timeout_s: float) -> tuple[str, ...]:
        """Ask every endpoint; return the ids of those tasks that will be told of, as the client knows them."""
        by_endpoint: dict[Endpoint, dict[str, str]] = {}
        for known, place in self._places.items():
            by_endpoint.setdefault(place.endpoint, {})[place.id] = known
        answers = []
        for endpoint, ids in by_endpoint.items():
            answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            answers.append(answered)
            self._tasks.append(spawn(self._listen(endpoint, ids, answered, timeout_s)))
        await asyncio.wait(answers, timeout=timeout_s)
        return tuple(known for known in self._places if known in self._granted)

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        for task in self._tasks:
            task.cancel()

    async def _listen(
        self, endpoint: Endpoint, ids: dict[str, str], answered: asyncio.Future[None], timeout_s: float
    ) -> None:
        def on_message(message: Envelope) -> None:
            if message.method == "notifications/subscriptions/acknowledged":
                self._granted.update(known for id, known in ids.items() if id in wire.granted(message))
                if not answered.done():
                    answered.set_result(None)
            elif message.method == "notifications/tasks":
                known = ids.get(wire.told(message) or "")
                if known in self._granted and not self._closed:
                    self._on_task(known, message)

        try:
            await _ask(endpoint, self._owner, tuple(ids), _guarded(on_message), timeout_s)
        except (Only1MCPError, ProtocolError) as error:
            log.info("tasks.listen_ended", extra={"fields": {"backend": endpoint.id, "reason": error.message}})
        finally:
            if not answered.done():
                answered.set_result(None)
        # Nothing is said again that was missed: the client must listen anew, and ask what its tasks have become.
        if not self._closed and not self._granted.isdisjoint(ids.values()):
            self._on_end()


async def _ask(
    endpoint: Endpoint, owner: str, ids: Iterable[str], on_message: Callable[[Envelope], None], timeout_s: float
) -> None:
    line = await endpoint.line_for(owner, timeout_s)
    peer, id = line.peer, line.next_id()
    assert peer is not None
    wanted = {"notifications": orjson.dumps({"taskIds": tuple(ids)})}
    message = jsonrpc.request(id, "subscriptions/listen", own_params(peer.era, peer.revision, _CALLER, wanted))
    call = BackendCall("subscriptions/listen", message, id, None, on_message=on_message)
    transport = endpoint.transport
    if endpoint.exclusive or transport is None:
        await line.call(call)
    else:
        # Not among the calls in flight: it would be one for as long as the client listens.
        await transport.call(call)


def _guarded(on_message: Callable[[Envelope], None]) -> Callable[[Envelope], None]:
    """Return the same, but passing over what two readers could read differently."""

    def guarded(message: Envelope) -> None:
        try:
            on_message(message)
        except ProtocolError as error:
            log.warning("tasks.notification_dropped", extra={"fields": {"reason": error.message}})

    return guarded
