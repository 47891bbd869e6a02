"""Skips what needs a tool or a registry that this machine does not have, and says which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from wheels.environments import NotAvailable

Made = TypeVar("Made")


def available(make: Callable[..., Made], *arguments: Any) -> Made:
    try:
        return make(*arguments)
    except NotAvailable as reason:
        pytest.skip(str(reason))
