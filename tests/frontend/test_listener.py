from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.frontend.serving import LIMITS, TIMEOUTS, App, Client, request, serving

from only1mcp.errors import Only1MCPError
from only1mcp.frontend import listener as listener_module
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.listener import Limits, Listener
from only1mcp.frontend.owner import Admission

TWO = Limits(LIMITS.max_header_bytes, LIMITS.max_body_bytes, max_connections=2)


async def test_a_busy_port_is_named_in_one_line() -> None:
    async with serving(App()) as first:
        second = Listener(App(), "127.0.0.1", first.port, limits=LIMITS, timeouts=TIMEOUTS)
        with pytest.raises(Only1MCPError) as caught:
            await second.start()
        assert str(caught.value) == f"cannot listen on 127.0.0.1:{first.port}: address already in use"
        await second.aclose()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "cannot listen on 192.0.2.1:0: no such address on this machine"),
        ("no-such-host.invalid", "cannot listen on no-such-host.invalid:0: unknown host name"),
    ],
)
async def test_an_address_that_is_not_ours(host: str, message: str) -> None:
    with pytest.raises(Only1MCPError) as caught:
        await Listener(App(), host, 0, limits=LIMITS, timeouts=TIMEOUTS).start()
    assert str(caught.value) == message


async def test_a_socket_that_was_bound_before() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with serving(App(), sock=sock) as listener:
        assert listener.port == port
        async with await Client.connect(port) as client:
            assert await client.ask("/echo", b"hello") == (200, b"hello")
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(port)


async def test_beyond_the_limit_clients_are_told_so() -> None:
    refused: list[Only1MCPError] = []
    async with (
        serving(App(), limits=TWO, on_refused=lambda _, error: refused.append(error)) as listener,
        await Client.connect(listener.port) as one,
        await Client.connect(listener.port) as two,
    ):
        assert await one.ask("/echo", b"1") == (200, b"1")
        assert await two.ask("/echo", b"2") == (200, b"2")
        for _ in range(3):
            async with await Client.connect(listener.port) as three:
                three.send(request("/echo", b"x" * 1000))
                status, headers, body = await three.answer()
                assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"1", b"close")
                assert json.loads(body)["error"]["code"] == -31006
                assert await three.rest() == b""
        assert [error.http_status for error in refused] == [503] * 3
        assert listener.connections == 2
        assert await one.ask("/echo", b"1") == (200, b"1")
        # An answer that ends the connection makes room for another.
        two.send(request("/echo", b"", "Connection: close"))
        await two.answer()
        assert await two.rest() == b""
        two.writer.close()
        async with asyncio.timeout(5):
            status = 503
            while status == 503:
                async with await Client.connect(listener.port) as four:
                    status, _ = await four.ask("/echo")
        assert status == 200


async def test_far_beyond_the_limit_clients_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "MAX_REFUSED", 1)
    limits = Limits(LIMITS.max_header_bytes, LIMITS.max_body_bytes, max_connections=1)
    async with serving(App(), limits=limits) as listener, await Client.connect(listener.port) as one:
        assert await one.ask("/echo", b"1") == (200, b"1")
        async with await Client.connect(listener.port) as two:
            assert (await two.answer())[0] == 503
            async with await Client.connect(listener.port) as three:
                assert await three.rest() == b""
        assert await one.ask("/echo", b"1") == (200, b"1")


async def test_drain_closes_the_idle_and_waits_for_the_rest() -> None:
    app = App()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as idle, await Client.connect(listener.port) as busy:
            assert await idle.ask("/echo", b"x") == (200, b"x")
            busy.send(request("/hang") + request("/echo"))
            await app.begun.wait()
            draining = asyncio.create_task(listener.drain(30))
            assert await idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await Client.connect(listener.port)
            assert not draining.done()
            app.release.set()
            status, headers, body = await busy.answer()
            assert (status, headers[b"connection"], body) == (200, b"close", b"released")
            # The next request on this connection is not begun: its client sends it again elsewhere.
            assert await busy.rest() == b""
            busy.writer.close()
            await draining
        assert listener.connections == 0
        assert app.cancelled == 0


async def test_drain_cuts_off_what_takes_too_long() -> None:
    app = App()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as hanging:
            hanging.send(request("/hang"))
            await app.begun.wait()
            app.begun.clear()
            async with await Client.connect(listener.port) as streaming, await Client.connect(listener.port) as early:
                streaming.send(request("/hanging-stream"))
                await app.begun.wait()
                early.send(request("/early-stream"))
                await early.head()
                draining = asyncio.create_task(listener.drain(0.05))
                status, headers, body = await hanging.answer()
                assert (status, headers[b"connection"]) == (503, b"close")
                assert json.loads(body)["error"] == {"code": -31006, "message": "shutting down"}
                # What had begun ends without its end.
                await streaming.head()
                assert await streaming.rest() == b"5\r\nbegun\r\n"
                assert await early.rest() == b"5\r\nbegun\r\n"
                await draining
        assert app.cancelled == 2
        assert app.finished.qsize() == 3
        assert listener.connections == 0


