"""Asks about row after row, many at a time, and gives the answers in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeAlias

from models.errors import GraftworkError, InputError, InvalidInstances, RequestTimeout
from models.version import Reference
from service.client import Item, Prediction, Predictions
from service.client.items import CHUNK_ITEMS
from service.scoring.answer import Answer
from service.scoring.row import Row

MOST_REFUSED = 1000  # rows at the start, none of which is answered: then something else is wrong than the rows
MOST_INTERNAL = 10  # rows one after the other on each of which the server fails: then it is the server

Outcome: TypeAlias = Prediction | GraftworkError


class Asks(Protocol):
    """`AsyncClient`, as far as it is needed here."""

    async def predict(
        self, reference: Reference, items: Sequence[Item], *, top_k: int | None, truncate: bool
    ) -> Predictions:
        """See there."""
        ...


class Scoring:
    """One run over the rows of an input.

    Args:
        opening: who is asked until there is an answer; gives up sooner, as there may be no server at all.
        asks: who is asked then.
        reference: of the model. All rows are answered by the version that answers first.
        top_k: how many scores to list.
        truncate: cut texts that are too long.
        concurrency: how many requests are under way at a time.
    """

    def __init__(
        self,
        opening: Asks,
        asks: Asks,
        reference: Reference,
        *,
        top_k: int,
        truncate: bool,
        concurrency: int,
    ) -> None:
        self._opening = opening
        self._asks = asks
        self._reference = reference
        self._top_k = top_k
        self._truncate = truncate
        self._concurrency = concurrency
        self._answered = False
        self._internal = 0

    async def answers(self, rows: Iterator[Row], *, begun: bool) -> AsyncGenerator[Sequence[Answer], None]:
        """The answers to some rows after the other; reads only a few more rows than are being asked about.

        Args:
            rows: those that have no answer yet.
            begun: whether rows before them have one.

        Raises:
            GraftworkError: the service cannot be reached, refuses all rows alike, or fails on row after row.
        """
        self._answered = begun
        chunks = iter(lambda: list(islice(rows, CHUNK_ITEMS)), [])
        opening: list[Answer] = []
        for chunk in chunks:
            opening += await self._answers(self._opening, chunk)
            if begun or not all(answer.error for answer in opening):
                break
            _check_refusals(opening)
        if opening:  # with the version that has turned out to answer
            yield [Answer(row=each.row, outcome=each.outcome, model=str(self._reference)) for each in opening]
        gate = asyncio.Semaphore(self._concurrency)
        pending: deque[asyncio.Task[Sequence[Answer]]] = deque()
        try:
            for chunk in chunks:
                pending.append(asyncio.create_task(self._gated(gate, chunk)))
                if len(pending) >= 2 * self._concurrency:  # so that one slow request does not hold up the others
                    yield await pending.popleft()
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _gated(self, gate: asyncio.Semaphore, rows: Sequence[Row]) -> Sequence[Answer]:
        async with gate:
            return await self._answers(self._asks, rows)

    async def _answers(self, asks: Asks, rows: Sequence[Row]) -> Sequence[Answer]:
        items = [row.item for row in rows if not isinstance(row.item, InputError)]
        found = iter(await self._outcomes(asks, items))
        outcomes = [row.item if isinstance(row.item, InputError) else next(found) for row in rows]
        model = str(self._reference)
        return [Answer(row=row, outcome=outcome, model=model) for row, outcome in zip(rows, outcomes, strict=True)]

    async def _outcomes(self, asks: Asks, items: Sequence[Item]) -> Sequence[Outcome]:
        """What becomes of each item: where one is refused or fails, each half is asked for again, until it is alone."""
        if not items:
            return []
        try:
            found = await asks.predict(self._reference, items, top_k=self._top_k, truncate=self._truncate)
        except RequestTimeout:  # no fault of a row
            raise
        except GraftworkError as error:
            internal = type(error) is GraftworkError  # an error of the server, which this row alone may meet
            if not internal and not isinstance(error, InputError):
                raise
            if len(items) == 1:
                if internal:
                    self._count_internal(error)
                return [error]
            middle = len(items) // 2
            return [
                *await self._outcomes(asks, items[:middle]),
                *await self._outcomes(asks, items[middle:]),
            ]
        self._reference = Reference(name=found.model, number=found.version)
        self._answered = True
        self._internal = 0
        return found.predictions

    def _count_internal(self, error: GraftworkError) -> None:
        """Raises where it is the server that fails, and not a row."""
        self._internal += 1
        if not self._answered or self._internal >= MOST_INTERNAL:
            raise error


def _check_refusals(answers: Sequence[Answer]) -> None:
    """Raises where it is not the rows that are wrong, but what is done with them."""
    errors = [answer.outcome for answer in answers if isinstance(answer.outcome, GraftworkError)]
    if all(isinstance(error, InvalidInstances) for error in errors):  # another kind of input than the model reads
        raise errors[0]
    if len(errors) >= MOST_REFUSED:
        raise type(errors[0])(f"not one of the first {len(errors):,} rows is answered: {errors[0].message}")
