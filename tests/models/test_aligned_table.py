from __future__ import annotations

import pytest

from models.aligned_table import print_table, size


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["a", "name"], [["123", "x"], ["4", ""]])
    assert capsys.readouterr().out.splitlines() == ["a    name", "---  ----", "123  x", "4"]


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (86_400_000, "86 MB"), (2_500_000_000, "2.5 GB")],
)
def test_sizes_are_in_powers_of_ten(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text
