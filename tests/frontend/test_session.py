"""Session ids: what they carry, whom they open for, and that no altered one opens."""

from __future__ import annotations

import string
import subprocess
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from only1mcp.frontend import session as module
from only1mcp.frontend.session import MAX_TOKEN_CHARS, SESSION_LIFETIME_S, SessionSealer

KEY = bytes(range(32))
NOW = 1_800_000_000.5
CAPABILITIES = b'{"roots":{"listChanged":true},"elicitation":{}, "x":1.50}'


@pytest.fixture
def sealer() -> SessionSealer:
    return SessionSealer(KEY)


def test_a_session_opens_with_what_was_sealed(sealer: SessionSealer) -> None:
    token = sealer.seal("key:alice", "2025-11-25", CAPABILITIES, NOW)
    session = sealer.open(token, "key:alice", NOW + 1)
    assert session is not None
    assert (session.principal_id, session.revision, session.capabilities) == ("key:alice", "2025-11-25", CAPABILITIES)
    assert session.id not in token
    assert sealer.open(token, "key:alice", NOW + 2) == session


def test_any_process_with_the_key_opens_it_and_no_other(sealer: SessionSealer) -> None:
    token = sealer.seal("key:alice", "2025-06-18", b"{}", NOW)
    assert SessionSealer(KEY).open(token, "key:alice", NOW) == sealer.open(token, "key:alice", NOW)
    assert SessionSealer(bytes(32)).open(token, "key:alice", NOW) is None


def test_each_session_is_its_own(sealer: SessionSealer) -> None:
    tokens = [sealer.seal("anonymous", "2025-11-25", b"{}", NOW) for _ in range(100)]
    sessions = [sealer.open(token, "anonymous", NOW) for token in tokens]
    assert len(set(tokens)) == len({session.id for session in sessions if session}) == 100


@pytest.mark.parametrize("opened_before", [False, True])
def test_another_principal_does_not_open_it(sealer: SessionSealer, opened_before: bool) -> None:
    token = sealer.seal("key:alice", "2025-11-25", b"{}", NOW)
    if opened_before:
        assert sealer.open(token, "key:alice", NOW)
    for other in ("key:bob", "", "key:alic", "key:alice\0", "anonymous"):
        assert sealer.open(token, other, NOW) is None
        assert not sealer.terminate(token, other, NOW)
    assert sealer.open(token, "key:alice", NOW)


@pytest.mark.parametrize("opened_before", [False, True])
def test_it_expires(sealer: SessionSealer, opened_before: bool) -> None:
    token = sealer.seal("p", "2025-11-25", b"{}", NOW)
    if opened_before:
        assert sealer.open(token, "p", NOW)
    assert sealer.open(token, "p", int(NOW) + SESSION_LIFETIME_S - 1)
    assert sealer.open(token, "p", int(NOW) + SESSION_LIFETIME_S) is None
    assert not sealer.terminate(token, "p", NOW + SESSION_LIFETIME_S)


def test_a_terminated_session_stays_terminated(sealer: SessionSealer) -> None:
    token = sealer.seal("p", "2025-11-25", b"{}", NOW)
    other = sealer.seal("p", "2025-11-25", b"{}", NOW)
    assert sealer.terminate(token, "p", NOW)
    assert sealer.open(token, "p", NOW) is None
    assert not sealer.terminate(token, "p", NOW)
    assert sealer.open(other, "p", NOW)


def test_every_altered_character_and_every_suffix_is_refused(sealer: SessionSealer) -> None:
    token = sealer.seal("p", "2025-11-25", CAPABILITIES, NOW)
    assert sealer.open(token, "p", NOW)
    alphabet = string.ascii_letters + string.digits + "-_"
    for position, character in enumerate(token):
        for other in (alphabet[(alphabet.index(character) + 1) % 64], "=", "+", "é", " "):
            assert sealer.open(token[:position] + other + token[position + 1 :], "p", NOW) is None
    for last in alphabet.replace(token[-1], ""):
        assert sealer.open(token[:-1] + last, "p", NOW) is None
    for suffix in ("-TAMPERED", "=", "==", "A", "\n", " "):
        assert sealer.open(token + suffix, "p", NOW) is None
    for end in range(len(token)):
        assert sealer.open(token[:end], "p", NOW) is None


@given(st.text(max_size=600))
@settings(max_examples=200)
def test_no_text_opens_or_breaks_it(text: str) -> None:
    assert SessionSealer(KEY).open(text, "p", NOW) is None


def test_the_key_must_have_32_bytes_and_the_revision_be_one() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SessionSealer(b"short")
    for revision in ("", "x" * 17, "2025-é"):
        with pytest.raises(ValueError, match=r"."):
            SessionSealer(KEY).seal("p", revision, b"{}", NOW)


def sealed(capabilities: Any) -> dict[str, Any]:
    sealer = SessionSealer(KEY)
    data = capabilities if isinstance(capabilities, bytes) else orjson.dumps(capabilities)
    token = sealer.seal("p" * 1000, "2025-11-25", data, NOW)
    assert len(token) <= MAX_TOKEN_CHARS
    assert all(0x21 <= ord(character) <= 0x7E for character in token)
    session = sealer.open(token, "p" * 1000, NOW)
    assert session is not None
    value = orjson.loads(session.capabilities)
    assert isinstance(value, dict)
    return value


