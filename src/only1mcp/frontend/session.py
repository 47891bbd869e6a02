"""Session ids of the handshake era: the session itself, sealed, so that any process with the key can open it.

A token is an AEAD of what we must remember about a client (MCP 2025-11-25 Transports, "Session Management"). It opens
only for the principal it was made for, so that a stolen id is worth nothing to another one; that principal's own
credentials are checked on every request all the same.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import cryptography  # noqa: F401 - a missing one ends the start; its ciphers are loaded by the first session (Sealer)
import orjson

from only1mcp.frontend.sealing import OVERHEAD_BYTES, Sealer

# A session ends after this long however busy it is; the client then gets 404 and initializes again. It bounds how long
# a token is good for that leaked together with its principal's credentials, and how long ended ids are remembered.
SESSION_LIFETIME_S: Final = 24 * 3600
# Every request carries the token, and header tables of common servers hold lines of 512 characters without growing.
MAX_TOKEN_CHARS: Final = 512
# Ended sessions are remembered until they expire. A client that opens and ends sessions in a loop would fill the
# memory; beyond this number the oldest is forgotten, which lets its own principal, and nobody else, use that id again.
MAX_TERMINATED: Final = 65_536
# Opened tokens are kept so that a request of a known session costs no decryption. A client cannot fill it with forged
# tokens, only with sessions it opened; the oldest makes room.
MAX_OPENED: Final = 8_192

_VERSION: Final = b"\x02"
# Number of the worker, lengths of the revision and of the client's name and version.
_HEADER: Final = struct.Struct(">HBB")
_MAX_REVISION: Final = 16
_MAX_SEALED: Final = MAX_TOKEN_CHARS * 3 // 4
_ROOM: Final = _MAX_SEALED - len(_VERSION) - OVERHEAD_BYTES - _HEADER.size - _MAX_REVISION

# A client's name and version are shown to backends; longer ones are cut to this many characters, then to these octets.
_MAX_NAME_CHARS: Final = 64
_MAX_INFO: Final = 160

# The parts of ClientCapabilities that decide what we may ask of a client, smallest useful form (MCP schema).
_KNOWN: Final[dict[str, tuple[str, ...]]] = {
    "elicitation": ("form", "url"),
    "sampling": ("tools", "context"),
    "roots": ("listChanged",),
}


@dataclass(frozen=True, slots=True)
class Session:
    """What a session id stands for. `id` names it without giving it away: fit for keys and logs, useless as a token.

    `capabilities` is the JSON text of the client's capabilities, trimmed as `SessionSealer.seal` says, `client_info`
    that of its name and version, empty where it gave none. `worker` is the number of the process where its soft state
    lives.
    """

    id: str
    principal_id: str
    revision: str
    capabilities: bytes
    expires_at: float
    client_info: bytes = b""
    worker: int = 0


class SessionSealer:
    """Makes and opens session ids. `key` is 32 secret bytes, the same in every process that shares the clients.

    `worker` is the number of this one, `lifetime_s` how long a session lasts. `now` is Unix time in seconds everywhere,
    because a token outlives the process that made it.
    """

    def __init__(self, key: bytes, worker: int = 0, lifetime_s: int = SESSION_LIFETIME_S) -> None:
        self._sealer = Sealer(key, "only1mcp.session", _VERSION)
        self._worker = worker
        self._lifetime_s = lifetime_s
        self._opened: OrderedDict[str, Session] = OrderedDict()
        self._terminated: OrderedDict[str, float] = OrderedDict()

    def seal(self, principal_id: str, revision: str, capabilities: bytes, now: float, client_info: bytes = b"") -> str:
        """Return the id of a new session: at most MAX_TOKEN_CHARS characters of base64url.

        `capabilities` and `client_info` are JSON texts of `initialize`; of the latter the beginnings of name and
        version are kept. Where the capabilities do not fit they are kept in part: the sub-keys of
        elicitation, sampling and roots that MCP defines, then whole extensions, experimental and other entries as long
        as there is room. A capability that was dropped counts as not declared, which every peer must be able to bear.
        """
        mark = revision.encode("ascii")
        if not 0 < len(mark) <= _MAX_REVISION:
            raise ValueError(f"expected a revision of 1-{_MAX_REVISION} characters, got {revision!r:.40}")
        info = _identity(client_info)
        room = _ROOM - len(info)
        kept = capabilities if len(capabilities) <= room else _trimmed(capabilities, room)
        plain = _HEADER.pack(self._worker, len(mark), len(info)) + mark + info + kept
        return self._sealer.seal(plain, principal_id, int(now) + self._lifetime_s)

    def open(self, token: str, principal_id: str, now: float) -> Session | None:
        """Return the session, or None when the id is not ours, altered, another principal's, expired or terminated."""
        session = self._opened.get(token)
        if session is None:
            session = self._unseal(token, principal_id)
            if session is None or session.id in self._terminated:
                return None
            if session.expires_at > now:
                if len(self._opened) >= MAX_OPENED:
                    self._opened.popitem(last=False)
                self._opened[token] = session
        if session.expires_at <= now:
            self._opened.pop(token, None)
            return None
        return session if session.principal_id == principal_id else None

    def holds(self, token: str, session: Session, now: float) -> bool:
        """Return whether the token that was opened as this session would open as it again; False where it might."""
        return self._opened.get(token) is session and session.expires_at > now

    def terminate(self, token: str, principal_id: str, now: float) -> bool:
        """End a session for good; False when `open` would not have opened it."""
        session = self.open(token, principal_id, now)
        if session is None:
            return False
        self._opened.pop(token, None)
        self._terminated[session.id] = session.expires_at
        # Two out for each one in keeps the table bounded at a constant cost.
        for _ in range(2):
            id, expires_at = next(iter(self._terminated.items()))
            if expires_at <= now or len(self._terminated) > MAX_TERMINATED:
                del self._terminated[id]
        return True

    def _unseal(self, token: str, principal_id: str) -> Session | None:
        opened = self._sealer.open_any(token, principal_id) if len(token) <= MAX_TOKEN_CHARS else None
        if opened is None:
            return None
        plain = opened.plain
        worker, revision_length, info_length = _HEADER.unpack_from(plain)
        info_at = _HEADER.size + revision_length
        revision, rest = plain[_HEADER.size : info_at].decode("ascii"), info_at + info_length
        info = plain[info_at:rest]
        return Session(opened.name, principal_id, revision, plain[rest:], opened.expires_at, info, worker)


