"""``graftwork models`` and ``graftwork backbones``: what lies in the repository."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from models.aligned_table import print_table, size
from models.audit import AuditLog, local_user
from models.deployment_cli import app as deployment_app
from models.housekeeping_cli import app as housekeeping_app
from models.listing import Listing
from models.options import DEFAULT_REPOSITORY, JsonOption, RepositoryOption, example
from models.repository import ModelRepository
from models.version import Reference

app = typer.Typer()
models_app = typer.Typer(no_args_is_help=True, help="List, show, verify, promote, delete and tidy model versions.")
backbones_app = typer.Typer(no_args_is_help=True, help="List the backbones that versions stand on.")
models_app.add_typer(deployment_app)
models_app.add_typer(housekeeping_app)
app.add_typer(models_app, name="models")
app.add_typer(backbones_app, name="backbones")

ReferenceArgument = Annotated[str, typer.Argument(metavar="NAME[:N|@ALIAS]", help="A model or one version of it.")]


@models_app.command("list", epilog=example("graftwork models list", "graftwork models list --json"))
def list_models(repository: RepositoryOption = DEFAULT_REPOSITORY, as_json: JsonOption = False) -> None:
    """List every version in the repository."""
    store = ModelRepository(repository)
    listing = Listing.of(store)
    if as_json:
        print(json.dumps({"models": listing.versions, "disk": listing.disk}))
    elif listing.versions:
        listing.print()
    else:
        print(f"no models in {repository}; make one: graftwork finetune DATA --name NAME")


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
                    size(r["size_bytes"]),
                    str(len(r["used_by"])),
                ]
                for r in rows
            ],
        )
    print(f"without a model hub: {', '.join(available) or 'none; pip install graftwork[embedded]'}")
