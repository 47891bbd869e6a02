"""Instances by owner: one start for many calls, a bound that holds while old ones close, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from only1mcp.backend.instances import Instances
from only1mcp.errors import BackendUnavailable


class Kept:
    """An instance without anything behind it."""

    def __init__(self, owner: str, world: World) -> None:
        self.owner = owner
        self.in_flight = 0
        self.held = False
        self.idle_since = asyncio.get_running_loop().time()
        self._world = world
        world.alive.append(owner)
        world.most = max(world.most, len(world.alive))

    async def aclose(self) -> None:
        await self._world.may_close.wait()
        self._world.alive.remove(self.owner)
        self._world.ended.put_nowait(self.owner)


class World:
    """What is alive of a backend, and how its starts and ends go."""

    def __init__(self, *, limit: int = 2, idle_s: float = 1000) -> None:
        self.alive: list[str] = []
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.most = 0
        self.starts: list[str] = []
        self.failure: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_close = asyncio.Event()
        self.may_start.set()
        self.may_close.set()
        self.instances = Instances("own", self.open, limit=limit, idle_s=idle_s)

    async def open(self, owner: str) -> Any:
        self.starts.append(owner)
        await self.may_start.wait()
        if self.failure is not None:
            raise self.failure
        return Kept(owner, self)

    async def acquire(self, owner: str, timeout_s: float = 10) -> Any:
        return await self.instances.acquire(owner, timeout_s)


async def test_an_owner_has_one_instance_and_another_owner_another() -> None:
    world = World()
    first, second = await world.acquire("a"), await world.acquire("b")
    assert (first.owner, second.owner) == ("a", "b")
    assert await world.acquire("a") is first
    assert world.starts == ["a", "b"]
    await world.instances.aclose()
    assert world.alive == []


async def test_calls_that_come_together_wait_for_one_start() -> None:
    world = World()
    world.may_start.clear()
    waits = [asyncio.ensure_future(world.acquire("a")) for _ in range(5)]
    await asyncio.sleep(0)
    waits[0].cancel()
    await asyncio.gather(waits[0], return_exceptions=True)
    world.may_start.set()
    found = await asyncio.gather(*waits[1:])
    assert len(set(map(id, found))) == 1
    assert world.starts == ["a"]
    await world.instances.aclose()


async def test_a_start_that_fails_is_told_to_all_and_tried_again() -> None:
    world = World(limit=1)
    world.failure = BackendUnavailable("no such command")
    outcomes = await asyncio.gather(*(world.acquire("a") for _ in range(3)), return_exceptions=True)
    assert [str(each) for each in outcomes] == ["no such command"] * 3
    assert world.starts == ["a"]
    assert len(world.instances) == 0
    world.failure = None
    assert (await world.acquire("b")).owner == "b"
    await world.instances.aclose()


async def test_a_start_that_takes_long_is_not_waited_for() -> None:
    world = World()
    world.may_start.clear()
    with pytest.raises(BackendUnavailable, match="did not come up in time"):
        await world.acquire("a", 0.01)
    world.may_start.set()
    assert (await world.acquire("a")).owner == "a"
    assert world.starts == ["a"]
    await world.instances.aclose()


async def test_room_is_made_by_ending_the_one_that_is_idle_for_longest() -> None:
    world = World(limit=3)
    a, b, c = [await world.acquire(owner) for owner in "abc"]
    a.in_flight, a.idle_since = 1, 0.0
    b.idle_since, c.idle_since = 2.0, 1.0
    await world.acquire("d")
    assert await world.ended.get() == "c"
    a.in_flight = b.in_flight = 1
    (await world.acquire("d")).in_flight = 1
    with pytest.raises(BackendUnavailable, match=r"in use by 3 sessions.*instances\.max"):
        await world.acquire("e")
    assert sorted(world.alive) == ["a", "b", "d"]
    await world.instances.aclose()


async def test_those_that_still_close_count() -> None:
    world = World(limit=2)
    await world.acquire("a")
    await world.acquire("b")
    world.may_close.clear()
    world.instances.release("a")
    waiting = asyncio.ensure_future(world.acquire("c"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert "c" not in world.starts
    world.may_close.set()
    assert (await waiting).owner == "c"
    assert world.most == 2
    await world.instances.aclose()


async def test_what_is_idle_is_ended_and_what_works_is_not() -> None:
    world = World(idle_s=0.02)
    (await world.acquire("busy")).in_flight = 1
    await world.acquire("idle")
    assert await world.ended.get() == "idle"
    assert world.alive == ["busy"]
    await world.instances.aclose()
    assert len(world.instances) == 0


async def test_what_its_owner_listens_to_is_not_idle_but_makes_room() -> None:
    world = World(limit=3, idle_s=0.02)
    held = await world.acquire("held")
    held.held = True
    await world.acquire("idle")
    assert await world.ended.get() == "idle"
    assert world.instances.maybe("held") is held
    assert world.instances.maybe("idle") is None
    for owner in ("b", "c"):
        (await world.acquire(owner)).in_flight = 1
    # It goes when there is nothing else that could.
    await world.acquire("d")
    assert await world.ended.get() == "held"
    await world.instances.aclose()


async def test_a_session_that_ends_takes_its_instance_along_even_one_that_starts() -> None:
    world = World()
    world.may_start.clear()
    waiting = asyncio.ensure_future(world.acquire("a"))
    await asyncio.sleep(0)
    world.instances.release("a")
    world.instances.release("never heard of")
    with pytest.raises(BackendUnavailable, match="ended with its session"):
        await waiting
    assert (world.alive, len(world.instances)) == ([], 0)
    await world.instances.aclose()


async def test_a_loss_hits_its_owner_only_and_only_once() -> None:
    world = World()
    a, b = await world.acquire("a"), await world.acquire("b")
    world.instances.lost("a", a)
    again = await world.acquire("a")
    assert again is not a
    world.instances.lost("a", a)  # news of the old one
    assert await world.acquire("a") is again
    assert await world.acquire("b") is b
    await world.instances.aclose()
    with pytest.raises(BackendUnavailable, match="is closed"):
        await world.acquire("a")


async def test_two_thousand_sessions_leave_what_is_configured() -> None:
    world = World(limit=8)
    before = asyncio.all_tasks()
    for number in range(2000):
        await world.acquire(f"session {number}")
        if number % 3 == 0:
            world.instances.release(f"session {number}")
    assert world.most <= 8
    assert len(world.instances) <= 8
    await world.instances.aclose()
    assert (world.alive, asyncio.all_tasks()) == ([], before)
