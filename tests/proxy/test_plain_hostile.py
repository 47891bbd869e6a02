"""Plain calls under attack: whatever is sent is answered as on the ordinary way, and no limit is got around."""

from __future__ import annotations

import hashlib
import re
from contextlib import AsyncExitStack
from typing import Any

import pytest
from tests.in_process import configured, proxied, running
from tests.jobs import DECLARED, Jobs
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, STATELESS, Caller, Fields, Reply
from tests.proxy.asked import FORM, answered, ask, call
from tests.proxy.test_plain import ERAS, Scene, scene, shape, until

from only1mcp._fast import COMPILED
from only1mcp.config.schema import ApiKey, Auth, LoadBalancer, RateLimit
from only1mcp.frontend.repeating import ORDINARY_CALLS
from only1mcp.proxy.plain import KnownCall, PlainCall

pytestmark = pytest.mark.skipif(not COMPILED, reason="without the compiled reader no head is known again")

# What is put in the place of a part of a call.
ALTERED = [
    (b'"text": "x"', b'"text": "x", "text": "y"'),
    (b'"text": "x"', b'"text": 1e400'),
    (b'"text": "x"', b'"text": "\\ud800"'),
    (b'"text": "x"', b'"text": "\xff"'),
    (b'"text": "x"', b'"text": "\xed\xa0\x80"'),
    (b'"text": "x"', b'"text": "\x00"'),
    (b'"text": "x"', b'"text": "\\u0000", "n": 1e308, "m": ' + b"9" * 300),
    (b'"text": "x"', b'"text": ' + b"[" * 61 + b"]" * 61),
    (b'"text": "x"', b'"text": ' + b"[" * 62 + b"]" * 62),
    (b'"name": "echo"', b'"name": "echo", "uri": "test://one"'),
    (b'"name": "echo"', b'"name": "echo", "uri": 5'),
    (b'"name": "echo"', b'"uri": null, "name": "echo"'),
    (b'"name": "echo"', b'"name": "echo", "name": "echo"'),
    (b'"name": "echo"', b'"name": "echo", "Name": "hold"'),
    (b'"name": "echo"', b'"name": "echo", "\\u006eame": "hold"'),
    (b'"name": "echo"', b'"name": "ech\\u006f"'),
    (b'"name": "echo"', b'"n\\u0061me": "echo"'),
    (b'"name": "echo"', b'"name": "echo", "task": {}, "requestState": "x"'),
    (b'"tools/call"', b'"tools\\/call"'),
    (b'"method"', b'"m\\u0065thod"'),
    (b'"params"', b'"param\xc5\xbf": {}, "params"'),
    (b'"id": 7', b'"id": 7, "id": 7'),
    (b'"id": 7', b'"id": 7, "ID": 8'),
    (b'"id": 7', b'"i\\u0064": 7'),
    (b'"id": 7', b'"id": -0'),
    (b'"id": 7', b'"id": 7.0'),
    (b'"id": 7', b'"id": null'),
    (b'"id": 7', b'"id": ' + b"7" * 256),
    (b'"id": 7', b'"id": ' + b"7" * 257),
    (b'"id": 7', b'"id": "\\u0000\\ud83d\\ude00"'),
    (b'"id": 7', b'"id": 7, "result": {}'),
    (b'"id": 7', b'"id": 7, "x": {}'),
    (b'"jsonrpc": "2.0"', b'"jsonrpc": "\\u0032.0"'),
    (b'"jsonrpc"', b'"\\u006asonrpc"'),
    (b'{"jsonrpc"', b' \r\n\t{"jsonrpc"'),
    (b'{"jsonrpc"', b'\xef\xbb\xbf{"jsonrpc"'),
    (b'{"jsonrpc"', b'[{"jsonrpc"'),
]
IN_META = [
    (b'"io.modelcontextprotocol/clientCapabilities": {}', b'"a": 1, "io.modelcontextprotocol/clientCapabilities": {}'),
    (b'"io.modelcontextprotocol/clientCapabilities": {}', b'"io.modelcontextprotocol/clientCapabilities": []'),
    (b'"io.modelcontextprotocol/clientCapabilities": {}', b'"io.modelcontextprotocol/clientCapabilitie\\u0073": {}'),
    (b'Capabilities": {}', b'Capabilities": {}, "a": 1, "a": 2'),
    (b'Capabilities": {}', b'Capabilities": {}, "io.modelcontextprotocol/clientCapabilities": {}'),
    (b'Capabilities": {}', b'Capabilities": {}, "io.modelcontextprotocol/protocolVersion": "2025-11-25"'),
    (b'Capabilities": {}', b'Capabilities": {}, "progressToken": null'),
    (b'Capabilities": {}', b'Capabilities": {}, "progress\\u0054oken": "p"'),
    (b'Capabilities": {}', b'Capabilities": {' + b",".join(b'"%d": {}' % n for n in range(40)) + b"}"),
    (b'"2026-07-28", "io', b'"2026\\u002d07-28", "io'),
    (b'"name": "echo"', b'"name": "echo", "_meta": {}'),
]


