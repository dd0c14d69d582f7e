from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from models.errors import DatasetInvalid
from service.scoring.columns import Columns
from service.scoring.table import Table


def table(tmp_path: Path, name: str, content: str | bytes, **named: str) -> Table:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Table(path, Columns(**named))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text\n1,"one, ""two""\nthree"\n\n2,ü\n'),
        ("a.csv", codecs.BOM_UTF8 + 'id,text\r\n1,"one, ""two""\nthree"\r\n2,ü'.encode()),
        ("a.csv", 'id;text\n1;"one, ""two""\nthree"\n2;ü\n'),
        ("a.tsv", 'id\ttext\n1\t"one, ""two""\nthree"\n2\tü\n'),
        ("a.CSV", 'id,text\n1,"one, ""two""\nthree"\n2,ü\n'.encode("utf-16")),
        ("a.jsonl", '{"id": "1", "text": "one, \\"two\\"\\nthree"}\n\n{"id": "2", "text": "ü"}'),
        (
            "a.jsonl",
            codecs.BOM_UTF8 + '{"id": "1", "text": "one, \\"two\\"\\nthree"}\n{"id": "2", "text": "ü"}'.encode(),
        ),
    ],
)
def test_rows_are_read_as_they_are_written(name: str, content: str | bytes, tmp_path: Path) -> None:
    found = table(tmp_path, name, content)
    assert (found.count, tuple(found.columns)) == (2, ("id", "text"))
    assert [row.item for row in found.rows()] == ['one, "two"\nthree', "ü"]
    assert [row.cells["id"] for row in found.rows()] == ["1", "2"]


def test_a_text_may_be_longer_than_csv_allows(tmp_path: Path) -> None:
    assert [row.item for row in table(tmp_path, "a.csv", f"text,n\n{'x' * 200_000},1\n").rows()] == ["x" * 200_000]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", "id,text\n1,a\n2,b,c\n", r"a\.csv:3: has 3 fields, and the header 2"),
        ("a.csv", 'id,text\n1,"a\nb"\n2\n', r"a\.csv:4: has 1 fields"),
        ("a.csv", 'id,text\n1,"a\n', r"a\.csv:2: cannot be read: unexpected end of data"),
        ("a.csv", b"id,text\n1,a\n2,\xff\n", r"a\.csv:3: is no text in UTF-8"),
        ("a.csv", "text,text\n1,a\n", r"a\.csv:1: two columns have the same name"),
        ("a.csv", "", r"a\.csv: holds no rows"),
        ("a.csv", "id,text\n", r"a\.csv: holds no rows"),
        ("a.jsonl", '{"text": "a"}\n\n{"text": \n', r"a\.jsonl:3: is no JSON"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', r"a\.jsonl:2: is no JSON object"),
        ("a.jsonl", "[" * 100_000, r"a\.jsonl:1: is no JSON"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_asked(
    name: str, content: str | bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetInvalid, match=reason):
        table(tmp_path, name, content)


@pytest.mark.parametrize(
    ("header", "named", "reason"),
    [
        ("a,b", {}, "no column is known to hold a text or an image among 'a', 'b'; name it with --text-column"),
        ("text,sentence", {}, "more than one column may be meant among 'text', 'sentence'"),
        ("text,image", {}, "more than one column may be meant"),
        ("text_a,text_b,premise,hypothesis", {}, "more than one column may be meant"),
        ("texts,b", {"text": "text"}, "has no column 'text' but 'texts', 'b'; did you mean 'texts'"),
        ("text,image", {"text": "text", "image": "image"}, "is asked for texts and images; name one"),
        ("text,b", {"pair": "b"}, "needs the first text of a pair as well: --text-column"),
    ],
)
def test_columns_that_do_not_speak_for_themselves_are_listed(
    header: str, named: dict[str, str], reason: str, tmp_path: Path
) -> None:
    row = ",".join("x" for _ in header.split(","))
    with pytest.raises(DatasetInvalid, match=reason):
        table(tmp_path, "a.csv", f"{header}\n{row}\n", **named)


@pytest.mark.parametrize(
    ("header", "named", "item"),
    [
        ("id,Text", {}, "1"),
        ("premise,hypothesis", {}, ("0", "1")),
        ("text,text_pair", {}, ("0", "1")),
        ("text,text_pair", {"text": "text_pair"}, "1"),
        ("b,a", {"text": "a", "pair": "b"}, ("1", "0")),
    ],
)
def test_columns_are_known_by_their_names_or_named(
    header: str, named: dict[str, str], item: object, tmp_path: Path
) -> None:
    (row,) = table(tmp_path, "a.csv", f"{header}\n0,1\n", **named).rows()
    assert row.item == item
