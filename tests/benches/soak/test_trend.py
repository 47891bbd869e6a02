"""Slopes with their intervals: found where there is one, not imagined where there is noise."""

from __future__ import annotations

import random

import pytest
from benches.soak.trend import HOUR_S, Rule, trend

TIMES = [float(second) for second in range(600)]
MEMORY = Rule(6 << 20, 1 << 20, relative=False)
TIME = Rule(0.30, 0.05, relative=True)


def noisy(start: float, per_hour: float, noise: float, seed: int) -> list[float]:
    source = random.Random(seed)
    return [start + per_hour * at / HOUR_S + source.gauss(0, noise) for at in TIMES]


@pytest.mark.parametrize("seed", range(20))
def test_a_slope_under_noise(seed: int) -> None:
    found = trend(TIMES, noisy(100.0, 60.0, 2.0, seed))
    assert found.low < found.slope < found.high
    assert found.slope == pytest.approx(60.0, abs=12)
    assert not TIME.is_flat(found)


def test_the_interval_holds_the_slope_as_often_as_it_says() -> None:
    intervals = [trend(TIMES, noisy(100.0, 10.0, 3.0, seed)) for seed in range(200)]
    held = sum(found.low <= 10.0 <= found.high for found in intervals)
    assert held >= 0.9 * len(intervals)


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_flat(seed: int) -> None:
    assert TIME.is_flat(trend(TIMES, noisy(250.0, 0.0, 25.0, seed)))


def test_one_step_up_is_no_slope_but_many_are() -> None:
    once = [50 << 20] * 300 + [(50 << 20) + (700 << 10)] * 300
    assert MEMORY.is_flat(trend(TIMES, once))
    stairs = [(50 << 20) + int(at / 60) * (500 << 10) for at in TIMES]
    assert not MEMORY.is_flat(trend(TIMES, stairs))


def test_wild_samples_move_nothing() -> None:
    values = noisy(100.0, 0.0, 1.0, 1)
    for index in range(500, 600, 7):
        values[index] *= 50
    assert TIME.is_flat(trend(TIMES, values))


def test_falling_is_flat() -> None:
    assert TIME.is_flat(trend(TIMES, noisy(100.0, -60.0, 1.0, 1)))


def test_a_short_run_needs_more_than_a_steep_slope() -> None:
    seconds = [index / 4 for index in range(24)]
    settling = [(50 << 20) + index * 8192 for index in range(24)]
    assert trend(seconds, settling).low > 6 << 20
    assert MEMORY.is_flat(trend(seconds, settling))
    leaking = [(50 << 20) + index * 131072 for index in range(24)]
    assert not MEMORY.is_flat(trend(seconds, leaking))


def test_too_few_samples() -> None:
    with pytest.raises(ValueError, match="5 samples"):
        trend(TIMES[:4], TIMES[:4])
