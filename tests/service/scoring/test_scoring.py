from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

from models.version import Reference
from service.client.items import CHUNK_ITEMS
from service.scoring.row import Row
from service.scoring.scoring import Scoring
from tests.service.scoring.asked import Asked


def test_only_a_few_more_rows_are_read_than_are_answered() -> None:
    concurrency, count, most = 3, 100 * CHUNK_ITEMS, 0
    read = 0

    def rows() -> Iterator[Row]:
        nonlocal read
        for number in range(count):
            read += 1
            yield Row(cells={"text": str(number)}, item=str(number))

    async def run() -> int:
        nonlocal most
        asked, answered = Asked(), 0
        scoring = Scoring(asked, asked, Reference(name="m"), top_k=1, truncate=False, concurrency=concurrency)
        async with aclosing(scoring.answers(rows(), begun=False)) as found:
            async for answers in found:
                most = max(most, read - answered)
                answered += len(answers)
        return answered

    assert asyncio.run(run()) == count
    assert CHUNK_ITEMS < most <= 2 * concurrency * CHUNK_ITEMS


def test_until_there_is_an_answer_whoever_gives_up_sooner_is_asked() -> None:
    opening, then = Asked(), Asked()

    async def run() -> None:
        scoring = Scoring(opening, then, Reference(name="m"), top_k=1, truncate=False, concurrency=2)
        texts = ["bad"] * CHUNK_ITEMS + ["one"] * 3 * CHUNK_ITEMS
        async with aclosing(scoring.answers((Row(cells={}, item=text) for text in texts), begun=False)) as found:
            first, *rest = [answers async for answers in found]
        assert len(first) == 2 * CHUNK_ITEMS
        assert [len(answers) for answers in rest] == [CHUNK_ITEMS, CHUNK_ITEMS]
        assert {answer.model for answer in first} == {"m:3"}

    asyncio.run(run())
    assert opening.requests[-1] == ("m", CHUNK_ITEMS)
    assert then.requests == [("m:3", CHUNK_ITEMS)] * 2
