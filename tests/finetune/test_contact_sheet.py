from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from finetune.contact_sheet import Picture, contact_sheet
from finetune.example import image_example
from tests.finetune.pictures import pixels

COLOURS = [(220, 20, 20), (20, 200, 20), (20, 20, 220), (200, 200, 20), (200, 20, 200)]


def pictures(directory: Path, count: int, *, size: tuple[int, int] = (60, 60)) -> list[Picture]:
    found = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", size, COLOURS[number % len(COLOURS)]).save(buffer, "PNG")
        (directory / f"{number}.png").write_bytes(buffer.getvalue())
        example = image_example(directory, Path(f"{number}.png"), label="a", file=f"{number}.png")
        found.append(Picture(example=example, lines=("labelled a", "predicted b")))
    return found


def test_pictures_stand_in_rows_of_four_in_their_order(tmp_path: Path) -> None:
    image = pixels(contact_sheet(pictures(tmp_path, 5)))
    centres = []
    for colour in COLOURS:
        rows, columns = np.nonzero((np.abs(image - colour) < 8).all(axis=2))
        centres.append((rows.mean(), columns.mean()))
    assert [row for row, _ in centres[:4]] == pytest.approx([centres[0][0]] * 4, abs=2)
    assert [column for _, column in centres[:4]] == sorted(column for _, column in centres[:4])
    assert centres[4][0] > centres[0][0]
    assert centres[4][1] == pytest.approx(centres[0][1], abs=2)


@pytest.mark.parametrize("size", [(600, 30), (30, 600), (1, 1)])
def test_a_picture_of_any_shape_is_shown_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    image = pixels(contact_sheet(pictures(tmp_path, 1, size=size)))
    rows, columns = np.nonzero((np.abs(image - COLOURS[0]) < 8).all(axis=2))
    shown = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    assert shown == pytest.approx(size[0] / size[1], rel=0.35)


def test_lines_may_hold_anything(tmp_path: Path) -> None:
    (one,) = pictures(tmp_path, 1)
    # A warning of matplotlib (a missing glyph, a formula that is none) would be an error here.
    for line in ("labelled 猫 $x^$", "\x00\n", "", "x" * 300):
        assert pixels(contact_sheet([Picture(example=one.example, lines=(line,))])).std() > 0
