"""The benchmark without sockets makes real calls, in both eras, and takes no wrong answer."""

from __future__ import annotations

import pytest
from benches import call


@pytest.mark.parametrize("stdio", [False, True])
@pytest.mark.parametrize("era", ["stateless", "handshake"])
async def test_every_batch_is_measured(era: str, stdio: bool) -> None:
    taken = await call.measure(era, call.BATCHES, stdio=stdio)
    assert len(taken) == call.BATCHES
    assert min(taken) > 0


@pytest.mark.parametrize("era", ["stateless", "handshake"])
async def test_lists_are_measured(era: str) -> None:
    assert min(await call.measure(era, call.BATCHES, lists=True)) > 0


@pytest.mark.parametrize("stdio", [False, True])
async def test_a_wrong_answer_is_noticed(stdio: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "_batches", lambda call_once, _calls: _spoiled(call_once.__self__, monkeypatch))
    await call.measure("stateless", 1, stdio=stdio)


def _spoiled(pair: call.Pair, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pair.call()
    monkeypatch.setattr(pair._backend, "_result", b'"error":{"code":1,"message":"x"}')
    with pytest.raises(AssertionError):
        pair.call()
    monkeypatch.setattr(pair, "_result", b'"error":{"code":1,"message":"x"}')
    pair.call()
    monkeypatch.setattr(pair, "_call", b"GET / HTTP/1.1\r\nhost: elsewhere\r\n\r\n")
    with pytest.raises(AssertionError):
        pair.call()
    return []
