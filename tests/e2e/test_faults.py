"""What breaks while a client is asked, resumes or listens, against the real command: nothing hangs, stays or strays."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.e2e import third_party
from tests.e2e.gateway import BACKENDS_START_S, http_backend, stdio_backend, wait_for_tools
from tests.e2e.processes import Proxy, Server, descendants, until
from tests.e2e.test_hostile_client import MEBI, Usage, started
from tests.mcp_backend import Backend, Call, Outcome, text
from tests.mcp_caller import HANDSHAKE, Caller, Fields, Reply
from tests.process.test_changes import Stream, attached, listening
from tests.proxy.asked import FORM, answer_of, answered, ask, asking, asks_of, call, tool_calls
from tests.proxy.dialogue import ACCEPTED, Client, Curious

PROMPT_S = 20.0
KEYS = {"api_keys": [{"name": name, "key_sha256": hashlib.sha256(f"{name}-key".encode()).hexdigest()} for name in "ab"]}


async def elicit(call: Call) -> Outcome:
    """Ask for a name, with an id that no other call asks with; without an answer, wait for the end of the call."""
    answer = await ask(call, asked_by(call.message), "elicitation/create", FORM)
    return text(answer["result"]["content"]["name"]) if "result" in answer else await call.backend.hold(call)


def asked_by(message: dict[str, Any]) -> str:
    return f"asked by {message['id']}"


async def settled(proxy: Proxy) -> None:
    """Wait until nothing is in flight at any backend."""
    async with asyncio.timeout(PROMPT_S), Caller(proxy.port) as probe:
        while True:
            ready = (await probe.send(method="GET", path="/ready")).messages[0]
            if not any(backend["in_flight"] for backend in ready["backends"]):
                return


async def in_order(proxy: Proxy, tool: str = "elicit") -> None:
    """Check that another client's call is asked and goes on."""
    async with Caller(proxy.port) as caller:
        assert (await call(caller, tool, **answered(await call(caller, tool)))).text == "Ann"
    await settled(proxy)


def refusal(reply: Reply) -> str:
    assert (reply.status, reply.code) == (400, -32602), reply
    message: str = reply.error["message"]
    return message


# Clients that are asked, and what they do then.


async def test_clients_that_vanish_while_their_calls_are_parked(tmp_path: Path) -> None:
    """Their calls are given up when the time is over, and the room that they took is free again."""
    backend, most = asking(elicit=elicit), 32
    async with started(tmp_path, backend, proxy={"timeouts": {"input_s": 2}}) as proxy:
        descriptors = []
        for _ in range(4):
            backend.abandoned.clear()
            async with AsyncExitStack() as stack:
                callers = [await stack.enter_async_context(Caller(proxy.port)) for _ in range(most)]
                for reply in await asyncio.gather(*(call(caller, "elicit") for caller in callers)):
                    assert asks_of(reply)
                for caller in callers:
                    caller.vanish()
            async with asyncio.timeout(PROMPT_S):
                while len(backend.abandoned) < most:
                    backend.gone.clear()
                    await backend.gone.wait()
            await in_order(proxy)
            # Idle connections to the backend are kept for the next calls, and serve them.
            descriptors.append(len(os.listdir(f"/proc/{proxy.pid}/fd")))
        assert max(descriptors) <= 3 * most


async def test_a_retry_that_comes_too_late(tmp_path: Path) -> None:
    backend = asking(elicit=elicit)
    async with started(tmp_path, backend, proxy={"timeouts": {"input_s": 1}}) as proxy, Caller(proxy.port) as caller:
        retry = answered(await call(caller, "elicit"))
        async with asyncio.timeout(PROMPT_S):
            await backend.gone.wait()
        (called,) = tool_calls(backend)
        told = await answer_of(backend, asked_by(called))
        assert told["error"]["code"] == -32603
        assert "expired" in refusal(await call(caller, "elicit", **retry))
        assert tool_calls(backend) == [called]
        await settled(proxy)


