from __future__ import annotations

from pathlib import Path

import pytest

from models.batch import ImageBatch, TextBatch
from tests.service.export.exporting import subject


@pytest.mark.parametrize("name", ["letters", "colours"])
def test_texts_are_checked_in_other_lengths_than_a_graph_is_traced_with(name: str, models_on_disk: Path) -> None:
    read = subject(models_on_disk, name)
    traced = read.example
    of_rows = [batch for rows in read.batches() for batch in read.tensors(rows)]
    if isinstance(traced, ImageBatch):
        assert len(of_rows) == len(read.golden_rows) + 2
        return
    assert isinstance(traced, TextBatch)
    others = of_rows[len(read.golden_rows) + 2 :]  # beside the golden texts, which may all have one length
    lengths = {batch.ids_BT.shape[1] for batch in others if isinstance(batch, TextBatch)}
    assert lengths - {traced.ids_BT.shape[1]}
    assert {batch.ids_BT.shape[0] for batch in others if isinstance(batch, TextBatch)} > {1}
