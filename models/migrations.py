"""Documents of older schemas in today's: a chain of small steps for each kind of document, and the walk over a repository.

A step is a pure function from the document of one schema to that of the next. It keeps what is known and makes nothing up:
where the next schema asks for what is not there, it says so. Readers never migrate; only ``graftwork models migrate`` writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from models import deployment, manifest, storage
from models.deployment import Deployment
from models.errors import VersionCorrupt
from models.manifest import Manifest
from models.repository import CANNOT_WRITE, MANIFEST, ModelRepository

Document: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[Document], Document]


def heads_by_precision(document: Document) -> Document:
    """Manifest, 1 to 2: what is said of the one head is said of the head for fp32, and there may be others."""
    if "golden/features.safetensors" not in document["files"]:
        raise VersionCorrupt("it has kept no golden features to be checked by; publish the model again")
    own = ("engine", "calibration", "training", "metrics")
    head = {key: document[key] for key in own if key in document}
    return {**{key: value for key, value in document.items() if key not in own}, "heads": {"fp32": head}}


def training_of_any_strategy(document: Document) -> Document:
    """Manifest, 2 to 3: all heads were probes for one label, chosen by cross-validation; now a head says so."""
    if document["task"] != "single-label":
        raise VersionCorrupt("its calibration is that of a single label; publish the model again")
    heads = {
        precision: {**head, "training": _as_cross_validated(head["training"])} if head.get("training") else head
        for precision, head in document["heads"].items()
    }
    return {**document, "heads": heads}


def _as_cross_validated(training: Document) -> Document:
    return {
        "strategy": training["strategy"],
        "seed": training["seed"],
        "settings": {key: training[key] for key in ("regularisation_c", "feature_scaling")},
        "validated_on": "cross-validation",
        "validation_metric": "accuracy",
        "validation_score": training["cross_validated_accuracy"],
        "validation_loss": training["cross_validated_log_loss"],
        "folds": training["folds"],
    }


def unknown_label_changes(document: Document) -> Document:
    """Manifest, 3 to 4: how labels differ from those of the version before is recorded from now on."""
    return {**document, "label_changes": None}


def aliases_without_a_past(document: Document) -> Document:
    """Deployment, 1 to 2: where aliases pointed before is remembered from now on, and what is kept loaded can be said."""
    return {**document, "earlier": {}}


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The way to today's schema of one kind of document.

    Attributes:
        model: reads today's.
        schema: today's number.
        newest: up to which documents are read as they are.
        cure: of a damaged document.
        steps: the first from schema 1 to 2, the next from 2 to 3.
    """

    model: type[BaseModel]
    schema: int
    newest: int
    cure: str
    steps: Sequence[Step]

    def migrated(self, data: bytes) -> tuple[int, BaseModel]:
        """The schema that a document is in, and the document as it is read today.

        Raises:
            VersionCorrupt: it is damaged, of a newer schema, or lacks what a step would need; says what to do.
        """
        try:
            document = json.loads(data)
            found = document["schema_version"]
            if type(found) is not int or found < 1:
                raise ValueError("no schema")
            if found > self.newest:
                raise VersionCorrupt(f"written in schema {found}, this is {self.newest}; upgrade graftwork")
            for step in self.steps[found - 1 :]:
                document = step(document)
            document = {**document, "schema_version": max(found, self.schema)}
            return found, self.model.model_validate_json(json.dumps(document))
        except (ValidationError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise VersionCorrupt(f"damaged; {self.cure}") from None


MANIFESTS = Chain(
    model=Manifest,
    schema=manifest.SCHEMA_VERSION,
    newest=manifest.SCHEMAS[-1],
    cure="publish the model again",
    steps=(heads_by_precision, training_of_any_strategy, unknown_label_changes),
)
DEPLOYMENTS = Chain(
    model=Deployment,
    schema=deployment.SCHEMA_VERSION,
    newest=deployment.SCHEMA_VERSION,
    cure="delete its deployment.json",
    steps=(aliases_without_a_past,),
)


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """A document that is, or cannot be, brought to today's schema.

    Attributes:
        name: a version such as ``flowers:3``, or ``aliases of flowers``.
        found: the schema that it was in; None where it stays as it is.
        schema: today's.
        problem: why it stays as it is, and what to do; None where it was migrated.
    """

    name: str
    found: int | None
    schema: int
    problem: str | None = None


def migrate(repository: ModelRepository, *, dry_run: bool = False) -> Sequence[Migrated]:
    """Rewrites every document of an older schema, each in one step.

    Args:
        repository: need not exist.
        dry_run: only looks.

    Returns:
        What was migrated and what cannot be; nothing of documents that are in today's schema and whole.

    Raises:
        StorageFailed: the disk is full or read-only; each document is what it was, or migrated.
    """
    found: list[Migrated] = []
    try:
        with storage.reporting(CANNOT_WRITE):
            for name in repository.names():
                directory = repository.root / name
                with storage.locked(directory):
                    for chain, file, called in _documents(repository, name):
                        one = _migrate_file(chain, file, called, directory, dry_run)
                        found += [] if one is None else [one]
    finally:
        if not dry_run and any(one.problem is None for one in found):
            with storage.reporting("documents are migrated, but running servers may not know of it yet"):
                repository.announce()
    return found


def _documents(repository: ModelRepository, name: str) -> Iterator[tuple[Chain, Path, str]]:
    directory = repository.root / name
    for number in repository.numbers(name):
        yield MANIFESTS, directory / str(number) / MANIFEST, f"{name}:{number}"
    if (directory / "deployment.json").exists():
        yield DEPLOYMENTS, directory / "deployment.json", f"aliases of {name}"


def _read(file: Path) -> bytes:
    """Its bytes; none where it cannot be read, which is no reason to leave the others as they are."""
    with suppress(OSError):
        return file.read_bytes()
    return b""


def _migrate_file(chain: Chain, file: Path, name: str, directory: Path, dry_run: bool) -> Migrated | None:
    """None of a document that is in today's schema."""
    try:
        found, model = chain.migrated(_read(file))
    except VersionCorrupt as error:
        return Migrated(name=name, found=None, schema=chain.schema, problem=error.message)
    if found >= chain.schema:
        return None
    if not dry_run:
        # Not beside the file: what an interrupted step left in a version would be no part of it.
        storage.replace_file(file, model.model_dump_json(indent=1).encode(), staged_in=directory)
    return Migrated(name=name, found=found, schema=chain.schema)
