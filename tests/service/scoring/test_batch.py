"""From a folder or a table to a file of answers, whatever comes between."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from models.errors import (
    Conflict,
    GraftworkError,
    InvalidInstances,
    InvalidParameter,
    NotReady,
)
from service.client.items import CHUNK_ITEMS
from service.scoring.columns import Columns
from service.scoring.row import Row
from service.scoring.scoring import MOST_INTERNAL, MOST_REFUSED
from service.scoring.table import Table
from tests.service.scoring.asked import Asked, score, single_label
from tests.service.scoring.tables import numbered, rows_of, write_table

REFUSED = "image_undecodable: instance 0: no image"


def test_a_row_keeps_its_columns_and_gets_its_answer(tmp_path: Path) -> None:
    table = write_table(tmp_path / "q.csv", ["one", "bad", "", "four"], label="old")
    done = score(table, tmp_path / "a.csv")
    assert (done.rows, done.errors, done.model) == (4, 2, "m:3")
    nothing = {"predicted_label": "", "score": "", "label": "old", "model": "m:3"}
    assert rows_of(tmp_path / "a.csv") == [
        {
            "id": "0",
            "text": "one",
            "label": "old",
            "predicted_label": "eno",
            "score": "0.003",
            "error": "",
            "model": "m:3",
        },
        {**nothing, "id": "1", "text": "bad", "error": REFUSED},
        {**nothing, "id": "2", "text": "", "error": "empty_text: instance 0: the text is empty"},
        {
            "id": "3",
            "text": "four",
            "label": "old",
            "predicted_label": "ruof",
            "score": "0.004",
            "error": "",
            "model": "m:3",
        },
    ]
    score(table, tmp_path / "a.jsonl")
    assert rows_of(tmp_path / "a.jsonl")[:2] == [
        {"id": "0", "text": "one", "label": "old", "prediction": single_label("one"), "model": "m:3"},
        {"id": "1", "text": "bad", "label": "old", "error": REFUSED, "model": "m:3"},
    ]


@pytest.mark.parametrize(
    ("document", "columns"),
    [
        ({"labels": ["a", "b"], "scores": {"a": 0.5}}, {"labels": "a|b"}),
        ({"value": 2.5, "interval": [1.0, 4.0]}, {"value": "2.5", "low": "1.0", "high": "4.0"}),
        (
            {"entities": [{"label": "ort", "text": "Köln", "start": 0, "end": 4, "score": 0.5}]},
            {"entities": '[{"label": "ort", "text": "Köln", "start": 0, "end": 4, "score": 0.5}]'},
        ),
    ],
)
def test_every_task_has_its_columns(document: dict[str, Any], columns: dict[str, str], tmp_path: Path) -> None:
    table = write_table(tmp_path / "q.csv", ["bad", "x"])
    score(table, tmp_path / "a.csv", Asked(answer=lambda _: document))
    first, second = rows_of(tmp_path / "a.csv")
    assert first == {"id": "0", "text": "bad", **dict.fromkeys(columns, ""), "error": REFUSED, "model": "m:3"}
    assert second == {"id": "1", "text": "x", **columns, "error": "", "model": "m:3"}


def test_images_come_from_a_folder_or_a_column(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for name, data in (("z.PNG", "z"), ("b/c.jpg", "c"), ("a.jpg", "bad"), ("note.txt", "x"), (".hidden.jpg", "h")):
        (folder / name).write_text(data)
    score(folder, tmp_path / "a.csv")
    assert [(row["file"], row["label"] or row["error"]) for row in rows_of(tmp_path / "a.csv")] == [
        ("a.jpg", REFUSED),
        ("b/c.jpg", "c"),
        ("z.PNG", "z"),
    ]
    table = tmp_path / "rows.jsonl"
    unnameable = f"{'x' * 50}\\u0000", "x" * 300
    names = "".join(f'{{"path": "{name}"}}\n' for name in unnameable)
    table.write_text('{"path": "photos/z.PNG", "n": 1}\n{"path": "photos/none.jpg"}\n{"path": 3}\n' + names)
    score(table, tmp_path / "b.csv")
    found = [(row["path"], row["n"], row["label"] or row["error"]) for row in rows_of(tmp_path / "b.csv")]
    assert found[:3] == [
        ("photos/z.PNG", "1", "z"),
        ("photos/none.jpg", "", "invalid_parameter: photos/none.jpg: there is no such file"),
        ("3", "", "invalid_value: line 3: column 'path' holds no text"),
    ]
    assert len(found) == 5
    for _, _, label in found[3:]:
        assert label.startswith("invalid_parameter: xxx")
        assert label.endswith(": there is no such file")


def test_pairs_come_from_two_columns(tmp_path: Path) -> None:
    table = tmp_path / "pairs.tsv"
    table.write_text("text_a\ttext_b\tother\none\ttwo\tx\n")
    score(table, tmp_path / "a.csv")
    score(table, tmp_path / "b.csv", columns=Columns(text="other", pair="text_a"))
    assert rows_of(tmp_path / "a.csv")[0]["label"] == "owt|eno"
    assert rows_of(tmp_path / "b.csv")[0]["label"] == "eno|x"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_answers_come_in_the_order_of_the_rows_and_few_are_asked_at_a_time(concurrency: int, tmp_path: Path) -> None:
    texts = numbered(20 * CHUNK_ITEMS + 3)
    table, asked = write_table(tmp_path / "q.csv", texts), Asked()
    done = score(table, tmp_path / "a.csv", asked, concurrency=concurrency)
    assert [row["label"] for row in rows_of(tmp_path / "a.csv")] == [text[::-1] for text in texts]
    assert asked.most == concurrency
    assert done.rows == len(texts)
    assert asked.requests[0] == ("m", CHUNK_ITEMS)
    assert {reference for reference, _ in asked.requests[1:]} == {"m:3"}


def test_a_bad_row_takes_no_others_with_it(tmp_path: Path) -> None:
    texts = numbered(3 * CHUNK_ITEMS)
    for place in (0, CHUNK_ITEMS, CHUNK_ITEMS + 7, 3 * CHUNK_ITEMS - 1):
        texts[place] = f"bad {place}"
    table, asked = write_table(tmp_path / "q.csv", texts), Asked()
    assert score(table, tmp_path / "a.csv", asked).errors == 4
    for row in rows_of(tmp_path / "a.csv"):
        assert row["error"] == (REFUSED if "bad" in row["text"] else "")
        assert row["label"] == ("" if "bad" in row["text"] else row["text"][::-1])
    assert len(asked.requests) < 3 * CHUNK_ITEMS  # not row by row


def test_rows_that_are_all_refused_are_written_too(tmp_path: Path) -> None:
    table = write_table(tmp_path / "q.csv", ["bad", "bad"])
    done = score(table, tmp_path / "a.csv")
    assert (done.rows, done.errors, done.model) == (2, 2, "m")
    assert rows_of(tmp_path / "a.csv")[1] == {"id": "1", "text": "bad", "error": REFUSED, "model": "m"}
    assert score(table, tmp_path / "a.csv").before == 2


def test_rows_that_are_answered_after_others_that_were_all_refused_name_the_cure(tmp_path: Path) -> None:
    table, output = write_table(tmp_path / "q.csv", ["bad"]), tmp_path / "a.csv"
    score(table, output)
    before = output.read_bytes()
    write_table(table, ["bad", "good"])
    with pytest.raises(Conflict, match=r"were all refused, .*--overwrite"):
        score(table, output)
    assert output.read_bytes() == before
    assert score(table, output, overwrite=True).errors == 1


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_run_that_fails_leaves_no_file_open(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Generator[Row, None, None]] = []

    def rows(table: Table, read: Callable[[Table], Generator[Row, None, None]] = Table.rows) -> Any:
        opened.append(read(table))
        return opened[-1]

    monkeypatch.setattr(Table, "rows", rows)
    asked = Asked()
    asked.lost = {"text 0": NotReady("gone")}
    with pytest.raises((NotReady, InvalidParameter)):
        score(write_table(tmp_path / "q.csv", numbered(100)), tmp_path / name, asked)
    assert [inspect.getgeneratorstate(each) for each in opened] == [inspect.GEN_CLOSED]


def test_what_is_wrong_with_all_rows_ends_the_run(tmp_path: Path) -> None:
    table = write_table(tmp_path / "q.csv", ["bad"] * (MOST_REFUSED + 50))
    with pytest.raises(Exception, match=r"not one of the first 1,008 rows is answered: .*no image"):
        score(table, tmp_path / "a.csv")
    asked = Asked()
    asked.lost = {"text 0": InvalidInstances("this model reads images"), "text 1": InvalidInstances("no")}
    with pytest.raises(InvalidInstances, match="this model reads images"):
        score(write_table(tmp_path / "q.csv", numbered(2)), tmp_path / "a.csv", asked)
    assert (tmp_path / "a.csv").read_bytes() == b""


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_row_that_the_server_fails_on_takes_no_others_with_it(name: str, tmp_path: Path) -> None:
    texts, asked = numbered(4 * CHUNK_ITEMS), Asked()
    failing = (5, 2 * CHUNK_ITEMS, 2 * CHUNK_ITEMS + 9)
    asked.lost = {texts[place]: GraftworkError("the server failed") for place in failing}
    done = score(write_table(tmp_path / "q.csv", texts), tmp_path / name, asked)
    assert (done.rows, done.errors, done.model) == (len(texts), 3, "m:3")
    errors = {place: row.get("error") for place, row in enumerate(rows_of(tmp_path / name)) if row.get("error")}
    assert errors == dict.fromkeys(failing, "internal: the server failed")


def test_a_server_that_fails_on_row_after_row_ends_the_run(tmp_path: Path) -> None:
    texts, asked = numbered(3 * CHUNK_ITEMS), Asked()
    table, output = write_table(tmp_path / "q.csv", texts), tmp_path / "a.csv"
    asked.lost = {text: GraftworkError("the server failed") for text in texts}
    with pytest.raises(GraftworkError, match="the server failed"):
        score(table, output, asked)
    assert len(asked.requests) == 5  # halves of the first rows, until one is alone
    assert output.read_bytes() == b""
    first = CHUNK_ITEMS  # rows that are answered
    asked.lost = {text: GraftworkError("the server failed") for text in texts[first + 2 : first + 2 + MOST_INTERNAL]}
    with pytest.raises(GraftworkError, match="the server failed"):
        score(table, output, asked, concurrency=1)
    assert len(rows_of(output)) == first
    del asked.lost[texts[first + 6]]
    assert score(table, output, asked, concurrency=1).errors == MOST_INTERNAL - 1


def test_without_a_file_rows_go_to_standard_output(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    score(write_table(tmp_path / "q.csv", ["one", "bad"]), None)
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line).get("error") for line in lines] == [None, REFUSED]
