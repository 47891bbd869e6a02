"""Answers are checked before any load: right ones pass, and each way to be wrong is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from benches.loopback.backend import tool_names
from benches.loopback.calls import Connection, Plan, plan_calls, plan_lists, plan_refused, prepare, verify
from benches.loopback.load import read_requests
from benches.loopback.stage import Stage

TOOLS = tool_names(0, 3)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), ("floor",)) as stage:
        yield stage


@pytest.fixture(scope="module")
def url(stage: Stage) -> str:
    return stage.backend("stateless", octets=64, tools=3)[0]


@pytest.fixture(scope="module")
def streaming_url(stage: Stage) -> str:
    return stage.backend("stateless", octets=64, events=5)[0]


def test_requests_are_written_for_the_load_as_they_were_checked(url: str, tmp_path: Path) -> None:
    plan = plan_calls("stateless", TOOLS, 64)
    octets = prepare(plan, url, tmp_path / "requests")
    requests = read_requests(tmp_path / "requests")
    assert requests == [call.encode(url) for call in plan.calls]
    with Connection(url) as connection:
        assert abs(len(connection.ask(requests[0]).body) - octets) <= 3
    names = {line.partition(b": ")[2] for request in requests for line in request.splitlines() if b"Mcp-Name" in line}
    assert names == {name.encode() for name in TOOLS}


def test_a_handshake_goes_before_the_calls(stage: Stage, tmp_path: Path) -> None:
    (url,) = stage.backend("handshake", octets=64)
    assert prepare(plan_calls("handshake", tool_names(0, 1), 64), url, tmp_path / "requests") > 64


def test_lists_and_streams_are_checked_too(url: str, streaming_url: str, tmp_path: Path) -> None:
    assert prepare(plan_lists("stateless", TOOLS), url, tmp_path / "lists") > 100
    streams = plan_calls("stateless", tool_names(0, 1), 64, events=5)
    assert streams.is_large
    assert prepare(streams, streaming_url, tmp_path / "streams") > 4 * 64


@pytest.mark.parametrize(
    "plan",
    [
        plan_calls("stateless", TOOLS, 65),
        plan_calls("stateless", TOOLS, 63),
        plan_calls("stateless", TOOLS, 64, events=2),
        plan_lists("stateless", [*TOOLS, "one_more"]),
        plan_lists("stateless", TOOLS[:2]),
        plan_refused(plan_calls("stateless", TOOLS, 64), 403, code=-31005),
        replace(plan_calls("stateless", TOOLS, 64), fragment="something else"),
        replace(plan_calls("stateless", TOOLS, 64), status=202),
    ],
    ids=[
        "too short",
        "too long",
        "no events",
        "a tool missing",
        "a tool too many",
        "not refused",
        "fragment",
        "status",
    ],
)
def test_a_wrong_answer_is_noticed(plan: Plan, url: str) -> None:
    with pytest.raises(AssertionError):
        verify(plan, url, [call.encode(url) for call in plan.calls[:3]])


def test_the_answer_to_another_call_is_noticed(url: str) -> None:
    plan = plan_calls("stateless", TOOLS, 64)
    with pytest.raises(AssertionError):
        verify(plan, url, [plan.calls[1].encode(url)])


def test_events_that_are_missing_are_noticed(streaming_url: str) -> None:
    plan = plan_calls("stateless", tool_names(0, 1), 64, events=6)
    with pytest.raises(AssertionError, match="4 notifications"):
        verify(plan, streaming_url, [plan.calls[0].encode(streaming_url)])


def test_what_is_cut_off_is_no_json() -> None:
    good = plan_calls("stateless", TOOLS, 64)
    cut = plan_refused(good, 400, code=-32700, is_cut=True)
    assert all(call.body.count(b"{") > call.body.count(b"}") for call in cut.calls)
    request = cut.calls[0].encode("http://127.0.0.1:1/mcp")
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head


def test_headers_go_with_every_call() -> None:
    plan = plan_calls("stateless", TOOLS, 64).with_headers(Authorization="Bearer token")
    assert all(b"\r\nAuthorization: Bearer token\r\n" in call.encode("http://h:1/mcp") for call in plan.calls)


def test_the_floor_passes_everything_on(stage: Stage, url: str, streaming_url: str, tmp_path: Path) -> None:
    _, at = stage.others(url)["floor"]
    assert prepare(plan_calls("stateless", TOOLS, 64), at, tmp_path / "calls") > 64
    _, at = stage.others(streaming_url)["floor"]
    prepare(plan_calls("stateless", tool_names(0, 1), 64, events=5), at, tmp_path / "streams")
