"""Runs a plan: gives requests to clients as the schedule says, watches the time, and returns what happened."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import Any, Final, TypeVar

from only1mcp.loadgen.client import Client
from only1mcp.loadgen.connection import Traffic
from only1mcp.loadgen.failure import Failure
from only1mcp.loadgen.meet import Ground, end_sessions, meet
from only1mcp.loadgen.mix import layout
from only1mcp.loadgen.plan import Plan
from only1mcp.loadgen.record import Recorder
from only1mcp.loadgen.requests import FIRST_ID
from only1mcp.loadgen.schedule import OpenLoop

TICK_S: Final = 0.1
# Timers of event loops count milliseconds. A thread that sleeps is more exact; it wakes the loop at most this often.
PACE_S: Final = 0.0002
# A lock cannot be waited for longer than some days.
MAX_PAUSE_S: Final = 60.0
# After Ctrl-C, answers that are under way are awaited this long.
INTERRUPT_GRACE_S: Final = 0.5

T = TypeVar("T")


@dataclass(slots=True)
class Progress:
    """How far a run is. `done` goes from 0 to 1; `phase` is `warm-up`, `measuring` or `waiting`."""

    phase: str
    done: float
    good: int
    failed: int
    elapsed_s: float
    in_flight: int
    backlog: int


@dataclass(slots=True)
class Run:
    """What happened in a run. `window_s` is the time in which measured requests were sent.

    `unsent`: due, but never sent, since no connection was free; `abandoned`: sent, and given up when the run was
    interrupted.
    """

    plan: Plan
    ground: Ground
    recorder: Recorder
    started_at: dt.datetime
    window_s: float
    sent: int
    unsent: int
    abandoned: int
    interrupted: bool
    bytes_sent: int
    bytes_received: int
    reconnections: int
    cpu_s: float


async def run(
    plan: Plan, on_ready: Callable[[Ground], None], on_progress: Callable[[Progress], None] | None = None
) -> Run:
    """Load the target as planned; raise `LoadError` when that cannot begin. `on_ready` comes just before the load."""
    traffic = Traffic()
    ground = await meet(plan, traffic)
    on_ready(ground)
    engine = _Engine(plan, ground, traffic, on_progress)
    try:
        with _interruptible(engine.interrupt):
            return await engine.run()
    finally:
        await end_sessions(ground)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the fastest event loop there is."""
    factory = None
    with contextlib.suppress(ImportError):
        factory = import_module("winloop" if os.name == "nt" else "uvloop").new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


