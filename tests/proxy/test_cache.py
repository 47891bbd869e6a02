"""The cache: what may be kept, for whom, for how long, and what makes it forgotten."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.metrics import Metrics
from only1mcp.proxy import cache as module
from only1mcp.proxy.auth import Principal
from only1mcp.proxy.cache import Asked, Kept, Key, ResponseCache
from only1mcp.wire.mcp import Era

H, S = Era.HANDSHAKE, Era.STATELESS
READ, CALL, GET = "resources/read", "tools/call", "prompts/get"
URI = "test://a"
PARAMS = b'{"uri":"test://a"}'
RESULT = b'{"resultType":"complete","ttlMs":60000,"cacheScope":"public","contents":[ 1.50 ]}'
P = Principal("p", "p", "key")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def cache(metrics: Metrics) -> ResponseCache:
    return ResponseCache(1 << 20, 300_000, metrics)


def asked(**fields: Any) -> Asked:
    return Asked(**{"principal": P, "group": "g", "method": READ, "original": URI, "params": PARAMS, **fields})


def key(cache: ResponseCache, **fields: Any) -> Key:
    found = cache.key(asked(**fields))
    assert found is not None
    return found


def store(cache: ResponseCache, key: Key, result: bytes, now_ms: int = 0, era: Era = S) -> bool:
    hints = cache.hints(key, result, era)
    return hints is not None and cache.store(key, result, era, hints, now_ms)


def lookup(cache: ResponseCache, key: Key, now_ms: int = 0) -> bytes | None:
    kept = cache.lookup(key, now_ms)
    return None if kept is None else kept.result


def count(metrics: Metrics, name: str) -> int:
    found = re.search(rf"^only1mcp_{name} (\S+)$", metrics.render()[1].decode(), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def test_keeps_a_result_byte_for_byte_but_its_age(cache: ResponseCache, metrics: Metrics) -> None:
    k = key(cache)
    assert lookup(cache, k, 1000) is None
    assert store(cache, k, RESULT, 1000)
    assert lookup(cache, k, 1000) == RESULT
    assert lookup(cache, k, 11_000) == RESULT.replace(b"60000", b"50000")
    assert lookup(cache, k, 60_999) == RESULT.replace(b"60000", b"1")
    assert lookup(cache, k, 61_000) is None
    assert (count(metrics, "cache_hits_total"), count(metrics, "cache_misses_total")) == (3, 2)
    assert metrics.cache_counts() == (3, 2, 0)


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
    assert store(cache, k, result)
    assert lookup(cache, k, age) == result.replace(b": 2000000 ", b": %d " % (2_000_000 - age))


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
        b'{"result\\u0054ype":"input_required","ttlMs":60000}',
        b'{"ttlMs":60000,"ttlMs":0}',
        b"[]",
        b"7",
        b"",
    ],
)
def test_does_not_keep_what_no_hint_allows(result: bytes, cache: ResponseCache) -> None:
    k = key(cache)
    assert not store(cache, k, result)
    assert lookup(cache, k) is None
    assert len(cache) == 0


def test_a_result_without_result_type_counts_as_complete(cache: ResponseCache) -> None:
    assert store(cache, key(cache), b'{"ttlMs":5}')


def test_a_backend_of_the_handshake_era_gives_no_hints(cache: ResponseCache) -> None:
    """What looks like one is a member of its own."""
    assert not store(cache, key(cache), RESULT, era=H)


def test_the_ceiling_bounds_every_hint(cache: ResponseCache) -> None:
    k = key(cache)
    for hint in (b"86400000", b"999999999999999", b"9" * 400):
        kept = store(cache, k, b'{"ttlMs":' + hint + b"}")
        # More digits than any duration has are no duration.
        assert kept == (len(hint) < 400)
        if kept:
            found = lookup(cache, k, 299_999)
            assert found is not None
            assert orjson.loads(found)["ttlMs"] == 86_400_000 - 299_999
        assert lookup(cache, k, 300_000) is None


@pytest.mark.parametrize("era", [H, S])
def test_the_operator_gives_a_lifetime_to_what_has_no_hint(cache: ResponseCache, era: Era) -> None:
    k = key(cache, method=CALL, original="t", ttl_ms=400_000)
    assert store(cache, k, b'{"content":[]}', era=era)
    assert cache.lookup(k, 399_999) == Kept(b'{"content":[]}', era)
    assert lookup(cache, k, 400_000) is None
    # A hint may only shorten it.
    assert not store(cache, k, b'{"content":[],"ttlMs":0}')
    assert store(cache, k, b'{"content":[],"ttlMs":900000}')
    assert lookup(cache, k, 399_999) is not None
    assert lookup(cache, k, 400_000) is None


@pytest.mark.parametrize("value", [b"true", b"null", b"1", b'"false"'])
def test_a_tools_error_is_not_kept(cache: ResponseCache, value: bytes) -> None:
    k = key(cache, method=CALL, original="t", ttl_ms=1000)
    assert not store(cache, k, b'{"content":[],"isError":' + value + b"}")
    assert store(cache, k, b'{"content":[],"isError":false}')


@pytest.mark.parametrize("member", ["inputResponses", "requestState", "input\\u0052esponses"])
@pytest.mark.parametrize("method", [READ, CALL, GET])
def test_retries_are_neither_kept_nor_answered(member: str, method: str, cache: ResponseCache) -> None:
    assert cache.key(asked(method=method, params=f'{{"uri":"a","{member}":null}}'.encode(), ttl_ms=1000)) is None


@pytest.mark.parametrize(
    "params", [b"", b"[]", b'{"uri":"a","uri":"b"}', b'{"uri":"a","_meta":7}', b'{"_meta":{"a":1,"a":2}}']
)
def test_ambiguous_params_have_no_key(params: bytes, cache: ResponseCache) -> None:
    assert cache.key(asked(params=params)) is None


def meta(**members: Any) -> bytes:
    return orjson.dumps({"uri": URI, "_meta": members})


def test_nobody_gets_anothers_answer(cache: ResponseCache) -> None:
    assert store(cache, key(cache), RESULT)
    others: list[dict[str, Any]] = [
        {"principal": Principal("q", "p", "key")},
        {"principal": Principal("", "p", "key")},
        {"principal": Principal("p", "p", "key", credential=b"x")},
        {"group": "h"},
        {"method": GET},
        {"original": "test://b"},
        {"revision": "2026-07-28"},
        {"params": b'{"uri":"test://a","cursor":""}'},
        {"params": meta(**{"io.modelcontextprotocol/protocolVersion": "2026-07-28"})},
        {"params": meta(**{"vendor/tenant": "x"})},
        {"principal": Principal("pg", "p", "key"), "group": ""},
        {"principal": Principal("", "p", "key", credential=b"p")},
        {"group": "", "original": "gtest://a"},
    ]
    for other in others:
        assert lookup(cache, key(cache, **other)) is None, other
    assert lookup(cache, key(cache)) == RESULT


@pytest.mark.parametrize(
    "params",
    [
        b'{ "uri" : "test://a" }',
        b'{"uri":"test://the/clients/own/name/of/it"}',
        b'{"uri":"test://a","_meta":{}}',
        b'{"_meta":{"progressToken":7,"traceparent":"00-a"},"uri":"test://a"}',
        b'{"uri":"test://a","_meta":{"io.modelcontextprotocol/clientInfo":{"name":"x"},"baggage":"user=1"}}',
    ],
)
def test_what_does_not_affect_a_result_does_not_affect_its_key(params: bytes, cache: ResponseCache) -> None:
    assert key(cache, params=params).private == key(cache).private


@pytest.mark.parametrize(
    ("params", "alone"),
    [
        (b"{}", False),
        (meta(traceparent="00-a"), False),
        (meta(progressToken=7), True),
        (meta(progressToken=None), True),
        (meta(**{"io.modelcontextprotocol/logLevel": "info"}), True),
        (b'{"_meta":{"progress\\u0054oken":1}}', True),
    ],
)
def test_who_wants_to_hear_more_than_the_answer_asks_alone(params: bytes, alone: bool, cache: ResponseCache) -> None:
    assert key(cache, params=params).alone is alone


texts = st.text(max_size=4)
requests = st.tuples(
    texts, st.binary(max_size=3), texts, texts, texts, *[st.dictionaries(texts, texts, max_size=2)] * 2
)


@given(requests, requests)
def test_different_requests_have_different_keys(first: Any, second: Any) -> None:
    cache = ResponseCache(1 << 20, 1000, Metrics())

    def keys(request: Any) -> tuple[bytes, bytes | None]:
        id, credential, group, original, revision, params, meta = request
        principal = Principal(id, "n", "key", credential=credential)
        params = orjson.dumps({f"x{name}": value for name, value in params.items()} | {"_meta": meta})
        found = key(
            cache, principal=principal, group=group, original=original, revision=revision, params=params, shared=True
        )
        return found.private, found.public

    assert (keys(first)[0] == keys(second)[0]) == (first == second)
    assert (keys(first)[1] == keys(second)[1]) == (first[2:] == second[2:])
    assert keys(first)[0] != keys(second)[1]


# Public results.


def test_a_public_result_is_everybodys_where_the_backend_is_trusted(cache: ResponseCache) -> None:
    q = Principal("q", "q", "key")
    assert store(cache, key(cache, shared=True), RESULT)
    assert lookup(cache, key(cache, principal=q, shared=True)) == RESULT
    assert lookup(cache, key(cache, shared=True)) == RESULT
    # Trust that is taken back holds for what is there already.
    assert lookup(cache, key(cache, principal=q)) is None
    assert len(cache) == 1


@pytest.mark.parametrize("scope", [b'"private"', b'"Public"', b"true", b'"public "', b'["public"]'])
def test_whatever_is_not_public_is_private(scope: bytes, cache: ResponseCache) -> None:
    assert store(cache, key(cache, shared=True), b'{"ttlMs":1000,"cacheScope":' + scope + b"}")
    assert lookup(cache, key(cache, principal=Principal("q", "q", "key"), shared=True)) is None
    assert lookup(cache, key(cache, shared=True)) is not None


@pytest.mark.parametrize("method", [CALL, GET])
def test_tools_and_prompts_have_no_public_results(method: str, cache: ResponseCache) -> None:
    """The protocol knows no scope for them."""
    assert key(cache, method=method, shared=True, ttl_ms=1000).public is None


@pytest.mark.parametrize(
    "member", [{"io.modelcontextprotocol/clientInfo": {"name": "ann's"}}, {"baggage": "user=ann"}, {"x": 1}]
)
def test_who_says_who_it_is_shares_with_its_like(member: dict[str, Any], cache: ResponseCache) -> None:
    q = Principal("q", "q", "key")
    assert store(cache, key(cache, params=meta(**member), shared=True), RESULT)
    assert lookup(cache, key(cache, principal=q, shared=True)) is None
    assert lookup(cache, key(cache, principal=q, params=meta(**member), shared=True)) == RESULT


# What makes it forgotten.


def test_invalidating_a_group_forgets_its_answers_alone(cache: ResponseCache) -> None:
    before, other = key(cache), key(cache, group="h")
    assert store(cache, before, RESULT)
    assert store(cache, other, RESULT)
    cache.invalidate("g")
    assert lookup(cache, key(cache)) is None
    assert lookup(cache, key(cache, group="h")) == RESULT


@pytest.mark.parametrize("kind", ["tools", "prompts", "resources"])
def test_a_changed_list_forgets_the_results_of_its_kind(kind: str, cache: ResponseCache) -> None:
    methods = {"tools": CALL, "prompts": GET, "resources": READ}
    for method in methods.values():
        assert store(cache, key(cache, method=method, ttl_ms=9999), RESULT)
    cache.invalidate("g", kind)
    found = {each: lookup(cache, key(cache, method=method, ttl_ms=9999)) for each, method in methods.items()}
    assert [each for each, result in found.items() if result is None] == [kind]


def test_an_updated_resource_is_forgotten_alone(cache: ResponseCache) -> None:
    requests = [{}, {"original": "test://b"}, {"group": "h"}, {"method": GET}]
    for request in requests:
        assert store(cache, key(cache, **request, ttl_ms=9999), RESULT)
    cache.invalidate("g", "resources", URI)
    assert [lookup(cache, key(cache, **request, ttl_ms=9999)) is None for request in requests] == [True] + [False] * 3
    assert store(cache, key(cache), RESULT)
    assert lookup(cache, key(cache)) == RESULT


def test_the_memory_of_updated_resources_is_bounded(cache: ResponseCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UPDATED", 10)
    cache.invalidate("g", "resources", URI)
    old = key(cache)
    assert store(cache, old, RESULT)
    cache.invalidate("g", "resources", URI)
    for number in range(100):
        cache.invalidate("h", "resources", f"test://{number}" * 1000)
        assert len(cache._updated) <= 10
        # Forgotten with all the others, the count of this resource must not come back to what it was.
        assert lookup(cache, key(cache)) is None
        cache.invalidate("g", "resources", URI)
        assert lookup(cache, key(cache)) is None


def test_an_answer_on_its_way_does_not_survive_the_invalidation(cache: ResponseCache) -> None:
    forget: list[Any] = [
        lambda: cache.invalidate("g"),
        lambda: cache.invalidate("g", "resources"),
        lambda: cache.invalidate("g", "resources", URI),
        cache.clear,
    ]
    for each in forget:
        asked = key(cache)
        each()
        store(cache, asked, RESULT)
        assert lookup(cache, key(cache)) is None


def test_keys_that_are_remembered_are_bounded(cache: ResponseCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 10)
    keys = [key(cache, original=str(number)) for number in range(100)]
    assert [key(cache, original=str(number)) for number in range(100)] == keys
    assert 0 < len(cache._keys) <= 10
    before = dict(cache._keys)
    long = b'{"a":"' + b"x" * module.MAX_REMEMBERED_BYTES + b'"}'
    assert key(cache, params=long) == key(cache, params=long)
    assert cache._keys == before


def test_clear_forgets_all_and_counts_it(cache: ResponseCache) -> None:
    for number in range(5):
        assert store(cache, key(cache, original=f"test://{number}"), RESULT)
    assert len(cache) == 5
    assert cache.used_bytes > 5 * len(RESULT)
    assert cache.clear() == 5
    assert (len(cache), cache.used_bytes, cache.limit_bytes, cache.evictions) == (0, 0, 1 << 20, 0)


def test_no_result_takes_a_large_share(metrics: Metrics) -> None:
    cache = ResponseCache(160_000, 1000, metrics)
    assert not store(cache, key(cache), b'{"ttlMs":1000,"a":"' + b"x" * 10_000 + b'"}')
    assert store(cache, key(cache), b'{"ttlMs":1000,"a":"' + b"x" * 9000 + b'"}')
    for number in range(100):
        store(cache, key(cache, original=str(number)), b'{"ttlMs":1000,"a":"' + b"x" * 9000 + b'"}')
        assert cache.used_bytes <= 160_000
    assert cache.evictions > 80


@given(st.binary(max_size=60), st.integers(0, 2**40))
def test_no_octets_break_it(octets: bytes, now_ms: int) -> None:
    cache = ResponseCache(1 << 20, 1000, Metrics())
    try:
        orjson.loads(octets)
    except orjson.JSONDecodeError:
        return
    cache.key(asked(params=octets))
    store(cache, key(cache), octets, now_ms)
