"""Which log messages a level lets pass."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from only1mcp._fast import scan
from only1mcp.wire.levels import LEVELS, RANK, rank_of


def said(params: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": params})


def test_levels_rank_in_order() -> None:
    ranks = [rank_of(scan(said({"level": level, "data": 1}))) for level in LEVELS]
    assert ranks == sorted(ranks) == [RANK[level] for level in LEVELS]


@pytest.mark.parametrize("params", [{"level": "loud"}, {"level": ["info"]}, {"level": None}, {}])
def test_a_message_whose_level_is_not_known_passes_every_filter(params: Any) -> None:
    assert rank_of(scan(said(params))) > max(RANK.values())


def test_a_message_without_params_passes_too() -> None:
    assert rank_of(scan(b'{"jsonrpc":"2.0","method":"notifications/message"}')) > max(RANK.values())
