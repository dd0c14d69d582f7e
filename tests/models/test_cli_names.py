"""Row H09 on the command line: references that are paths, or would be to a careless reader."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from typer.testing import CliRunner

from graftwork import app
from models.errors import InvalidParameter
from models.repository import ModelRepository
from tests.models.versions import publish
from tests.service.audit import touched_files

NAMES = [
    "",
    ".",
    "..",
    "../flowers",
    "/etc/passwd",
    "a/../flowers",
    "flowers/1",
    "flowers/../flowers",
    "%2e%2e%2f",
    "..\\flowers",
    "flowers\0",
    "\uff0e\uff0e\uff0f",
    "x" * 300,
    " ",
    "flowers ",
    "flowers\n",
    ".backbones",
    "~root",
    "\udcff",
]
COMMANDS: Sequence[tuple[Sequence[str], str]] = [
    (("models", "show"), "{}"),
    (("models", "verify"), "{}"),
    (("models", "delete"), "{}:1"),
    (("models", "promote"), "{}:1"),
    (("models", "rollback"), "{}"),
    (("models", "unalias"), "{}@champion"),
    (("models", "aliases"), "{}"),
    (("models", "show"), "flowers@{}"),
    (("models", "show"), "flowers:{}"),
    (("models", "delete"), "flowers:{}"),
    (("models", "promote"), "flowers@{}"),
    (("models", "unalias"), "flowers@{}"),
]


@pytest.mark.parametrize(
    ("command", "reference"), COMMANDS, ids=lambda each: each if isinstance(each, str) else each[-1]
)
def test_h09_a_reference_that_is_a_path_is_refused_and_touches_no_file(
    command: Sequence[str], reference: str, repository: ModelRepository
) -> None:
    publish(repository)
    arguments = ["--repository", str(repository.root)]

    def ask(name: str) -> BaseException | None:
        return CliRunner().invoke(app, [*command, *arguments, "--", reference.format(name)]).exception

    ask("unheard-of")  # imports what is imported when the first error is made
    before = sorted(repository.root.rglob("*"))
    with touched_files() as touched:
        found = {name: ask(name) for name in NAMES}
    assert {name: type(error) for name, error in found.items()} == dict.fromkeys(NAMES, InvalidParameter)
    assert [path for path in touched if not path.is_relative_to(repository.root)] == []
    assert sorted(repository.root.rglob("*")) == before
