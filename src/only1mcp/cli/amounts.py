"""Numbers, times and shares as they are typed; each function reads one kind of text for `click.option(type=...)`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

import click

MAX_SECONDS: Final = 30 * 86400.0

_UNITS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def number(low: float, high: float, *, positive: bool = False) -> Callable[[str], float]:
    """Return what reads a finite number within bounds; click's own ranges let NaN pass."""
    bounds = f"{'above' if positive else 'from'} {low:,g} to {high:,.15g}"

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high) or (positive and value == 0):
            raise click.BadParameter(f"expected a number {bounds}, got {text!r:.40}")
        return value

    return read


def seconds(*, positive: bool) -> Callable[[str], float]:
    """Return what reads a time such as `10`, `10s`, `500ms`, `2m`, `1h`."""

    def read(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)(ms|s|m|h|)", text.strip(), re.ASCII)
        value = float(found[1]) * _UNITS[found[2]] if found is not None else math.nan
        if not (0 <= value <= MAX_SECONDS) or (positive and value == 0):
            raise click.BadParameter(f"expected a time such as 10s, 500ms or 2m, at most 30 days, got {text!r:.40}")
        return value

    return read


def errors(text: str) -> tuple[float, bool]:
    """Read a number of failures, or a share of all requests such as `1%`."""
    found = re.fullmatch(r"([0-9]{1,12})|([0-9]{1,3}(?:\.[0-9]{1,9})?)%", text.strip(), re.ASCII)
    if found is None or (found[2] is not None and float(found[2]) > 100):
        raise click.BadParameter(f"expected a number such as 10 or a share such as 0.1%, got {text!r:.40}")
    return (float(found[1]), False) if found[1] is not None else (float(found[2]), True)
