"""What the real command line makes of a command in a manifest, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from graftwork import app


def parsed(words: Sequence[str]) -> Mapping[str, Any]:
    """The values of all options of a command such as ``graftwork serve --port 8000``.

    Raises:
        Exception: typer's own, where there is no such command or option, or a value is none that it may have.
    """
    program, *rest = words
    assert program == "graftwork"
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    values: Mapping[str, Any] = command.make_context(command.name, rest).params
    return values


def environment() -> set[str]:
    """Every variable that a command reads in place of an option."""

    def found(command: Any) -> set[str]:
        below = (found(each) for each in getattr(command, "commands", {}).values())
        return {p.envvar for p in command.params if p.envvar}.union(*below)

    return found(typer.main.get_command(app))
