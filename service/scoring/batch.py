"""A batch from its input to its last answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from models.errors import Conflict
from models.version import Reference
from service.scoring.columns import Columns
from service.scoring.folder import Folder
from service.scoring.output import Done, Lines, Output
from service.scoring.progress import progress_bar
from service.scoring.row import Row, Source
from service.scoring.run_record import RunRecord
from service.scoring.scoring import Asks, Scoring
from service.scoring.table import Table


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What to score, and how.

    Attributes:
        path: a folder of images, or a table.
        columns: of the table that the user named.
        output: a CSV or JSONL file; None stands for JSONL on standard output.
        overwrite: begin anew where there is something.
    """

    reference: Reference
    path: Path
    columns: Columns
    output: Path | None
    overwrite: bool
    top_k: int
    truncate: bool
    concurrency: int

    def source(self) -> Source:
        """What is to be scored.

        Raises:
            DatasetInvalid: it cannot be.
        """
        return Folder(self.path) if self.path.is_dir() else Table(self.path, self.columns)

    async def run(
        self, opening: Asks, client: Asks, console: Console, stopped: Callable[[], bool] = lambda: False
    ) -> Done:
        """Scores what has no answer yet.

        Args:
            opening: who is asked until there is an answer.
            client: who is asked then.
            console: where progress is shown.
            stopped: whether to end with what is written; a task that is cancelled may not hear of it while it is answered.

        Returns:
            All that is written now.
        """
        source = self.source()
        with closing(source.rows()) as rows:
            return await self._run(source, rows, opening, client, console, stopped)

    async def _run(
        self,
        source: Source,
        rows: Iterator[Row],
        opening: Asks,
        client: Asks,
        console: Console,
        stopped: Callable[[], bool],
    ) -> Done:
        if self.output is None:
            scoring = self._scoring(opening, client, self.reference)
            return await _write(scoring, source, rows, Lines(sys.stdout.buffer, source), Done(), console, stopped)
        record = RunRecord.of(str(self.reference), source.chosen, top_k=self.top_k, truncate=self.truncate)
        with Output(self.output, source, record, overwrite=self.overwrite) as output:
            done = output.resume(rows)
            scoring = self._scoring(opening, client, self._pinned(done))
            return await _write(scoring, source, rows, output, done, console, stopped)

    def _scoring(self, opening: Asks, client: Asks, reference: Reference) -> Scoring:
        return Scoring(
            opening,
            client,
            reference,
            top_k=self.top_k,
            truncate=self.truncate,
            concurrency=self.concurrency,
        )

    def _pinned(self, done: Done) -> Reference:
        """The version that has answered what is there."""
        if done.model is None:
            return self.reference
        there = Reference.parse(done.model)
        wanted = self.reference
        if there.name != wanted.name or wanted.number not in (None, there.number):
            raise Conflict(f"{self.output} has answers of {there}, not of {wanted}; --overwrite writes it anew")
        return there


async def _write(
    scoring: Scoring,
    source: Source,
    rows: Iterator[Row],
    output: Output | Lines,
    done: Done,
    console: Console,
    stopped: Callable[[], bool],
) -> Done:
    count, errors, model = done.rows, done.errors, done.model
    with progress_bar(console, count, source.count) as report:
        async with aclosing(scoring.answers(rows, begun=count > 0)) as found:
            async for answers in found:
                output.write(answers)
                count += len(answers)
                errors += sum(1 for answer in answers if answer.error)
                model = answers[-1].model
                report(count, errors)
                if stopped() and count != source.count:
                    raise asyncio.CancelledError
    return Done(rows=count, before=done.rows, errors=errors, model=model)
