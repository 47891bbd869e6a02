"""The cache: what may be kept, for whom, for how long, and what makes it forgotten."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.metrics import Metrics
from only1mcp.proxy.cache import ResponseCache

READ = "resources/read"
PARAMS = b'{"uri":"test://a"}'
RESULT = b'{"resultType":"complete","ttlMs":60000,"cacheScope":"public","contents":[ 1.50 ]}'


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> ResponseCache:
    return ResponseCache(1 << 20, 300_000, metrics)


def key(
    cache: ResponseCache, principal: str = "p", group: str = "g", method: str = READ, params: bytes = PARAMS
) -> bytes:
    found = cache.key(principal, group, method, params)
    assert found is not None
    return found


def count(metrics: Metrics, name: str) -> int:
    found = re.search(rf"^only1mcp_{name} (\S+)$", metrics.render()[1].decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def test_keeps_a_result_byte_for_byte_but_its_age(cache: ResponseCache, metrics: Metrics) -> None:
    k = key(cache)
    assert cache.lookup(k, 1000) is None
    assert cache.store(k, RESULT, 1000)
    assert cache.lookup(k, 1000) == RESULT
    assert cache.lookup(k, 11_000) == RESULT.replace(b"60000", b"50000")
    assert cache.lookup(k, 60_999) == RESULT.replace(b"60000", b"1")
    assert cache.lookup(k, 61_000) is None
    assert (count(metrics, "cache_hits_total"), count(metrics, "cache_misses_total")) == (3, 2)


@given(st.lists(st.tuples(st.sampled_from([" ", "\n", ""]), st.text(max_size=5)), max_size=4), st.integers(1, 10**6))
def test_every_other_byte_of_a_result_survives(extra: list[tuple[str, str]], age: int) -> None:
    cache = ResponseCache(1 << 20, 10**7, Metrics())
    before = "".join(
        f"{space}{orjson.dumps('x' + text + str(i)).decode()}:{i}.0," for i, (space, text) in enumerate(extra)
    )
    after = "".join(
        f",{space}{orjson.dumps('y' + text + str(i)).decode()}: [{i}]" for i, (space, text) in enumerate(extra)
    )
    result = f'{{{before} "ttlMs" : 2000000 {after}}}'.encode()
    k = key(cache)
    assert cache.store(k, result, 0)
    found = cache.lookup(k, age)
    assert found == result.replace(b": 2000000 ", b": %d " % (2_000_000 - age))


@pytest.mark.parametrize(
    "result",
    [
        b'{"contents":[]}',
        b'{"ttlMs":0,"contents":[]}',
        b'{"ttlMs":-5,"contents":[]}',
        b'{"ttlMs":1.5}',
        b'{"ttlMs":1e9}',
        b'{"ttlMs":"60000"}',
        b'{"ttlMs":true}',
        b'{"ttlMs":null}',
        b'{"ttlMs":[60000]}',
        b'{"resultType":"input_required","ttlMs":60000,"inputRequests":{}}',
        b'{"resultType":"task","ttlMs":60000}',
        b'{"resultType":null,"ttlMs":60000}',
        b'{"ttlMs":60000,"ttlMs":0}',
        b"[]",
        b"7",
        b"",
    ],
)
def test_does_not_keep_what_no_hint_allows(result: bytes, cache: ResponseCache) -> None:
    k = key(cache)
    assert not cache.store(k, result, 0)
    assert cache.lookup(k, 0) is None
    assert len(cache) == 0


def test_a_result_without_result_type_counts_as_complete(cache: ResponseCache) -> None:
    assert cache.store(key(cache), b'{"ttlMs":5}', 0)


def test_the_ceiling_bounds_every_hint(cache: ResponseCache) -> None:
    k = key(cache)
    for hint in (b"86400000", b"999999999999999", b"9" * 400):
        kept = cache.store(k, b'{"ttlMs":' + hint + b"}", 0)
        # More digits than any duration has are no duration.
        assert kept == (len(hint) < 400)
        if kept:
            found = cache.lookup(k, 299_999)
            assert found is not None
            assert orjson.loads(found)["ttlMs"] == 86_400_000 - 299_999
        assert cache.lookup(k, 300_000) is None


def test_a_default_is_used_where_there_is_no_hint(metrics: Metrics) -> None:
    cache = ResponseCache(1 << 20, 5000, metrics, default_ttl_ms=10_000)
    k = key(cache)
    assert cache.store(k, b'{"contents":[]}', 0)
    assert cache.lookup(k, 4999) == b'{"contents":[]}'
    assert cache.lookup(k, 5000) is None
    assert not cache.store(k, b'{"ttlMs":0}', 0)


@pytest.mark.parametrize("member", ["inputResponses", "requestState", "input\\u0052esponses"])
def test_retries_are_neither_kept_nor_answered(member: str, cache: ResponseCache) -> None:
    assert cache.key("p", "g", READ, f'{{"uri":"a","{member}":null}}'.encode()) is None


@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "completion/complete", "initialize", "tasks/get", "x"])
def test_other_methods_have_no_key(method: str, cache: ResponseCache) -> None:
    assert cache.key("p", "g", method, b"{}") is None


@pytest.mark.parametrize(
    "params", [b"", b"[]", b'{"uri":"a","uri":"b"}', b'{"uri":"a","_meta":7}', b'{"_meta":{"a":1,"a":2}}']
)
def test_ambiguous_params_have_no_key(params: bytes, cache: ResponseCache) -> None:
    assert cache.key("p", "g", READ, params) is None


def test_nobody_gets_anothers_answer(cache: ResponseCache) -> None:
    assert cache.store(key(cache), RESULT, 0)
    others: list[dict[str, Any]] = [
        {"principal": "q"},
        {"principal": ""},
        {"group": "h"},
        {"method": "tools/list"},
        {"params": b'{"uri":"test://b"}'},
        {"params": b'{"uri":"test://a","cursor":""}'},
        {"params": b'{"uri":"test://a","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}'},
        {"params": b'{"uri":"test://a","_meta":{"vendor/tenant":"x"}}'},
        {"principal": "pg", "group": ""},
        {"principal": "", "group": "pg"},
    ]
    for other in others:
        assert cache.lookup(key(cache, **other), 0) is None, other
    assert cache.lookup(key(cache), 0) == RESULT


@pytest.mark.parametrize(
    "params",
    [
        b'{ "uri" : "test://a" }',
        b'{"uri":"test://a","_meta":{}}',
        b'{"_meta":{"progressToken":7,"traceparent":"00-a"},"uri":"test://a"}',
        b'{"uri":"test://a","_meta":{"io.modelcontextprotocol/clientInfo":{"name":"x"}}}',
    ],
)
def test_what_does_not_affect_a_result_does_not_affect_its_key(params: bytes, cache: ResponseCache) -> None:
    assert key(cache, params=params) == key(cache)


texts = st.text(max_size=4)


@given(
    *[st.tuples(texts, texts, st.dictionaries(texts, texts, max_size=2), st.dictionaries(texts, texts, max_size=2))] * 2
)
def test_different_requests_have_different_keys(
    first: tuple[str, str, dict[str, str], dict[str, str]], second: tuple[str, str, dict[str, str], dict[str, str]]
) -> None:
    cache = ResponseCache(1 << 20, 1000, Metrics())
    keys = [
        cache.key(principal, group, READ, orjson.dumps(params | {"_meta": meta}))
        for principal, group, params, meta in (first, second)
    ]
    assert (keys[0] == keys[1]) == (first == second)


def test_invalidating_a_group_forgets_its_answers_alone(cache: ResponseCache) -> None:
    before, other = key(cache), key(cache, group="h")
    assert cache.store(before, RESULT, 0)
    assert cache.store(other, RESULT, 0)
    cache.invalidate_group("g")
    assert cache.lookup(key(cache), 0) is None
    assert cache.lookup(key(cache, group="h"), 0) == RESULT


def test_an_answer_on_its_way_does_not_survive_the_invalidation(cache: ResponseCache) -> None:
    asked = key(cache)
    cache.invalidate_group("g")
    cache.store(asked, RESULT, 0)
    assert cache.lookup(key(cache), 0) is None
    asked = key(cache)
    cache.clear()
    cache.store(asked, RESULT, 0)
    assert cache.lookup(key(cache), 0) is None


def test_clear_forgets_all_and_counts_it(cache: ResponseCache) -> None:
    for uri in range(5):
        assert cache.store(key(cache, params=b'{"uri":"%d"}' % uri), RESULT, 0)
    assert len(cache) == 5
    assert cache.used_bytes > 5 * len(RESULT)
    assert cache.clear() == 5
    assert (len(cache), cache.used_bytes) == (0, 0)


def test_no_result_takes_a_large_share(metrics: Metrics) -> None:
    cache = ResponseCache(160_000, 1000, metrics)
    assert not cache.store(key(cache), b'{"ttlMs":1000,"a":"' + b"x" * 10_000 + b'"}', 0)
    assert cache.store(key(cache), b'{"ttlMs":1000,"a":"' + b"x" * 9000 + b'"}', 0)
    for uri in range(100):
        cache.store(key(cache, params=b'{"uri":"%d"}' % uri), b'{"ttlMs":1000,"a":"' + b"x" * 9000 + b'"}', 0)
        assert cache.used_bytes <= 160_000


@given(st.binary(max_size=60), st.integers(0, 2**40))
def test_no_octets_break_it(octets: bytes, now_ms: int) -> None:
    cache = ResponseCache(1 << 20, 1000, Metrics())
    try:
        orjson.loads(octets)
    except orjson.JSONDecodeError:
        return
    cache.key("p", "g", READ, octets)
    cache.store(b"k", octets, now_ms)
