"""How far a run is, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Report(Protocol):
    """Says how far it is."""

    def __call__(self, rows: int, errors: int) -> None:
        """Args: rows: that are written; errors: how many of them have one."""


@contextmanager
def progress_bar(console: Console, done: int, total: int) -> Iterator[Report]:
    """A bar with rows a second, rows with an error and the time left; nothing is drawn where there is no terminal.

    Args:
        done: how many rows were written before.
        total: how many there are.
    """
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=total, completed=done, note="")

        def report(rows: int, errors: int) -> None:
            progress.update(bar, completed=rows)
            speed = progress.tasks[bar].speed
            failed = f"{errors:,} failed" if errors else ""
            progress.update(bar, note=f"{speed:,.0f} rows/s  {failed}" if speed else failed)

        yield report
