"""Marks the scale tests, and shows what they measured at the end of the run.

How much they do is for two cores in a minute and a half; ONLY1MCP_SCALE=full, or a variable for each of the numbers in
`stage.Numbers`, asks for more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.scale.stage import Numbers
from tests.scale.stage import numbers as numbers_of_this_run

HERE = Path(__file__).parent
TEST_TIMEOUT_S = 300
MEASURED = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(MEASURED, []):
        terminalreporter.section("scale")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def numbers() -> Numbers:
    return numbers_of_this_run()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a line for the summary of the run."""
    lines = request.config.stash.setdefault(MEASURED, [])
    return lambda line: lines.append(f"{request.node.name}: {line}")