class _Engine:
    """One run; `next_id`, `report` and `release` are what its clients call."""

    def __init__(
        self, plan: Plan, ground: Ground, traffic: Traffic, on_progress: Callable[[Progress], None] | None
    ) -> None:
        self._plan = plan
        self._ground = ground
        self._traffic = traffic
        self._on_progress = on_progress
        self._schedule = plan.schedule()
        self._recorder = Recorder(len(plan.operations))
        self._order = itertools.cycle(layout(plan.operations))
        self._ids = itertools.count(FIRST_ID)
        self._loop = asyncio.get_running_loop()
        self._clients = [Client(self, seat, ground.address, plan.target.path, traffic) for seat in ground.seats]
        self._idle = deque(self._clients)
        self._finished = self._loop.create_future()
        self._interrupted = False

        self._last_answer_at = 0.0
        self._at_start = (0, 0, 0, 0.0)
        self._at_end: tuple[int, int, int, float] | None = None

    async def run(self) -> Run:
        plan, schedule, recorder = self._plan, self._schedule, self._recorder
        started_at = dt.datetime.now(dt.UTC)
        now = perf_counter()
        schedule.begin(now)
        recorder.begin(schedule.measured_from)
        self._at_start = self._counters()
        timers = [self._loop.call_later(plan.warmup_s, self._warmed_up)] if plan.warmup_s else []
        if plan.duration_s is not None:
            timers.append(self._loop.call_later(plan.warmup_s + plan.duration_s, self._sent_all))
        ticker = self._loop.create_task(self._tick(min(TICK_S, plan.timeout_s / 4)))
        try:
            with self._pacer():
                self._feed()
                await self._finished
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)
            for timer in timers:
                timer.cancel()
            abandoned = sum(client.is_waiting and client.measured for client in self._clients)
            for client, seat in zip(self._clients, self._ground.seats, strict=True):
                client.leave(seat)
        cut_off = schedule.was_cut_off(perf_counter())
        ended_at = schedule.ends_at if cut_off else max(self._last_answer_at, schedule.measured_from)
        recorder.finish()
        end = self._at_end or self._counters()
        sent, received, opened, cpu_s = (after - before for before, after in zip(self._at_start, end, strict=True))
        return Run(
            plan=plan,
            ground=self._ground,
            recorder=recorder,
            started_at=started_at,
            window_s=max(0.0, ended_at - schedule.measured_from),
            sent=schedule.taken,
            unsent=schedule.backlog(ended_at) if cut_off else 0,
            abandoned=abandoned,
            interrupted=self._interrupted,
            bytes_sent=int(sent),
            bytes_received=int(received),
            reconnections=int(opened),
            cpu_s=cpu_s,
        )

    def interrupt(self) -> None:
        """End early: at once when asked twice."""
        if self._interrupted:
            self._finish()
            return
        self._interrupted = True
        self._schedule.stop(perf_counter())
        self._sent_all()
        self._loop.call_later(INTERRUPT_GRACE_S, self._finish)

    # What clients call.

    def next_id(self) -> bytes:
        return b"%d" % next(self._ids)

    def report(self, client: Client, failure: Failure | None, now: float) -> None:
        if not client.measured:
            return
        self._last_answer_at = now
        if failure is None:
            self._recorder.succeed(client.operation, now - client.intended, now)
            if now < self._schedule.ends_at:
                self._recorder.good_in_time += 1
        else:
            self._recorder.fail(client.operation, failure, now - client.intended, now)

    def release(self, client: Client) -> None:
        if self._finished.done():
            return
        now = perf_counter()
        client.free_since = now
        intended = self._schedule.take(now)
        if intended is not None:
            client.begin(next(self._order), intended, now, measured=intended >= self._schedule.measured_from)
            return
        self._idle.append(client)
        if self._schedule.is_over(now):
            self._check_end(now)

    # Below, in call order.

    def _feed(self) -> None:
        """Give to clients that are free what is due."""
        schedule, idle = self._schedule, self._idle
        while idle and not self._finished.done():
            now = perf_counter()
            intended = schedule.take(now)
            if intended is None:
                return
            client = idle.popleft()
            measured = intended >= schedule.measured_from
            if measured and client.free_since <= intended:
                self._recorder.lateness.record(now - intended)
            client.begin(next(self._order), intended, now, measured=measured)

    @contextlib.contextmanager
    def _pacer(self) -> Iterator[None]:
        """Call `_feed` whenever a request of the open loop becomes due."""
        schedule = self._schedule
        if not isinstance(schedule, OpenLoop):
            yield
            return
        # Waiting for a lock is the cheapest way to sleep that can be ended.
        running = threading.Lock()
        running.acquire()

        def pace() -> None:
            while True:
                now = perf_counter()
                if running.acquire(timeout=min(MAX_PAUSE_S, max(PACE_S, schedule.due_after(now) - now))):
                    return
                # Without a free client the next answer feeds.
                if self._idle:
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._feed)

        thread = threading.Thread(target=pace, name="pacer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            running.release()
            thread.join()

    async def _tick(self, every_s: float) -> None:
        """Watch timeouts and the backlog, tell the progress."""
        while True:
            await asyncio.sleep(every_s)
            now = perf_counter()
            for client in self._clients:
                client.check(now, self._plan.timeout_s)
            if now >= self._schedule.measured_from and not self._schedule.is_over(now):
                self._recorder.note_backlog(self._schedule.backlog(now), now)
            self._check_end(now)
            if self._on_progress is not None:
                self._on_progress(self._progress(now))

    def _progress(self, now: float) -> Progress:
        schedule, plan, recorder = self._schedule, self._plan, self._recorder
        parts = [0.0]
        if plan.duration_s is not None:
            parts.append((now - schedule.started_at) / (plan.warmup_s + plan.duration_s))
        if plan.requests is not None:
            parts.append((recorder.good + recorder.failed) / plan.requests)
        over = schedule.is_over(now)
        phase = "waiting" if over else "measuring" if now >= schedule.measured_from else "warm-up"
        return Progress(
            phase=phase,
            done=min(1.0, max(parts)),
            good=recorder.good,
            failed=recorder.failed,
            elapsed_s=max(0.0, now - schedule.measured_from),
            in_flight=len(self._clients) - len(self._idle),
            backlog=0 if over else schedule.backlog(now),
        )

    def _warmed_up(self) -> None:
        self._at_start = self._counters()

    def _sent_all(self) -> None:
        """The time for sending has ended: what it cost to wait for the last answers is not counted."""
        if self._at_end is None:
            self._at_end = self._counters()
        self._check_end(perf_counter())

    def _check_end(self, now: float) -> None:
        if self._schedule.is_over(now) and len(self._idle) == len(self._clients):
            self._finish()

    def _finish(self) -> None:
        if not self._finished.done():
            self._finished.set_result(None)

    def _counters(self) -> tuple[int, int, int, float]:
        traffic = self._traffic
        return traffic.sent, traffic.received, traffic.opened, time.process_time()


@contextlib.contextmanager
def _interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Not on Windows, and not outside the main thread: there Ctrl-C ends without results.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, interrupt)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
