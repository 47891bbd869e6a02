"""A hundred backends with ten thousand tools: all are listed, calls arrive, changes are seen, starting stays quick."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.e2e.processes import Proxy
from tests.e2e.wire_client import RpcError, WireClient
from tests.scale.server import COMMON, tool_names
from tests.scale.stage import Numbers, Site, cpu_seconds, resident_bytes

START_S = 30.0
START_CPU_S = 20.0
RESIDENT_BYTES = 200 << 20
CHANGE_S = 20.0
# Nobody waits for a new catalog longer than a person would notice; a busy machine adds its own.
LONGEST_CALL_S = 2.0
CALLS_ON_ONE_TOOL = 500


def expected_names(backends: int, tools: int) -> dict[str, tuple[int, str]]:
    """Return backend and tool by the name that clients have for it: only the first backend keeps the common one."""
    owners = {name: (backend, name) for backend in range(backends) for name in tool_names(backend, tools)[1:]}
    common = {f"s{backend}__{COMMON}" if backend else COMMON: (backend, COMMON) for backend in range(backends)}
    return owners | common


async def test_many_backends_and_tools(tmp_path: Path, numbers: Numbers, measured: Callable[[str], None]) -> None:
    expected = expected_names(numbers.backends, numbers.tools)
    assert len(expected) == numbers.backends * numbers.tools
    with Site(tmp_path, numbers.backends, numbers.tools).serving() as site:
        began = time.monotonic()
        proxy = await asyncio.to_thread(Proxy(tmp_path, site.entries()).__enter__)
        try:
            async with WireClient(proxy.url, timeout_s=60) as client:
                names = await listed(client, lambda names: len(names) >= len(expected), START_S)
                start_s, start_cpu_s = time.monotonic() - began, cpu_seconds(proxy.pid)
                assert sorted(names) == sorted(expected)
                measured(
                    f"{len(names)} tools of {numbers.backends} backends listed after {start_s:.2f} s "
                    f"({start_cpu_s:.2f} s of CPU), {resident_bytes(proxy.pid) / 2**20:.1f} MiB resident"
                )
                await calls_arrive(client, expected)
                await a_change_is_seen(client, site, proxy, set(expected), measured)
            assert start_cpu_s < START_CPU_S
            assert resident_bytes(proxy.pid) < RESIDENT_BYTES
        finally:
            await asyncio.to_thread(proxy.__exit__)


async def listed(client: WireClient, is_enough: Callable[[list[str]], bool], timeout_s: float) -> list[str]:
    """List all tools, page by page, again and again until they are as they should be."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                names = [tool["name"] for tool in await client.all("tools/list")]
            except RpcError as error:
                assert error.code == -32601, error  # no backend is up yet
                continue
            assert len(names) == len(set(names))
            if is_enough(names):
                return names


async def calls_arrive(client: WireClient, expected: dict[str, tuple[int, str]]) -> None:
    """Call the common tool of each backend, and some more."""
    names = [name for name, (_, tool) in expected.items() if tool == COMMON]
    names += random.Random(1).choices(list(expected), k=CALLS_ON_ONE_TOOL)
    for name in names:
        backend, tool = expected[name]
        assert await client.text(name, text="hello") == f"{backend}/{tool}/hello"


async def a_change_is_seen(
    client: WireClient, site: Site, proxy: Proxy, before: set[str], measured: Callable[[str], None]
) -> None:
    """Replace a tool of the middle backend; everything else stays, and calls of the new one arrive."""
    changed = site.backends // 2
    gone, new = f"b{changed}_tool_{site.tools - 1}", f"b{changed}_new"
    began, used = time.monotonic(), cpu_seconds(proxy.pid)
    await asyncio.to_thread(site.control, f"change/{changed}")
    pages = 0

    def is_there(names: list[str]) -> bool:
        nonlocal pages
        pages += 1
        return new in names

    async with WireClient(proxy.url) as other:
        seen = asyncio.Event()
        calls = asyncio.create_task(longest_call(other, seen))
        try:
            names = await listed(client, is_there, CHANGE_S)
        finally:
            seen.set()
            longest_s = await calls
    assert set(names) == before - {gone} | {new}
    assert await client.text(new, text="hello") == f"{changed}/{new}/hello"
    measured(
        f"a changed list is seen after {time.monotonic() - began:.2f} s ({pages} times listed); "
        f"the longest call meanwhile took {longest_s * 1000:.0f} ms"
    )
    assert longest_s < LONGEST_CALL_S
    assert cpu_seconds(proxy.pid) - used < START_CPU_S


async def longest_call(client: WireClient, until: asyncio.Event) -> float:
    """Call one tool after the other, and return what the slowest call took."""
    longest_s = 0.0
    while not until.is_set():
        began = time.monotonic()
        await client.text(COMMON, text="meanwhile")
        longest_s = max(longest_s, time.monotonic() - began)
    return longest_s
