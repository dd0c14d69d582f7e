"""``graftwork models gc`` and ``migrate``, from the command line."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta

import pytest
import typer
from typer.testing import CliRunner

from graftwork import app
from models import audit
from models.housekeeping_cli import parse_period
from models.repository import ModelRepository
from tests.models.old_manifests import place, schema_1, schema_2
from tests.models.versions import place_backbone, publish

OLD, YOUNG = "e" * 64, "f" * 64


def invoke(*arguments: str, repository: ModelRepository) -> tuple[int, str]:
    where = {
        "GRAFTWORK_REPOSITORY": str(repository.root),
        "GRAFTWORK_CACHE_DIR": str(repository.root.parent / "cache"),
    }
    result = CliRunner().invoke(app, ["models", *arguments], env=where)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def filled(repository: ModelRepository) -> ModelRepository:
    publish(repository)
    for digest, size, hours in ((OLD, 12_000_000, 30), (YOUNG, 3000, 20)):
        directory = place_backbone(repository, digest)
        (directory / "model.safetensors").write_bytes(bytes(size))
        os.utime(directory, (time.time() - 3600 * hours,) * 2)
    return repository


def test_gc_prints_a_table_of_what_it_removes(filled: ModelRepository) -> None:
    table = [
        "what      name          size",
        "--------  ------------  -----",
        "backbone  eeeeeeeeeeee  12 MB",
    ]
    assert invoke("gc", "--dry-run", repository=filled) == (0, "\n".join([*table, "12 MB would be removed\n"]))
    assert OLD in filled.backbones.digests()
    assert invoke("gc", repository=filled) == (0, "\n".join([*table, "12 MB removed\n"]))
    assert invoke("gc", repository=filled) == (0, "nothing to remove\n")
    assert YOUNG in filled.backbones.digests()
    assert invoke("gc", "--older-than", "19h", repository=filled)[1].endswith("3 kB removed\n")
    assert YOUNG not in filled.backbones.digests()


def test_gc_gives_machines_the_whole_names(filled: ModelRepository) -> None:
    (filled.root / "flowers" / "1" / "manifest.json").write_text("{}")
    code, printed = invoke("gc", "--json", repository=filled)
    assert code == 0
    assert json.loads(printed) == {"garbage": [], "size_bytes": 0, "dry_run": False, "untold": ["flowers:1"]}
    assert "no backbone is touched: flowers:1" in invoke("gc", repository=filled)[1]
    (filled.root / "flowers" / "1").rename(filled.root / "elsewhere")
    document = json.loads(invoke("gc", "--json", "--dry-run", repository=filled)[1])
    assert document["garbage"] == [{"kind": "backbone", "name": OLD, "size_bytes": 12_000_000}]
    assert (document["size_bytes"], document["dry_run"], document["untold"]) == (12_000_000, True, [])


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("5m", 300), ("12h", 43_200), ("1d", 86_400), ("2w", 1_209_600)]
)
def test_a_period_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_period(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "1", "d", "-1d", "1.5d", "1 d", "1y", "1dd", "1234567d", "１d"])
def test_anything_else_is_no_period(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="such as 12h or 1d"):
        parse_period(text)


def test_migrate_says_what_it_did_and_fails_where_something_is_left(repository: ModelRepository) -> None:
    publish(repository)
    assert invoke("migrate", repository=repository) == (0, "nothing to migrate\n")
    place(repository, schema_2(number=2))
    code, printed = invoke("migrate", "--dry-run", repository=repository)
    assert (code, printed.splitlines()[-1]) == (0, "flowers:2  would be migrated from schema 2 to 4")
    place(repository, schema_1(number=3, files={}))
    code, printed = invoke("migrate", "--json", repository=repository)
    problem = "it has kept no golden features to be checked by; publish the model again"
    assert code == 1
    assert json.loads(printed) == {
        "migrated": [{"name": "flowers:2", "from": 2, "to": 4}],
        "problems": [{"name": "flowers:3", "problem": problem}],
        "dry_run": False,
    }
    code, printed = invoke("migrate", repository=repository)
    assert (code, printed.splitlines()[-1]) == (1, f"flowers:3  {problem}")
    assert invoke("show", "flowers:2", repository=repository)[0] == 0


def entries(repository: ModelRepository) -> list[tuple[str, str, str]]:
    lines = (repository.root / audit.FILE_NAME).read_text().splitlines()
    return [(line["what"], line["target"], line["result"]) for line in map(json.loads, lines)]


def test_what_collects_and_migrates_is_in_the_audit_log(filled: ModelRepository) -> None:
    for command in ("gc", "migrate"):
        assert invoke(command, "--dry-run", repository=filled)[0] == 0
    assert not (filled.root / audit.FILE_NAME).exists()
    place(filled, schema_2(number=2))
    assert invoke("gc", repository=filled)[0] == 0
    assert invoke("migrate", repository=filled)[0] == 0
    assert entries(filled) == [("models.gc", "backbone:eeeeeeeeeeee", "ok"), ("models.migrate", "flowers:2", "ok")]


def test_where_no_repository_is_none_is_made_to_record_that(repository: ModelRepository) -> None:
    nowhere = ModelRepository(repository.root / "mistyped")
    assert invoke("gc", repository=nowhere) == (0, "nothing to remove\n")
    assert not nowhere.root.exists()
