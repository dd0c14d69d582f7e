from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from graftwork import app
from models.repository import ModelRepository
from tests.models.versions import publish


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return ModelRepository(tmp_path / "repository")


COMMANDS = [
    (),
    ("finetune",),
    ("doctor",),
    ("serve",),
    ("predict",),
    ("demo",),
    ("models",),
    ("models", "list"),
    ("models", "show"),
    ("models", "verify"),
    ("models", "promote"),
    ("models", "rollback"),
    ("models", "aliases"),
    ("models", "unalias"),
    ("models", "keep"),
    ("models", "delete"),
    ("models", "export"),
    ("models", "gc"),
    ("models", "migrate"),
    ("models", "import"),
    ("backbones", "list"),
    ("keys",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "revoke"),
    ("samples", "list"),
    ("samples", "write"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
    if len(command) > 1 or command in (("finetune",), ("doctor",), ("serve",), ("predict",)):
        assert "Examples" in result.output


def test_help_is_quick_because_it_imports_no_heavy_library() -> None:
    code = (
        "import sys, graftwork\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(graftwork.app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'timm', 'transformers', 'sklearn', 'matplotlib', 'litserve', 'fastapi', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run(*arguments: str, repository: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GRAFTWORK_REPOSITORY": str(repository)}
    return subprocess.run(
        [sys.executable, "-m", "graftwork", *arguments], capture_output=True, text=True, env=environment
    )


def test_an_error_is_one_line_that_names_the_cure(tmp_path: Path) -> None:
    done = run("models", "show", "flowers", repository=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "error: there is no model 'flowers'\n"


def test_a_checkpoint_is_imported_as_an_embedding(tmp_path: Path, tiny_vision: str, tiny_text: str) -> None:
    asked = run("models", "import", tiny_vision, "--name", "photos", "--embedding", "--json", repository=tmp_path)
    document = json.loads(asked.stdout)
    assert (document["task"], document["classes"]) == ("embedding", 0)
    assert document["dimensions"] > 0
    done = run("models", "import", tiny_text, "--name", "texts", repository=tmp_path)
    assert done.stdout == "texts:1 is published: embeddings of 16 numbers\n"
    assert run("models", "promote", "texts:1", repository=tmp_path).returncode == 0
    listed = run("models", "list", repository=tmp_path).stdout.splitlines()
    assert [line.split()[-8] for line in listed[2:4]] == [
        "photos:1",
        "champion",
    ]  # no labels are counted before the size
    assert "an embedding of 16 numbers" in run("models", "show", "texts", repository=tmp_path).stdout


def test_the_life_of_an_imported_classifier(tmp_path: Path, tiny_vision: str) -> None:
    imported = run("models", "import", tiny_vision, "--name", "colours", "--json", repository=tmp_path)
    document = json.loads(imported.stdout)
    assert (document["model"], document["version"], document["classes"]) == ("colours", 1, 3)
    assert run("models", "import", tiny_vision, "--name", "colours", repository=tmp_path).returncode == 0

    promoted = run("models", "promote", "colours:1", repository=tmp_path)
    assert promoted.stdout == "colours@champion is now colours:1\n"
    listed = json.loads(run("models", "list", "--json", repository=tmp_path).stdout)["models"]
    assert [(row["model"], row["version"], row["aliases"]) for row in listed] == [
        ("colours", 1, ["champion"]),
        ("colours", 2, []),
    ]
    shown = json.loads(run("models", "show", "colours", "--json", repository=tmp_path).stdout)
    assert shown["number"] == 1
    assert shown["labels"] == ["red", "green", "blue"]
    verified = json.loads(run("models", "verify", "colours:2", "--json", repository=tmp_path).stdout)
    assert verified["intact"] is True

    refused = run("models", "delete", "colours:1", repository=tmp_path)
    assert refused.returncode == 3
    assert "champion" in refused.stderr
    assert run("models", "delete", "colours:2", repository=tmp_path).stdout == "colours:2 is deleted\n"
    backbones = json.loads(run("backbones", "list", "--json", repository=tmp_path).stdout)
    assert [row["used_by"] for row in backbones["stored"]] == [["colours:1"]]


def test_an_alias_moves_forth_and_back_without_a_server(repository: ModelRepository) -> None:
    for _ in range(4):
        publish(repository)
    at = repository.root

    def champion() -> int | None:
        return repository.deployment("flowers").aliases.get("champion")

    assert run("models", "promote", "flowers:3", "--expect", "unset", repository=at).returncode == 0
    done = run("models", "promote", "flowers:4", "--alias", "champion", "--expect", "3", "--json", repository=at)
    assert json.loads(done.stdout) == {"model": "flowers", "alias": "champion", "version": 4, "before": 3}

    refused = run("models", "promote", "flowers:1", "--expect", "3", repository=at)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr == (
        "error: flowers@champion is 4, and not 3: somebody else was quicker; look, and try again\n"
    )
    assert champion() == 4

    assert run("models", "rollback", "flowers", repository=at).stdout == (
        "flowers@champion is now flowers:3, before flowers:4\n"
    )
    assert run("models", "rollback", "flowers", repository=at).returncode == 3
    assert run("models", "keep", "flowers", "latest:3", repository=at).returncode == 0
    assert "flowers  champion  3                latest:3" in run("models", "aliases", repository=at).stdout
    assert run("models", "unalias", "flowers@champion", repository=at).returncode == 0
    assert champion() is None
    assert run("models", "promote", "flowers", repository=at).returncode == 2  # which version, it does not say
    assert run("models", "promote", "flowers:1", "--expect", "newest", repository=at).returncode == 2


def test_an_unknown_backbone_is_one_line_with_near_matches(tmp_path: Path) -> None:
    done = run("models", "import", "timm:resnet5", "--name", "x", repository=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'timm:resnet50'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_version_is_listed_as_such(tmp_path: Path, tiny_vision: str) -> None:
    for _ in range(2):
        assert run("models", "import", tiny_vision, "--name", "colours", repository=tmp_path).returncode == 0
    (tmp_path / "colours" / "1" / "manifest.json").write_text("{}")
    rows = json.loads(run("models", "list", "--json", repository=tmp_path).stdout)["models"]
    assert [bool(row["damaged"]) for row in rows] == [True, False]
    assert "colours:1  damaged" in run("models", "list", repository=tmp_path).stdout
