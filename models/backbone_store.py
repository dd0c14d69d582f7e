"""Backbones on disk, stored once and named by their content: ``<repository>/.backbones/<digest>/``."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models import storage
from models.backbone import BackboneConfig, backbone_digest
from models.errors import BackboneNotFound, VersionCorrupt

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True)
class StoredBackbone:
    """A backbone on disk."""

    digest: str
    directory: Path
    config: BackboneConfig

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.directory.iterdir())


class BackboneStore:
    """The backbones of one model repository.

    Args:
        root: the ``.backbones`` directory; created when the first backbone is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, checkpoint: Checkpoint) -> StoredBackbone:
        """Stores a checkpoint's backbone, unless it is there already.

        Raises:
            OSError: when the disk is full or read-only; nothing half-written is ever visible.
        """
        from safetensors.torch import save

        state = {name: tensor.contiguous() for name, tensor in sorted(checkpoint.state.items())}
        files = {"config.json": checkpoint.config.to_json(), "model.safetensors": save(state)}
        if checkpoint.tokenizer_json is not None:
            files["tokenizer.json"] = checkpoint.tokenizer_json
        digest = backbone_digest(files)
        target = self.root / digest
        if not target.is_dir():
            self._publish(files, target)
        return StoredBackbone(digest=digest, directory=target, config=checkpoint.config)

    def _publish(self, files: dict[str, bytes], target: Path) -> None:
        staging = self.root / f".staging-{secrets.token_hex(8)}"
        storage.make_directory(staging)
        try:
            for name, data in files.items():
                storage.write_file(staging / name, data)
            storage.sync_directory(staging)
            try:
                storage.rename(staging, target)
            except OSError:
                if not target.is_dir():  # else another process stored the same bytes first
                    raise
            storage.sync_directory(self.root)
        finally:
            storage.remove_tree(staging)

    def get(self, digest: str) -> StoredBackbone:
        """The backbone of a digest.

        Raises:
            BackboneNotFound: it is not in this repository.
        """
        directory = self.root / digest
        if not directory.is_dir():
            raise BackboneNotFound(f"backbone {digest[:12]} is not in this repository; publish its models again")
        config = BackboneConfig.model_validate_json((directory / "config.json").read_bytes())
        return StoredBackbone(digest=digest, directory=directory, config=config)

    def verify(self, digest: str) -> StoredBackbone:
        """As `get`, after reading every byte.

        Raises:
            VersionCorrupt: the files are not those that the digest names.
        """
        stored = self.get(digest)
        names = [p.name for p in stored.directory.iterdir()]
        if backbone_digest({name: storage.sha256_file(stored.directory / name) for name in names}) != digest:
            raise VersionCorrupt(f"backbone {digest[:12]} is damaged on disk; publish its models again")
        return stored

    def list(self) -> Sequence[StoredBackbone]:
        """All backbones, by source name."""
        if not self.root.is_dir():
            return []
        digests = [p.name for p in self.root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        return sorted((self.get(digest) for digest in digests), key=lambda b: (b.config.source, b.digest))
