"""The Streamable HTTP transport: what it sends in each era, when it sends again, how it gives up and says goodbye."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.backend.hostile import (
    SSE_HEAD,
    HostileServer,
    Incoming,
    answer_well,
    chunk,
    event,
    hosted,
    make_call,
    response,
    stay_silent,
)

from only1mcp import __version__
from only1mcp._fast import RESULT, Envelope
from only1mcp.backend import connecting
from only1mcp.backend import http as module
from only1mcp.backend.connection import HttpConnection
from only1mcp.backend.http import HttpTransport
from only1mcp.config.schema import BackendAuth, BackendConfig
from only1mcp.config.secret import Secret
from only1mcp.errors import BackendAnswerError, BackendRefused, BackendTimeout, BackendUnavailable, ConfigError

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"
COMMON = [
    ("user-agent", f"only1mcp/{__version__}"),
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
]
NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


def own_headers(incoming: Incoming) -> list[tuple[str, str]]:
    return [(name, value) for name, value in incoming.headers if name not in ("host", "content-length")]


# What is sent.


async def test_before_the_revision_is_known() -> None:
    async with hosted(None) as (server, transport):
        await transport.start()
        await transport.call(make_call(1, "ping"))
        (incoming,) = server.received
        assert (incoming.verb, incoming.target) == ("POST", "/mcp")
        assert incoming.header("host") == f"127.0.0.1:{server.port}"
        assert incoming.body == b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
        assert own_headers(incoming) == COMMON


async def test_handshake_era() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        await transport.call(make_call(1, param_headers=((b"mcp-param-a", b"x"),)))
        transport.session_id = "s-1"
        await transport.call(make_call(2))
        await transport.call(make_call(3, "initialize"))
        await transport.send(NOTE)
        version = ("mcp-protocol-version", HANDSHAKE)
        session = ("mcp-session-id", "s-1")
        assert [own_headers(incoming) for incoming in server.received] == [
            [*COMMON, version],
            [*COMMON, version, session],
            COMMON,
            [*COMMON, version, session],
        ]


async def test_stateless_era() -> None:
    async with hosted(STATELESS) as (server, transport):
        transport.session_id = "never sent"
        params = ((b"mcp-param-region", b"eu"), (b"mcp-param-n", b"7"))
        await transport.call(make_call(1, param_headers=params))
        await transport.call(make_call(2, "tools/list"))
        call = make_call(3, "resources/read")
        call.name = "file:///日本"
        await transport.call(call)
        await transport.send(NOTE)
        version = ("mcp-protocol-version", STATELESS)
        assert [own_headers(incoming) for incoming in server.received] == [
            [*COMMON, version, ("mcp-method", "tools/call"), ("mcp-name", "add"), *DECODED_PARAMS],
            [*COMMON, version, ("mcp-method", "tools/list")],
            [*COMMON, version, ("mcp-method", "resources/read"), ("mcp-name", "=?base64?ZmlsZTovLy/ml6XmnKw=?=")],
            [*COMMON, version, ("mcp-method", "notifications/message")],
        ]


DECODED_PARAMS = [("mcp-param-region", "eu"), ("mcp-param-n", "7")]


async def test_credentials_and_configured_headers_go_with_every_request() -> None:
    auth = BackendAuth(type="bearer", token_env="T", token=Secret("s3cret"))
    async with hosted(HANDSHAKE, auth=auth, headers={"X-Tenant": "blue"}) as (server, transport):
        transport.session_id = "s"
        await transport.call(make_call(1))
        await transport.send(NOTE)
        await transport.listen()
        await transport.aclose()
        assert [incoming.verb for incoming in server.received] == ["POST", "POST", "GET", "DELETE"]
        for incoming in server.received:
            assert incoming.header("authorization") == "Bearer s3cret"
            assert incoming.header("x-tenant") == "blue"
            assert incoming.header("accept-encoding") is None
        assert "s3cret" not in repr(transport)


def test_what_cannot_be_configured() -> None:
    with pytest.raises(ConfigError, match=r"servers\[b\].url: expected a URL with http or https"):
        HttpTransport(BackendConfig(id="b", transport="http", url="ftp://h"), name="b")
    with pytest.raises(ConfigError, match="sets this header itself"):
        HttpTransport(BackendConfig(id="b", transport="http", url="http://h", headers={"host": "x"}), name="b")


async def test_redirects_are_not_followed_and_credentials_stay() -> None:
    auth = BackendAuth(type="bearer", token_env="T", token=Secret("s3cret"))
    async with HostileServer() as elsewhere, hosted(HANDSHAKE, auth=auth) as (server, transport):

        async def redirects(incoming: Incoming) -> None:
            location = f"location: http://127.0.0.1:{elsewhere.port}/"
            await incoming.send(response(b"", "307 Temporary Redirect", "text/html", location))

        server.script("tools/call", redirects)
        with pytest.raises(BackendRefused) as caught:
            await transport.call(make_call(1))
        assert caught.value.status == 307
        assert not elsewhere.connections


# Sessions.


def opens_session(*values: str) -> object:
    async def behave(incoming: Incoming) -> None:
        fields = [f"mcp-session-id: {value}" for value in values]
        await incoming.send(response(incoming.result(), "200 OK", "application/json", *fields))

    return behave


async def test_the_session_of_initialize_is_kept_and_ended() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        id = "!" + "x" * 1022 + "~"
        server.script("initialize", opens_session(id))  # type: ignore[arg-type]
        await transport.call(make_call(1, "initialize"))
        assert transport.session_id == id
        await transport.call(make_call(2))
        await transport.aclose()
        assert transport.session_id is None
        assert [(i.verb, i.header("mcp-session-id")) for i in server.received] == [
            ("POST", None),
            ("POST", id),
            ("DELETE", id),
        ]
        assert server.received[2].header("mcp-protocol-version") == HANDSHAKE
        assert server.connections == 1


@pytest.mark.parametrize("values", [[""], ["a b"], ["ü"], ["x" * 1025], ["a", "b"], ["a", "a"]])
async def test_a_bad_session_id_is_a_bad_answer(values: list[str]) -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("initialize", opens_session(*values))  # type: ignore[arg-type]
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(1, "initialize"))
        assert transport.session_id is None


async def test_only_initialize_opens_a_session() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", opens_session("stolen"))  # type: ignore[arg-type]
        await transport.call(make_call(1))
        assert transport.session_id is None


async def test_a_session_that_the_server_has_ended() -> None:
    async def gone(incoming: Incoming) -> None:
        body = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32001,"message":"Session not found"}}'
        await incoming.send(response(body, "404 Not Found"))

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", gone)
        assert (await transport.call(make_call(1))).error is not None
        transport.session_id = "s"
        with pytest.raises(BackendRefused) as caught:
            await transport.call(make_call(1))
        assert caught.value.status == 404
        transport.session_id = None


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", b"garbage\r\n\r\n", b""])
async def test_closing_survives_any_answer(answer: bytes) -> None:
    async def rude(incoming: Incoming) -> None:
        await incoming.send(answer)
        await incoming.close()

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("DELETE", rude)
        transport.session_id = "s"
        await transport.aclose()
        await transport.aclose()
        assert 1 <= len(server.of("DELETE")) <= 2


async def test_closing_waits_for_no_answer_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("DELETE", stay_silent)
        transport.session_id = "s"
        await transport.aclose()
        assert len(server.of("DELETE")) == 1


async def test_closing_without_a_server() -> None:
    transport = HttpTransport(BackendConfig(id="b", transport="http", url=f"http://127.0.0.1:{free_port()}/"), name="b")
    transport.revision, transport.session_id = HANDSHAKE, "s"
    await transport.aclose()
    with pytest.raises(BackendUnavailable):
        await transport.call(make_call(1))


async def test_closing_ends_calls_in_flight() -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", stay_silent)
        calling = asyncio.ensure_future(transport.call(make_call(1)))
        await server.arrival("tools/call")
        await transport.aclose()
        with pytest.raises(BackendAnswerError, match="was closed"):
            await calling


# When it is sent again.


async def hang_up(incoming: Incoming) -> None:
    await incoming.close()


@pytest.mark.parametrize("method", ["tools/list", "resources/read", "prompts/get", "server/discover", "ping"])
async def test_reading_is_repeated_once_when_a_kept_connection_is_dead(method: str) -> None:
    async def dies_when_kept(incoming: Incoming) -> None:
        await (hang_up if incoming.connection == 1 else answer_well)(incoming)

    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(1))
        server.script(method, dies_when_kept)
        assert (await transport.call(make_call(2, method))).kind == RESULT
        assert len(server.of(method)) == 2
        assert server.connections == 2


@pytest.mark.parametrize("method", ["tools/call", "initialize", "logging/setLevel", "resources/subscribe"])
async def test_nothing_else_is_repeated(method: str) -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(1, "tools/list"))
        server.script(method, hang_up)
        with pytest.raises(BackendAnswerError, match="closed the connection"):
            await transport.call(make_call(2, method))
        assert len(server.of(method)) == 1


async def test_reading_is_not_repeated_on_a_new_connection() -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/list", hang_up)
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(1, "tools/list"))
        assert len(server.of("tools/list")) == 1


async def test_reading_is_repeated_once_only() -> None:
    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(1))
        server.script("tools/list", hang_up)
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(2, "tools/list"))
        assert len(server.of("tools/list")) == 2


async def test_reading_is_not_repeated_after_the_first_octet_of_an_answer() -> None:
    async def begins(incoming: Incoming) -> None:
        await incoming.send(b"H")
        await incoming.close()

    async with hosted(STATELESS) as (server, transport):
        await transport.call(make_call(1))
        server.script("tools/list", begins)
        with pytest.raises(BackendAnswerError):
            await transport.call(make_call(2, "tools/list"))
        assert len(server.of("tools/list")) == 1


async def test_a_backend_that_closes_idle_connections_fails_no_call() -> None:
    async def answers_and_hangs_up(incoming: Incoming) -> None:
        await answer_well(incoming)
        await incoming.close()

    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", answers_and_hangs_up)
        for number in range(100):
            await transport.call(make_call(number))
            await server.connections_left(0)
        assert server.connections == 100


async def test_a_backend_that_restarts_fails_no_later_call() -> None:
    async with hosted(STATELESS) as (server, transport):
        await asyncio.gather(*(transport.call(make_call(number)) for number in range(20)))
        for incoming in server.received:
            incoming.reset()
        await server.connections_left(0)
        await asyncio.gather(*(transport.call(make_call(number)) for number in range(20, 40)))
        assert len(server.of("tools/call")) == 40


async def test_a_connection_that_dies_before_it_is_used_costs_nothing() -> None:
    async with hosted(STATELESS) as (server, transport):
        transport._pool._max_connections = 1
        connection = await transport._pool.acquire()
        calling = asyncio.ensure_future(transport.call(make_call(1)))
        await asyncio.sleep(0)
        transport._pool.release(connection)  # it is the call's now, but the call has not begun
        connection.eof_received()
        assert (await calling).kind == RESULT
        assert len(server.of("tools/call")) == 1


async def test_connections_that_all_die_before_they_are_used_make_the_backend_unavailable() -> None:
    async with hosted(STATELESS) as (server, transport):
        open_connection = transport._pool._connect

        async def stillborn() -> HttpConnection:
            connection = await open_connection()
            connection.eof_received()
            return connection

        transport._pool._connect = stillborn
        with pytest.raises(BackendUnavailable, match="before the request was sent"):
            await transport.call(make_call(1))
        assert not server.received


# Giving up.


async def test_nobody_listens() -> None:
    transport = HttpTransport(BackendConfig(id="b", transport="http", url=f"http://127.0.0.1:{free_port()}/"), name="b")
    started = asyncio.get_running_loop().time()
    with pytest.raises(BackendUnavailable, match="connection refused") as caught:
        await transport.call(make_call(1))
    with pytest.raises(BackendUnavailable, match="connection refused"):
        await transport.send(NOTE)
    assert caught.value.data == {"backend": "b"}
    assert asyncio.get_running_loop().time() - started < 1
    await transport.aclose()


async def test_a_timeout_covers_the_wait_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosted(STATELESS) as (server, transport):
        transport._pool._max_connections = 1
        server.script("tools/call", stay_silent)
        first = asyncio.ensure_future(transport.call(make_call(1, timeout_s=0.3)))
        await server.arrival("tools/call")
        with pytest.raises(BackendTimeout, match=r"within 0\.05 s"):
            await transport.call(make_call(2, timeout_s=0.05))
        with pytest.raises(BackendTimeout, match=r"within 0\.3 s"):
            await first
        assert len(server.of("tools/call")) == 1
        assert (await transport.call(make_call(3, "tools/list"))).kind == RESULT


async def test_in_the_stateless_era_giving_up_closes_the_connection() -> None:
    async with hosted(STATELESS) as (server, transport):
        server.script("tools/call", stay_silent)
        calling = asyncio.ensure_future(transport.call(make_call(1, timeout_s=None)))
        await server.arrival("tools/call")
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await server.connections_left(0)
        assert [incoming.method for incoming in server.received] == ["tools/call"]


@pytest.mark.parametrize("how", ["cancelled", "timed out", "cancelled in a stream"])
async def test_in_the_handshake_era_giving_up_is_told(how: str) -> None:
    async def streams_for_ever(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(NOTE))
        await stay_silent(incoming)

    async with hosted(HANDSHAKE) as (server, transport):
        transport.session_id = "s"
        server.script("tools/call", streams_for_ever if "stream" in how else stay_silent)
        calling = asyncio.ensure_future(transport.call(make_call(7, timeout_s=0.1 if how == "timed out" else None)))
        await server.arrival("tools/call")
        if how == "timed out":
            with pytest.raises(BackendTimeout):
                await calling
        else:
            calling.cancel()
            await asyncio.wait([calling])
            assert calling.cancelled()
        told = await server.arrival("notifications/cancelled")
        assert told.message["params"]["requestId"] == 7
        assert told.header("mcp-session-id") == "s"
        await server.connections_left(1)


async def test_initialize_and_what_was_never_sent_are_not_cancelled_at_the_backend() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("initialize", stay_silent)
        with pytest.raises(BackendTimeout):
            await transport.call(make_call(1, "initialize", timeout_s=0.05))
        transport._pool._max_connections = 1
        server.script("tools/list", stay_silent)
        blocking = asyncio.ensure_future(transport.call(make_call(2, "tools/list", timeout_s=None)))
        await server.arrival("tools/list")
        with pytest.raises(BackendTimeout):
            await transport.call(make_call(3, timeout_s=0.05))
        assert not server.of("notifications/cancelled")
        blocking.cancel()
        await server.arrival("notifications/cancelled")


async def test_cancellations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CANCELS", 3)
    monkeypatch.setattr(module, "CANCEL_TIMEOUT_S", 0.1)
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("tools/call", stay_silent)
        server.script("notifications/cancelled", stay_silent)
        calls = [asyncio.ensure_future(transport.call(make_call(number, timeout_s=None))) for number in range(10)]
        await server.arrival("tools/call", 10)
        for calling in calls:
            calling.cancel()
        await server.arrival("notifications/cancelled", 3)
        await server.connections_left(3)
        await transport.aclose()
        assert len(server.of("notifications/cancelled")) == 3


# Messages that have no answer.


@pytest.mark.parametrize("answer", [ACCEPTED, response(b"{}"), b"HTTP/1.1 204 No Content\r\n\r\n"])
async def test_sending(answer: bytes) -> None:
    async def accepts(incoming: Incoming) -> None:
        await incoming.send(answer)

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("notifications/message", accepts)
        for _ in range(3):
            await transport.send(NOTE)
        await transport.send(b'{"jsonrpc":"2.0","id":"s1","result":{}}')
        assert server.received[0].body == NOTE
        assert server.connections == 1


@pytest.mark.parametrize("status", [201, 307, 400, 404, 500])
async def test_sending_is_refused(status: int) -> None:
    async def refuses(incoming: Incoming) -> None:
        await incoming.send(response(b"x", f"{status} No", "text/plain"))

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("notifications/message", refuses)
        with pytest.raises(BackendRefused) as caught:
            await transport.send(NOTE)
        assert (caught.value.status, caught.value.data) == (status, {"backend": "b"})


async def test_sending_takes_no_longer_than_a_call_may() -> None:
    async with hosted(HANDSHAKE, timeout_ms=50) as (server, transport):
        server.script("notifications/message", stay_silent)
        with pytest.raises(BackendTimeout, match=r"not accepted within 0\.05 s"):
            await transport.send(NOTE)


async def test_a_notification_is_not_repeated() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        await transport.send(NOTE)
        server.script("notifications/message", hang_up)
        with pytest.raises(BackendAnswerError):
            await transport.send(NOTE)
        assert len(server.received) == 2


# The server's own stream.


async def test_listening() -> None:
    request = b'{"jsonrpc":"2.0","id":"s1","method":"ping"}'
    answer = b'{"jsonrpc":"2.0","id":1,"result":{}}'

    async def speaks(incoming: Incoming) -> None:
        await incoming.send(
            SSE_HEAD, chunk(b"id: 1\ndata:\n\n"), event(NOTE), event(answer), event(request), b"0\r\n\r\n"
        )

    seen: list[Envelope] = []
    async with hosted(HANDSHAKE) as (server, transport):
        transport.session_id = "s"
        transport.on_message = seen.append
        server.script("GET", speaks)
        await transport.listen()
        assert [message.data for message in seen] == [NOTE, request]
        (incoming,) = server.received
        assert incoming.header("accept") == "text/event-stream"
        assert incoming.header("content-type") is None
        assert incoming.header("mcp-session-id") == "s"
        assert incoming.header("mcp-protocol-version") == HANDSHAKE
        transport.session_id = None


async def test_what_is_asked_outside_of_a_call_is_refused() -> None:
    async def asks(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD, event(b'{"jsonrpc":"2.0","id":"s1","method":"roots/list"}'), b"0\r\n\r\n")

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("GET", asks)
        await transport.listen()
        refusal = await server.arrival("POST")  # it has no method
        assert (refusal.message["id"], refusal.message["error"]["code"]) == ("s1", -32602)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n",
        response(b"no", "404 Not Found", "text/plain"),
        response(b"{}"),
        response(b"", "302 Found", "text/html", "location: /"),
        SSE_HEAD + event(b"no JSON"),
        SSE_HEAD + b"zz\r\n",
        b"garbage\r\n\r\n",
    ],
)
async def test_listening_where_there_is_nothing_to_hear(answer: bytes) -> None:
    async def behave(incoming: Incoming) -> None:
        await incoming.send(answer)

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("GET", behave)
        await transport.listen()
        assert (await transport.call(make_call(1))).kind == RESULT


async def test_listening_is_of_the_handshake_era() -> None:
    for revision in (None, STATELESS):
        async with hosted(revision) as (server, transport):
            await transport.listen()
            assert not server.received


async def test_listening_ends_with_its_task() -> None:
    async def opens(incoming: Incoming) -> None:
        await incoming.send(SSE_HEAD)
        await stay_silent(incoming)

    async with hosted(HANDSHAKE) as (server, transport):
        server.script("GET", opens)
        listening = asyncio.ensure_future(transport.listen())
        await server.arrival("GET")
        await transport.call(make_call(1))
        listening.cancel()
        await asyncio.wait([listening])
        assert listening.cancelled()
        await server.connections_left(1)


async def test_listening_ends_with_the_transport() -> None:
    async with hosted(HANDSHAKE) as (server, transport):
        server.script("GET", stay_silent)
        listening = asyncio.ensure_future(transport.listen())
        await server.arrival("GET")
        await transport.aclose()
        await listening


# Addresses and TLS.


async def test_ipv6() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert f"host: [::1]:{port}".encode() in head
        writer.write(response(b'{"jsonrpc":"2.0","id":1,"result":{}}'))
        await reader.read()
        writer.close()

    try:
        server = await asyncio.start_server(serve, "::1", 0)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    port = server.sockets[0].getsockname()[1]
    async with server:
        transport = HttpTransport(BackendConfig(id="b", transport="http", url=f"http://[::1]:{port}/"), name="b")
        assert (await transport.call(make_call(1))).kind == RESULT
        await transport.aclose()


def make_certificate(folder: Path, host: str) -> ssl.SSLContext:
    """Return a server's context; `folder/ca.pem` is what a client must trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        alternative = x509.DNSName(host)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def transport_to(url: str) -> HttpTransport:
    transport = HttpTransport(BackendConfig(id="b", transport="http", url=url), name="b")
    transport.revision = STATELESS
    return transport


