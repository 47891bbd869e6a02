"""Many clients at once: everyone gets their own answers, over every kind of backend."""

from __future__ import annotations

import asyncio
import uuid

from tests.e2e.gateway import Gateway
from tests.e2e.wire_client import HANDSHAKE, STATELESS, WireClient

CLIENTS, CALLS = 50, 40
TOOLS = ["hand_echo", "flow_echo", "pipe_echo", "twin__flow_echo"]


async def test_every_client_gets_its_own_answers(gateway: Gateway) -> None:
    async def one(number: int) -> None:
        async with WireClient(gateway.url, (HANDSHAKE, STATELESS)[number % 2], timeout_s=60) as client:
            for call in range(CALLS):
                text = f"{number}/{call}/{uuid.uuid4()}/" + "x" * (call * 97)
                assert await client.text(TOOLS[(number // 2 + call) % len(TOOLS)], text=text) == text

    async with asyncio.timeout(120), asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(one(number))
