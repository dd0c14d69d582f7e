"""Aliases of one model, and where they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.deployment import MOST_EARLIER, Deployment

NUMBERS = st.integers(1, 10**9)


@given(st.dictionaries(st.text(), NUMBERS), st.text(), NUMBERS)
def test_setting_an_alias_changes_it_alone_and_in_a_copy(aliases: dict[str, int], alias: str, number: int) -> None:
    before = Deployment(aliases=aliases)
    after = before.with_alias(alias, number)
    assert after.aliases == {**aliases, alias: number}
    assert before.aliases == aliases
    assert Deployment.model_validate_json(after.model_dump_json()) == after


@given(st.lists(NUMBERS, min_size=1, max_size=MOST_EARLIER + 5))
def test_rolling_back_goes_the_way_of_the_promotions_in_reverse(promoted: list[int]) -> None:
    deployment = Deployment()
    for number in promoted:
        deployment = deployment.with_alias("champion", number)
    way = [number for index, number in enumerate(promoted) if index == 0 or promoted[index - 1] != number]
    back = [deployment.aliases["champion"]]
    while (earlier := deployment.rolled_back("champion", frozenset(promoted))) is not None:
        deployment = earlier
        back.append(deployment.aliases["champion"])
    assert back == way[::-1][: MOST_EARLIER + 1]


def test_versions_that_are_gone_are_passed_over() -> None:
    deployment = Deployment()
    for number in (1, 2, 3, 4):
        deployment = deployment.with_alias("champion", number)
    back = deployment.rolled_back("champion", frozenset({1, 4}))
    assert back is not None
    assert back.aliases == {"champion": 1}
    assert back.rolled_back("champion", frozenset({1, 4})) is None


def test_an_alias_that_is_removed_leaves_the_others_and_forgets_its_past() -> None:
    deployment = Deployment().with_alias("a", 1).with_alias("b", 1).with_alias("a", 2)
    left = deployment.without_alias("a")
    assert left.aliases == {"b": 1}
    assert left.rolled_back("a", frozenset({1, 2})) is None
    assert left.without_alias("a") == left


@pytest.mark.parametrize(
    "document",
    [
        "[]", '{"alias": {}}', '{"aliases": {"a": "x"}}', '{"schema_version": 1}', '{"schema_version": 3}',
        '{"keep": "two"}', '{"earlier": {"a": 1}}', "",
    ],
)  # fmt: skip
def test_other_documents_are_refused(document: str) -> None:
    with pytest.raises(ValidationError):
        Deployment.model_validate_json(document)
