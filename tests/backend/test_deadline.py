"""One timer for many deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from tests.virtual import virtual

from only1mcp.backend.deadline import DeadlineWatch


class Call:
    """What the watch sees of a call."""

    def __init__(self, watch: DeadlineWatch, timeout_s: float | None) -> None:
        self._watch = watch
        self.expired: list[float] = []
        self.closed = 0
        self.on_expiry: Callable[[], None] = lambda: None
        self.deadline = watch.add(self, timeout_s)

    def expire(self) -> None:
        self.expired.append(now())
        self._watch.remove(self)
        self.on_expiry()

    def close(self) -> None:
        self.closed += 1
        self._watch.remove(self)


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_every_call_expires_at_its_own_deadline() -> None:
    watch = DeadlineWatch()
    calls = {timeout_s: Call(watch, timeout_s) for timeout_s in (3.0, 1.0, 2.0, 1.5, 0.0)}
    never = Call(watch, None)
    assert never.deadline == float("inf")
    await asyncio.sleep(10)
    for timeout_s, call in calls.items():
        assert call.expired == [pytest.approx(timeout_s)]
        assert call.deadline == timeout_s
    late = Call(watch, 1.0)
    await asyncio.sleep(5)
    assert late.expired == [11.0]
    assert never.expired == []
    watch.remove(never)


@virtual
async def test_what_has_ended_does_not_expire_and_may_end_twice() -> None:
    watch = DeadlineWatch()
    ended, other = Call(watch, 1.0), Call(watch, 2.0)
    watch.remove(ended)
    watch.remove(ended)
    await asyncio.sleep(5)
    assert (ended.expired, other.expired) == ([], [2.0])


@virtual
async def test_a_steady_flow_of_calls_sets_a_timer_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = DeadlineWatch()
    loop = asyncio.get_running_loop()
    set_timers, plain = 0, loop.call_at

    def counted(*arguments: object, **options: object) -> asyncio.TimerHandle:
        nonlocal set_timers
        set_timers += 1
        return plain(*arguments, **options)

    for _ in range(100):
        monkeypatch.setattr(loop, "call_at", counted)
        calls = [Call(watch, 10.0) for _ in range(100)]
        monkeypatch.undo()
        await asyncio.sleep(1)
        for call in calls:
            watch.remove(call)
        assert not any(call.expired for call in calls)
    assert set_timers < 15


@virtual
async def test_an_expiry_that_begins_a_call() -> None:
    watch = DeadlineWatch()
    first, steady = Call(watch, 1.0), Call(watch, 5.0)
    begun: list[Call] = []
    first.on_expiry = lambda: begun.append(Call(watch, 0.5))
    await asyncio.sleep(20)
    assert (first.expired, begun[0].expired, steady.expired) == ([1.0], [1.5], [5.0])


@virtual
async def test_an_expiry_that_ends_a_call_which_would_be_next() -> None:
    watch = DeadlineWatch()
    first, second, third = (Call(watch, 1.0) for _ in range(3))
    first.on_expiry = lambda: watch.remove(second)
    await asyncio.sleep(5)
    assert (first.expired, second.expired, third.expired) == ([1.0], [], [1.0])


@virtual
async def test_closing_closes_each_call_once_and_leaves_no_timer() -> None:
    watch = DeadlineWatch()
    calls = [Call(watch, timeout_s) for timeout_s in (1.0, 2.0, None)]
    watch.close()
    watch.close()
    await asyncio.sleep(10)
    assert [(call.closed, call.expired) for call in calls] == [(1, [])] * 3
    again = Call(watch, 3.0)
    await asyncio.sleep(10)
    assert again.expired == [13.0]
