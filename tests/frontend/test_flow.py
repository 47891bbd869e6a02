from __future__ import annotations

import asyncio

from only1mcp.frontend.flow import ReaderWatch, WriteGate
from only1mcp.frontend.limits import PROBE_S, QUICK_PROBES, SLOW_PROBE_S


async def test_an_open_gate_lets_pass() -> None:
    gate = WriteGate()
    await gate.wait()
    gate.pause()
    gate.resume()
    await gate.wait()


async def test_a_paused_gate_holds_everyone_until_it_opens() -> None:
    gate = WriteGate()
    gate.pause()
    waiting = [asyncio.create_task(gate.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    # Cancelling one frees no other.
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, False]
    gate.resume()
    await asyncio.gather(*waiting[1:])
    assert not gate.paused


async def test_a_gate_that_closes_again_at_once_holds_on() -> None:
    gate = WriteGate()
    gate.pause()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    gate.resume()
    gate.pause()
    await asyncio.sleep(0)
    assert not waiting.done()
    gate.resume()
    await waiting


async def test_a_released_gate_never_closes_again() -> None:
    gate = WriteGate()
    gate.pause()
    waiting = asyncio.create_task(gate.wait())
    await asyncio.sleep(0)
    gate.release()
    await waiting
    gate.pause()
    await gate.wait()


def test_a_reader_that_takes_everything_never_stalls() -> None:
    watch = ReaderWatch(100)
    for now in range(10):
        watch.note_written(1000)
        assert watch.stalled_s(float(now), 0) == 0.0


def test_a_reader_that_takes_nothing_stalls() -> None:
    watch = ReaderWatch(100)
    watch.note_written(1000)
    assert [watch.stalled_s(now, 1000) for now in (5.0, 6.0, 9.0)] == [0.0, 1.0, 4.0]
    # More to take is no progress.
    watch.note_written(500)
    assert watch.stalled_s(10.0, 1500) == 5.0


def test_a_trickle_is_no_progress_but_enough_is() -> None:
    watch = ReaderWatch(100)
    watch.note_written(1000)
    assert watch.stalled_s(0.0, 1000) == 0.0
    assert watch.stalled_s(1.0, 950) == 1.0
    assert watch.stalled_s(2.0, 901) == 2.0
    assert watch.stalled_s(3.0, 900) == 0.0
    assert watch.stalled_s(4.0, 900) == 1.0


def test_taking_all_that_waited_is_progress_however_little_it_was() -> None:
    watch = ReaderWatch(100)
    for now in range(10):
        watch.note_written(10)
        assert watch.stalled_s(float(now), 10) == 0.0


def test_what_was_seen_before_a_pause_does_not_count() -> None:
    watch = ReaderWatch(100)
    watch.note_written(1000)
    watch.stalled_s(0.0, 1000)
    watch.reset()
    assert watch.stalled_s(50.0, 1000) == 0.0


def test_who_may_be_gone_is_asked_soon_and_then_seldom() -> None:
    watch = ReaderWatch(100)
    waits = []
    for _ in range(QUICK_PROBES + 2):
        waits.append(watch.probe_s())
        watch.note_probe()
    assert waits == [PROBE_S] * QUICK_PROBES + [SLOW_PROBE_S] * 2
    watch.reset()
    assert watch.probe_s() == PROBE_S
