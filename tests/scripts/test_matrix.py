from __future__ import annotations

import pytest
from scripts.matrix import written
from tests.e2e import matrix


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = f"before\n\n{matrix.BEGIN}\n| old |\n{matrix.END}\n\nafter\n"
    assert written(page, ["| new |"]) == f"before\n\n{matrix.BEGIN}\n| new |\n{matrix.END}\n\nafter\n"


@pytest.mark.parametrize("page", ["", f"{matrix.BEGIN}\n", f"{matrix.END}\n{matrix.BEGIN}\n"])
def test_a_page_without_a_place_for_it_is_left_as_it_is(page: str) -> None:
    with pytest.raises(ValueError, match="no place"):
        written(page, [])


def test_the_page_has_the_sdks_and_clients_of_the_matrix() -> None:
    lines = matrix.PAGE.read_text().splitlines()
    begin, end = lines.index(matrix.BEGIN), lines.index(matrix.END)
    assert lines[begin + 1 : begin + 3] == matrix.table_head()
    assert [line.split(" | ")[0] for line in lines[begin + 3 : end]] == [f"| {each.title}" for each in matrix.PARTIES]