# Numbers of ours in what a backend gets.
OURS = rb'"(id|i\\u0064|progressToken)": ?\d+'


async def both_ways(here: Scene, octets: bytes) -> None:
    """Send a request over a connection whose calls are plain and over one that is new, and compare all that comes."""
    replies: list[Reply] = []
    sent: list[list[bytes]] = []
    async with Caller(here.caller.port) as fresh:
        for caller in (fresh, here.caller):
            before = len(here.backend.bodies)
            caller.writer.write(octets)
            replies.append(await caller.reply())
            sent.append([re.sub(OURS, b"", body) for body in here.backend.bodies[before:]])
    assert shape(replies[0]) == shape(replies[1]), octets
    assert sent[0] == sent[1], octets


@pytest.mark.unchecked("what is altered is mostly not valid")
@pytest.mark.parametrize("era", ERAS)
async def test_whatever_the_body_is_the_answer_is_that_of_the_ordinary_way(era: str) -> None:
    async with scene(era) as here:
        for old, new in [*ALTERED, *(IN_META if era == STATELESS else ())]:
            await here.warm()
            octets = here.octets(text="x")
            assert octets.count(old) == 1, old
            head, _, body = octets.replace(old, new).partition(b"\r\n\r\n")
            head = re.sub(rb"content-length: \d+", b"content-length: %d" % len(body), head)
            await both_ways(here, head + b"\r\n\r\n" + body)


@pytest.mark.parametrize("era", ERAS)
async def test_heads_that_are_nearly_the_known_one(era: str) -> None:
    async with scene(era) as here:
        octets = here.octets(text="x")
        session = here.caller.session
        length = re.search(rb"content-length: (\d+)\r\n", octets)
        assert length is not None
        number = length[1]
        for fields in (
            b"content-length: +%b\r\n",
            b"content-length: 000%b\r\n",
            b"content-length: %b, %b\r\n",
            b"content-length: %b\r\ncontent-length: %b\r\n",
            b"content-length:%b\r\n",
            b"content-length: %b\r\ntransfer-encoding: chunked\r\n",
            b"content-length: 0x%b\r\n",
        ):
            async with Caller(here.caller.port) as here.caller:
                here.caller.session = session
                await here.warm()
                await both_ways(here, octets.replace(length[0], fields.replace(b"%b", number)))


@pytest.mark.parametrize("era", ERAS)
async def test_octets_behind_the_body_are_the_next_request(era: str) -> None:
    async with scene(era) as here:
        await here.warm()
        octets = here.octets(text="x")
        here.caller.writer.write(octets + here.octets(id=8, text="y") + b"\r\n" + here.octets(id=9, text="z"))
        replies = [await here.caller.reply() for _ in range(3)]
        assert [(each.response["id"], each.text) for each in replies] == [(7, "x"), (8, "y"), (9, "z")]
        await here.warm()
        here.caller.writer.write(octets + b"GARBAGE\r\n\r\n")
        assert (await here.caller.reply()).text == "x"
        assert (await here.caller.reply()).status == 400
        assert await here.caller.is_closed()


async def two_at_once(here: Scene, other: Caller) -> None:
    """Call `hold` from both sides, so that there are two connections to the backend; the next calls are held."""
    hold = here.backend
    hold.release.clear()
    here.write("hold")
    other.writer.write(here.octets("hold"))
    await until(lambda: sum(endpoint.in_flight for endpoint in here.worker.registry.endpoints.values()) == 2)
    hold.release.set()
    assert [(await each.reply()).text for each in (here.caller, other)] == ["released"] * 2
    hold.release.clear()


async def test_a_call_that_is_cancelled_as_it_expires_is_answered_once() -> None:
    async with scene(HANDSHAKE) as here, Caller(here.caller.port) as other:
        hold, other.session = here.backend, here.caller.session
        hold.release.set()
        await here.warm("hold")
        for _ in range(ORDINARY_CALLS):
            await other.call("hold")
        await two_at_once(here, other)
        here.write("hold", id="first")
        await until(lambda: here.plain is not None)
        assert here.plain is not None
        watch = here.plain.lane.watch()
        # Behind the first call on its connection waits a notification that calls off the second.
        cancel = b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"second"}}'
        fields: Fields = {"mcp-session-id": here.caller.session, "mcp-protocol-version": HANDSHAKE}
        here.caller.writer.write(here.caller.http(cancel, fields))
        await until(lambda: here.plain is None)
        other.writer.write(here.octets("hold", id="second"))
        await until(lambda: len(watch.calls()) == 2)
        assert [isinstance(each, PlainCall) for each in watch.calls()] == [False, True]
        for each in watch.calls():
            each.deadline = 0.0
        watch._fire()
        replies = [await here.caller.reply(), await here.caller.reply(), await other.reply()]
        codes = [each.code if each.body else None for each in replies]
        assert codes == [-31002, None, -32800]
        hold.release.set()
        assert (await other.call("echo", text="next")).text == "next"
        assert here.worker.pipeline._in_flight == 0
        assert all(endpoint.in_flight == 0 for endpoint in here.worker.registry.endpoints.values())


