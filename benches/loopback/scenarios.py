"""What runs for each row: the backends, the proxies in front of them, and what is asked of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any

import jwt
from benches.loopback.backend import tool_names
from benches.loopback.calls import Plan, plan_calls, plan_lists, plan_refused, prepare
from benches.loopback.cases import GOOD, LARGE, NGINX_LARGE, NGINX_SMALL, OURS, REFUSED, SMALL
from benches.loopback.rounds import Subject
from benches.loopback.stage import Stage, http_server, stdio_server

OCTETS = 256
LARGE_OCTETS = 1_000_000
EVENTS = 1000
LISTED_TOOLS = 10
MANY_BACKENDS = TOOLS_OF_EACH = 100
RENAMED = "renamed_work"
# The highest rate and burst that a configuration takes: every call is counted, none is refused.
UNREFUSING = {"requests_per_minute": 1_000_000, "burst": 1_000_000}
REFUSING = {"requests_per_minute": 1, "burst": 1}
TOKEN_LIFE_S = 24 * 3600
# Of what was tried, the sizes with which nginx spends the least on a megabyte.
LARGE_BUFFERS = (
    "proxy_buffers 8 256k; proxy_buffer_size 256k; proxy_busy_buffers_size 512k; proxy_max_temp_file_size 0;"
)
UNBUFFERED = "proxy_buffering off;"
INVALID_JSON, RATE_LIMITED, NOT_AUTHENTICATED, NOT_ALLOWED = -32700, -31003, -31004, -31005


def calls(stage: Stage, era: str) -> list[Subject]:
    """A small JSON result from an HTTP backend."""
    (url,) = stage.backend(era, octets=OCTETS)
    others = stage.others(url)
    return _in_front(stage, others, stage.ours([http_server(url)]), plan_calls(era, tool_names(0, 1), OCTETS))


def full(stage: Stage) -> list[Subject]:
    """The same, with all that operators switch on; the other proxies pass the same bytes and do nothing of it."""
    (url,) = stage.backend("stateless", octets=OCTETS)
    others = stage.others(url)
    sections, token = _guarded(stage, UNREFUSING)
    sections["logging"] = {
        "format": "json",
        "outputs": [{"type": "stdout"}, {"type": "access", "path": str(stage.directory / "access.log")}],
    }
    (tool,) = tool_names(0, 1)
    ours = stage.ours([http_server(url, tools={"rename": {tool: RENAMED}})], **sections)
    plan = plan_calls("stateless", [RENAMED], OCTETS).with_headers(Authorization=f"Bearer {token}")
    subjects = _in_front(stage, others, ours, plan)
    assert (stage.directory / "access.log").stat().st_size, "no access log"
    return subjects


def cached(stage: Stage) -> list[Subject]:
    """A list that we answer from memory; the other proxies fetch the same bytes from the backend."""
    (url,) = stage.backend("stateless", tools=LISTED_TOOLS)
    others = stage.others(url)
    plan = plan_lists("stateless", tool_names(0, LISTED_TOOLS))
    # Era fields and hints are said in other words.
    return _same_bytes(_in_front(stage, others, stage.ours([http_server(url)]), plan), 0.1)


def stdio(stage: Stage) -> list[Subject]:
    """A child process behind us, the same server on HTTP behind the others; the child's own time does not count."""
    (url,) = stage.backend("stateless", octets=OCTETS)
    others = stage.others(url)
    ours = stage.ours([stdio_server("stateless", octets=OCTETS)])
    return _in_front(stage, others, ours, plan_calls("stateless", tool_names(0, 1), OCTETS))


def large(stage: Stage) -> list[Subject]:
    """A result of a megabyte."""
    (url,) = stage.backend("stateless", octets=LARGE_OCTETS)
    others = stage.others(url, nginx=LARGE_BUFFERS)
    plan = plan_calls("stateless", tool_names(0, 1), LARGE_OCTETS)
    return _same_bytes(_in_front(stage, others, stage.ours([http_server(url)]), plan), 0.01)


def events(stage: Stage) -> list[Subject]:
    """A stream of progress that ends in a result, every event sent by itself; nginx does not hold events back."""
    (url,) = stage.backend("stateless", octets=OCTETS, events=EVENTS)
    others = stage.others(url, nginx=UNBUFFERED)
    plan = plan_calls("stateless", tool_names(0, 1), OCTETS, events=EVENTS)
    # Events may be given names on the way.
    return _same_bytes(_in_front(stage, others, stage.ours([http_server(url)]), plan), 0.1)