async def test_aclose_ends_everything_at_once() -> None:
    app = App()
    listener = Listener(app, "127.0.0.1", 0, limits=LIMITS, timeouts=TIMEOUTS)
    await listener.start()
    async with await Client.connect(listener.port) as client:
        client.send(request("/flood"))
        await app.blocked.wait()
        await listener.aclose()
        assert not (await app.finished.get()).finished
        await client.rest()
    await listener.aclose()


async def test_a_listener_that_never_started_closes() -> None:
    await Listener(App(), "127.0.0.1", 0, limits=LIMITS, timeouts=TIMEOUTS).aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_tls(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    app = App()
    async with serving(app, ssl=server_tls) as listener:
        async with await Client.connect(listener.port, client_tls) as client:
            assert await client.ask("/echo", b"hello") == (200, b"hello")
            large = b"x" * 500_000
            assert await client.ask("/task-echo", large) == (200, large)
            client.send(request("/stream"))
            assert (await client.answer())[2] == b"onetwo"
            assert (await app.finished.get()).tls
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert (await client.answer())[0] == 400
        async with await Client.connect(listener.port, client_tls) as client:
            client.send(request("/hang"))
            await app.begun.wait()
        async with asyncio.timeout(5):
            while not (await app.finished.get()).client_gone:
                pass
        assert app.cancelled == 1


async def test_tls_drain(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    app = App()
    async with (
        serving(app, ssl=server_tls) as listener,
        await Client.connect(listener.port, client_tls) as idle,
        await Client.connect(listener.port, client_tls) as busy,
    ):
        assert await idle.ask("/echo", b"x") == (200, b"x")
        busy.send(request("/hang"))
        await app.begun.wait()
        draining = asyncio.create_task(listener.drain(30))
        assert await idle.rest() == b""
        app.release.set()
        assert (await busy.answer())[2] == b"released"
        assert await busy.rest() == b""
        await draining


async def test_a_client_that_does_not_finish_its_handshake_is_closed(
    server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener_module, "TLS_HANDSHAKE_S", 0.1)
    async with serving(App(), ssl=server_tls) as listener, await Client.connect(listener.port) as client:
        assert await client.rest() == b""
        assert listener.connections == 0


async def test_a_client_in_clear_on_a_tls_port_is_closed(server_tls: ssl.SSLContext) -> None:
    async with serving(App(), ssl=server_tls) as listener, await Client.connect(listener.port) as client:
        client.send(request("/echo"))
        assert b"HTTP" not in await client.rest()


EXHAUSTED = """
import asyncio, resource, sys
from only1mcp.frontend.connection import Connection
from only1mcp.frontend.http_exchange import HttpExchange
from only1mcp.frontend.listener import Limits, Listener, Timeouts
from only1mcp.frontend.owner import Admission
from tests.frontend.serving import App

async def main():
    listener = Listener(App(), "127.0.0.1", 0, limits=Limits(8192, 8192, 1000), timeouts=Timeouts(30, 30, 30))
    await listener.start()
    print(listener.port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(usage.ru_utime + usage.ru_stime, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await listener.aclose()

factory = asyncio.new_event_loop
if sys.argv[1] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
    runner.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on open files to run into")
async def test_running_out_of_descriptors_neither_kills_nor_spins() -> None:
    loop_name = "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        EXHAUSTED,
        loop_name,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    clients: list[socket.socket] = []
    try:
        port = int(await process.stdout.readline())
        clients.extend(socket.create_connection(("127.0.0.1", port)) for _ in range(80))
        # The process stays under this for as long as its clients do.
        await asyncio.sleep(1.0)
        process.stdin.write(b"\n")
        before = float(await process.stdout.readline())
        for sock in clients:
            sock.close()
        async with asyncio.timeout(10):
            answer = b""
            while b"again" not in answer:
                async with await Client.connect(port) as client:
                    client.send(request("/echo", b"again", "Connection: close"))
                    answer = await client.rest()
        assert before < 1.0
        process.stdin.write(b"\n")
        assert await process.wait() == 0
    finally:
        for sock in clients:
            sock.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_an_exchange_that_ignores_its_cancellation_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(App):
        async def hang(self, exchange: HttpExchange) -> None:
            self.begun.set()
            while not self.release.is_set():
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1

    monkeypatch.setattr(listener_module, "STOP_S", 0.05)
    app = Stubborn()
    async with serving(app) as listener:
        async with await Client.connect(listener.port) as client:
            client.send(request("/hang"))
            await app.begun.wait()
            await listener.drain(0)
            assert "ignore their cancellation" in caplog.text
            assert await client.rest() == b""
        app.release.set()
        assert (await app.finished.get()).client_gone
        assert app.cancelled >= 1


async def test_refuses_who_comes_while_it_drains() -> None:
    async with serving(App()) as listener:
        await listener.drain(30)
        connection = Connection(listener, asyncio.get_running_loop())
        assert listener.admit(connection) is Admission.REFUSE
        listener.forget(connection)
