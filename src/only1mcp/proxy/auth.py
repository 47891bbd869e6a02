"""Who is calling: turns the credentials of a request into a principal, or refuses them.

Every request is authenticated by itself; a session id is no credential. A credential that does not hold ends the
request: nothing falls back to a lesser identity.
"""

from __future__ import annotations

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from only1mcp.config.schema import JWT, Auth
from only1mcp.errors import NotAllowed, NotAuthenticated
from only1mcp.proxy.names import Patterns

if TYPE_CHECKING:
    from jwt.api_jws import PyJWS

    from only1mcp.wire.http1_events import RequestHead

# Hashing and decoding work grows with the token, and happens before anything is known of its sender.
MAX_CREDENTIAL_BYTES: Final = 8192
# Names end up in logs, keys and sessions; OpenID Connect allows `sub` 255 characters (Core section 2).
MAX_SUBJECT_CHARS: Final = 255
MAX_ISSUER_CHARS: Final = 1024
# Clocks of different machines differ by seconds; more than a minute would lengthen the life of revoked tokens.
LEEWAY_S: Final = 30
# A verified credential is not verified again for this long. Only valid ones are kept, so a flood of forgeries evicts
# nothing; a holder of many valid tokens evicts the oldest.
VERIFIED_FOR_S: Final = 60
MAX_VERIFIED: Final = 4096

