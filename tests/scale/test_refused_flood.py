"""A flood of requests that are refused: each costs no more than a good one, and good ones are served beside it."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.processes import Proxy
from tests.mcp_caller import Caller, Fields, stateless
from tests.scale.server import COMMON
from tests.scale.stage import Numbers, cpu_seconds
from tests.scale.stage import staged as staged_here

KEY = "a key that is long enough for anyone"
ROUNDS = 5
MARGIN = 1.2
MARGIN_CLOSING = 1.25
FLOOD_CONNECTIONS = 8
# What is sent as fast as it is answered would come more often where it is answered sooner.
FLOOD_PAUSE_S = 0.004
SLOWER = 2.0


@dataclass(frozen=True)
class Kind:
    """One way to be refused, or to be served; `like` names the good requests that it must not cost more than."""

    status: int
    request: Callable[[Caller], bytes]
    like: str = "good"

    @property
    def keeps(self) -> bool:
        """Whether the connection goes on afterwards."""
        return self.like == "good"


def good(caller: Caller, fields: Fields | None = None) -> bytes:
    message, mirrored = stateless("tools/call", name=COMMON, arguments={"text": "hello"})
    return caller.http(json.dumps(message).encode(), {**mirrored, **(fields or {})})


# Who ends a connection has paid for a new one too: accept, register, close. That is compared with its like.
CLOSED, LONG = "good, then closed", "good and long, then closed"
GOOD = {
    "good": Kind(200, good),
    CLOSED: Kind(200, lambda caller: good(caller, {"connection": "close"}), CLOSED),
    LONG: Kind(200, lambda caller: good(caller, {"connection": "close", "x-filler": "x" * 30_000}), LONG),
}
REFUSED = {
    "bad JSON": Kind(400, lambda caller: good(caller)[:-1] + b"]"),
    "not JSON-RPC": Kind(400, lambda caller: caller.http(b'{"jsonrpc":"1.0","id":1,"method":"x","params":{}}')),
    "foreign origin": Kind(403, lambda caller: good(caller, {"origin": "https://evil.example"})),
    "foreign host": Kind(421, lambda caller: good(caller, {"host": "evil.example"})),
    "no credentials": Kind(401, lambda caller: good(caller, {"authorization": None})),
    "wrong credentials": Kind(401, lambda caller: good(caller, {"authorization": "Bearer " + "x" * 40})),
    "oversize head": Kind(431, lambda caller: good(caller, {"x-filler": "x" * 40_000}), LONG),
    "oversize body": Kind(413, lambda caller: good(caller, {"content-length": "99999999"}), CLOSED),
    "no such path": Kind(404, lambda caller: good(caller).replace(b"POST /mcp ", b"POST /nothing ", 1)),
    "not HTTP": Kind(400, lambda caller: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", CLOSED),
}


@asynccontextmanager
async def guarded(directory: Path) -> AsyncIterator[Proxy]:
    """Run a proxy that wants a key."""
    (directory / "key").write_text(KEY)
    auth = {"api_keys": [{"name": "client", "key_file": str(directory / "key")}]}
    held = staged_here(directory, 1, 2, auth=auth)
    _, proxy = await asyncio.to_thread(held.__enter__)
    try:
        yield proxy
    finally:
        await asyncio.to_thread(held.__exit__, None, None, None)


def caller_of(proxy: Proxy) -> Caller:
    return Caller(proxy.port, authorization=f"Bearer {KEY}")


async def send(proxy: Proxy, kind: Kind, number: int, pause_s: float = 0) -> None:
    """Send so many requests one after the other, on one connection for as long as it lasts."""
    caller = caller_of(proxy)
    try:
        for turn in range(number):
            if turn == 0 or not kind.keeps:
                await caller.__aenter__()
            caller.writer.write(kind.request(caller))
            status = (await caller.reply()).status
            assert status == kind.status, status
            if not kind.keeps:
                await caller.__aexit__()
            if pause_s:
                await asyncio.sleep(pause_s)
    finally:
        await caller.__aexit__()


async def test_cost(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None]) -> None:
    """Medians of CPU time over rounds in which every kind has its turn."""
    kinds = {**GOOD, **REFUSED}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    async with guarded(tmp_path) as proxy:
        for kind in kinds.values():
            await send(proxy, kind, 20)
        for _ in range(ROUNDS):
            for name, kind in kinds.items():
                before = cpu_seconds(proxy.pid)
                await send(proxy, kind, numbers.flood)
                taken[name].append((cpu_seconds(proxy.pid) - before) * 1e6 / numbers.flood)
    medians = {name: statistics.median(costs) for name, costs in taken.items()}
    measured("us of CPU: " + ", ".join(f"{name} {cost:.0f}" for name, cost in medians.items()))
    for name, kind in REFUSED.items():
        assert medians[name] <= (MARGIN if kind.keeps else MARGIN_CLOSING) * medians[kind.like], (name, medians)


@pytest.mark.parametrize("name", ["bad JSON", "foreign origin", "no credentials", "oversize head"])
async def test_good_requests_meanwhile(
    tmp_path: Path, numbers: Numbers, measured: Callable[[str], None], name: str
) -> None:
    """Beside refused requests a good one takes no longer than beside as many good ones."""
    medians: dict[str, list[float]] = {"good": [], name: []}
    async with guarded(tmp_path) as proxy:
        for _ in range(3):
            for what, kind in (("good", GOOD[REFUSED[name].like]), (name, REFUSED[name])):
                medians[what].append(statistics.median(await beside(proxy, kind, numbers.flood // 4)))
    beside_good, beside_refused = (statistics.median(medians[what]) for what in ("good", name))
    measured(f"a good call takes {beside_refused * 1e6:.0f} us, {beside_good * 1e6:.0f} us beside good ones")
    assert beside_refused <= SLOWER * beside_good


async def beside(proxy: Proxy, kind: Kind, number: int) -> Sequence[float]:
    """Return how long good calls take while a flood comes over other connections."""
    took_s = []
    async with asyncio.TaskGroup() as flood, caller_of(proxy) as caller:
        tasks = [flood.create_task(send(proxy, kind, number, FLOOD_PAUSE_S)) for _ in range(FLOOD_CONNECTIONS)]
        while not all(task.done() for task in tasks):
            began = time.perf_counter()
            caller.writer.write(good(caller))
            assert (await caller.reply()).status == 200
            took_s.append(time.perf_counter() - began)
    return took_s
