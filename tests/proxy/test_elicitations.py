"""Ids of elicitations: ours for theirs, told to the one session that is meant, and no more than there is room for."""

from __future__ import annotations

import pytest
from tests.proxy.exchanges import exchange_of, snapshot_of

from only1mcp.proxy import elicitations
from only1mcp.proxy.elicitations import MAX_ID_CHARS, MAX_OF_SESSION, Elicitations


def test_each_session_has_ids_of_its_own_and_keeps_them() -> None:
    known = Elicitations()
    ours = known.give("b", "1", "s", None)
    assert known.give("b", "1", "s", None) == ours
    others = {known.give("b", "1", "t", None), known.give("c", "1", "s", None), known.give("b", "2", "s", None)}
    assert len({ours, *others}) == 4
    assert len(known) == 4


def test_an_end_is_told_once_and_to_the_session_that_is_meant() -> None:
    known = Elicitations()
    ours = known.give("b", "1", "s", None)
    for backend, theirs, owner in (("c", "1", None), ("b", "2", None), ("b", "1", "t")):
        assert known.take(backend, theirs, owner) is None
    found = known.take("b", "1", None)
    assert found is not None
    assert (found[0], found[1].id) == ("s", ours)
    assert known.take("b", "1", None) is None
    assert len(known) == 0


def test_what_several_could_be_meant_by_is_nobodys_unless_an_instance_says_it() -> None:
    known = Elicitations()
    known.give("b", "1", "s", None)
    ours = known.give("b", "1", "t", None)
    assert known.take("b", "1", None) is None
    found = known.take("b", "1", "t")
    assert found is not None
    assert (found[0], found[1].id) == ("t", ours)
    known.ended("s")
    known.ended("s")
    assert len(known) == 0


async def test_a_call_that_is_over_is_not_held() -> None:
    known = Elicitations()
    exchange, _ = exchange_of(snapshot_of())
    other, _ = exchange_of(snapshot_of())
    known.give("b", "1", "s", exchange)
    known.give("b", "2", "s", other)
    known.over("s", exchange)
    known.over("unheard of", exchange)
    for theirs, held in (("1", None), ("2", other)):
        found = known.take("b", theirs, None)
        assert found is not None
        assert found[1].exchange is held


def test_there_is_a_bound_for_a_session_and_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Elicitations()
    for number in range(MAX_OF_SESSION + 1):
        known.give("b", str(number), "s", None)
    assert len(known) == MAX_OF_SESSION
    assert known.take("b", "0", None) is None
    monkeypatch.setattr(elicitations, "MAX_ELICITATIONS", MAX_OF_SESSION)
    known.give("b", "x", "t", None)
    assert len(known) == MAX_OF_SESSION
    assert known.take("b", "1", None) is None
    assert known.give("b", "y" * (MAX_ID_CHARS + 1), "t", None)
    assert len(known) == MAX_OF_SESSION
