"""The line of a request: what stands in it, who gets it, and that nothing in it can pretend to be another line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.proxy.exchanges import exchange_of, snapshot_of

from only1mcp.config.schema import Logging, Output
from only1mcp.errors import RequestRefused
from only1mcp.process import logs
from only1mcp.proxy.access import access_log, log_request
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.exchange import Exchange


@pytest.fixture(params=["alone", "among others"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Let the access log be written to a file: by our output alone, or where somebody else listens to the logger."""
    path = tmp_path / "access.log"
    logs.configure(Logging(outputs=(Output(type="access", path=str(path)),)))
    # Those of the test runner.
    others = [handler for handler in access_log.handlers if not hasattr(handler, "event_lines")]
    for handler in others:
        access_log.removeHandler(handler)
    if request.param == "among others":
        access_log.addHandler(other := logging.NullHandler())
    yield path
    if request.param == "among others":
        access_log.removeHandler(other)
    for handler in others:
        access_log.addHandler(handler)
    logs.shutdown()


def ended(method: str = "tools/call", principal: str = "alice", target: bytes = b"/mcp") -> Exchange:
    exchange, _ = exchange_of(snapshot_of(), principal=Principal(f"jwt::{principal}", principal, "jwt"))
    exchange.method = method
    exchange.http.head.target = target
    exchange.http.status, exchange.http.bytes_out, exchange.backend = 200, 345, "files"
    return exchange


def written(path: Path) -> list[str]:
    logs.flush()
    return path.read_text().splitlines()


def test_a_line_says_who_asked_for_what_and_how_it_went(path: Path) -> None:
    log_request(ended(target=b"/mcp?token=secret"), 0.0123456)
    (line,) = written(path)
    entry = json.loads(line)
    assert entry.pop("ts").endswith("Z")
    assert list(entry.items()) == [
        ("level", "info"),
        ("logger", "only1mcp.access"),
        ("event", "request"),
        ("client", "192.0.2.1"),
        ("http", "POST"),
        ("path", "/mcp"),
        ("status", 200),
        ("bytes_out", 345),
        ("duration_ms", 12.346),
        ("principal", "jwt::alice"),
        ("method", "tools/call"),
        ("backend", "files"),
    ]


def test_what_is_not_known_is_left_out_and_errors_have_their_code(path: Path) -> None:
    exchange = ended()
    exchange.principal = exchange.method = exchange.backend = None
    exchange.error = RequestRefused("no", code=-32600, http_status=404)
    log_request(exchange, 0.0)
    entry = json.loads(written(path)[0])
    assert {"principal", "method", "backend"}.isdisjoint(entry)
    assert (entry["error"], entry["duration_ms"]) == (-32600, 0.0)


@pytest.mark.parametrize(
    "evil", ['x"}\n{"event":"forged"}', "\x1b[2J\x00\x7f\x9b", "\u202e\u2028\u2066", "\ud800", "back\\slash", "ünï"]
)
def test_hostile_names_stay_within_their_line(path: Path, evil: str) -> None:
    log_request(ended(evil, evil), 0.001)
    log_request(ended(target=evil.encode("utf-8", "surrogatepass")), 0.001)
    first, second = written(path)
    shown = evil if evil.isascii() or evil.encode("utf-8", "replace").decode() == evil else "\\ud800"
    entry = json.loads(first)
    assert (entry["method"], entry["principal"]) == (shown, f"jwt::{shown}")
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u202e\u2066\ud800]", first + second)
    assert json.loads(second)["path"] == evil.encode("utf-8", "surrogatepass").decode("latin-1")


def test_a_long_method_is_cut(path: Path) -> None:
    log_request(ended("m" * 5000), 0.001)
    assert json.loads(written(path)[0])["method"] == "m" * 100


def test_without_an_access_output_there_is_no_line(path: Path) -> None:
    logs.configure(Logging(outputs=(Output(type="file", path=str(path)),)))
    log_request(ended(), 0.001)
    assert written(path) == []


def test_levels_and_filters_of_logging_hold(path: Path) -> None:
    access_log.addFilter(no := lambda _record: False)
    log_request(ended(), 0.001)
    access_log.removeFilter(no)
    logging.disable(logging.INFO)
    log_request(ended(), 0.001)
    logging.disable(logging.NOTSET)
    access_log.setLevel(logging.WARNING)
    log_request(ended(), 0.001)
    assert written(path) == []


def test_whoever_attaches_a_handler_of_logging_gets_records(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    access_log.addHandler(caplog.handler)
    try:
        log_request(ended(), 0.001)
    finally:
        access_log.removeHandler(caplog.handler)
    (record,) = caplog.records
    assert (record.getMessage(), record.fields["backend"]) == ("request", "files")  # type: ignore[attr-defined]
    assert json.loads(written(path)[0])["backend"] == "files"
