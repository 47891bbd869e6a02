"""Backends that tell of no changes: whose lists are read again, when, and until when."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from tests.proxy.offers import peer
from tests.virtual import virtual

from only1mcp.proxy.silent import SilentBackends

AGE_S = 100.0
TELLS = {"tools": {"listChanged": True}, "prompts": {"listChanged": True}}


class Source:
    """The endpoint that a group has its lists of: they are read as soon as that is asked."""

    def __init__(self, capabilities: dict[str, Any] | None = None) -> None:
        self.peer: Any = peer(capabilities={"tools": {}} if capabilities is None else capabilities)
        self.read_at = now()
        self.reread_at: list[float] = []

    def reread(self) -> None:
        self.read_at = now()
        self.reread_at.append(now())


def now() -> float:
    return asyncio.get_running_loop().time()


def watching(*sources: Source | None, wanted: Any = lambda: True) -> SilentBackends:
    groups: Any = {str(number): SimpleNamespace(source=source) for number, source in enumerate(sources)}
    silent = SilentBackends(groups, AGE_S, wanted)
    silent.watch()
    return silent


@virtual
async def test_lists_do_not_get_much_older_than_they_may() -> None:
    source = Source()
    silent = watching(source, None)
    silent.watch()
    await asyncio.sleep(100 * AGE_S)
    times = [0.0, *source.reread_at]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert len(waits) > 80
    assert AGE_S <= min(waits) < max(waits) <= 1.2 * AGE_S
    silent.close()
    await asyncio.sleep(10 * AGE_S)
    assert len(source.reread_at) == len(waits)
    silent.close()


@virtual
async def test_young_lists_are_left_alone() -> None:
    source = Source()
    silent = watching(source)
    for _ in range(20):
        await asyncio.sleep(AGE_S / 2)
        source.read_at = now()  # somebody else had them read
    silent.close()
    assert source.reread_at == []


@pytest.mark.parametrize(
    ("capabilities", "silent"),
    [
        ({}, False),
        (TELLS, False),
        (TELLS | {"resources": {}}, True),
        ({"tools": {"listChanged": False}}, True),
        ({"prompts": {"listChanged": "yes"}}, True),
    ],
)
def test_who_promises_to_tell_is_not_asked(capabilities: dict[str, Any], silent: bool) -> None:
    @virtual
    async def run() -> None:
        source = Source(capabilities)
        watch = watching(source)
        await asyncio.sleep(2 * AGE_S)
        watch.close()
        assert bool(source.reread_at) == silent

    run()


@virtual
async def test_who_is_not_connected_is_not_asked_before_he_is() -> None:
    source = Source()
    met, source.peer = source.peer, None
    silent = watching(source)
    await asyncio.sleep(5 * AGE_S)
    assert source.reread_at == []
    source.peer = met
    await asyncio.sleep(1.5 * AGE_S)
    silent.close()
    assert source.reread_at


@virtual
async def test_nothing_is_read_for_nobody_until_somebody_comes_again() -> None:
    source = Source()
    wanted = True
    silent = watching(source, wanted=lambda: wanted)
    await asyncio.sleep(1.5 * AGE_S)
    assert len(source.reread_at) == 1
    wanted = False
    await asyncio.sleep(10 * AGE_S)
    assert len(source.reread_at) == 1
    wanted = True
    await asyncio.sleep(10 * AGE_S)
    assert len(source.reread_at) == 1
    silent.watch()
    await asyncio.sleep(1.5 * AGE_S)
    silent.close()
    assert len(source.reread_at) == 2