async def test_a_retry_that_comes_many_times_at_once(tmp_path: Path) -> None:
    backend = asking(elicit=elicit)
    async with started(tmp_path, backend) as proxy, AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(Caller(proxy.port)) for _ in range(10)]
        retry = answered(await call(callers[0], "elicit"))
        replies = await asyncio.gather(*(call(caller, "elicit", **retry) for caller in callers))
        (won,) = [reply for reply in replies if reply.status == 200]
        assert won.text == "Ann"
        assert ["used already" in refusal(reply) for reply in replies if reply is not won] == [True] * 9
        (called,) = tool_calls(backend)
        assert len([message for message in backend.received if message.get("id") == asked_by(called)]) == 1
        await settled(proxy)


async def test_a_retry_that_is_another_principals_or_another_processes(tmp_path: Path) -> None:
    backend = asking(elicit=elicit)
    async with (
        started(tmp_path / "one", backend, auth=KEYS) as proxy,
        Caller(proxy.port, x_api_key="a-key") as ann,
        Caller(proxy.port, x_api_key="b-key") as bob,
    ):
        retry = answered(await call(ann, "elicit"))
        state = retry["requestState"]
        refusal(await call(bob, "elicit", **retry))
        refusal(await call(ann, "elicit", **{**retry, "requestState": f"{state}-TAMPERED"}))
        assert (await call(ann, "elicit", **retry)).text == "Ann"
        parked = answered(await call(ann, "elicit"))
        another = started(tmp_path / "two", asking(elicit=elicit), auth=KEYS)
        async with another as other, Caller(other.port, x_api_key="a-key") as lost:
            refusal(await call(lost, "elicit", **parked))
        assert (await call(ann, "elicit", **parked)).text == "Ann"
        await settled(proxy)
        assert state not in proxy.output


# Streams that are resumed with an id that is not theirs.


async def test_a_stream_resumed_with_the_id_of_another(tmp_path: Path) -> None:
    """Event ids are no keys: no other session hears a question or can answer it, and its owner does and can."""
    backend = Curious(tools={"secret": asking_for_a_name})
    async with started(tmp_path, backend, auth=KEYS) as proxy, AsyncExitStack() as stack:
        ann, also_ann, bob = [
            await stack.enter_async_context(Client.opened(proxy.port, x_api_key=f"{name}-key")) for name in "aab"
        ]
        ann.call("secret", meta={"progressToken": "t"})
        id, asked = await broken_off(ann)
        for thief in (also_ann, bob):
            refusal(await resume(thief, id))
            await thief.answer(asked, {"action": "accept", "content": {"name": "Eve"}})
        for other in (id[:-1] + "7", "p.0.9.0", f"{id}.0", "x" * 5000):
            assert (await resume(ann, other)).status == 400
        stolen = {"mcp-session-id": ann.post.session, "mcp-protocol-version": HANDSHAKE, "last-event-id": id}
        assert (await bob.post.send(b"", dict(stolen), method="GET")).status == 404
        async with Caller(proxy.port, x_api_key="a-key") as back:
            back.write(b"", {**stolen, "accept": "text/event-stream"}, method="GET")
            again = Stream(back, HANDSHAKE, "tools/call")
            assert (await back.head())[0] == 200
            assert await again.next() == asked
            await ann.answer(asked, ACCEPTED)
            assert (await again.next())["result"] == text("Bo")
            assert await again.next() is None
        await settled(proxy)


async def asking_for_a_name(call: Call) -> Outcome:
    assert isinstance(call.backend, Curious)
    await call.say(method="notifications/progress", params={"progressToken": call.token, "progress": 1})
    answer = await call.backend.ask(call, f"own-{len(call.backend.answers)}", "elicitation/create", FORM)
    return text(answer["result"]["content"]["name"])