async def test_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with HostileServer(context) as server:
        transport = transport_to(f"https://127.0.0.1:{server.port}/mcp")
        for number in range(3):
            assert (await transport.call(make_call(number))).kind == RESULT
        assert server.connections == 1
        await server.received[0].close()
        await server.connections_left(0)
        big = make_call(9)
        big.message = big.message[:-1] + b" " * 5_000_000 + b"}"
        assert (await transport.call(big)).kind == RESULT
        await transport.aclose()


async def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = make_certificate(tmp_path, "other.example")
    async with HostileServer(context) as server:
        untrusted = transport_to(f"https://127.0.0.1:{server.port}/mcp")
        with pytest.raises(BackendUnavailable, match="certificate not accepted"):
            await untrusted.call(make_call(1))
        await untrusted.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        wrong_host = transport_to(f"https://127.0.0.1:{server.port}/mcp")
        with pytest.raises(BackendUnavailable, match="certificate not accepted"):
            await wrong_host.call(make_call(1))
        await wrong_host.aclose()
        assert not server.received


async def test_tls_to_a_server_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "CONNECT_TIMEOUT_S", 0.2)
    async with HostileServer() as server:
        transport = transport_to(f"https://127.0.0.1:{server.port}/mcp")
        with pytest.raises(BackendUnavailable, match="cannot connect"):
            await transport.call(make_call(1, timeout_s=10))
        await transport.aclose()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
