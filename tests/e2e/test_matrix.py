"""Every official SDK as a client of every official SDK as a server, through the proxy, as docs/eras.md says."""

from __future__ import annotations

import re

import pytest
from tests.e2e import matrix
from tests.e2e.conftest import installed
from tests.e2e.matrix import Party, Row


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[Party, Row]:
    with matrix.started(installed(matrix.Installed.install), tmp_path_factory.mktemp("matrix")) as started:
        return started.rows()


@pytest.mark.parametrize("client", matrix.PARTIES, ids=lambda client: client.name)
def test_a_client_has_everything_of_every_server(rows: dict[Party, Row], client: Party) -> None:
    row = rows[client]
    assert list(row.http) == [server.name for server in matrix.PARTIES]
    assert list(row.pipe) == [server.name for server in matrix.ON_PIPES]
    wrong = {name: matrix.problems(seen, client, name) for name, seen in {**row.http, **row.pipe}.items()}
    assert {name: each for name, each in wrong.items() if each} == {}
    assert proxied(matrix.table_row(client, row)) in map(proxied, matrix.PAGE.read_text().splitlines())


def proxied(line: str) -> str:
    """Return a row without what two SDKs can do alone, which is theirs."""
    return re.sub(r" \(alone: [^)]*\)", "", line)