async def broken_off(client: Client) -> tuple[str, dict[str, Any]]:
    """Break off the stream of the call when it asks; return the id of its first event, and what was asked."""
    stream = Stream(client.stream, HANDSHAKE, "tools/call")
    status, headers = await client.stream.head()
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    while "id" not in (message := await stream.next()):
        pass
    client.stream.vanish()
    return stream.ids[0], message


async def resume(client: Client, last: str) -> Reply:
    fields: Fields = {
        "mcp-session-id": client.post.session,
        "mcp-protocol-version": HANDSHAKE,
        "accept": "text/event-stream",
        "last-event-id": last,
    }
    return await client.post.send(b"", fields, method="GET")


# Servers that die while a client is asked.


class Mortal:
    """A server of an official SDK before which a proxy stands, over HTTP or on a pipe."""

    def __init__(self, proxy: Proxy, server: Server | None) -> None:
        self.proxy = proxy
        self._server = server
        self._lives = 1

    async def kill(self) -> None:
        """End the process at once; on a pipe, wait for its heir."""
        if self._server is not None:
            self._server.signal(signal.SIGKILL)
            await asyncio.to_thread(self._server.wait)
            return
        (pid,) = [pid for pid, command in descendants(self.proxy.pid).items() if "matrix_server.py" in command]
        os.kill(pid, signal.SIGKILL)
        self._lives += 1
        up = "backend.up backend=mortal"
        await asyncio.to_thread(
            until, lambda: self.proxy.output.count(up) == self._lives, BACKENDS_START_S, "another life"
        )


@asynccontextmanager
async def mortal(directory: Path, python: Path, script: str, transport: str) -> AsyncIterator[Mortal]:
    async with AsyncExitStack() as stack:

        async def enter(process: Any) -> Any:
            stack.push_async_callback(asyncio.to_thread, process.__exit__)
            return await asyncio.to_thread(process.__enter__)

        server, entry = None, stdio_backend("mortal", python, script, "--name", "mortal")
        if transport == "http":
            fixture = third_party.SERVERS / script
            server = await enter(Server(python, fixture, directory / "server.log", "--name", "mortal"))
            entry = http_backend("mortal", server.url)
        proxy = await enter(Proxy(directory / "proxy", [entry]))
        await asyncio.to_thread(wait_for_tools, proxy, "mortal_ask")
        yield Mortal(proxy, server)


TRANSPORTS = pytest.mark.parametrize("transport", ["http", "pipe"])


@TRANSPORTS
async def test_a_server_that_is_killed_while_it_waits_for_a_handshake_client(
    tmp_path: Path, old_sdk: Path, transport: str
) -> None:
    async with mortal(tmp_path, old_sdk, "old_matrix_server.py", transport) as server:
        async with Client.opened(server.proxy.port) as client:
            id = client.call("mortal_ask")
            asked = await client.hear()
            await server.kill()
            withdrawn = await client.hear()
            assert (withdrawn["method"], withdrawn["params"]["requestId"]) == ("notifications/cancelled", asked["id"])
            failed = await client.hear()
            assert (failed["id"], failed["error"]["code"]) == (id, -31007)
            await client.answer(asked, ACCEPTED)  # too late, and no harm
        await settled(server.proxy)
        if transport == "pipe":
            async with Caller(server.proxy.port) as caller:
                assert await asked_and_answered(caller) == "accept Ann"


@TRANSPORTS
async def test_a_server_that_is_killed_while_the_call_is_parked(tmp_path: Path, old_sdk: Path, transport: str) -> None:
    async with mortal(tmp_path, old_sdk, "old_matrix_server.py", transport) as server:
        async with Caller(server.proxy.port) as caller:
            retry = answered(await call(caller, "mortal_ask"))
            await server.kill()
            assert (await call(caller, "mortal_ask", **retry)).code == -31007
            assert "used already" in refusal(await call(caller, "mortal_ask", **retry))
            if transport == "pipe":
                assert await asked_and_answered(caller) == "accept Ann"
        await settled(server.proxy)


