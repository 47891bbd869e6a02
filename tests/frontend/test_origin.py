"""Host and Origin: what a rebinding page or a foreign one can send, and what the configured ones get."""

from __future__ import annotations

import pytest

from only1mcp.errors import NotAllowed, ProtocolError, RequestRefused
from only1mcp.frontend.origin import OriginPolicy, is_loopback
from only1mcp.wire.http1_events import RequestHead

LOCAL = OriginPolicy("127.0.0.1", [], [])
NAMED = OriginPolicy("127.0.0.1", ["Gateway.Example", "other.example:8443"], ["https://App.Example/"])
PUBLIC = OriginPolicy("0.0.0.0", [], ["https://app.example"])
PUBLIC_NAMED = OriginPolicy("0.0.0.0", ["gateway.example"], [])


def head(host: str | None = "localhost", origin: str | None = None, *more: tuple[bytes, bytes]) -> RequestHead:
    headers = [] if host is None else [(b"host", host.encode("latin-1"))]
    if origin is not None:
        headers.append((b"origin", origin.encode("latin-1")))
    return RequestHead(b"POST", b"/mcp", [*headers, *more])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LocalHost", True),  # what needs no credentials must have its Host checked
        ("ip6-localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("policy", [LOCAL, NAMED])
@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"],
)
def test_loopback_names_are_served(policy: OriginPolicy, host: str) -> None:
    policy.check(head(host))


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example.com",
        "evil.example.com:8080",
        "localhost.evil.example",
        "evil.example:localhost",
        "localhost:80:80",
        "localhost:8080x",
        "localhost@evil.example",
        "localhost ",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "[::1",
        "[::1].evil.example",
        "::2",
        "0.0.0.0",
        "localhost/",
        "localhost,evil.example",
    ],
)
def test_other_hosts_are_not(host: str | None) -> None:
    with pytest.raises(RequestRefused) as caught:
        LOCAL.check(head(host))
    assert caught.value.http_status == 421


def test_configured_hosts() -> None:
    NAMED.check(head("gateway.example"))
    NAMED.check(head("GATEWAY.example:9000"))
    NAMED.check(head("other.example:8443"))
    for host in ("other.example", "other.example:8444", "sub.gateway.example", "xgateway.example"):
        with pytest.raises(RequestRefused):
            NAMED.check(head(host))


def test_elsewhere_the_host_is_checked_where_one_is_expected() -> None:
    PUBLIC.check(head("anything.example"))
    PUBLIC_NAMED.check(head("gateway.example"))
    with pytest.raises(RequestRefused):
        PUBLIC_NAMED.check(head("evil.example"))


def test_an_address_of_ipv6_is_served_with_and_without_brackets() -> None:
    policy = OriginPolicy("::1", [], [])
    for host in ("[::1]", "[::1]:80"):
        policy.check(head(host))
    bound = OriginPolicy("fd00::1", ["x.example"], [])
    bound.check(head("[fd00::1]:8080"))


@pytest.mark.parametrize("host", [["localhost"] * 2, ["localhost", "evil.example"]])
def test_two_hosts_are_refused(host: list[str]) -> None:
    with pytest.raises(ProtocolError):
        LOCAL.check(RequestHead(b"GET", b"/", [(b"host", name.encode()) for name in host]))


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://[::1]:3000",
        "HTTP://LOCALHOST:3000",
    ],
)
def test_pages_of_this_machine_may_ask_while_we_are_on_loopback(origin: str) -> None:
    LOCAL.check(head(origin=origin))
    with pytest.raises(NotAllowed):
        PUBLIC.check(head(origin=origin))


FOREIGN = [
    "",
    "null",
    "http://evil.example.com",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "http://evil.example@localhost",
    "http://user:password@localhost",
    "http://localhost/",
    "http://localhost/path",
    "http://localhost?x",
    "http://localhost#x",
    "http://localhost:",
    "http://localhost:080",
    "http://localhost:99999",
    "http://localhost:-1",
    "http://localhost:8x",
    "http://local\thost",
    "http://localhost\n",
    " http://localhost",
    "http://localhost ",
    "http://127.1",
    "http://2130706433",
    "http://[::1",
    "http://[::ffff:127.0.0.1]",
    "file://localhost",
    "chrome-extension://localhost",
    "localhost",
    "//localhost",
    "http://localhost http://evil.example",
    "https://app.example.evil.example",
    "http://app.example",
    "https://app.example:444",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("policy", [LOCAL, NAMED, PUBLIC], ids=["local", "named", "public"])
def test_foreign_pages_may_not(policy: OriginPolicy, origin: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        policy.check(head(origin=origin))
    assert caught.value.http_status == 403


def test_a_configured_origin_may() -> None:
    for policy in (NAMED, PUBLIC):
        policy.check(head(origin="https://app.example"))
        policy.check(head(origin="https://APP.example"))


def test_no_origin_is_no_page() -> None:
    PUBLIC.check(head("x", None))


def test_two_origins_are_refused() -> None:
    for second in (b"http://evil.example", b"http://localhost"):
        with pytest.raises(NotAllowed):
            LOCAL.check(head("localhost", "http://localhost", (b"origin", second)))


def test_cors_headers_name_the_origin_that_asked() -> None:
    assert LOCAL.cors_headers(head()) == []
    headers = dict(NAMED.cors_headers(head(origin="https://app.example")))
    assert headers[b"access-control-allow-origin"] == b"https://app.example"
    assert headers[b"vary"] == b"origin"
    assert b"access-control-allow-credentials" not in headers
    assert b"mcp-session-id" in headers[b"access-control-expose-headers"]


def test_preflight_allows_our_headers_and_those_of_tools() -> None:
    asked = b"Authorization, mcp-param-region, X-Evil, Mcp-Param-A"
    answer = dict(
        LOCAL.preflight_headers(head("localhost", "http://localhost", (b"access-control-request-headers", asked)))
    )
    allowed = answer[b"access-control-allow-headers"].split(b", ")
    assert {b"authorization", b"mcp-protocol-version", b"mcp-param-region", b"mcp-param-a"} <= set(allowed)
    assert b"x-evil" not in allowed
    assert b"*" not in answer[b"access-control-allow-headers"]
    assert b"POST" in answer[b"access-control-allow-methods"]
