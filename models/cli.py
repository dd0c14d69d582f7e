"""``graftwork models`` and ``graftwork backbones``: what lies in the repository."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from models.audit import AuditLog, local_user
from models.deployment_cli import app as deployment_app
from models.errors import GraftworkError
from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption, example
from models.repository import ModelRepository
from models.table import print_table
from models.version import Reference

app = typer.Typer()
models_app = typer.Typer(no_args_is_help=True, help="List, show, verify, promote and delete model versions.")
backbones_app = typer.Typer(no_args_is_help=True, help="List the backbones that versions stand on.")
app.add_typer(models_app, name="models")
models_app.add_typer(deployment_app)
app.add_typer(backbones_app, name="backbones")

ReferenceArgument = Annotated[str, typer.Argument(metavar="NAME[:N|@ALIAS]", help="A model or one version of it.")]


@models_app.command("list", epilog=example("graftwork models list", "graftwork models list --json"))
def list_models(repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False) -> None:
    """List every version in the repository."""
    store = ModelRepository(repository)
    rows = [_row(store, name, number) for name in store.names() for number in store.numbers(name)]
    if as_json:
        print(json.dumps({"models": rows}))
        return
    if not rows:
        print(f"no models in {repository}; make one: graftwork finetune DATA --name NAME")
        return
    print_table(
        ["model", "aliases", "labels", "accuracy", "backbone", "size", "created"], [_cells(row) for row in rows]
    )


def _cells(row: dict[str, Any]) -> list[str]:
    name = f"{row['model']}:{row['version']}"
    if row["damaged"] is not None:
        return [name, "damaged", "", "", "", "", ""]
    return [
        name,
        " ".join(row["aliases"]),
        str(row["classes"]),
        "" if row["accuracy"] is None else f"{row['accuracy']:.3f}",
        row["backbone"],
        _size(row["size_bytes"]),
        row["created_at"][:16].replace("T", " "),
    ]


@models_app.command("show", epilog=example("graftwork models show flowers", "graftwork models show flowers:3 --json"))
def show(
    reference: ReferenceArgument, repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False
) -> None:
    """Show what a version says of itself."""
    version = ModelRepository(repository).resolve(Reference.parse(reference))
    if as_json:
        print(version.manifest.model_dump_json())
        return
    card = version.directory / "README.md"
    print(f"{version}  ({version.directory})\n")
    print(card.read_text() if card.is_file() else version.manifest.model_dump_json(indent=2))


@models_app.command("verify", epilog=example("graftwork models verify flowers:3"))
def verify(
    reference: ReferenceArgument, repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False
) -> None:
    """Read every byte of a version and of its backbone, and compare checksums."""
    store = ModelRepository(repository)
    version = store.resolve(Reference.parse(reference))
    store.verify(version)
    store.backbones.verify(version.manifest.backbone.digest)
    print(
        json.dumps({"model": version.name, "version": version.number, "intact": True})
        if as_json
        else f"{version} is intact"
    )


@models_app.command("delete", epilog=example("graftwork models delete flowers:2"))
def delete(
    reference: Annotated[str, typer.Argument(metavar="NAME:N", help="One version.")],
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    as_json: JsonOption = False,
) -> None:
    """Delete one version; its number is never given out again."""
    parsed = Reference.parse(reference)
    if parsed.number is None:
        raise typer.BadParameter("name one version to delete, such as flowers:2")
    with AuditLog(repository).recording(local_user(), "models.delete", target=str(parsed)):
        version = ModelRepository(repository).delete(parsed)
    document = {"model": version.name, "version": version.number, "deleted": True}
    print(json.dumps(document) if as_json else f"{version} is deleted")


@backbones_app.command("list", epilog=example("graftwork backbones list"))
def list_backbones(repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False) -> None:
    """List stored backbones, and those that can be had without a model hub."""
    from models.embedded import EMBEDDED, embedded_directory

    store = ModelRepository(repository)
    users: dict[str, list[str]] = {}
    for name in store.names():
        for version in store.versions(name):
            users.setdefault(version.manifest.backbone.digest, []).append(str(version))
    rows: list[dict[str, Any]] = [
        {
            "name": stored.config.source,
            "digest": stored.digest,
            "modality": stored.config.modality,
            "feature_dim": stored.config.feature_dim,
            "size_bytes": stored.size_bytes,
            "used_by": users.get(stored.digest, []),
        }
        for stored in store.backbones.list()
    ]
    available = [name for name in EMBEDDED if embedded_directory(name) is not None]
    if as_json:
        print(json.dumps({"stored": rows, "embedded": available}))
        return
    if rows:
        print_table(
            ["backbone", "digest", "reads", "features", "size", "versions"],
            [
                [
                    r["name"],
                    r["digest"][:12],
                    r["modality"],
                    str(r["feature_dim"]),
                    _size(r["size_bytes"]),
                    str(len(r["used_by"])),
                ]
                for r in rows
            ],
        )
    print(f"without a model hub: {', '.join(available) or 'none; pip install graftwork[embedded]'}")


def _row(store: ModelRepository, name: str, number: int) -> dict[str, Any]:
    """A version as JSON; ``damaged`` says why one cannot be used, and the rest is then unknown."""
    row: dict[str, Any] = {"model": name, "version": number, "damaged": None, "aliases": []}
    try:
        manifest = store.read(name, number).manifest
        aliases = store.deployment(name).aliases
    except GraftworkError as error:
        unknown = dict.fromkeys(
            ("task", "modality", "classes", "accuracy", "precisions", "backbone", "size_bytes", "created_at")
        )
        return {**row, **unknown, "damaged": error.message, "path": str(store.root / name / str(number))}
    return {
        **row,
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "task": manifest.task,
        "modality": manifest.modality,
        "classes": len(manifest.labels),
        "accuracy": manifest.reference.metrics.get("accuracy"),
        "precisions": [precision for precision, head in manifest.heads.items() if head.refused is None],
        "backbone": manifest.backbone.source,
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "created_at": manifest.created_at.isoformat(),
        "path": str(store.root / name / str(number)),
    }


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