@TRANSPORTS
async def test_a_server_that_holds_nothing_may_be_killed_while_clients_think(
    tmp_path: Path, sdk: Path, transport: str
) -> None:
    """In the stateless era its heir, where it has one, takes the answer."""
    async with mortal(tmp_path, sdk, "matrix_server.py", transport) as server:
        async with Caller(server.proxy.port) as caller, Client.opened(server.proxy.port) as client:
            retry = answered(await call(caller, "mortal_ask"))
            client.call("mortal_ask")
            asked = await client.hear()
            await server.kill()
            await client.answer(asked, ACCEPTED)
            replies = [(await call(caller, "mortal_ask", **retry)).response, await client.hear()]
            if transport == "pipe":
                assert [each["result"]["content"][0]["text"] for each in replies] == ["accept Ann", "accept Bo"]
            else:
                assert [each["error"]["code"] in (-31001, -31007) for each in replies] == [True, True], replies
        await settled(server.proxy)


async def asked_and_answered(caller: Caller) -> str:
    return (await call(caller, "mortal_ask", **answered(await call(caller, "mortal_ask")))).text


# Listeners that do not read.


async def test_listeners_that_stop_reading(tmp_path: Path) -> None:
    """They are cut off when too much waits for them; who reads is told everything, and memory stays small."""
    uris = [f"test://{number}/{'x' * 2000}" for number in range(100)]
    again = asyncio.Event()

    async def listen(call: Call) -> Outcome:
        meta = {"io.modelcontextprotocol/subscriptionId": call.message["id"]}
        granted = {"notifications": call.params["notifications"], "_meta": meta}
        await call.say(method="notifications/subscriptions/acknowledged", params=granted)
        while call.params["notifications"].get("resourceSubscriptions"):
            await again.wait()
            again.clear()
            for uri in uris:
                await call.say(method="notifications/resources/updated", params={"uri": uri, "_meta": meta})
        return await call.backend.hold(call)

    backend = Backend(resources=[{"uri": uri, "name": "r"} for uri in uris], scripts={"subscriptions/listen": listen})
    async with started(tmp_path, backend) as proxy, AsyncExitStack() as stack:

        async def connected() -> Caller:
            return await stack.enter_async_context(Caller(proxy.port))

        reading = await connected()
        reader = await listening(reading, resourceSubscriptions=uris)
        assert len((await reader.next())["params"]["notifications"]["resourceSubscriptions"]) == len(uris)
        session, *deaf = [await connected() for _ in range(4)]
        await session.initialize()
        for uri in uris:
            assert (await session.ask("resources/subscribe", uri=uri)).result == {}
        for caller in deaf[1:]:
            await (await listening(caller, resourceSubscriptions=uris)).next()
        await attached(deaf[0], str(session.session))
        for caller in deaf:
            caller.writer.transport.pause_reading()
        usage = Usage(proxy)
        # What the kernel takes for them comes to a few megabytes.
        for _ in range(50):
            again.set()
            async with asyncio.timeout(PROMPT_S):
                heard = b""
                while heard.count(b"notifications/resources/updated") < len(uris) or not heard.endswith(b"\n\n"):
                    heard += await reading.chunk()
            assert all(uri.encode() in heard for uri in uris)
        assert usage.grown < 16 * MEBI
        for caller in deaf:
            caller.writer.transport.resume_reading()
            assert await ends(caller)
        async with Caller(proxy.port) as caller:
            await attached(caller, str(session.session))  # which a cut stream does not stand in the way of


async def ends(caller: Caller) -> bool:
    """Read all that is left, to the end of the connection."""
    async with asyncio.timeout(PROMPT_S):
        try:
            while await caller.reader.read(MEBI):
                pass
        except ConnectionError:
            pass
    return True
