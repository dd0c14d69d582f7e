"""Progress bars with rate and time left, for work that takes more than a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Task as ProgressTask
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: ProgressTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


class ProgressReport(Protocol):
    """How far something is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Args: note: how it goes, in a few words."""


@contextmanager
def progress_bar(console: Console, description: str) -> Iterator[ProgressReport]:
    """A bar that starts with the first report and keeps standing when the work is done.

    Args:
        console: where it is drawn; nothing is drawn where that is no terminal.
        description: what is going on.

    Yields:
        A function to call with (done, total), and a note where there is more to say.
    """
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(description, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(bar, completed=done, total=total, note=note)

        yield report
