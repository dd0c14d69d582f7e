"""``graftwork finetune``, ``doctor``, ``samples`` and ``models import``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption

app = typer.Typer()


def import_command(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="timm:MODEL or dir:PATH with a classifier.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Publish a checkpoint's own classifier as a version, without training."""
    from finetune.importing import import_classifier
    from models.repository import ModelRepository

    version = import_classifier(ModelRepository(repository), backbone, name)
    document = {
        "model": version.name,
        "version": version.number,
        "task": version.manifest.task,
        "classes": len(version.manifest.labels),
        "path": str(version.directory),
    }
    print(json.dumps(document) if as_json else f"{version} is published: {len(version.manifest.labels)} classes")
