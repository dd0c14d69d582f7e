"""Progress bars with rate and time left, for work that takes more than a moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.progress import Task as ProgressTask
from rich.table import Column
from rich.text import Text

_WIDE = 100  # columns from which descriptions are padded, so that bars start below each other


class _Rate(ProgressColumn):
    def render(self, task: ProgressTask) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text()
        shown = f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
        return Text(shown, style="progress.data.speed")


class _Time(ProgressColumn):
    """How long it will still take; in the end how long it took."""

    max_refresh = 0.5  # figures that change faster cannot be read

    def render(self, task: ProgressTask) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        if seconds is None:
            return Text()
        minutes, seconds = divmod(int(seconds), 60)
        clock = f"{minutes}:{seconds:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        return Text(f"in {clock}" if task.finished else f"{clock} left", style="progress.remaining")


class ProgressReport(Protocol):
    """How far something is."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Args: note: how it goes, in a few words."""


@contextmanager
def progress_bar(console: Console, description: str) -> Iterator[ProgressReport]:
    """A bar that moves with the first report, and keeps standing when the work is done, if there was any.

    It is a line of at most the console's width: where that is little, the bar gets shorter, and no figure is cut.

    Args:
        console: where it is drawn; nothing is drawn where that is no terminal.
        description: what is going on.

    Yields:
        A function to call with (done, total), and a note where there is more to say.
    """
    columns = (
        TextColumn("{task.description:<24}" if console.width >= _WIDE else "{task.description}", markup=False),
        BarColumn(table_column=Column(min_width=4)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Rate(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False),
        _Time(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task(description, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(bar, completed=done, total=total, note=note)

        try:
            yield report
        finally:
            if progress.tasks[bar].total is None:  # there was nothing to do
                progress.update(bar, visible=False)
