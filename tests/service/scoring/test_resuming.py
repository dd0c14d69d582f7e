"""Runs that go on where others ended, or are refused to."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import (
    Conflict,
    DatasetInvalid,
    InvalidParameter,
    NotReady,
    RequestTimeout,
)
from service.client.items import CHUNK_ITEMS
from service.scoring.columns import Columns
from tests.service.scoring.asked import Asked, score
from tests.service.scoring.tables import numbered, rows_of, write_table


@pytest.mark.parametrize("error", [NotReady("gone"), RequestTimeout("too slow"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_run_that_ended_goes_on_where_it_was(error: BaseException, name: str, tmp_path: Path) -> None:
    texts = numbered(9 * CHUNK_ITEMS + 5)
    texts[3] = "bad"
    table, lost = write_table(tmp_path / "q.csv", texts), Asked()
    score(table, tmp_path / f"whole-{name}")
    lost.lost = {f"text {6 * CHUNK_ITEMS + 1}": error}
    with pytest.raises(type(error)):
        score(table, tmp_path / name, lost)
    there = len(rows_of(tmp_path / name))
    # Ctrl-C does not wait for those that were asked before.
    assert there == 6 * CHUNK_ITEMS or (isinstance(error, KeyboardInterrupt) and there > CHUNK_ITEMS)
    newer = Asked(number=4)
    done = score(table, tmp_path / name, newer)
    assert (done.rows, done.before, done.errors) == (len(texts), there, 1)
    assert {reference for reference, _ in newer.requests} == {"m:3"}
    assert sum(items for _, items in newer.requests) == len(texts) - there
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()
    again = Asked()
    assert score(table, tmp_path / name, again).before == len(texts)
    assert again.requests == []


LINES = st.text(st.sampled_from("ab ,;\"'\n\r\tüé😀|\\{}[]:"), max_size=8) | st.text(max_size=5).filter(
    lambda text: "\x00" not in text
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(LINES | st.just("bad"), min_size=1, max_size=40),
    data=st.data(),
    suffix=st.sampled_from([".csv", ".jsonl"]),
)
def test_a_file_that_was_cut_anywhere_becomes_the_same_file(
    texts: list[str], data: st.DataObject, suffix: str, tmp_path: Path
) -> None:
    table, output = tmp_path / "q.jsonl", tmp_path / f"a{suffix}"
    table.write_text(
        "".join(json.dumps({"text": text, "no": [number, None]}) + "\n" for number, text in enumerate(texts))
    )
    score(table, output, overwrite=True)
    whole = output.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    output.write_bytes(whole[:cut])
    score(table, output)
    assert output.read_bytes() == whole


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_answers_for_something_else_are_left_as_they_are(name: str, tmp_path: Path) -> None:
    table, output = write_table(tmp_path / "q.csv", numbered(30)), tmp_path / name
    score(table, output)
    before = output.read_bytes()
    others = (
        write_table(tmp_path / "1.csv", ["other", *numbered(30)[1:]]),
        write_table(tmp_path / "2.csv", [*numbered(29), "other"]),
        write_table(tmp_path / "3.csv", numbered(29)),
        write_table(tmp_path / "4.csv", numbered(30), more="x"),
    )
    for other in others:
        with pytest.raises(Conflict, match=r"holds something else than answers for .*, or add --overwrite"):
            score(other, output)
    for model in ("n", "m:4"):
        with pytest.raises(Conflict, match=rf"begun in another way: the model was m and is {model}; .*--overwrite"):
            score(table, output, model=model)
    assert output.read_bytes() == before
    assert score(others[0], output, overwrite=True).rows == 30
    assert rows_of(output)[0]["text"] == "other"


ASKED = {"model": "m@champion", "columns": Columns(text="text"), "top_k": 3, "truncate": False}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"columns": Columns(text="other")}, "--text-column was text and is other"),
        ({"columns": Columns(text="text", pair="other")}, "--pair-column was none and is other"),
        (
            {"columns": Columns(image="other")},
            "--text-column was text and is none, --image-column was none and is other",
        ),
        ({"top_k": 1}, "--top-k was 3 and is 1"),
        ({"truncate": True}, "--truncate was false and is true"),
        ({"model": "m@challenger"}, "the model was m@champion and is m@challenger"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_run_goes_on_as_it_was_begun_or_not_at_all(
    name: str, change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    table, output, lost = write_table(tmp_path / "q.csv", numbered(20), other="x"), tmp_path / name, Asked()
    lost.lost = {"text 17": NotReady("gone")}
    with pytest.raises(NotReady):
        score(table, output, lost, **ASKED)
    begun, again = output.read_bytes(), Asked()
    with pytest.raises(Conflict, match=f"{told}; .*--overwrite"):
        score(table, output, again, **ASKED | change)
    assert output.read_bytes() == begun
    assert again.requests == []
    assert score(table, output, **ASKED | {"columns": Columns()}).before == 16  # the same column, guessed
    assert score(table, output, overwrite=True, **ASKED | change).before == 0
    assert score(table, output, **ASKED | change).before == 20


@pytest.mark.parametrize("damage", [None, b"", b"[]", b"{}", b"\xff"])
def test_answers_without_a_record_of_how_they_were_asked_for_are_left(damage: bytes | None, tmp_path: Path) -> None:
    table, output = write_table(tmp_path / "q.csv", numbered(3)), tmp_path / "a.csv"
    score(table, output)
    record, before = tmp_path / "a.csv.run.json", output.read_bytes()
    record.unlink()
    if damage is not None:
        record.write_bytes(damage)
    with pytest.raises(Conflict, match=r"a\.csv\.run\.json.* is missing or damaged; .*--overwrite"):
        score(table, output)
    assert output.read_bytes() == before
    output.write_bytes(b"")
    assert score(table, output).rows == 3
    assert score(table, output).before == 3


@pytest.mark.parametrize(
    "content", [b"my notes", b"my notes\nof today\n", b"\xff\xfe\n", b"[1]\n", b'{"text": 1}\n', b'"']
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_file_of_somebody_else_is_not_touched(name: str, content: bytes, tmp_path: Path) -> None:
    table, output = write_table(tmp_path / "q.csv", numbered(3)), tmp_path / name
    output.write_bytes(content)
    with pytest.raises(Conflict, match="--overwrite"):
        score(table, output)
    assert output.read_bytes() == content


def test_what_is_overwritten_stays_until_there_is_an_answer(tmp_path: Path) -> None:
    table, output, lost = write_table(tmp_path / "q.csv", ["one"]), tmp_path / "a.csv", Asked()
    output.write_text("before")
    lost.lost = {"one": NotReady("there is no server")}
    with pytest.raises(NotReady):
        score(table, output, lost, overwrite=True)
    assert output.read_text() == "before"
    assert not (tmp_path / "a.csv.run.json").exists()


def test_one_program_at_a_time_writes_a_file(tmp_path: Path) -> None:
    table = write_table(tmp_path / "q.csv", ["one"])
    with (tmp_path / "a.csv").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="is being written by another program"):
            score(table, tmp_path / "a.csv")
    assert score(table, tmp_path / "a.csv").rows == 1


def test_where_answers_cannot_go_is_said_first(tmp_path: Path) -> None:
    table, asked = write_table(tmp_path / "q.csv", ["one"]), Asked()
    with pytest.raises(InvalidParameter, match=r"answers are written as \.csv or \.jsonl"):
        score(table, tmp_path / "a.xlsx", asked)
    with pytest.raises(InvalidParameter, match="is what is to be scored"):
        score(table, table, asked)
    with pytest.raises(DatasetInvalid, match="is a folder without images"):
        score(tmp_path, tmp_path / "a.csv", asked)
    assert asked.requests == []