def test_a_session_knows_its_client_and_its_worker() -> None:
    info = b'{"name":"c","version":"1","title":"dropped","icons":[]}'
    session = SessionSealer(KEY).open(SessionSealer(KEY, 7).seal("p", "2025-11-25", b"{}", NOW, info), "p", NOW)
    assert session is not None
    assert (session.client_info, session.worker) == (b'{"name":"c","version":"1"}', 7)


@pytest.mark.parametrize("info", [b"", b"null", b"[]", b'{"name":"c"}', b'{"name":1,"version":"1"}'])
def test_a_client_that_does_not_say_who_it_is(info: bytes) -> None:
    sealer = SessionSealer(KEY)
    session = sealer.open(sealer.seal("p", "2025-11-25", b"{}", NOW, info), "p", NOW)
    assert session is not None
    assert session.client_info == b""


@given(st.text(min_size=1, max_size=200), st.text(max_size=200))
@settings(max_examples=100)
def test_any_name_fits_beside_what_decides(name: str, version: str) -> None:
    sealer = SessionSealer(KEY)
    info = orjson.dumps({"name": name, "version": version})
    decides = b'{"elicitation":{"form":{},"url":{}},"sampling":{"tools":{},"context":{}},"roots":{"listChanged":true}}'
    token = sealer.seal("p", "2025-11-25", decides, NOW, info)
    session = sealer.open(token, "p", NOW)
    assert session is not None
    assert len(token) <= MAX_TOKEN_CHARS
    assert session.capabilities == decides
    if session.client_info:
        kept = orjson.loads(session.client_info)
        assert name.startswith(kept["name"])
        assert version.startswith(kept["version"])


def test_large_capabilities_keep_what_decides() -> None:
    big = {
        "experimental": {f"feature-{i}": {"note": "x" * 50} for i in range(100)},
        "elicitation": {"form": {"applyDefaults": "y" * 300}, "url": {}, "hologram": {}},
        "sampling": {"tools": {}, "context": {}, "extra": [1] * 500},
        "roots": {"listChanged": False},
        "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}, "v/big": "z" * 400},
        "tasks": {"list": {}},
    }
    kept = sealed(big)
    assert kept["elicitation"] == {"form": {}, "url": {}}
    assert kept["sampling"] == {"tools": {}, "context": {}}
    assert kept["roots"] == {"listChanged": False}
    assert kept["extensions"] == {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}}
    assert kept["tasks"] == {"list": {}}
    for name, value in kept["experimental"].items():
        assert value == big["experimental"][name]  # type: ignore[index]


def test_whitespace_alone_costs_nothing_but_its_bytes() -> None:
    assert sealed(b'{"roots":' + b" " * 600 + b'{"any":"thing"}}') == {"roots": {"any": "thing"}}


def test_large_capabilities_of_the_wrong_shape_count_as_none() -> None:
    assert sealed(b"[" + b"1," * 300 + b"1]") == {}
    assert sealed({"elicitation": ["x" * 600], "extensions": 7}) == {}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60)
@given(
    st.dictionaries(
        st.sampled_from(["roots", "sampling", "elicitation", "extensions", "experimental", "tasks"]) | st.text(),
        st.dictionaries(st.text(max_size=30), json_values, max_size=5) | json_values,
        max_size=7,
    )
)
def test_any_capabilities_fit_and_nothing_is_invented(capabilities: dict[str, Any]) -> None:
    kept = sealed(capabilities)
    assert kept.keys() <= capabilities.keys()
    if len(orjson.dumps(capabilities)) <= 300:
        assert kept == capabilities


def test_its_memory_is_bounded(sealer: SessionSealer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TERMINATED", 10)
    monkeypatch.setattr(module, "MAX_OPENED", 10)
    tokens = [sealer.seal("p", "2025-11-25", b"{}", NOW) for _ in range(50)]
    for token in tokens:
        assert sealer.open(token, "p", NOW)
    assert len(sealer._opened) == 10
    assert all(sealer.open(token, "p", NOW) for token in tokens)
    for token in tokens:
        assert sealer.terminate(token, "p", NOW)
    assert len(sealer._terminated) == 10
    assert all(sealer.open(token, "p", NOW) is None for token in tokens[-10:])


def test_ended_sessions_are_forgotten_once_expired(sealer: SessionSealer) -> None:
    for _ in range(20):
        sealer.terminate(sealer.seal("p", "2025-11-25", b"{}", NOW), "p", NOW)
    later = NOW + SESSION_LIFETIME_S
    for _ in range(20):
        sealer.terminate(sealer.seal("p", "2025-11-25", b"{}", later), "p", later)
    assert len(sealer._terminated) == 20


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


def test_ciphers_are_loaded_by_the_first_session() -> None:
    done = run(
        "import sys\n"
        "from only1mcp.frontend.session import SessionSealer\n"
        "sealer = SessionSealer(bytes(32))\n"
        "assert sealer.open('x' * 100, 'anonymous', 0.0) is None\n"
        "assert 'cryptography.hazmat' not in sys.modules\n"
        "sealer.seal('anonymous', '2025-11-25', b'{}', 0.0)\n"
        "assert 'cryptography.hazmat' in sys.modules\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_missing_ciphers_are_missed_at_the_start() -> None:
    done = run(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'cryptography':\n"
        "            raise ModuleNotFoundError('No module named ' + repr(name))\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import only1mcp.frontend.session\n"
    )
    assert done.returncode == 1
    assert "cryptography" in done.stderr.splitlines()[-1]
