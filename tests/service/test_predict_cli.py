"""``graftwork predict`` on folders and tables, with a real server."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graftwork import app
from service.client import Client, SingleLabel
from tests.processes import free_port, wait_for
from tests.server_process import ServerProcess, ready_server
from tests.tiny_models import picture


def predict(port: int, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "graftwork", "predict", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "GRAFTWORK_URL": f"http://127.0.0.1:{port}"},
    )


def run(port: int, *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    process = predict(port, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_is_scored_as_its_rows_are_one_by_one(server: ServerProcess, tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(40)]
    texts[20] = ""
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["query", "id"], *([text, number] for number, text in enumerate(texts))])
    code, out, err = run(server.port, "letters", tmp_path / "q.csv", "--output", tmp_path / "a.csv")
    assert (code, out) == (0, "")
    assert err == "40 rows by letters:1, 1 of them with an error: see the column error\n"
    rows = rows_of(tmp_path / "a.csv")
    assert list(rows[0]) == ["query", "id", "label", "score", "error", "model"]
    assert rows.pop(20)["error"].startswith("empty_text: ")
    with Client(f"http://127.0.0.1:{server.port}") as client:
        found = client.predict("letters", [row["query"] for row in rows]).predictions
    for row, prediction in zip(rows, found, strict=True):
        assert isinstance(prediction, SingleLabel)
        assert row["label"] == prediction.label
        assert float(row["score"]) == pytest.approx(prediction.score, abs=1e-5)
        assert (row["error"], row["model"]) == ("", "letters:1")
    code, out, err = run(server.port, "letters", tmp_path / "q.csv", "--output", tmp_path / "a.csv", "--json")
    assert json.loads(out) == {"output": str(tmp_path / "a.csv"), "rows": 40, "errors": 1, "model": "letters:1"}
    assert err.startswith(f"{tmp_path / 'a.csv'} was complete: 40 rows")


def test_a_corrupt_image_has_its_error_and_the_others_their_answers(server: ServerProcess, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for number in range(20):
        (photos / f"{number:02}.png").write_bytes(picture(number))
    (photos / "more" / "a.png").write_bytes(picture(21))
    (photos / "07.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    code, out, err = run(server.port, "colours", photos, "--top-k", "2")
    assert code == 0
    assert err == "21 rows by colours:1, 1 of them with an error: see the column error\n"
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["file"] for row in rows] == [*(f"{number:02}.png" for number in range(20)), "more/a.png"]
    assert rows[7]["error"].startswith("image_")
    assert {len(row["prediction"]["scores"]) for row in rows if "error" not in row} == {2}
    assert {row["model"] for row in rows} == {"colours:1"}


@pytest.fixture
def row_by_row(models_on_disk: Path) -> Iterator[ServerProcess]:
    """A server whose answers do not depend on what shares a batch, to the last bit."""
    with ready_server(models_on_disk, "--max-batch-rows", "1") as server:
        yield server


def test_ctrl_c_leaves_a_file_that_the_same_command_completes(row_by_row: ServerProcess, tmp_path: Path) -> None:
    port = row_by_row.port
    table, output = tmp_path / "q.jsonl", tmp_path / "a.csv"
    table.write_text("".join(json.dumps({"text": f"text {number}\n", "n": number}) + "\n" for number in range(2000)))
    command = ("letters", table, "--concurrency", "1", "--output", output)
    process = predict(port, *command)
    wait_for(lambda: output.exists() and output.stat().st_size > 2000, 60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped; the same command goes on from there\n")
    begun = output.read_bytes()
    assert 0 < begun.count(b"letters:1") < 2000
    assert begun.endswith(b"\n")
    code, _, err = run(port, *command)
    assert (code, err) == (0, "2,000 rows by letters:1\n")
    code, _, _ = run(port, "letters", table, "--output", tmp_path / "whole.csv")
    assert output.read_bytes().startswith(begun)
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_model_of_another_kind_and_no_server_are_one_line(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("text\none\n")
    output = tmp_path / "a.csv"
    code, _, err = run(server.port, "colours", tmp_path / "q.csv", "--output", output)
    assert (code, err.count("\n")) == (1, 1)
    assert "send {" in err
    code, _, err = run(free_port(), "letters", tmp_path / "q.csv", "--output", output)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("error: there is no server at http://127.0.0.1:")
    assert output.read_bytes() == b""


def test_the_help_shows_how_a_batch_is_scored() -> None:
    text = CliRunner().invoke(app, ["predict", "--help"], terminal_width=200).output
    for words in ("graftwork predict flowers photos/ --output answers.csv", "--text-column", "For a folder or a table"):
        assert words in text
