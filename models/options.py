"""Command-line options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RepositoryOption: TypeAlias = Annotated[
    Path,
    typer.Option("--repository", envvar="GRAFTWORK_REPOSITORY", help="Where model versions lie.", show_default=True),
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

DEFAULT_REPOSITORY = Path("model-repository")


def example(*commands: str) -> str:
    """The epilogue of a command's help: commands that can be typed as they are."""
    return "**Examples**\n\n" + "\n\n".join(f"`{command}`" for command in commands)
