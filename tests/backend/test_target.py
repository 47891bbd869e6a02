"""URLs taken apart, and the headers that every request carries."""

from __future__ import annotations

from typing import Any

import pytest

from only1mcp import __version__
from only1mcp.backend.target import RESERVED, Target, constant_headers, parse_target
from only1mcp.config.schema import BackendAuth, BackendConfig
from only1mcp.config.secret import Secret
from only1mcp.errors import ConfigError

AGENT = (b"user-agent", b"only1mcp/" + __version__.encode())


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://localhost/mcp", Target("localhost", 80, False, b"localhost", b"/mcp")),
        ("https://example.com", Target("example.com", 443, True, b"example.com", b"/")),
        ("HTTP://Example.COM:80/A", Target("example.com", 80, False, b"example.com", b"/A")),
        ("https://example.com:80/", Target("example.com", 80, True, b"example.com:80", b"/")),
        ("http://example.com:443", Target("example.com", 443, False, b"example.com:443", b"/")),
        ("http://127.0.0.1:8000/a/b?c=d&e=/f?", Target("127.0.0.1", 8000, False, b"127.0.0.1:8000", b"/a/b?c=d&e=/f?")),
        ("http://[::1]:9000/mcp", Target("::1", 9000, False, b"[::1]:9000", b"/mcp")),
        ("https://[2001:DB8::1]/", Target("2001:db8::1", 443, True, b"[2001:db8::1]", b"/")),
        ("http://h/a%20b%2Fc#fragment", Target("h", 80, False, b"h", b"/a%20b%2Fc")),
        ("http://h/ü x?ö=<>", Target("h", 80, False, b"h", b"/%C3%BC%20x?%C3%B6=%3C%3E")),
        ("http://h?q", Target("h", 80, False, b"h", b"/?q")),
        ("http://bücher.example/", Target("xn--bcher-kva.example", 80, False, b"xn--bcher-kva.example", b"/")),
        ("http://my_service:8080/", Target("my_service", 8080, False, b"my_service:8080", b"/")),
    ],
)
def test_parse_target(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "scheme"),
        ("ftp://h/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("/mcp", "scheme"),
        ("http://", "with a host"),
        ("http:///mcp", "with a host"),
        ("http://:80/", "with a host"),
        ("http://user:secret@h/", "credentials"),
        ("http://h:0/", "port"),
        ("http://h:99999/", "[Pp]ort"),
        ("http://h:x/", "[Pp]ort"),
        ("http://[::1/", "IPv6"),
        ("http://a b/", "host name"),
        ("http://a\x00b/", "host name"),
        ("http://a,b/", "host name"),
        ("http://" + "a" * 64 + ".example/", "host name"),
        ("http://a..b/", "host name"),
    ],
)
def test_parse_target_refuses(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        parse_target(url)
    assert "secret" not in str(caught.value)


def headers(**options: Any) -> list[tuple[bytes, bytes]]:
    config = BackendConfig(id="b", transport="http", url="http://h:81/", **options)
    return constant_headers(config, parse_target(config.url or ""))


def test_headers_of_a_plain_backend() -> None:
    assert headers() == [(b"host", b"h:81"), AGENT]


def test_bearer_token_and_configured_headers() -> None:
    auth = BackendAuth(type="bearer", token_env="T", token=Secret("s3cret"))
    assert headers(auth=auth, headers={"X-Tenant": "a b", "X-Empty": ""}) == [
        (b"host", b"h:81"),
        AGENT,
        (b"authorization", b"Bearer s3cret"),
        (b"x-tenant", b"a b"),
        (b"x-empty", b""),
    ]


def test_the_user_agent_may_be_configured() -> None:
    assert headers(headers={"User-Agent": "x"}) == [(b"host", b"h:81"), (b"user-agent", b"x")]


@pytest.mark.parametrize("name", [*sorted(RESERVED), "Host", "Mcp-Param-Region", "CONTENT-LENGTH", "Accept-Encoding"])
def test_protocol_headers_cannot_be_configured(name: str) -> None:
    with pytest.raises(ConfigError, match="the proxy sets this header itself"):
        headers(headers={name: "x"})


@pytest.mark.parametrize("value", ["q\r\nx: y", "q\n", "q\0", "q\x1b[31m", " q", "q ", "qü", "q\x7f"])
def test_values_that_would_break_the_request_are_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ConfigError, match="visible ASCII") as caught:
        headers(headers={"x-secret": value})
    assert "q" not in str(caught.value)
    auth = BackendAuth(type="bearer", token_env="T", token=Secret(value))
    with pytest.raises(ConfigError, match="token of visible ASCII") as caught:
        headers(auth=auth)
    assert "q" not in str(caught.value)


def test_all_problems_are_reported() -> None:
    auth = BackendAuth(type="bearer", token_env="T", token=Secret("t"))
    with pytest.raises(ConfigError) as caught:
        headers(auth=auth, headers={"a b": "c", "host": "d", "authorization": "e", "X": "1", "x": "2"})
    assert len(caught.value.problems) == 4
