from __future__ import annotations

import asyncio
from typing import Any

from only1mcp.frontend.timer import Deadline


class Loop:
    """An event loop's clock and timers, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.armed = 0
        self.handles: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.handles.remove(handle)

    def call_at(self, when: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        self.armed += 1
        handle = asyncio.TimerHandle(when, callback, args, self)  # type: ignore[arg-type]
        handle._scheduled = True  # type: ignore[attr-defined]
        self.handles.append(handle)
        return handle

    def advance(self, until: float) -> None:
        while self.handles and (first := min(self.handles, key=lambda handle: handle.when())).when() <= until:
            self.now = first.when()
            self.handles.remove(first)
            first._run()
        self.now = until


def deadline(loop: Loop) -> tuple[Deadline, list[float]]:
    expired: list[float] = []
    return Deadline(loop, lambda: expired.append(loop.now)), expired  # type: ignore[arg-type]


def test_it_expires_once() -> None:
    loop = Loop()
    subject, expired = deadline(loop)
    subject.set(10.0)
    loop.advance(9.9)
    assert expired == []
    loop.advance(30.0)
    assert expired == [10.0]


def test_moving_it_later_arms_no_timer() -> None:
    loop = Loop()
    subject, expired = deadline(loop)
    for second in range(100):
        loop.advance(float(second))
        subject.set(second + 10.0)
    loop.advance(200.0)
    assert expired == [109.0]
    assert loop.armed <= 12


def test_moving_it_earlier_takes_effect() -> None:
    loop = Loop()
    subject, expired = deadline(loop)
    subject.set(75.0)
    subject.set(10.0)
    loop.advance(20.0)
    assert expired == [10.0]
    assert loop.handles == []


def test_it_can_be_set_again_and_closed() -> None:
    loop = Loop()
    subject, expired = deadline(loop)
    subject.set(1.0)
    loop.advance(2.0)
    subject.set(3.0)
    subject.close()
    subject.close()
    loop.advance(10.0)
    subject.set(11.0)
    loop.advance(12.0)
    assert expired == [1.0]
    assert loop.handles == []


async def test_it_expires_on_a_real_loop() -> None:
    loop = asyncio.get_running_loop()
    expired = asyncio.Event()
    subject = Deadline(loop, expired.set)
    subject.set(loop.time() + 0.01)
    subject.set(loop.time() + 0.02)
    async with asyncio.timeout(5):
        await expired.wait()
