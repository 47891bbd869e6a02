"""Every official SDK as a client of every official SDK as a server, through the proxy, as docs/eras.md says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e import matrix
from tests.e2e.conftest import installed
from tests.e2e.matrix import Matrix, Party


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with matrix.started(installed(matrix.Installed.install), tmp_path_factory.mktemp("matrix")) as all_of_them:
        yield all_of_them


@pytest.mark.parametrize("client", matrix.PARTIES, ids=lambda client: client.name)
def test_a_client_has_everything_of_every_server(started: Matrix, client: Party) -> None:
    row = started.row(client)
    assert list(row["http"]) == [server.name for server in matrix.PARTIES]
    assert list(row["pipe"]) == [server.name for server in matrix.ON_PIPES]
    wrong = {name: matrix.problems(seen, client, name) for name, seen in {**row["http"], **row["pipe"]}.items()}
    assert {name: each for name, each in wrong.items() if each} == {}
    assert matrix.table_row(client, row) in matrix.PAGE.read_text().splitlines()
