from __future__ import annotations

import codecs
import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.rows import LONGEST, Rows, decoded_lines, read_rows
from models.errors import DatasetInvalid


def rows(content: str | bytes, file: str = "train.csv", encoding: str | None = None) -> Rows:
    content = content.encode() if isinstance(content, str) else content
    return read_rows(io.BytesIO(content), file=file, encoding=encoding)


def cells(table: Rows) -> list[dict[str, object]]:
    return [row.cells for row in table.rows]


def refusal(content: str | bytes, file: str = "train.csv", encoding: str | None = None) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as caught:
        rows(content, file, encoding)
    assert caught.value.file == file
    return caught.value


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_delimiter_and_line_end_are_recognised(delimiter: str, end: str) -> None:
    table = rows(end.join([f"text{delimiter}label", f"good day{delimiter}1", f"bad day{delimiter}0", ""]))
    assert table.columns == ("text", "label")
    assert cells(table) == [{"text": "good day", "label": "1"}, {"text": "bad day", "label": "0"}]
    assert [row.line for row in table.rows] == [2, 3]


def test_tsv_keeps_its_commas() -> None:
    assert cells(rows("a,b\tlabel\nx, y\tz\n", "train.tsv")) == [{"a,b": "x, y", "label": "z"}]


def test_a_row_is_named_by_the_line_it_starts_on() -> None:
    table = rows('text,label\n\n"two\nlines",a\nlast,b\n')
    assert [(row.line, row.cells["text"]) for row in table.rows] == [(3, "two\nlines"), (5, "last")]


def test_formula_cells_are_only_text() -> None:
    assert cells(rows("text,label\n=cmd(),a\n")) == [{"text": "=cmd()", "label": "a"}]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("", None, "is empty"),
        ("\n \n", None, "is empty"),
        ("text,label,text\n", 1, "'text' appears twice"),
        ("text,label\na,b\na,b,c\n", 3, "has 3 fields where the header has 2"),
        ("text,label\na\n", 2, "has 1 field where"),
        ('text,label\na,b\n"a"b,c\n', 3, "write a quote inside one"),
        ('text,label\na,b\n"never\nclosed,c\nx,y\n', 3, "noticed on line 5"),
        (f"text,label\na,b\n{'x' * (LONGEST + 1)},c\n", 3, "longer than"),
        ('text,label\na,b\n"' + ("x" * 999 + "\n") * (LONGEST // 1000 + 10) + '",c\n', 3, "field larger than"),
    ],
)
def test_malformed_csv_is_refused_with_its_line(content: str, line: int | None, words: str) -> None:
    error = refusal(content)
    assert error.line == line
    assert words in error.message


def test_the_field_limit_of_the_process_is_put_back() -> None:
    before = csv.field_size_limit()
    rows("text,label\na,b\n")
    assert csv.field_size_limit() == before
    refusal('text,label\n"a,b\n')
    assert csv.field_size_limit() == before


def test_a_field_longer_than_the_limit_of_the_process_is_read() -> None:
    long = "x" * (csv.field_size_limit() + 1)
    assert cells(rows(f"text,label\n{long},a\n")) == [{"text": long, "label": "a"}]


@pytest.mark.parametrize(
    "encoded",
    [
        codecs.BOM_UTF8 + "text,label\né,ü\n".encode(),
        "text,label\né,ü\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "text,label\né,ü\n".encode("utf-16-be"),
        "text,label\né,ü\n".encode("utf-32"),
    ],
)
def test_a_byte_order_mark_names_the_encoding(encoded: bytes) -> None:
    assert cells(rows(encoded)) == [{"text": "é", "label": "ü"}]


def test_a_byte_order_mark_is_no_part_of_the_header_when_the_encoding_is_named() -> None:
    assert rows(codecs.BOM_UTF8 + b"text,label\n", encoding="utf-8").columns == ("text", "label")


def test_latin_1_is_refused_with_its_place_and_read_when_named() -> None:
    encoded = "text,label\nplain,a\ncafé,b\n".encode("latin-1")
    error = refusal(encoded)
    assert error.line == 3
    assert "0xE9 at column 4" in error.message
    assert "--encoding latin-1" in error.message
    assert cells(rows(encoded, encoding="latin-1"))[1]["text"] == "café"


def test_utf_16_without_its_mark_is_refused_and_read_when_named() -> None:
    encoded = "text,label\nx,a\n".encode("utf-16-le")
    assert "--encoding utf-16-le" in refusal(encoded).message
    assert cells(rows(encoded, encoding="utf-16-le")) == [{"text": "x", "label": "a"}]


def test_utf_16_cut_short_is_refused() -> None:
    assert refusal("text,label\nx,a\n".encode("utf-16")[:-1]).line is not None


@pytest.mark.parametrize("encoding", ["klingon", "hex"])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    assert "unknown encoding" in refusal("text,label\n", encoding=encoding).message


def test_jsonl_keeps_types_and_skips_blank_lines() -> None:
    table = rows('\ufeff{"text": "a", "label": 1}\n\n{"text": "b", "label": true, "id": 7}\n', "train.jsonl")
    assert table.columns == ("text", "label", "id")
    assert [(row.line, row.cells) for row in table.rows] == [
        (1, {"text": "a", "label": 1}),
        (3, {"text": "b", "label": True, "id": 7}),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", }', "not JSON"),
        ('{"text": "a", "label": NaN}', "NaN is not a JSON value"),
        ('{"text": "a", "label": -Infinity}', "-Infinity is not a JSON value"),
        ('{"text": "a", "text": "b"}', "'text' appears twice"),
        ('[{"text": "a"}]', "jq -c"),
        ('"text"', "no JSON object"),
        ('{"text": ' * 100_000, "nested too deep"),
        ('{"text": ' + "1" * 5000 + "}", "cannot be used"),
    ],
)
def test_malformed_jsonl_is_refused_with_its_line(line: str, words: str) -> None:
    error = refusal('{"text": "a", "label": "b"}\n\n' + line + "\n", "train.jsonl")
    assert error.line == 3
    assert words in error.message


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8))
def test_what_csv_writes_is_read_back_verbatim(pairs: list[tuple[str, str]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL)
    writer.writerow(["text", "label"])
    writer.writerows(pairs)
    assert [(row["text"], row["label"]) for row in cells(rows(stream.getvalue()))] == pairs


@given(st.binary(max_size=200), st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]))
def test_any_bytes_are_read_or_refused(content: bytes, file: str) -> None:
    try:
        table = rows(content, file)
    except DatasetInvalid:
        return
    assert all(set(row.cells) <= set(table.columns) for row in table.rows)


def test_lines_keep_their_ends() -> None:
    lines = decoded_lines(io.BytesIO("a\r\nü\n".encode()), file="a.txt", encoding=None)
    assert list(lines) == ["a\r\n", "ü\n"]
