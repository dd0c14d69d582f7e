from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from graftwork import app


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [
        f"{'vowels' if n % 2 else 'digits'},{('ae io ' if n % 2 else '12 45 ') * (n % 5 + 1)}{n}" for n in range(40)
    ]
    file = tmp_path / "kinds.csv"
    file.write_text("label,text\n" + "\n".join(rows) + "\n")
    return file


def invoke(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_finetune_with_json_prints_one_object_and_nothing_else(table: Path, tmp_path: Path, tiny_text: str) -> None:
    code, stdout, _ = invoke(
        "finetune", str(table), "--name", "kinds", "--backbone", tiny_text, "--json",
        "--repository", str(tmp_path / "models"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    assert code == 0
    document = json.loads(stdout)
    assert (document["model"], document["version"], document["classes"]) == ("kinds", 1, 2)
    assert Path(document["path"], "manifest.json").is_file()


def test_finetune_for_people_names_the_version_and_its_figures(table: Path, tmp_path: Path, tiny_text: str) -> None:
    code, stdout, stderr = invoke(
        "finetune", str(table), "--name", "kinds", "--backbone", tiny_text,
        "--repository", str(tmp_path / "models"), "--cache-dir", str(tmp_path / "cache"),
    )  # fmt: skip
    assert code == 0
    assert stdout.startswith("kinds:1 is published")
    assert "accuracy" in stdout
    assert "vowels" in stderr  # the table of classes


def test_a_comparison_says_which_rows_it_leaves_out(table: Path, tmp_path: Path, tiny_text: str) -> None:
    every = table.read_text().splitlines()
    said = []
    for rows in (every[:31], every, every):  # of the second run's test rows the first version has learnt some
        table.write_text("\n".join(rows) + "\n")
        code, stdout, _ = invoke(
            "finetune", str(table), "--name", "kinds", "--backbone", tiny_text,
            "--repository", str(tmp_path / "models"), "--cache-dir", str(tmp_path / "cache"),
        )  # fmt: skip
        assert code == 0
        said.append(stdout)
    assert ["from which kinds:1 has learnt" in each for each in said] == [False, True, False]


def test_doctor_ends_with_1_where_training_would_refuse(table: Path, tmp_path: Path) -> None:
    assert invoke("doctor", str(table))[0] == 0
    document = json.loads(invoke("doctor", str(table), "--json")[1])
    assert document["healthy"] is True
    assert document["classes"]["vowels"] == {"train": 20}

    lonely = tmp_path / "lonely.csv"
    lonely.write_text("label,text\na,one\na,two\n")
    code, stdout, _ = invoke("doctor", str(lonely), "--json")
    assert code == 1
    assert json.loads(stdout)["healthy"] is False


def test_doctor_takes_the_task_and_the_columns(tmp_path: Path) -> None:
    pq.write_table(
        pa.table(
            {
                "one": ["a", "b", "c"],
                "two": ["d", "e", "f"],
                "stars": [1, 2, 5],
                "author": ["ada", "ada", "bob"],
                "nested": [[["x"]], [], None],
            }
        ),
        tmp_path / "reviews.parquet",
    )
    columns = ("--text-column", "one", "--text-pair-column", "two", "--group-column", "author")
    code, stdout, _ = invoke("doctor", str(tmp_path / "reviews.parquet"), *columns, "--task", "regression", "--json")
    document = json.loads(stdout)
    assert (code, document["task"], document["pairs"]) == (0, "regression", True)
    assert document["splits"] == {"train": 3}


def test_samples_are_listed_and_written(tmp_path: Path) -> None:
    names = [row["name"] for row in json.loads(invoke("samples", "list", "--json")[1])["samples"]]
    assert names == ["digits", "photos", "docs"]
    assert invoke("samples", "write", "digits", str(tmp_path / "digits"), "--per-class", "2")[0] == 0
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 20