async def test_who_is_refused_leaves_the_balance_of_others_alone() -> None:
    names = [f"k{number}" for number in range(8)]
    keys = tuple(ApiKey(name=name, key_sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names)
    auth = Auth(api_keys=keys, rate_limit=RateLimit(requests_per_minute=1, burst=6))
    backends = [Backend(tools={"echo": echo}) for _ in range(2)]
    balancer = LoadBalancer(algorithm="consistent_hash", hash_key="client")
    async with AsyncExitStack() as stack:
        for each in backends:
            await stack.enter_async_context(each)
        settings: dict[str, Any] = {"auth": auth, "load_balancer": balancer, "each": {"group": "all"}}
        worker = await stack.enter_async_context(running(configured(*backends, **settings)))
        assert worker.listener is not None
        at: dict[int, Caller] = {}
        for name in names:
            caller = await stack.enter_async_context(Caller(worker.listener.port, x_api_key=name))
            before = len(backends[0].calls)
            await caller.call("echo", text="where")
            at.setdefault(len(backends[0].calls) - before, caller)
        assert len(at) == 2, "all clients have the same backend"
        busy, calm = at.values()
        replies = [await busy.call("echo", text="busy") for _ in range(8)]
        assert [reply.status for reply in replies] == [200] * 5 + [429] * 3
        before_calm = [len(each.calls) for each in backends]
        assert (await calm.call("echo", text="calm")).text == "calm"
        hit = [len(each.calls) - count for each, count in zip(backends, before_calm, strict=True)]
        assert hit == ([1, 0] if at[1] is calm else [0, 1])


async def test_a_parked_call_goes_on_where_it_is_parked_whoevers_turn_it_is() -> None:
    async def elicit(call: Call) -> Outcome:
        answer = await ask(call, f"of-{call.message['id']}", "elicitation/create", FORM)
        return text(answer["result"]["content"]["name"])

    async def other(call: Call) -> Outcome:
        return text("other")

    backends = [Backend(era="handshake", tools={"elicit": elicit}), Backend(tools={"elicit": other})]
    balancer = LoadBalancer(algorithm="round_robin")
    async with AsyncExitStack() as stack:
        for each in backends:
            await stack.enter_async_context(each)
        settings: dict[str, Any] = {"load_balancer": balancer, "each": {"group": "all"}}
        worker = await stack.enter_async_context(running(configured(*backends, **settings)))
        assert worker.listener is not None
        caller = await stack.enter_async_context(Caller(worker.listener.port))
        parked = 0
        for _ in range(12):
            reply = await call(caller, "elicit")
            if reply.result["resultType"] == "complete":
                assert reply.text == "other"
                continue
            parked += 1
            assert (await call(caller, "elicit", **answered(reply))).text == "Ann"
        assert parked == 6


async def test_an_idle_connection_keeps_no_arguments() -> None:
    async with scene(STATELESS, load_balancer=LoadBalancer(hash_key="arguments")) as here:
        await here.warm(text="x" * 30_000)
        known = here.client._known
        assert isinstance(known, KnownCall)
        kept = [getattr(known, name) for name in dir(known)]
        assert max(len(each) for each in kept if isinstance(each, bytes)) < 2048


async def test_calls_that_wait_stay_in_the_order_in_which_they_came() -> None:
    async with scene(HANDSHAKE) as here, Caller(here.caller.port) as other:
        hold, other.session = here.backend, here.caller.session
        hold.release.set()
        await here.warm("hold")
        await two_at_once(here, other)
        here.write("hold")
        await until(lambda: here.plain is not None)
        assert here.plain is not None
        lane = here.plain.lane
        first = here.plain.number
        other.writer.write(here.octets("hold", meta={"progressToken": 1}))
        await until(lambda: len(lane.watch().calls()) == 2)
        for _ in range(2):
            assert [int(direct.call.id) for direct in lane.calls()] == [first, first + 1]
        hold.release.set()
        assert [(await each.reply()).text for each in (here.caller, other)] == ["released"] * 2


async def test_a_task_is_found_however_it_is_spelled() -> None:
    # With the head of all other answers, and every word of it that matters with an escape.
    head = b"HTTP/1.1 200 x\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n"
    when = b'"2026-01-01T00:00:00Z"'

    async def spelled(call: Call) -> Outcome:
        result = (
            b'{"resultType": "t\\u0061sk", "\\u0074askId": "job-9", "status": "working", "ttlMs": null,'
            b' "createdAt": %b, "lastUpdatedAt": %b}' % (when, when)
        )
        body = b'{"jsonrpc": "2.0", "id": %d, "result": %b}' % (call.message["id"], result)
        return head % len(body) + body

    jobs = Jobs(tools={"spelled": spelled, "echo": echo})
    async with proxied(jobs.backend) as port, Caller(port) as caller:
        for _ in range(ORDINARY_CALLS + 2):
            for _ in range(2):
                assert (await caller.call("echo", meta=DECLARED, text="x")).text == "x"
            result = (await caller.call("spelled", meta=DECLARED)).result
            assert (result["resultType"], result["status"]) == ("task", "working")
            assert "job-9" not in result["taskId"]
            assert (await caller.call("spelled")).code == -32021
