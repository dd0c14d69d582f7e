from __future__ import annotations

import io

from rich.console import Console

from finetune.progress import progress_bar


def test_a_bar_shows_rate_and_counts_on_a_terminal() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output, force_terminal=True, width=100), "counting") as progress:
        for done in range(1, 4):
            progress(done, 3)
    assert "counting" in output.getvalue()
    assert "3/3" in output.getvalue()


def test_nothing_is_drawn_into_a_pipe() -> None:
    output = io.StringIO()
    with progress_bar(Console(file=output), "counting") as progress:
        progress(1, 1)
    assert output.getvalue().strip() == ""
