from __future__ import annotations

import logging
from math import inf

import pytest

from service.worker.batch_limit import MOST_PATIENCE, PATIENCE, BatchLimit


def count_until_it_changes(limit: BatchLimit) -> int:
    before, batches = limit.tokens, 0
    while limit.tokens == before:
        limit.count()
        batches += 1
    return batches


def test_nothing_is_limited_before_something_did_not_fit() -> None:
    limit = BatchLimit("texts")
    for _ in range(10 * PATIENCE):
        limit.count()
    assert limit.tokens == inf


def test_half_of_what_did_not_fit_is_the_limit_and_half_of_that() -> None:
    limit = BatchLimit("texts")
    for tokens in (100, 50, 25):
        limit.too_large(tokens)
        assert limit.tokens == tokens // 2
    limit.too_large(100)  # a batch that was taken before this was known
    assert limit.tokens == 12


def test_after_a_while_more_is_tried_until_all_is_as_before() -> None:
    limit = BatchLimit("texts")
    limit.too_large(64)
    limit.too_large(32)
    limit.too_large(16)
    assert [(count_until_it_changes(limit), limit.tokens) for _ in range(3)] == [
        (PATIENCE, 16),
        (PATIENCE, 32),
        (PATIENCE, inf),
    ]


def test_what_fails_again_is_tried_more_and_more_seldom() -> None:
    limit = BatchLimit("texts")
    limit.too_large(64)
    waits = []
    for _ in range(9):
        waits.append(count_until_it_changes(limit))
        limit.too_large(64)
        assert limit.tokens == 32
    assert waits == [min(PATIENCE * 2**n, MOST_PATIENCE) for n in range(9)]


def test_each_change_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    limit = BatchLimit(("digest", "engine"))
    limit.too_large(64)
    for _ in range(PATIENCE - 1):
        limit.count()
    assert [record.fields["group"] for record in caplog.records] == ["('digest', 'engine')"]  # type: ignore[attr-defined]
    assert "at most 32 tokens" in caplog.text
    limit.count()
    assert len(caplog.records) == 2
    assert caplog.records[0].levelno == logging.WARNING
