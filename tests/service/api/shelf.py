"""A model repository without a disk."""

from __future__ import annotations

from pathlib import Path

from models.deployment import Deployment
from models.errors import VersionCorrupt
from models.version import ModelVersion
from tests.tiny_models import text_manifest

Key = tuple[str, int]


class Shelf:
    """Versions and aliases by name."""

    def __init__(self) -> None:
        self.on_disk: dict[str, list[int]] = {}
        self.aliases: dict[str, dict[str, int]] = {}
        self.unreadable: dict[Key, str] = {}
        self.unreadable_aliases: tuple[str, ...] = ()
        self.keep: dict[str, str] = {}
        self.backbone_of: dict[Key, str] = {}
        self.bytes_of: dict[str, int] = {}
        self.backbones = self
        self.changes = 0

    def size_bytes(self, digest: str) -> int:
        """Of a backbone."""
        return self.bytes_of.get(digest, 1)

    def publish(self, name: str, number: int) -> None:
        self.on_disk.setdefault(name, []).append(number)
        self.changes += 1

    def promote(self, name: str, alias: str, number: int) -> None:
        self.aliases[name] = {**self.aliases.get(name, {}), alias: number}
        self.changes += 1

    def delete(self, name: str, number: int) -> None:
        self.on_disk[name].remove(number)
        self.changes += 1

    def vanish(self) -> None:
        """As a volume that is not mounted any more."""
        self.on_disk, self.changes = {}, 0

    def generation(self) -> bytes:
        return str(self.changes).encode() if self.changes else b""

    def all_numbers(self) -> dict[str, list[int]]:
        return {name: sorted(numbers) for name, numbers in sorted(self.on_disk.items()) if numbers}

    def read(self, name: str, number: int) -> ModelVersion:
        if (name, number) in self.unreadable:
            raise VersionCorrupt(self.unreadable[name, number])
        manifest = text_manifest(name, number)
        if (name, number) in self.backbone_of:
            reference = manifest.backbone.model_copy(update={"digest": self.backbone_of[name, number]})
            manifest = manifest.model_copy(update={"backbone": reference})
        return ModelVersion(name=name, number=number, directory=Path("."), manifest=manifest)

    def deployment(self, name: str) -> Deployment:
        if name in self.unreadable_aliases:
            raise VersionCorrupt("the aliases are damaged")
        return Deployment(aliases=self.aliases.get(name, {}), keep=self.keep.get(name, "latest:2"))
