"""What is printed: columns, width, and nothing that steers a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from only1mcp.cli.output import print_json, print_table, printable

HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202etxt.exe \u2028 \ud800\n\r\ttail"


def on_terminal(code: str, columns: int) -> str:
    """Return what the code prints on a terminal of that width."""
    ours, theirs = pty.openpty()
    try:
        env = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code], stdin=theirs, stdout=theirs, env=env, check=True, timeout=30)
        return os.read(ours, 65536).decode().replace("\r\n", "\n")
    finally:
        os.close(theirs)
        os.close(ours)


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "what"), [("a", "one"), ("long name", "")], empty="none")
    assert capsys.readouterr().out == "name       what\na          one\nlong name\n"


def test_wide_and_combining_characters_take_the_cells_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("k", "v"), [("日本", "1"), ("e\u0301", "2"), ("abcd", "3")], empty="none")
    assert capsys.readouterr().out == "k     v\n日本  1\ne\u0301     2\nabcd  3\n"


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [], empty="no tools", err=True)
    assert capsys.readouterr() == ("", "no tools\n")


def test_one_endless_cell_does_not_push_the_others_away(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "what"), [("x" * 5000, "long"), ("a", "short")], empty="")
    header, long, short = capsys.readouterr().out.splitlines()
    assert long == "x" * 5000 + "  long"  # into a pipe nothing is lost
    assert len(short) < 80
    assert header.index("what") == short.index("short")


def test_a_terminal_gets_lines_of_its_width() -> None:
    code = (
        "from only1mcp.cli.output import print_table\n"
        "print_table(('a', 'b'), [('x' * 30, 'y'), ('日本語' * 9, ''), ('s', 't')], empty='')"
    )
    assert on_terminal(code, 10).splitlines()[1:3] == ["xxxxxxxxx…", "日本語日…"]
    assert on_terminal(code, 1).splitlines() == ["…"] * 4


def test_controls_do_not_reach_a_table_or_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [(HOSTILE,)], empty="")
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert "tail" in shown
    assert printable("a\x1bb\n", keep="\n") == "a\ufffdb\n"


def test_json_says_the_same_without_controls(capsys: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE.replace("\ud800", "")
    print_json({"text": text, "é": "日本"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"text": text, "é": "日本"}
    assert shown.replace("\n", "").isprintable()


def test_text_of_a_tool_is_raw_in_a_pipe_and_harmless_on_a_terminal() -> None:
    code = "from only1mcp.cli.output import print_text\nprint_text('a\\x1b[31m\\tb\\nc\\x07')"
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=30)
    assert piped.stdout == b"a\x1b[31m\tb\nc\x07\n"
    assert on_terminal(code, 80).expandtabs() == "a\ufffd[31m\tb\nc\ufffd\n".expandtabs()
