"""A wheel is used by an interpreter that it is for, or it is said why it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from wheels import installed
from wheels.environments import Failed, NotAvailable


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("only1mcp-1-cp311-cp311-manylinux_2_28_s390x.whl", "is not for"),
        ("only1mcp-1-cp311-cp311-win_amd64.whl", "is not for"),
        ("only1mcp-1-cp399-cp399-any.whl", "there is no python3.99"),
        ("only1mcp-1-cp399-cp399-musllinux_1_2_{}.whl", "another C library"),
    ],
)
def test_what_cannot_be_used_here(monkeypatch: pytest.MonkeyPatch, name: str, reason: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    with pytest.raises(NotAvailable, match=reason):
        installed.use(Path(name.format("x86_64")))


def test_what_is_no_wheel_of_ours() -> None:
    with pytest.raises(Failed, match="is no wheel of only1mcp"):
        installed.use(Path("other-1-py3-none-any.whl"))
