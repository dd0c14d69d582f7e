"""Small pictures with a few words below each, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.canvas import GREY, PALE, draw, legible
from finetune.example import Example
from models.errors import GraftworkError

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = 4

_SIDE = 192  # pixels
_MOST_LETTERS = 34


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image on disk, and what stands below it."""

    example: Example
    lines: Sequence[str]


def contact_sheet(pictures: Sequence[Picture]) -> bytes:
    """Pictures in rows of four, whole, in their order.

    A file that cannot be read any more leaves an empty frame. Characters that matplotlib's font lacks become ``?``.

    Args:
        pictures: one at least.
    """
    count = len(pictures)
    rows, columns = -(-count // COLUMNS), min(COLUMNS, count)
    lines = max(len(picture.lines) for picture in pictures)
    with draw(width=1.9 * columns + 0.3, height=(1.8 + 0.17 * lines) * rows + 0.1) as (figure, png):
        for number, picture in enumerate(pictures):
            axes = figure.add_subplot(rows, columns, number + 1)
            thumbnail = _thumbnail(picture.example)
            if thumbnail is None:
                axes.text(0.5, 0.5, "cannot be read", color=GREY, ha="center", va="center", transform=axes.transAxes)
                axes.set_box_aspect(1)
            else:
                axes.imshow(thumbnail)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set(visible=True, color=PALE)
            axes.set_xlabel("\n".join(map(_legible, picture.lines)), fontsize=8, parse_math=False)
        return png()


def _thumbnail(example: Example) -> Image.Image | None:
    from models.image import EncodedImage

    try:
        image = EncodedImage(example.read_bytes()).decode(at_least=(_SIDE, _SIDE))
    except GraftworkError:  # it was there when the model read it
        return None
    image.thumbnail((_SIDE, _SIDE))
    return image


def _legible(line: str) -> str:
    return (
        legible(line) or legible("".join(letter if legible(letter) or letter == " " else "?" for letter in line)) or ""
    )
