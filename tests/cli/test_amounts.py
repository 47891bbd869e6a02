"""Numbers, times and shares as they are typed."""

from __future__ import annotations

import click
import pytest

from only1mcp.cli.amounts import errors, number, seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("10s", 10), ("1.5s", 1.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), (" 3s ", 3), ("30.0", 30)],
)
def test_times(text: str, value: float) -> None:
    assert seconds(positive=True)(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-1", "nan", "inf", "1e3", "1d", "s", "1 0", "١s", "999999999999h", "31h30m", "1.s", "721h"]
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a time"):
        seconds(positive=True)(text)


def test_no_time_where_that_is_allowed() -> None:
    assert seconds(positive=False)("0") == 0


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "-1", "0", "x", "", "1001", "1e999", "0x10"])
def test_numbers_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="above 0 to 1,000, got"):
        number(0, 1000, positive=True)(text)


def test_numbers() -> None:
    assert number(0, 1000, positive=True)("0.5") == 0.5
    assert number(0, 1000)("0") == 0
    assert number(0, 1000)("1e3") == 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", (0, False)), ("10", (10, False)), ("1%", (1, True)), ("0.1%", (0.1, True)), ("100%", (100, True))],
)
def test_shares(text: str, value: tuple[float, bool]) -> None:
    assert errors(text) == value


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "1.5", "nan", "nan%", "1 %", "1%%"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected a number such as"):
        errors(text)
