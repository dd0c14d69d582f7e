"""All versions of a repository, and what they take of the disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import storage
from models.aligned_table import print_table, size
from models.backbone_use import backbones_in_use
from models.errors import GraftworkError
from models.repository import ModelRepository

_HEADER = ("model", "aliases", "labels", "accuracy", "size", "backbone", "its size", "created")
_UNKNOWN = dict.fromkeys(
    (
        "task",
        "modality",
        "classes",
        "accuracy",
        "precisions",
        "backbone",
        "backbone_digest",
        "backbone_size_bytes",
        "size_bytes",
        "created_at",
    )
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What ``graftwork models list`` shows, as plain JSON.

    Attributes:
        versions: one for each; ``damaged`` says why one cannot be used, and the rest is then unknown.
        disk: bytes of all versions, of all backbones, and of those backbones that surely no version stands on.
    """

    versions: Sequence[Mapping[str, Any]]
    disk: Mapping[str, int]

    @classmethod
    def of(cls, store: ModelRepository) -> Listing:
        """Looks at every version."""
        sizes = {digest: storage.size_of(store.backbones.root / digest) for digest in store.backbones.digests()}
        versions = [
            _version(store, name, number, sizes) for name, numbers in store.all_numbers().items() for number in numbers
        ]
        unnamed = sizes.keys() - {version["backbone_digest"] for version in versions}
        if unnamed:
            use = backbones_in_use(store)
            unnamed = {digest for digest in unnamed if not use.needs(digest)}
        disk = {
            "versions_bytes": sum(
                storage.size_of(Path(version["path"])) if version["size_bytes"] is None else version["size_bytes"]
                for version in versions
            ),
            "backbones_bytes": sum(sizes.values()),
            "unreferenced_bytes": sum(sizes[digest] for digest in unnamed),
        }
        return cls(versions=versions, disk=disk)

    def print(self) -> None:
        """A table for people, with totals below."""
        print_table(_HEADER, list(self._lines()))
        totals = f"{size(self.disk['versions_bytes'])} of versions, {size(self.disk['backbones_bytes'])} of backbones"
        unreferenced = self.disk["unreferenced_bytes"]
        print(totals + (f"; {size(unreferenced)} belong to no version: graftwork models gc" if unreferenced else ""))

    def _lines(self) -> Iterator[Sequence[str]]:
        """Each backbone has its size in the first of its lines."""
        told: set[str] = set()
        for version in self.versions:
            name, digest = f"{version['model']}:{version['version']}", version["backbone_digest"]
            if version["damaged"] is not None:
                yield [name, "damaged", *[""] * (len(_HEADER) - 2)]
                continue
            accuracy, backbone_size = version["accuracy"], version["backbone_size_bytes"]
            yield [
                name,
                " ".join(version["aliases"]),
                str(version["classes"] or ""),
                "" if accuracy is None else f"{accuracy:.3f}",
                size(version["size_bytes"]),
                version["backbone"],
                "" if digest in told else "missing" if backbone_size is None else size(backbone_size),
                version["created_at"][:16].replace("T", " "),
            ]
            told.add(digest)


def _version(store: ModelRepository, name: str, number: int, backbone_sizes: Mapping[str, int]) -> Mapping[str, Any]:
    row: dict[str, Any] = {"model": name, "version": number, "damaged": None, "aliases": []}
    try:
        manifest = store.read(name, number).manifest
        aliases = store.deployment(name).aliases
    except GraftworkError as error:
        return {**row, **_UNKNOWN, "damaged": error.message, "path": str(store.root / name / str(number))}
    return {
        **row,
        "aliases": sorted(alias for alias, target in aliases.items() if target == number),
        "task": manifest.task,
        "modality": manifest.modality,
        "classes": len(manifest.labels),
        "accuracy": manifest.reference.metrics.get("accuracy"),
        "precisions": [precision for precision, head in manifest.heads.items() if head.refused is None],
        "backbone": manifest.backbone.source,
        "backbone_digest": manifest.backbone.digest,
        "backbone_size_bytes": backbone_sizes.get(manifest.backbone.digest),
        "size_bytes": sum(entry.size_bytes for entry in manifest.files.values()),
        "created_at": manifest.created_at.isoformat(),
        "path": str(store.root / name / str(number)),
    }