def _identity(client_info: bytes) -> bytes:
    """Return name and version of an `Implementation`, as much of them as there is room for; nothing without both."""
    whole: Any = orjson.loads(client_info) if client_info else None
    if not isinstance(whole, dict) or not all(isinstance(whole.get(key), str) for key in ("name", "version")):
        return b""
    for chars in (_MAX_NAME_CHARS, _MAX_NAME_CHARS // 2, _MAX_NAME_CHARS // 8):
        text = orjson.dumps({key: whole[key][:chars] for key in ("name", "version")})
        if len(text) <= _MAX_INFO:
            return text
    return b""


def _trimmed(capabilities: bytes, room: int) -> bytes:
    """Return as much of a capabilities object as fits into `room` bytes, the parts we act on first."""
    whole: Any = orjson.loads(capabilities)
    if not isinstance(whole, dict):
        return b"{}"
    compact = orjson.dumps(whole)
    if len(compact) <= room:
        return compact
    kept: dict[str, Any] = {}
    for name, parts in _KNOWN.items():
        if isinstance(whole.get(name), dict):
            kept[name] = {part: _flag(whole[name][part]) for part in parts if part in whole[name]}
    used = len(orjson.dumps(kept))
    for path, value in _entries(whole):
        # What the entry adds: its key, colon and comma, and the braces of the map it opens.
        size = len(orjson.dumps({path[-1]: value})) - 1
        opens = len(path) == 2 and path[0] not in kept
        size += len(orjson.dumps(path[0])) + 4 if opens else 0
        if used + size <= room:
            (kept if len(path) == 1 else kept.setdefault(path[0], {}))[path[-1]] = value
            used += size
    return orjson.dumps(kept)


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else {}


def _entries(whole: dict[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """List what may be kept whole or dropped whole, most useful first."""
    entries: list[tuple[tuple[str, ...], Any]] = []
    for name in ("extensions", "experimental"):
        if isinstance(whole.get(name), dict):
            entries.extend(((name, key), value) for key, value in whole[name].items())
    entries.extend(
        ((name,), value) for name, value in whole.items() if name not in {*_KNOWN, "extensions", "experimental"}
    )
    return entries