_REALM: Final = b'Bearer realm="only1mcp"'
_INVALID: Final = _REALM + b', error="invalid_token"'
# RFC 6749 section 3.3; whatever else a configured scope holds cannot be quoted in a challenge.
_SCOPE_TOKEN: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request is made for. Sessions, caches and rate limits are keyed by `id`; `name` is for people.

    `tools` are the patterns of the tools it may call, None for all. `credential` is the digest of what the request
    proved itself with: private results are not shared between two tokens of one subject. `expires_at` is the Unix time
    at which that stops to hold, None where it does not by itself.
    """

    id: str
    name: str
    kind: Literal["anonymous", "key", "jwt"]
    scopes: frozenset[str] = frozenset()
    tools: tuple[str, ...] | None = None
    credential: bytes = field(default=b"", repr=False, compare=False)
    expires_at: float | None = field(default=None, compare=False)
    _patterns: Patterns | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_patterns", None if self.tools is None else Patterns(self.tools))

    def may_call(self, tool_name: str) -> bool:
        """Return whether this principal may call, and see, the tool."""
        return self._patterns is None or self._patterns.match(tool_name)

    def left_s(self, now: float) -> float | None:
        """Return for how long what it proved itself with still holds, None for ever; `now` is Unix time."""
        return None if self.expires_at is None else self.expires_at - now


ANONYMOUS: Final = Principal("anonymous", "anonymous", "anonymous")


class Authenticator:
    """Checks credentials as `auth` says: `Authorization: Bearer` with a JWT or an API key, or `X-API-Key`.

    `clock` returns Unix time in seconds. Where neither JWT nor keys are configured there is nothing to check against:
    every request is anonymous and its credentials are ignored.
    """

    def __init__(self, auth: Auth, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys = [
            (
                bytes.fromhex(key.key_sha256),
                Principal(f"key:{key.name}", key.name, "key", frozenset(key.scopes), key.tools),
            )
            for key in auth.api_keys
            if key.key_sha256 is not None
        ]
        self._jwt = _JWTVerifier(auth.jwt) if auth.jwt is not None else None
        self._configured = auth.jwt is not None or bool(auth.api_keys)
        # True when a request without credentials is refused.
        self.required = self._configured and not auth.allow_anonymous
        # Digest of the credential -> its principal, and the Unix times from and until which that is known to hold. It
        # goes with this object, and so with the keys and the configuration that it was verified by.
        self._verified: OrderedDict[bytes, tuple[Principal, float, float]] = OrderedDict()

    def authenticate(self, head: RequestHead) -> Principal:
        """Return the principal; raise `NotAuthenticated`, or `NotAllowed` when a valid token lacks a scope.

        Both carry the `challenge` for WWW-Authenticate.
        """
        if not self._configured:
            return ANONYMOUS
        authorization = api_key = None
        for name, value in head.headers:
            if name == b"authorization":
                if authorization is not None:
                    raise _refused("expected one Authorization header")
                authorization = value
            elif name == b"x-api-key":
                if api_key is not None:
                    raise _refused("expected one X-API-Key header")
                api_key = value
        if authorization is None and api_key is None:
            if self.required:
                raise NotAuthenticated("expected credentials: Authorization: Bearer <token>, or X-API-Key")
            return ANONYMOUS
        if api_key is not None:
            if authorization is not None:
                raise _refused("expected either Authorization or X-API-Key, got both")
            return self._check(api_key, False)
        assert authorization is not None
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            raise NotAuthenticated("expected the Bearer scheme in Authorization")
        return self._check(token.strip(b" "), True)

    def holds(self, principal: Principal, now: float) -> bool:
        """Return whether a request with the credentials that proved this principal would prove it again.

        `now` is Unix time in seconds. It may be False where it would.
        """
        if principal is ANONYMOUS:
            return True
        known = self._verified.get(principal.credential)
        if known is None:
            return False
        found, since, until = known
        return found is principal and since <= now < until

    def _check(self, credential: bytes, bearer: bool) -> Principal:
        if not 0 < len(credential) <= MAX_CREDENTIAL_BYTES:
            raise _refused(f"expected a credential of 1-{MAX_CREDENTIAL_BYTES} octets, got {len(credential)}")
        digest = sha256(credential).digest()
        now = self._clock()
        known = self._verified.get(digest)
        if known is not None:
            principal, since, until = known
            if since <= now < until and (bearer or principal.kind == "key"):
                return principal
            del self._verified[digest]
        found = self._key_of(digest)
        since, until, expires_at = 0.0, now + VERIFIED_FOR_S, None
        if found is None:
            if not bearer or self._jwt is None:
                raise _refused("the API key is not known" if self._keys else "the token is not valid")
            found, since, expires_at = self._jwt.verify(credential, now)
            until = min(until, expires_at)
        if len(self._verified) >= MAX_VERIFIED:
            self._verified.popitem(last=False)
        found = replace(found, credential=digest, expires_at=expires_at)
        self._verified[digest] = (found, since, until)
        return found

    def _key_of(self, digest: bytes) -> Principal | None:
        """Compare with every key, so that the time taken tells nothing about which one matched."""
        found = None
        for expected, principal in self._keys:
            if hmac.compare_digest(expected, digest):
                found = principal
        return found


class _JWTVerifier:
    """Checks HS256 tokens (RFC 7519, RFC 8725): one algorithm, one key; key hints in the token are not looked at."""

    def __init__(self, config: JWT) -> None:
        if config.secret is None:
            raise ValueError("auth.jwt has no secret")
        self._jws = _hs256()
        self._secret = config.secret.reveal().encode()
        self._issuer = config.issuer
        self._audience = config.audience
        self._scopes = frozenset(config.scopes)
        challenge = _REALM + b', error="insufficient_scope"'
        if named := [scope for scope in config.scopes if _SCOPE_TOKEN.fullmatch(scope)]:
            challenge += b', scope="%s"' % " ".join(named).encode("ascii")
        self._insufficient = challenge

    def verify(self, token: bytes, now: float) -> tuple[Principal, float, float]:
        """Return the principal and the Unix times at which its token begins and stops to be valid."""
        claims = self._claims(token)
        expires_at = _time(claims, "exp")
        if expires_at is None:
            raise _refused("the token has no exp")
        expires_at += LEEWAY_S
        if expires_at <= now:
            raise _refused("the token has expired")
        not_before = _time(claims, "nbf")
        since = 0.0 if not_before is None else not_before - LEEWAY_S
        if since > now:
            raise _refused("the token is not valid yet")
        issuer, subject = claims.get("iss"), claims.get("sub")
        if self._issuer is not None and issuer != self._issuer:
            raise _refused("the token is from another issuer")
        if self._audience is not None and self._audience not in _strings(claims.get("aud"), whole=True):
            raise _refused("the token is for another audience")
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
            raise _refused(f"the token needs a sub of 1-{MAX_SUBJECT_CHARS} characters")
        if not isinstance(issuer, str | None) or len(issuer or "") > MAX_ISSUER_CHARS:
            raise _refused("the token's iss is not a usable string")
        scopes = _strings(claims.get("scope")) | _strings(claims.get("scp"))
        if not self._scopes <= scopes:
            error = NotAllowed("the token lacks a scope", data={"requiredScopes": sorted(self._scopes)})
            error.challenge = self._insufficient
            raise error
        # The issuer's colons are escaped: no other pair of issuer and subject gives the same id.
        escaped = (issuer or "").replace("%", "%25").replace(":", "%3A")
        return Principal(f"jwt:{escaped}:{subject}", subject, "jwt", scopes), since, expires_at

    def _claims(self, token: bytes) -> dict[str, Any]:
        """Return the claims of a token whose signature holds."""
        from jwt.exceptions import PyJWTError  # noqa: PLC0415 (see _hs256)

        try:
            claims = orjson.loads(self._jws.decode(token, self._secret, algorithms=["HS256"]))
        except (PyJWTError, orjson.JSONDecodeError):
            raise _refused("the token is not valid") from None
        if not isinstance(claims, dict):
            raise _refused("the token is not valid")
        return claims


def _hs256() -> PyJWS:
    # Imported by those who configured tokens: it takes longer to load than the rest of the proxy.
    from jwt.api_jws import PyJWS  # noqa: PLC0415

    return PyJWS(algorithms=["HS256"])


def _refused(message: str) -> NotAuthenticated:
    error = NotAuthenticated(message)
    error.challenge = _INVALID
    return error


def _time(claims: dict[str, Any], name: str) -> float | None:
    """Return a NumericDate (RFC 7519 section 2), None when absent."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(f"the token's {name} is not a number")
    return float(value)


def _strings(value: Any, *, whole: bool = False) -> frozenset[str]:
    """Return the members of a claim that is a string, one value or several between spaces, or an array of strings."""
    if isinstance(value, str):
        return frozenset([value] if whole else value.split(" ")) - {""}
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
