from __future__ import annotations

from models.text_table import text_table


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert text_table(["a", "name"], [["123", "x"], ["4", ""]]).splitlines() == [
        "a    name",
        "---  ----",
        "123  x",
        "4",
    ]
