"""Authentication: who gets in as whom, and that everything else is refused, never weakened."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from only1mcp.config.schema import JWT, ApiKey, Auth, Secret
from only1mcp.errors import NotAllowed, NotAuthenticated
from only1mcp.proxy import auth as module
from only1mcp.proxy.auth import LEEWAY_S, VERIFIED_FOR_S, Authenticator, Principal
from only1mcp.wire.http1_events import RequestHead

SECRET = "a secret of more than thirty-two bytes"
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def head(*headers: tuple[bytes, bytes]) -> RequestHead:
    return RequestHead(b"POST", b"/mcp", [(b"host", b"localhost"), *headers])


def bearer(token: bytes) -> RequestHead:
    return head((b"authorization", b"Bearer " + token))


def b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed(header: Any, payload: bytes, secret: str = SECRET, digest: Any = hashlib.sha256) -> bytes:
    """Sign by hand, independently of the library under test."""
    signing_input = b64(orjson.dumps(header)) + b"." + b64(payload)
    return signing_input + b"." + b64(hmac.new(secret.encode(), signing_input, digest).digest())


def token(secret: str = SECRET, header: dict[str, Any] | None = None, **claims: Any) -> bytes:
    body = {"sub": "alice", "exp": NOW + 3600} | claims
    body = {name: value for name, value in body.items() if value is not ...}
    return signed({"alg": "HS256", "typ": "JWT"} | (header or {}), orjson.dumps(body), secret)


def jwt_auth(**settings: Any) -> Auth:
    return Auth(jwt=JWT(secret=Secret(SECRET), **settings))


def api_key(name: str, key: bytes, **settings: Any) -> ApiKey:
    return ApiKey(name=name, key_sha256=hashlib.sha256(key).hexdigest(), **settings)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(authenticator: Authenticator, request: RequestHead) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as caught:
        authenticator.authenticate(request)
    assert (caught.value.http_status, caught.value.code) == (401, -31004)
    return caught.value


INVALID = b'Bearer realm="only1mcp", error="invalid_token"'


class TestAnonymous:
    def test_without_configuration_everybody_is_anonymous(self, clock: Clock) -> None:
        authenticator = Authenticator(Auth(), clock=clock)
        assert not authenticator.required
        for request in (head(), bearer(b"whatever"), head((b"x-api-key", b"k"))):
            principal = authenticator.authenticate(request)
            assert (principal.id, principal.kind, principal.tools) == ("anonymous", "anonymous", None)
            assert principal.may_call("anything")

    @pytest.mark.parametrize("auth", [jwt_auth(), Auth(api_keys=(api_key("ci", b"k"),))])
    def test_configured_auth_refuses_requests_without_credentials(self, auth: Auth, clock: Clock) -> None:
        authenticator = Authenticator(auth, clock=clock)
        assert authenticator.required
        assert refused(authenticator, head()).challenge == b'Bearer realm="only1mcp"'

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"authorization", b"")],
            [(b"authorization", b"Bearer")],
            [(b"authorization", b"Bearer ")],
            [(b"authorization", b"Bearer wrong")],
            [(b"authorization", b"Basic YWxpY2U6c2VjcmV0")],
            [(b"x-api-key", b"")],
            [(b"x-api-key", b"wrong")],
        ],
    )
    def test_a_bad_credential_never_becomes_anonymous(self, headers: list[tuple[bytes, bytes]], clock: Clock) -> None:
        auth = Auth(jwt=JWT(secret=Secret(SECRET)), api_keys=(api_key("ci", b"k"),), allow_anonymous=True)
        authenticator = Authenticator(auth, clock=clock)
        assert not authenticator.required
        assert authenticator.authenticate(head()).kind == "anonymous"
        refused(authenticator, head(*headers))


class TestApiKeys:
    auth = Auth(
        api_keys=(
            api_key("ci", b"key-one", scopes=("read",), tools=("read_*", "search")),
            api_key("ops", b"key-two"),
            api_key("nothing", b"key-three", tools=()),
        )
    )

    @pytest.mark.parametrize("header", [(b"x-api-key", b"key-one"), (b"authorization", b"bEARER key-one")])
    def test_a_key_names_its_principal(self, header: tuple[bytes, bytes], clock: Clock) -> None:
        principal = Authenticator(self.auth, clock=clock).authenticate(head(header))
        assert (principal.id, principal.name, principal.kind) == ("key:ci", "ci", "key")
        assert principal.scopes == {"read"}
        assert principal.may_call("read_file")
        assert principal.may_call("search")
        assert not principal.may_call("write_file")

    def test_each_key_is_its_own_principal(self, clock: Clock) -> None:
        authenticator = Authenticator(self.auth, clock=clock)
        for _ in range(2):
            assert authenticator.authenticate(bearer(b"key-two")).id == "key:ops"
            assert authenticator.authenticate(bearer(b"key-one")).id == "key:ci"
            nobody = authenticator.authenticate(bearer(b"key-three"))
            assert not nobody.may_call("read_file")
            assert not nobody.may_call("")

    @pytest.mark.parametrize("key", [b"key-on", b"key-one ", b"KEY-ONE", b"key-onee", b"x" * 8193])
    def test_other_keys_are_refused(self, key: bytes, clock: Clock) -> None:
        authenticator = Authenticator(self.auth, clock=clock)
        assert refused(authenticator, head((b"x-api-key", key))).challenge == INVALID

    def test_upper_case_hex_is_the_same_hash(self, clock: Clock) -> None:
        auth = Auth(api_keys=(ApiKey(name="ci", key_sha256=hashlib.sha256(b"k").hexdigest().upper()),))
        assert Authenticator(auth, clock=clock).authenticate(bearer(b"k")).id == "key:ci"

    @pytest.mark.parametrize(
        "headers",
        [
            [(b"authorization", b"Bearer key-one"), (b"authorization", b"Bearer key-one")],
            [(b"x-api-key", b"key-one"), (b"x-api-key", b"key-one")],
            [(b"x-api-key", b"key-one"), (b"authorization", b"Bearer key-one")],
        ],
    )
    def test_more_than_one_credential_is_refused(self, headers: list[tuple[bytes, bytes]], clock: Clock) -> None:
        refused(Authenticator(self.auth, clock=clock), head(*headers))


class TestJWT:
    def test_a_token_names_its_principal(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        principal = authenticator.authenticate(bearer(token(scope="a b", scp=["c", 7])))
        assert (principal.id, principal.name, principal.kind) == ("jwt::alice", "alice", "jwt")
        assert principal.scopes == {"a", "b", "c"}
        assert principal.may_call("anything")

    def test_issuer_and_subject_cannot_be_confused(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        pairs = [
            ("a", "b:c"),
            ("a:b", "c"),
            ("a%3Ab", "c"),
            (..., "a:b:c"),
            ("https://idp", "x"),
            ("", "x"),
            (..., ":x"),
        ]
        ids = [authenticator.authenticate(bearer(token(iss=iss, sub=sub))).id for iss, sub in pairs]
        assert len(set(ids)) == len(pairs)
        assert ids[4] == "jwt:https%3A//idp:x"

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": ...},
            {"exp": None},
            {"exp": NOW - LEEWAY_S},
            {"exp": "9999999999"},
            {"exp": True},
            {"exp": [9999999999]},
            {"nbf": NOW + LEEWAY_S + 1},
            {"nbf": "0"},
            {"sub": ...},
            {"sub": ""},
            {"sub": None},
            {"sub": 7},
            {"sub": "x" * 256},
            {"iss": 7},
            {"iss": ["x"]},
            {"iss": "x" * 1025},
        ],
    )
    def test_refuses_claims_that_do_not_hold(self, claims: dict[str, Any], clock: Clock) -> None:
        error = refused(Authenticator(jwt_auth(), clock=clock), bearer(token(**claims)))
        assert error.challenge == INVALID

    @pytest.mark.parametrize(
        "claims", [{"exp": NOW - LEEWAY_S + 1}, {"nbf": NOW + LEEWAY_S}, {"exp": NOW + 0.5}, {"aud": "anybody"}]
    )
    def test_clocks_may_differ_and_an_unasked_audience_is_ignored(self, claims: dict[str, Any], clock: Clock) -> None:
        assert Authenticator(jwt_auth(), clock=clock).authenticate(bearer(token(**claims))).name == "alice"

    @pytest.mark.parametrize(
        ("claims", "accepted"),
        [
            ({"iss": "https://idp", "aud": "https://mcp/mcp"}, True),
            ({"iss": "https://idp", "aud": ["x", "https://mcp/mcp"]}, True),
            ({"iss": "https://idp"}, False),
            ({"aud": "https://mcp/mcp"}, False),
            ({"iss": "https://idp/", "aud": "https://mcp/mcp"}, False),
            ({"iss": ["https://idp"], "aud": "https://mcp/mcp"}, False),
            ({"iss": "https://idp", "aud": "https://mcp/mcp/"}, False),
            ({"iss": "https://idp", "aud": "x https://mcp/mcp"}, False),
            ({"iss": "https://idp", "aud": []}, False),
            ({"iss": "https://idp", "aud": {"https://mcp/mcp": 1}}, False),
        ],
    )
    def test_issuer_and_audience_must_be_ours(self, claims: dict[str, Any], accepted: bool, clock: Clock) -> None:
        auth = jwt_auth(issuer="https://idp", audience="https://mcp/mcp")
        authenticator = Authenticator(auth, clock=clock)
        if accepted:
            assert authenticator.authenticate(bearer(token(**claims))).kind == "jwt"
        else:
            refused(authenticator, bearer(token(**claims)))

    def test_a_missing_scope_is_forbidden_and_named(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(scopes=("mcp:read", "mcp:call")), clock=clock)
        assert authenticator.authenticate(bearer(token(scope="mcp:call x mcp:read"))).kind == "jwt"
        for scope in ("", "mcp:read", "mcp:readmcp:call", ["mcp:read"], 7, None):
            with pytest.raises(NotAllowed) as caught:
                authenticator.authenticate(bearer(token(scope=scope)))
            expected = b'Bearer realm="only1mcp", error="insufficient_scope", scope="mcp:read mcp:call"'
            assert (caught.value.http_status, caught.value.challenge) == (403, expected)

    def test_a_scope_cannot_break_out_of_the_challenge(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(scopes=('x"\r\nSet-Cookie: a', "ok")), clock=clock)
        with pytest.raises(NotAllowed) as caught:
            authenticator.authenticate(bearer(token()))
        assert caught.value.challenge == b'Bearer realm="only1mcp", error="insufficient_scope", scope="ok"'

    def forged(self) -> dict[str, bytes]:
        good = token()
        header, payload, signature = good.split(b".")
        claims = orjson.dumps({"sub": "alice", "exp": NOW + 3600})
        none = b64(b'{"alg":"none","typ":"JWT"}') + b"." + payload + b"."
        return {
            "alg none": none,
            "alg none with a signature": none + signature,
            "alg None": b64(b'{"alg":"None"}') + b"." + payload + b".",
            "no alg": b64(b'{"typ":"JWT"}') + b"." + payload + b"." + signature,
            "alg null": b64(b'{"alg":null}') + b"." + payload + b".",
            "HS512, rightly signed": signed({"alg": "HS512"}, claims, digest=hashlib.sha512),
            "HS384, rightly signed": signed({"alg": "HS384"}, claims, digest=hashlib.sha384),
            "RS256 header, HMAC signature": signed({"alg": "RS256"}, claims),
            "lower-case alg": signed({"alg": "hs256"}, claims),
            "another secret": token(secret="another secret of more than 32 bytes!"),
            "empty secret": token(secret=""),
            "key of the token's choice": signed({"alg": "HS256", "jwk": {"kty": "oct", "k": "YQ"}}, claims, "a"),
            "kid path": signed({"alg": "HS256", "kid": "../../dev/null"}, claims, ""),
            "jku": signed({"alg": "HS256", "jku": "http://127.0.0.1:1/"}, claims, "x"),
            "unknown crit": token(header={"crit": ["exp2"], "exp2": 1}),
            "empty crit": token(header={"crit": []}),
            "crit that is no list": token(header={"crit": "exp"}),
            "detached payload": signed({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims),
            "no signature": header + b"." + payload + b".",
            "two parts": header + b"." + payload,
            "five parts": good + b".a.b",
            "altered payload": header + b"." + b64(claims.replace(b"alice", b"admin")) + b"." + signature,
            "altered signature": header + b"." + payload + b"." + b64(bytes(32)),
            "non-canonical signature": good[:-1] + (b"B" if good[-1:] != b"B" else b"C"),
            "not base64": b"a!.b!.c!",
            "dots": b"..",
            "header is a list": signed([], claims),
            "payload is a list": signed({"alg": "HS256"}, b"[]"),
            "payload is not JSON": signed({"alg": "HS256"}, b"NaN"),
            "NaN as exp": signed({"alg": "HS256"}, b'{"sub":"alice","exp":NaN}'),
            "infinite exp": signed({"alg": "HS256"}, b'{"sub":"alice","exp":1e999}'),
            "deep payload": signed({"alg": "HS256"}, b"[" * 3000 + b"]" * 3000),
            "not ASCII": "é.é.é".encode(),
            "too long": token(padding="x" * 8192),
        }

    def test_no_forgery_is_accepted(self, clock: Clock) -> None:
        auth = Auth(jwt=JWT(secret=Secret(SECRET)), allow_anonymous=True)
        authenticator = Authenticator(auth, clock=clock)
        assert authenticator.authenticate(bearer(token())).name == "alice"
        for case, forgery in self.forged().items():
            error = refused(authenticator, bearer(forgery))
            assert error.challenge == INVALID, case

    def test_key_hints_in_a_valid_token_are_ignored(self, clock: Clock) -> None:
        hints = {"kid": "x", "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/", "jwk": {}}
        assert Authenticator(jwt_auth(), clock=clock).authenticate(bearer(token(header=hints))).name == "alice"

    @given(st.binary(max_size=200))
    def test_no_octets_get_in_or_break_it(self, octets: bytes) -> None:
        refused(Authenticator(jwt_auth(), clock=Clock()), bearer(octets.strip(b" ")))

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=3))
    def test_no_claim_of_another_type_breaks_it(self, value: Any) -> None:
        authenticator = Authenticator(jwt_auth(audience="a", issuer="b", scopes=("c",)), clock=Clock())
        for name in ("exp", "nbf", "sub", "aud", "iss", "scope", "scp"):
            claims: dict[str, Any] = {"aud": "a", "iss": "b", "scope": "c"} | {name: value}
            try:
                authenticator.authenticate(bearer(token(**claims)))
            except (NotAuthenticated, NotAllowed):
                pass

    def test_a_token_in_x_api_key_is_no_key(self, clock: Clock) -> None:
        auth = Auth(jwt=JWT(secret=Secret(SECRET)), api_keys=(api_key("ci", b"k"),))
        authenticator = Authenticator(auth, clock=clock)
        good = token()
        for _ in range(2):
            refused(authenticator, head((b"x-api-key", good)))
            assert authenticator.authenticate(bearer(good)).kind == "jwt"
            assert authenticator.authenticate(bearer(b"k")).kind == "key"

    def test_tokens_cannot_be_checked_without_a_secret(self, clock: Clock) -> None:
        with pytest.raises(ValueError, match="secret"):
            Authenticator(Auth(jwt=JWT()), clock=clock)


class TestMemory:
    def test_a_remembered_token_still_expires(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        short = bearer(token(exp=NOW + 5))
        assert authenticator.authenticate(short).name == "alice"
        clock.now = NOW + 5 + LEEWAY_S - 0.1
        assert authenticator.authenticate(short).name == "alice"
        clock.now = NOW + 5 + LEEWAY_S
        refused(authenticator, short)

    def test_a_remembered_token_does_not_hold_before_its_time(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        early = bearer(token(nbf=NOW))
        assert authenticator.authenticate(early).name == "alice"
        clock.now = NOW - LEEWAY_S - 1  # clocks are set back
        refused(authenticator, early)
        clock.now = NOW - LEEWAY_S
        assert authenticator.authenticate(early).name == "alice"

    def test_what_was_verified_by_one_set_of_keys_is_nothing_to_another(self, clock: Clock) -> None:
        good, key = bearer(token()), head((b"x-api-key", b"k"))
        both = Auth(jwt=JWT(secret=Secret(SECRET)), api_keys=(api_key("ci", b"k"),))
        before = Authenticator(both, clock=clock)
        assert [before.authenticate(request).name for request in (good, key, good, key)] == ["alice", "ci"] * 2
        other = JWT(secret=Secret("another secret of more than thirty-two bytes"))
        after = Authenticator(Auth(jwt=other, api_keys=(api_key("ci", b"other"),)), clock=clock)
        refused(after, good)
        refused(after, key)

    def test_what_is_remembered_is_not_the_credential(self, clock: Clock) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        secret = token()
        authenticator.authenticate(bearer(secret))
        assert list(authenticator._verified) == [hashlib.sha256(secret).digest()]
        assert secret.decode() not in repr(authenticator._verified)

    def test_a_token_is_verified_once_a_minute(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        authenticator = Authenticator(jwt_auth(), clock=clock)
        good = bearer(token())
        first = authenticator.authenticate(good)
        clock.now = NOW + VERIFIED_FOR_S - 1
        assert authenticator.authenticate(good) is first
        clock.now = NOW + VERIFIED_FOR_S
        second = authenticator.authenticate(good)
        assert second == first
        assert second is not first

    def test_only_valid_credentials_are_remembered_and_not_too_many(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_VERIFIED", 5)
        authenticator = Authenticator(jwt_auth(), clock=clock)
        tokens = [bearer(token(sub=f"user-{i}")) for i in range(20)]
        for i, request in enumerate(tokens):
            assert authenticator.authenticate(request).name == f"user-{i}"
            refused(authenticator, bearer(b"forged-%d" % i))
        assert len(authenticator._verified) == 5
        for i, request in enumerate(tokens):
            assert authenticator.authenticate(request).name == f"user-{i}"


def test_errors_and_principals_never_show_the_credential(clock: Clock) -> None:
    authenticator = Authenticator(Auth(api_keys=(api_key("ci", b"k"),), jwt=JWT(secret=Secret(SECRET))), clock=clock)
    error = refused(authenticator, bearer(b"very-secret-value"))
    assert "very-secret-value" not in f"{error}{error!r}{error.data}"
    assert error.__cause__ is None
    assert SECRET not in repr(authenticator.authenticate(bearer(token())))


patterns = st.lists(st.text(alphabet="ab_*", max_size=8), max_size=4)


@given(patterns, st.text(alphabet="ab_*", max_size=12))
def test_tool_patterns_match_like_fnmatch_with_stars_alone(tools: list[str], name: str) -> None:
    principal = Principal("p", "p", "key", tools=tuple(tools))
    expected = any(re.fullmatch(fnmatch.translate(pattern), name) for pattern in tools)
    assert principal.may_call(name) == expected


def test_other_wildcards_are_plain_characters() -> None:
    principal = Principal("p", "p", "key", tools=("a?c", "[ab]*", "x.*"))
    assert principal.may_call("a?c")
    assert principal.may_call("[ab]z")
    assert not any(map(principal.may_call, ("abc", "az", "xyz", "A?C")))


def test_a_hostile_name_costs_linear_time() -> None:
    principal = Principal("p", "p", "key", tools=("*a" * 30 + "*b",))
    assert not principal.may_call("a" * 200_000)
