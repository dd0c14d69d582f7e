"""What all figures of a report share: a style, colours, and a way to PNG bytes.

matplotlib's object interface is used, never pyplot: nothing global is kept, and no display is needed. What is drawn alike
gives equal bytes: the style is matplotlib's default whatever the user configured, its own font is used, and the PNG holds
no date and no version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LETTERS = 24

# Okabe and Ito 2008, "Color universal design": told apart with every kind of colour vision.
SKY, VERMILLION = "#56B4E9", "#D55E00"
INK, GREY, PALE = "#222222", "#8A8A8A", "#E6E6E6"

_STYLE = {
    "figure.dpi": 120,
    "agg.path.chunksize": 10_000,  # a line of 100,000 points is too much at once
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def draw(*, width: float, height: float) -> Iterator[tuple[Figure, Callable[[], bytes]]]:
    """A figure of a size in inches, and the function that renders it; both are for use inside the context only."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = FigureCanvasAgg(figure)

        def png() -> bytes:
            buffer = BytesIO()
            canvas.print_png(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
            return buffer.getvalue()

        yield figure, png


def title(figure: Figure, heading: str, subtitle: str) -> None:
    """A heading above all, and a line below it."""
    figure.suptitle(f"{heading}\n{subtitle}", x=0.02, ha="left", fontsize=10, parse_math=False)


def legible(text: str, most: int = MOST_LETTERS) -> str | None:
    """The text, without its middle where it is long; None where the font lacks a character (matplotlib would warn and draw boxes)."""
    if not text.strip() or not _characters().issuperset(text):
        return None
    tail = most * 2 // 5
    return text if len(text) <= most else f"{text[: most - 2 - tail]}…{text[-tail - 1 :]}"


def drawable(labels: Sequence[str]) -> list[str]:
    """Labels as far as they are legible; of the others the number, from 0."""
    return [legible(label) or f"class {number}" for number, label in enumerate(labels)]


@cache
def _characters() -> frozenset[str]:
    import matplotlib
    from matplotlib.font_manager import get_font

    font = get_font(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"))
    return frozenset(map(chr, font.get_charmap()))
