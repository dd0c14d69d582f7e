"""What is kept loaded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InvalidParameter
from models.version_policy import VersionPolicy

NUMBERS = st.sets(st.integers(1, 10**9 - 1), max_size=20)


@pytest.mark.parametrize(
    ("text", "kept"),
    [("latest:1", {9}), ("latest:2", {4, 9}), ("latest:5", {1, 2, 4, 9}), ("all", {1, 2, 4, 9}), ("1,4,7", {1, 4})],
)
def test_a_policy_keeps_the_newest_or_all_or_some(text: str, kept: set[int]) -> None:
    assert VersionPolicy.parse(text).kept({4, 1, 9, 2}) == kept


def test_the_latest_two_are_kept_without_a_word() -> None:
    assert str(VersionPolicy()) == "latest:2"


@given(
    st.one_of(
        st.just("all"),
        st.integers(1, 10**9 - 1).map(lambda count: f"latest:{count}"),
        st.sets(st.integers(1, 10**9 - 1), min_size=1).map(lambda numbers: ",".join(map(str, sorted(numbers)))),
    ),
    NUMBERS,
)
def test_a_policy_prints_as_it_is_read(text: str, numbers: set[int]) -> None:
    policy = VersionPolicy.parse(text)
    assert str(policy) == text
    assert policy.kept(numbers) <= numbers


@pytest.mark.parametrize(
    "text",
    ["", "latest", "latest:", "latest:0", "latest:-1", "latest:01", "latest:²", "0", "1,", "1;2", "none", "ALL", "1 2"],
)
def test_other_words_are_refused_with_the_cure(text: str) -> None:
    with pytest.raises(InvalidParameter, match="latest:N, all, or version numbers"):
        VersionPolicy.parse(text)
