"""Aliases of one model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.deployment import Deployment


@given(st.dictionaries(st.text(), st.integers(1, 10**9)), st.text(), st.integers(1, 10**9))
def test_setting_an_alias_changes_it_alone_and_in_a_copy(aliases: dict[str, int], alias: str, number: int) -> None:
    before = Deployment(aliases=aliases)
    after = before.with_alias(alias, number)
    assert after.aliases == {**aliases, alias: number}
    assert before.aliases == aliases
    assert Deployment.model_validate_json(after.model_dump_json()) == after


@pytest.mark.parametrize("document", ["[]", '{"alias": {}}', '{"aliases": {"a": "x"}}', '{"schema_version": 2}', ""])
def test_other_documents_are_refused(document: str) -> None:
    with pytest.raises(ValidationError):
        Deployment.model_validate_json(document)