def scale(stage: Stage) -> list[Subject]:
    """Two of ours: in front of one small backend, and of many with many tools, all of which are called.

    And two of nginx, which finds the backend of a call by the name of its tool in the head: what many sockets cost.
    """
    (url,) = stage.backend("stateless", octets=OCTETS, tools=LISTED_TOOLS)
    urls = stage.backend("stateless", octets=OCTETS, tools=TOOLS_OF_EACH, listeners=MANY_BACKENDS)
    small = stage.ours([http_server(url)])
    many = stage.ours([http_server(each, f"bench{number}") for number, each in enumerate(urls)])
    by_backend = [tool_names(number, TOOLS_OF_EACH) for number in range(MANY_BACKENDS)]
    # One after the other, from another backend each time.
    spread = [names[turn] for turn in range(TOOLS_OF_EACH) for names in by_backend]
    few, all_of_them = (
        plan_calls("stateless", tool_names(0, LISTED_TOOLS), OCTETS),
        plan_calls("stateless", spread, OCTETS),
    )
    subjects = [
        _subject(stage, SMALL, small, few),
        _subject(stage, LARGE, many, all_of_them, ready=MANY_BACKENDS),
    ]
    for name, backends, plan in ((NGINX_SMALL, [url], few), (NGINX_LARGE, urls, all_of_them)):
        if name in stage.wanted:
            where = stage.spread(backends)
            if where is None:
                stage.absent[name] = "not installed"
            else:
                subjects.append(_subject(stage, name, where, plan))
    return subjects


def refused(stage: Stage, wanted: Iterable[str] = tuple(REFUSED)) -> list[Subject]:
    """Calls that are served, and floods of the same calls that are refused for one reason each."""
    (url,) = stage.backend("stateless", octets=OCTETS)
    sections, token = _guarded(stage, UNREFUSING)
    ours = stage.ours([http_server(url)], **sections)
    without_token = plan_calls("stateless", tool_names(0, 1), OCTETS)
    good = without_token.with_headers(Authorization=f"Bearer {token}")
    subjects = [_subject(stage, GOOD, ours, good)]
    for key in wanted:
        name = REFUSED[key]
        if key == "refused-json":
            plan = plan_refused(good, 400, code=INVALID_JSON, is_cut=True)
        elif key == "refused-origin":
            plan = plan_refused(good.with_headers(Origin="https://evil.example"), 403, code=NOT_ALLOWED)
        elif key == "refused-token":
            plan = plan_refused(without_token, 401, code=NOT_AUTHENTICATED)
        else:
            plan = plan_refused(good, 429, code=RATE_LIMITED)
        at = ours
        if key == "refused-rate":
            strict, _ = _guarded(stage, REFUSING)
            at = stage.ours([http_server(url)], **strict)
        subjects.append(_subject(stage, name, at, plan))
    return subjects


LOADS: dict[str, Callable[[Stage], list[Subject]]] = {
    "call-stateless": lambda stage: calls(stage, "stateless"),
    "call-handshake": lambda stage: calls(stage, "handshake"),
    "full": full,
    "cached": cached,
    "stdio": stdio,
    "large": large,
    "events": events,
    "scale": scale,
    "refused": refused,
    "latency-1": lambda stage: calls(stage, "stateless"),
    "latency-32": lambda stage: calls(stage, "stateless"),
    "latency-256": lambda stage: calls(stage, "stateless"),
}


def _in_front(stage: Stage, others: dict[str, tuple[int, str]], ours: tuple[int, str], plan: Plan) -> list[Subject]:
    return [_subject(stage, name, where, plan) for name, where in {**others, OURS: ours}.items()]


def _same_bytes(subjects: list[Subject], tolerance: float) -> list[Subject]:
    lengths = [subject.octets for subject in subjects]
    assert max(lengths) <= (1 + tolerance) * min(lengths), f"not the same bytes: {lengths}"
    return subjects


def _subject(stage: Stage, name: str, where: tuple[int, str], plan: Plan, *, ready: int = 1) -> Subject:
    pid, url = where
    file = stage.directory / f"{name.replace(' ', '-').replace(',', '')}.requests"
    return Subject(name, pid, url, plan, file, prepare(plan, url, file, ready=ready))


def _guarded(stage: Stage, rate: dict[str, int]) -> tuple[dict[str, Any], str]:
    """Return sections that want a JWT and count every call, and a token; the secret is one for the whole stage."""
    file = stage.directory / "secret"
    if not file.exists():
        file.write_text(secrets.token_hex(32))
        file.chmod(0o600)
    claims = {"sub": "bench", "iat": int(time.time()), "exp": int(time.time()) + TOKEN_LIFE_S}
    token = jwt.encode(claims, file.read_text(), algorithm="HS256")
    return {"auth": {"jwt": {"secret_file": str(file)}, "rate_limit": rate}}, token
