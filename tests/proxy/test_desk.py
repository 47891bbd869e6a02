"""What is told of the end of a session."""

from __future__ import annotations

from only1mcp.proxy.desk import Desk


def test_everybody_who_keeps_something_for_a_session_is_told_of_its_end() -> None:
    told: list[str] = []
    desk = Desk()
    desk.session_ended("nobody asked")
    desk.on_session_ended = told.append
    desk.session_ended("s")
    assert told == ["s"]
