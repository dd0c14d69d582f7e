from __future__ import annotations

from datetime import date

import pytest

from finetune.cells import Cell, read_cell
from finetune.columns import Columns
from finetune.example import Split
from finetune.rows import Row
from models.errors import DatasetInvalid
from models.task import Task

PLAIN = Columns(modality="text", content="text", label="label", split="split", group="who")


def cell(
    columns: Columns = PLAIN, task: Task = Task.SINGLE_LABEL, of_table: Split | None = None, **cells: object
) -> Cell:
    return read_cell(Row(line=7, cells=cells), columns, task, split=of_table, file="data.jsonl")


def test_a_row_is_what_its_columns_say() -> None:
    assert cell(text="a", label="x", split="dev", who="ada", other=1) == Cell(
        split="val", content="a", label="x", group="ada", kind="string", repaired=False, file="data.jsonl", line=7
    )


def test_the_split_of_a_table_outweighs_a_column() -> None:
    assert cell(of_table="test", text="a", label="x", split="train").split == "test"


def test_a_pair_is_two_contents() -> None:
    columns = Columns(modality="text", content="left", text_pair="right", label="label")
    assert cell(columns, left="a", right=None, label="x").content == ("a", "")
    with pytest.raises(DatasetInvalid, match=r"^data.jsonl:7: 'right' is missing"):
        cell(columns, left="a", label="x")


def test_words_are_joined_and_their_tags_repaired() -> None:
    found = cell(
        task=Task.TOKEN_CLASSIFICATION, of_table="train", text=["in", "Rome"], label=["O", "I-place"], who=None
    )
    assert (found.content, found.label, found.repaired) == ("in Rome", ("O", "B-place"), True)


@pytest.mark.parametrize("value", [date(2026, 1, 1), b"train", 3, None])
def test_what_names_no_split_is_refused(value: object) -> None:
    with pytest.raises(DatasetInvalid, match=r"^data.jsonl:7: 'split' must be train, val or test, not"):
        cell(text="a", label="x", split=value)


@pytest.mark.parametrize(("label", "kind"), [(1, "number"), (0.5, "number"), (True, "boolean"), ("a", "string")])
def test_the_kind_of_a_label_is_remembered(label: object, kind: str) -> None:
    assert cell(of_table="train", text="a", label=label).kind == kind
