"""The commands with which the README says that Only1MCP is installed, for the tests that run them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def ways_to_install() -> list[list[str]]:
    """Return every command of the section, as words."""
    _, found, section = README.read_text(encoding="utf-8").partition("\n## Install\n")
    assert found
    section = section.partition("\n## ")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^    (\S.*)$", section, re.MULTILINE)]


def way_to_install(*start: str) -> list[str]:
    """Return the one command that begins with these words."""
    (found,) = (words for words in ways_to_install() if words[: len(start)] == list(start))
    return found
