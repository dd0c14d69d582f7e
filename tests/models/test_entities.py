from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.entities import Entity, entities, is_tag


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("", []),
        ("O O", []),
        ("B-x", ["x 0 1"]),
        ("O B-x I-x I-x O", ["x 1 4"]),
        ("B-x B-x I-x", ["x 0 1", "x 1 3"]),
        ("B-x I-y I-y", ["x 0 1", "y 1 3"]),  # begun by an I- that continues nothing
        ("I-x O I-x I-x", ["x 0 1", "x 2 4"]),
        ("B-a-b I-a-b B-c", ["a-b 0 2", "c 2 3"]),
    ],
)
def test_runs_of_tags_are_entities(tags: str, found: list[str]) -> None:
    assert [" ".join(map(str, each)) for each in entities(tags.split())] == found


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 2), st.integers(1, 3)), max_size=6))
def test_what_is_written_is_read(runs: list[tuple[str, int, int]]) -> None:
    tags: list[str] = []
    wanted = []
    for label, gap, length in runs:
        tags += ["O"] * gap
        wanted.append(Entity(label, len(tags), len(tags) + length))
        tags += [f"B-{label}", *[f"I-{label}"] * (length - 1)]
    assert entities(tags) == wanted


def test_what_is_a_tag() -> None:
    assert all(map(is_tag, ["O", "B-x", "I-x", "B-B-", "I- "]))
    assert not any(map(is_tag, ["", "o", "x", "B-", "I", "B", "-x", "E-x"]))
