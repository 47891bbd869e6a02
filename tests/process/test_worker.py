"""The worker from start to stop: addresses, certificates, names, probes, metrics, changes of backends, draining."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec.structs import replace
from tests.in_process import configured, proxied, running
from tests.mcp_backend import Backend, Call, Outcome, echo, text
from tests.mcp_caller import HANDSHAKE, Caller, stateless

from only1mcp.backend import endpoint as endpoint_module
from only1mcp.config.schema import TLS, Cache, Metrics
from only1mcp.errors import ConfigError, Only1MCPError
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.process import worker as module
from only1mcp.process.worker import Worker
from only1mcp.proxy.exchange import Exchange

PROMPT_S = 5.0


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend(tools={"echo": echo})
    backend.tools["hold"] = backend.hold
    async with backend:
        yield backend


def port_of(worker: Worker) -> int:
    assert worker.listener is not None
    return worker.listener.port


async def tools(caller: Caller) -> list[str]:
    return [tool["name"] for tool in (await caller.ask("tools/list")).result["tools"]]


async def test_exchanges_are_freed_without_the_garbage_collector(backend: Backend) -> None:
    async with running(configured(backend)) as worker, Caller(port_of(worker)) as caller:
        await caller.call("echo", text="x")
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                assert (await caller.call("echo", text="x")).status == 200
                assert (await caller.call("nobody")).status == 400
                assert (await caller.ask("tools/list")).status == 200
            gc.collect()
            assert [each for each in gc.garbage if isinstance(each, HttpExchange | Exchange)] == []
        finally:
            gc.set_debug(0)
            gc.garbage.clear()


# Probes and metrics.


async def test_health_and_ready(backend: Backend) -> None:
    async with running(configured(backend)) as worker, Caller(port_of(worker)) as caller:
        health = await caller.send(method="GET", path="/health")
        assert (health.status, health.headers["content-type"]) == (200, "application/json")
        (document,) = health.messages
        assert document["status"] == "ok"
        (ready,) = (await caller.send(method="GET", path="/ready")).messages
        assert ready["status"] == "ready"
        (entry,) = ready["backends"]
        assert {name: entry[name] for name in ("id", "state", "era", "revision", "tools", "in_flight")} == {
            "id": "b0",
            "state": "up",
            "era": "stateless",
            "revision": "2026-07-28",
            "tools": 2,
            "in_flight": 0,
        }
        worker.pipeline.close()
        assert (await caller.send(method="GET", path="/ready")).status == 503
        assert (await caller.send(method="GET", path="/health")).status == 200
        assert (await caller.call("echo", text="still")).text == "still"


async def test_ready_with_a_dead_backend(backend: Backend) -> None:
    dead = Backend()
    async with dead:
        pass
    async with running(configured(dead, backend)) as worker, Caller(port_of(worker)) as caller:
        reply = await caller.send(method="GET", path="/ready")
        assert reply.status == 200
        gone, alive = reply.messages[0]["backends"]
        assert gone["state"] in ("down", "connecting")
        assert gone["error"]
        assert alive["state"] == "up"
        assert await tools(caller) == ["echo", "hold"]


async def scrape(worker: Worker) -> str:
    assert worker.scraper is not None
    async with Caller(worker.scraper.port) as scraper:
        return (await scraper.send(method="GET", path="/metrics")).body.decode()


async def test_metrics_count_what_happened(backend: Backend) -> None:
    async with running(configured(backend, metrics=Metrics(port=0))) as worker, Caller(port_of(worker)) as caller:
        await caller.call("echo", text="x")
        await caller.call("nobody")
        await caller.ask("made/up")
        await caller.send(b"{")
        caller.writer.write(b"nonsense\r\n\r\n")
        assert (await caller.reply()).status == 400
        async with Caller(port_of(worker)) as other:
            await other.send(method="GET", path="/health")
            text = await scrape(worker)
    for sample in (
        'only1mcp_requests_total{method="tools/call",status="2xx"} 1.0',
        'only1mcp_requests_total{method="tools/call",status="4xx"} 1.0',
        'only1mcp_requests_total{method="other",status="4xx"} 1.0',
        'only1mcp_requests_total{method="none",status="4xx"} 2.0',
        'only1mcp_errors_total{source="client"} 4.0',
        'only1mcp_backend_requests_total{backend="b0"} 1.0',
        'only1mcp_backend_up{backend="b0"} 1.0',
        "only1mcp_connections_active 2.0",  # the one that spoke nonsense has not hung up yet
    ):
        assert f"\n{sample}\n" in text, sample
    assert "made/up" not in text


async def test_client_that_hangs_up_is_no_fault_of_the_backend(backend: Backend) -> None:
    async with running(configured(backend, metrics=Metrics(port=0))) as worker:
        async with Caller(port_of(worker)) as caller:
            caller.write(*stateless("tools/call", name="hold", arguments={}))
            await backend.holding.wait()
            caller.vanish()
        await backend.gone.wait()
        text = await scrape(worker)
    assert 'only1mcp_requests_total{method="tools/call",status="aborted"} 1.0' in text
    assert 'only1mcp_backend_requests_total{backend="b0"} 1.0' in text
    assert 'only1mcp_backend_errors_total{backend="b0"} 0.0' in text


async def test_metrics_names_of_the_design(backend: Backend) -> None:
    async with running(configured(backend, metrics=Metrics(port=0))) as worker, Caller(port_of(worker)) as caller:
        await caller.call("echo", text="x")
        text = await scrape(worker)
    names = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    assert names >= {
        "only1mcp_requests_total",
        "only1mcp_errors_total",
        "only1mcp_request_duration_seconds",
        "only1mcp_backend_requests_total",
        "only1mcp_backend_errors_total",
        "only1mcp_backend_duration_seconds",
        "only1mcp_cache_hits_total",
        "only1mcp_cache_misses_total",
        "only1mcp_cache_entries",
        "only1mcp_connections_active",
        "only1mcp_memory_bytes",
    }


# Addresses and certificates.


@pytest.mark.parametrize("which", ["proxy", "metrics"])
async def test_busy_port(backend: Backend, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = configured(backend, metrics=Metrics(port=port)) if which == "metrics" else configured(backend)
        worker = Worker(config)
        if which == "proxy":
            worker = Worker(replace(config, proxy=replace(config.proxy, port=port)))
        with pytest.raises(Only1MCPError) as caught:
            await worker.start()
        await worker.stop(0)
    assert f"cannot listen on 127.0.0.1:{port}: address already in use" in caught.value.message
    assert "\n" not in caught.value.message
    assert backend.received == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(private)
    return str(directory / "cert.pem"), str(directory / "key.pem")


@pytest.mark.parametrize("min_version", ["1.2", "1.3"])
async def test_tls(backend: Backend, certificate: tuple[str, str], min_version: Any) -> None:
    cert, key = certificate
    tls = TLS(enabled=True, cert=cert, key=key, min_version=min_version)
    async with running(configured(backend, tls=tls)) as worker:
        trusting = ssl.create_default_context(cafile=cert)
        trusting.set_alpn_protocols(["h2", "http/1.1"])
        async with Caller(port_of(worker), context=trusting) as caller:
            assert caller.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            await caller.initialize()
            assert (await caller.call("echo", text="x" * 100_000)).text == "x" * 100_000
        with pytest.raises(ssl.SSLCertVerificationError):
            async with Caller(port_of(worker), context=ssl.create_default_context()):
                pass
        old = ssl.create_default_context(cafile=cert)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        if min_version == "1.3":
            with pytest.raises((ssl.SSLError, ConnectionError)):
                async with Caller(port_of(worker), context=old):
                    pass
        else:
            async with Caller(port_of(worker), context=old) as caller:
                assert (await caller.call("echo", text="x")).text == "x"
        async with Caller(port_of(worker)) as plain:
            plain.write(*stateless("tools/list"))
            assert await plain.is_closed()
        async with Caller(port_of(worker), context=trusting) as caller:
            assert (await caller.call("echo", text="x")).text == "x"


async def test_certificate_that_cannot_be_used(backend: Backend, certificate: tuple[str, str], tmp_path: Path) -> None:
    cert, key = certificate
    (tmp_path / "empty.pem").write_text("")
    for bad in ((str(tmp_path / "none.pem"), key), (str(tmp_path / "empty.pem"), key), (key, cert)):
        worker = Worker(configured(backend, tls=TLS(enabled=True, cert=bad[0], key=bad[1])))
        with pytest.raises(ConfigError, match=r"proxy\.tls: cannot use the certificate"):
            await worker.start()
        await worker.stop(0)
    assert backend.received == []


# Names.


@pytest.mark.parametrize(
    ("naming", "names"),
    [
        ("auto", ["same", "one", "b1__same", "two"]),
        ("prefixed", ["b0__same", "b0__one", "b1__same", "b1__two"]),
    ],
)
async def test_naming(naming: str, names: list[str]) -> None:
    async def who(call: Call) -> Outcome:
        return text(call.backend.url)

    backends = Backend(tools={"same": who, "one": who}), Backend(tools={"same": who, "two": who})
    async with proxied(*backends, naming=naming) as port, Caller(port) as caller:
        assert await tools(caller) == names
        owners = {
            "b0__same": 0,
            "b1__same": 1,
            "b0__one": 0,
            "b1__two": 1,
            **dict(zip(names, (0, 0, 1, 1), strict=True)),
        }
        for name, backend in owners.items():
            assert (await caller.call(name)).text == backends[backend].url, name
            assert backends[backend].calls[-1]["params"]["name"] == name.removeprefix(f"b{backend}__")


async def test_bare_names_that_collide(backend: Backend) -> None:
    async with Backend(tools={"hold": echo, "own": echo}) as second:
        worker = Worker(configured(backend, second, naming="bare"))
        with pytest.raises(ConfigError) as caught:
            await worker.start()
        await worker.stop(0)
    (problem,) = caught.value.problems
    assert problem.startswith("proxy.naming: bare names collide")
    assert "'hold'" in problem
    assert "'b0'" in problem
    assert "'b1'" in problem


async def test_bare_names_that_do_not_collide() -> None:
    backends = Backend(tools={"a": echo, "b": echo}), Backend(tools={"c": echo})
    async with proxied(*backends, naming="bare") as port, Caller(port) as caller:
        assert await tools(caller) == ["a", "b", "c"]


# Backends that come late, and change.


async def test_clients_wait_no_longer_than_the_settling_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_S", 0.05)
    late = Backend(tools={"late": echo}, awake=asyncio.Event())
    async with proxied(late, Backend(tools={"echo": echo})) as port, Caller(port) as caller:
        assert await tools(caller) == ["echo"]
        assert (await caller.call("echo", text="x")).text == "x"
        assert (await caller.call("late")).code == -32602
        assert late.awake is not None
        late.awake.set()
        async with asyncio.timeout(PROMPT_S):
            while await tools(caller) != ["late", "echo"]:
                pass
        assert (await caller.call("late", text="x")).text == "x"


@pytest.mark.parametrize("era", ["stateless", "handshake"])
async def test_changed_list_refreshes_the_catalog_and_forgets_cached_reads(era: str) -> None:
    reads = []

    async def grow(call: Call) -> Outcome:
        call.backend.tools["new"] = echo
        await call.say(method="notifications/tools/list_changed")
        return text("grown")

    async def read(call: Call) -> Outcome:
        reads.append(call)
        contents = [{"uri": "test://one", "text": str(len(reads))}]
        return {"contents": contents, "ttlMs": 60_000, "cacheScope": "private"}

    resources = [{"uri": "test://one", "name": "one"}]
    backend = Backend(era=era, tools={"grow": grow}, resources=resources, scripts={"resources/read": read})
    async with proxied(backend) as port, Caller(port) as caller:
        await caller.ask("resources/read", uri="test://one")
        await caller.ask("resources/read", uri="test://one")
        assert len(reads) == (1 if era == "stateless" else 2)
        await caller.call("grow")
        async with asyncio.timeout(PROMPT_S):
            while await tools(caller) != ["grow", "new"]:
                pass
        assert (await caller.call("new", text="x")).text == "x"
        before = len(reads)
        await caller.ask("resources/read", uri="test://one")
        assert len(reads) == before + 1


async def test_what_a_backend_says_to_have_changed_is_read_again_and_nothing_else() -> None:
    reads: dict[str, int] = {}

    async def say(call: Call) -> Outcome:
        await call.say(method=call.arguments["method"], params=call.arguments.get("params", {}))
        return text("said")

    async def read(call: Call) -> Outcome:
        uri = call.params["uri"]
        reads[uri] = reads.get(uri, 0) + 1
        return {"contents": [], "ttlMs": 60_000, "cacheScope": "private"}

    resources = [{"uri": f"test://{name}", "name": name} for name in "ab"]
    backend = Backend(tools={"say": say}, resources=resources, scripts={"resources/read": read})
    async with proxied(backend) as port, Caller(port) as caller:

        async def times() -> list[int]:
            for resource in resources:
                await caller.ask("resources/read", uri=resource["uri"])
            return [reads[resource["uri"]] for resource in resources]

        assert await times() == [1, 1]
        await caller.call("say", method="notifications/resources/updated", params={"uri": "test://a"})
        assert await times() == [2, 1]
        for kind in ("tools", "prompts"):
            await caller.call("say", method=f"notifications/{kind}/list_changed")
            assert await times() == [2, 1]
        # At once, before the list itself has been read again, and also where it is still the same.
        await caller.call("say", method="notifications/resources/list_changed")
        assert await times() == [3, 2]


async def test_a_list_without_notifications_is_current_again_soon_after_it_has_aged() -> None:
    backend = Backend(tools={"echo": echo}, scripts={})
    async with proxied(backend, cache=Cache(ttl_seconds=0.05)) as port, Caller(port) as caller:
        assert await tools(caller) == ["echo"]
        backend.tools["new"] = echo
        async with asyncio.timeout(PROMPT_S):
            while await tools(caller) != ["echo", "new"]:
                pass


async def test_the_lists_of_a_lost_backend_stay_for_a_while_and_leave_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "GRACE_S", 0.2)
    steady, lost = Backend(tools={"echo": echo}), Backend(tools={"gone": echo})
    async with steady, AsyncExitStack() as life:
        await life.enter_async_context(lost)
        async with running(configured(steady, lost)) as worker, Caller(port_of(worker)) as caller:
            catalogs = [worker.pipeline.snapshot.catalog]
            await life.aclose()
            assert (await caller.call("gone")).status >= 500
            assert await tools(caller) == ["echo", "gone"]
            async with asyncio.timeout(PROMPT_S):
                while await tools(caller) != ["echo"]:
                    catalogs.append(worker.pipeline.snapshot.catalog)
            catalogs.append(worker.pipeline.snapshot.catalog)
            # One change, and none before it.
            assert len(set(map(id, catalogs))) == 2
            assert (await caller.call("echo", text="x")).text == "x"


# Stopping.


@pytest.mark.parametrize("era", ["stateless", HANDSHAKE])
async def test_drain_finishes_what_is_in_flight_and_takes_no_more(backend: Backend, era: str) -> None:
    async with (
        running(configured(backend)) as worker,
        Caller(port_of(worker)) as busy,
        Caller(port_of(worker)) as idle,
    ):
        if era == HANDSHAKE:
            await busy.initialize()
        assert (await idle.call("echo", text="x")).text == "x"
        call = asyncio.create_task(busy.call("hold"))
        await backend.holding.wait()
        stopping = asyncio.create_task(worker.stop(PROMPT_S))
        assert await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port_of(worker))
        assert not stopping.done()
        backend.release.set()
        reply = await call
        assert reply.text == "released"
        assert reply.headers["connection"] == "close"
        assert await busy.is_closed()
        busy.vanish()
        await stopping


async def test_drain_has_an_end(backend: Backend) -> None:
    async with running(configured(backend)) as worker, Caller(port_of(worker)) as busy:
        call = asyncio.create_task(busy.call("hold"))
        await backend.holding.wait()
        await worker.stop(0.05)
        reply = await call
        assert (reply.status, reply.code, reply.headers["connection"]) == (503, -31006, "close")
        await backend.gone.wait()
        assert backend.abandoned == ["hold"]


async def test_stop_leaves_no_task_and_no_socket(backend: Backend) -> None:
    before = asyncio.all_tasks()
    async with running(configured(backend, metrics=Metrics(port=0))) as worker, Caller(port_of(worker)) as caller:
        await caller.call("echo", text="x")
    left = {task for task in asyncio.all_tasks() - before if "Backend" not in repr(task)}
    assert left == set()


async def test_stop_before_start_is_over(backend: Backend) -> None:
    backend.awake = asyncio.Event()
    worker = Worker(configured(backend))
    starting = asyncio.create_task(worker.start())
    await backend.reached.wait()
    async with Caller(port_of(worker)) as early:
        early.write(*stateless("tools/list"))
        assert (await worker_health(worker)) == 200
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await worker.stop(0)
        reply = await early.reply()
        assert (reply.status, reply.code) == (503, -31006)


async def worker_health(worker: Worker) -> int:
    async with Caller(port_of(worker)) as caller:
        return (await caller.send(method="GET", path="/health")).status
