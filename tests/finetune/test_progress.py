from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import rich.progress
from rich.console import Console

from finetune.progress import ProgressReport, progress_bar


def drawn(width: int, description: str, work: Callable[[ProgressReport], None]) -> str:
    """The bar as it stands in the end."""
    console = Console(record=True, width=width, force_terminal=True, file=io.StringIO())
    with progress_bar(console, description) as progress:
        work(progress)
    recorded = console.export_text().rstrip("\n")
    return recorded[recorded.rindex(description) :]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds since the start, which a test moves on."""
    now = [0.0]

    def with_clock(self: rich.progress.Progress, *columns: object, **options: object) -> None:
        original(self, *columns, get_time=lambda: now[0], auto_refresh=False, **options)

    original = rich.progress.Progress.__init__
    monkeypatch.setattr(rich.progress.Progress, "__init__", with_clock)
    return now


def test_a_bar_shows_counts_rate_and_time_on_a_terminal(clock: list[float]) -> None:
    def count(progress: ProgressReport) -> None:
        for done in range(1, 4):
            clock[0] += 0.5
            progress(done, 3)

    line = drawn(100, "counting", count)
    assert line.startswith("counting ")
    for words in ("3/3", "2.0/s", "in 0:01"):
        assert words in line


@pytest.mark.parametrize(
    ("seconds", "rate", "left"),
    [(0.02, "50/s", "0:11 left"), (0.5, "2.0/s", "4:11 left"), (4.0, "4.0 s each", "33:28 left")],
)
@pytest.mark.parametrize("width", [80, 120])
def test_training_is_read_at_a_glance(clock: list[float], width: int, seconds: float, rate: str, left: str) -> None:
    def train(progress: ProgressReport) -> None:
        for done in range(1, 124):
            clock[0] += seconds
            progress(done, 625, "loss 0.123  best score 0.912")

    line = drawn(width, "training (lora)", train)
    assert len(line.rstrip()) <= width
    assert "…" not in line
    for words in ("training (lora)", "123/625", rate, "loss 0.123  best score 0.912", left):
        assert words in line
    assert line.count("━") >= 4


def test_a_small_screen_costs_the_bar_and_no_figure(clock: list[float]) -> None:
    def extract(progress: ProgressReport) -> None:
        for done in (9_000, 9_500):
            clock[0] += 1
            progress(done, 10_000)

    line = drawn(72, "extracting features (int8)", extract)
    assert "extracting features (int8)" in line
    assert "9500/10000 500/s" in line
    assert line.rstrip().endswith("0:01 left")


def test_nothing_is_drawn_into_a_pipe() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output), "counting") as progress:
        progress(1, 1)
    assert output.getvalue().strip() == ""


def test_nothing_is_left_of_a_bar_without_work() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output, force_terminal=True, width=80), "counting"):
        pass
    last = output.getvalue().split("\x1b[2K")[-1]
    assert "counting" in output.getvalue()
    assert "counting" not in last
