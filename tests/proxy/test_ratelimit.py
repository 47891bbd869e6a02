"""Rate limiting: the burst, the rate behind it, the waiting times it names, and a table that stays small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.proxy.ratelimit import RateLimiter, address_key


def test_admits_the_burst_then_one_each_interval() -> None:
    limiter = RateLimiter(60, 10)
    assert [limiter.check("a", 100.0) for _ in range(10)] == [0.0] * 10
    assert limiter.check("a", 100.0) == pytest.approx(1.0)
    assert limiter.check("a", 100.75) == pytest.approx(0.25)
    assert limiter.check("a", 101.0) == 0.0
    assert limiter.check("a", 101.0) == pytest.approx(1.0)
    assert limiter.check("b", 101.0) == 0.0


def test_who_waits_as_told_is_admitted() -> None:
    limiter = RateLimiter(7, 3)
    now = 1e9 + 0.1
    for _ in range(1000):
        wait = limiter.check("a", now)
        if wait:
            now += wait
            assert limiter.check("a", now) == 0.0


def test_a_quiet_key_gets_its_burst_back_and_not_more() -> None:
    limiter = RateLimiter(60, 3)
    for now in (0.0, 1000.0, 1_000_000.0):
        assert [limiter.check("a", now) == 0.0 for _ in range(4)] == [True, True, True, False]
    # Two seconds of rest give two calls.
    assert [limiter.check("a", 1_000_002.0) == 0.0 for _ in range(3)] == [True, True, False]


def test_refused_requests_do_not_lengthen_the_wait() -> None:
    limiter = RateLimiter(60, 1)
    assert limiter.check("a", 0.0) == 0.0
    for step in range(1, 100):
        assert limiter.check("a", step / 100) > 0
    assert limiter.check("a", 1.0) == 0.0


@given(
    st.integers(1, 10_000),
    st.integers(1, 50),
    st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=200),
)
def test_never_more_than_the_burst_and_the_rate(rpm: int, burst: int, pauses: list[float]) -> None:
    limiter = RateLimiter(rpm, burst)
    now = 1000.0
    admitted: list[float] = []
    for pause in pauses:
        now += pause
        if limiter.check("a", now) == 0.0:
            admitted.append(now)
    for first, start in enumerate(admitted):
        for count, end in enumerate(admitted[first:], 1):
            assert count <= burst + (end - start) * rpm / 60 + 1e-3


def test_accepts_exactly_the_rate_under_overload() -> None:
    limiter = RateLimiter(6000, 10)
    admitted = sum(limiter.check("a", tick / 1000) == 0.0 for tick in range(10_001))
    assert admitted == 10 + 1000


def test_a_flood_of_keys_stays_within_the_table_and_leaves_it() -> None:
    limiter = RateLimiter(60, 10, max_keys=1000)
    for i in range(5000):
        assert limiter.check(f"attacker-{i}", 0.0) == 0.0
        assert len(limiter) <= 1000
    assert limiter.check("victim", 0.0) == 0.0
    for i in range(1000):
        limiter.check(f"later-{i}", 60.0 + i * 60.0)
    assert len(limiter) < 5


def test_a_busy_key_is_not_the_one_that_makes_room() -> None:
    limiter = RateLimiter(1, 5, max_keys=10)
    for _ in range(5):
        assert limiter.check("busy", 0.0) == 0.0
    for i in range(9):
        limiter.check(f"other-{i}", 0.0)
    assert limiter.check("busy", 60.0) == 0.0
    for i in range(8):
        limiter.check(f"new-{i}", 60.0)
    assert limiter.check("busy", 60.0) > 0


@pytest.mark.parametrize("settings", [(0, 1, 1), (60, 0, 1), (60, 1, 0), (-1, 1, 1)])
def test_settings_must_make_sense(settings: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RateLimiter(*settings)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_an_address_stands_for_its_subscriber(address: str, key: str) -> None:
    assert address_key(address) == key
