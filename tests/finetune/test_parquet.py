from __future__ import annotations

import io
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import parquet
from finetune.parquet import read_parquet
from finetune.rows import LONGEST, Rows
from finetune.table import read_tables
from models.errors import DatasetInvalid


def written(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def read(table: pa.Table) -> Rows:
    return read_parquet(io.BytesIO(written(table)), file="data.parquet")


def refusal(content: bytes) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        read_parquet(io.BytesIO(content), file="data.parquet")
    return caught.value


def test_cells_become_python_values() -> None:
    table = pa.table(
        {
            "text": pa.array(["a", None], pa.large_string()),
            "class": pa.array(["x", "y"]).dictionary_encode(),
            "score": pa.array([0.5, 2.0], pa.float32()),
            "price": pa.array([Decimal("1.25"), None], pa.decimal128(5, 2)),
            "count": pa.array([1, 2], pa.int8()),
            "kept": [True, False],
            "labels": [["p", "q"], []],
            "nested": [[["deep"], []], None],
            "record": [{"list": [1]}, {"list": [2]}],
        }
    )
    rows = read(table)
    assert rows.columns == tuple(table.column_names)
    assert [(row.line, row.cells) for row in rows.rows] == [
        (
            1,
            {
                "text": "a",
                "class": "x",
                "score": 0.5,
                "price": 1.25,
                "count": 1,
                "kept": True,
                "labels": ["p", "q"],
                "nested": [["deep"], []],
                "record": {"list": [1]},
            },
        ),
        (
            2,
            {
                "text": None,
                "class": "y",
                "score": 2.0,
                "price": None,
                "count": 2,
                "kept": False,
                "labels": [],
                "nested": None,
                "record": {"list": [2]},
            },
        ),
    ]


def test_rows_are_counted_across_batches_and_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_ROWS_AT_ONCE", 4)
    stream = io.BytesIO()
    pq.write_table(pa.table({"text": [str(index) for index in range(1, 12)]}), stream, row_group_size=3)
    rows = read_parquet(io.BytesIO(stream.getvalue()), file="data.parquet").rows
    assert [row.line for row in rows] == [int(str(row.cells["text"])) for row in rows] == list(range(1, 12))


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), pa.list_(pa.binary())])
def test_images_inside_the_file_are_not_read(kind: pa.DataType) -> None:
    value = [b"png"] if pa.types.is_list(kind) else b"png"
    rows = read(pa.table({"image": pa.array([value], kind), "label": ["x"]}))
    assert rows.columns == ("image", "label")
    assert rows.rows[0].cells == {"image": b"", "label": "x"}


def test_images_inside_the_file_are_refused_with_the_cure(tmp_path: Path) -> None:
    image = pa.array([{"bytes": b"png", "path": "1.png"}])  # as the datasets library writes them
    (tmp_path / "data.parquet").write_bytes(written(pa.table({"image": image, "label": ["x"]})))
    with pytest.raises(DatasetInvalid, match=r"^data.parquet:1: 'image' holds bytes; write each image to a file"):
        read_tables(tmp_path, {None: "data.parquet"})


def test_one_column_twice_is_refused() -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert "'text' appears twice" in refusal(written(table)).message


def test_an_endless_text_is_refused_with_its_row() -> None:
    error = refusal(written(pa.table({"text": ["a", "x" * (LONGEST + 1)]})))
    assert (error.file, error.line) == ("data.parquet", 2)


WHOLE = written(pa.table({"text": ["a", "b"] * 50, "labels": [["x"], []] * 50}))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"text,label\na,x\n", WHOLE[:-1], WHOLE[: len(WHOLE) // 2], WHOLE[4:]]
)
def test_what_is_no_whole_parquet_file_is_refused(content: bytes) -> None:
    assert "is no Parquet file or a damaged one, after 0 rows; write it again" in refusal(content).message


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_damaged_bytes_are_read_or_refused(place: int, damage: bytes) -> None:
    content = WHOLE[:place] + damage + WHOLE[place + len(damage) :]
    try:
        rows = read_parquet(io.BytesIO(content), file="data.parquet")
    except DatasetInvalid:
        return
    assert all(set(row.cells) == set(rows.columns) for row in rows.rows)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.tuples(TEXT, st.lists(st.lists(TEXT, max_size=3), max_size=3)), min_size=1, max_size=8))
def test_texts_and_nested_lists_are_read_back_verbatim(pairs: list[tuple[str, list[list[str]]]]) -> None:
    nested = pa.array([lists for _, lists in pairs], pa.list_(pa.list_(pa.string())))
    rows = read(pa.table({"text": [text for text, _ in pairs], "nested": nested}))
    assert [(row.cells["text"], row.cells["nested"]) for row in rows.rows] == pairs
