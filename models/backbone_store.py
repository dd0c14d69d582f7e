"""Backbones on disk, stored once and named by their content: ``<repository>/.backbones/<digest>/``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from models import storage
from models.backbone import BackboneConfig, backbone_digest
from models.errors import BackboneNotFound, GraftworkError, InvalidParameter, VersionCorrupt

if TYPE_CHECKING:
    import torch

    from models.checkpoint import Checkpoint
    from models.lstm_backbone import LstmBackbone
    from models.timm_backbone import TimmBackbone
    from models.transformers_backbone import TransformersBackbone

    TorchBackbone: TypeAlias = TimmBackbone | TransformersBackbone | LstmBackbone

FILES = frozenset({"config.json", "model.safetensors", "tokenizer.json"})
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class StoredBackbone:
    """A backbone on disk."""

    digest: str
    directory: Path
    config: BackboneConfig

    def load(self, *, dropout: float | None = None, drop_path: float | None = None) -> TorchBackbone:
        """The backbone in memory: in eval mode, fp32; for training with what `build_backbone` says of it.

        Raises:
            VersionCorrupt: the weights are damaged, or are not those of its architecture.
            InvalidParameter: see `build_backbone`.
        """
        from models.weights import read_weights

        try:
            state = read_weights(self.directory / "model.safetensors")
        except OSError:
            raise _damaged(self.digest) from None
        except ValueError as error:
            raise VersionCorrupt(f"the weights of backbone {self.digest[:12]} are damaged: {error}") from None
        try:
            return build_backbone(self.config, state, dropout=dropout, drop_path=drop_path)
        except (GraftworkError, MemoryError):
            raise
        except Exception as error:  # transformers raises nearly anything
            if "alloc" in str(error):  # of memory, by torch
                raise
            raise VersionCorrupt(
                f"backbone {self.digest[:12]} cannot be built: its weights do not fit its configuration; publish its models again"
            ) from error

    @property
    def size_bytes(self) -> int:
        return _size_bytes(self.directory)


class BackboneStore:
    """The backbones of one model repository.

    Args:
        root: the ``.backbones`` directory; created when the first backbone is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, checkpoint: Checkpoint) -> StoredBackbone:
        """Stores a checkpoint's backbone, unless it is there already and intact; either way it counts as used now.

        Raises:
            StorageFailed: the disk is full or read-only; nothing half-written is ever visible.
        """
        from safetensors.torch import save

        state = {name: tensor.contiguous() for name, tensor in sorted(checkpoint.state.items())}
        files = {"config.json": checkpoint.config.to_json(), "model.safetensors": save(state)}
        if checkpoint.tokenizer_json is not None:
            files["tokenizer.json"] = checkpoint.tokenizer_json
        digest = backbone_digest(files)
        if not (self._mark_used(digest) and self._is_intact(digest)):
            with storage.reporting("the model repository cannot be written"):
                self._publish(digest, files)
        return StoredBackbone(digest=digest, directory=self.root / digest, config=checkpoint.config)

    def _publish(self, digest: str, files: dict[str, bytes]) -> None:
        target = self.root / digest
        storage.make_directory(self.root)
        with storage.staging(self.root) as staging:
            for name, data in files.items():
                storage.write_file(staging / name, data)
            storage.sync_directory(staging)
            with storage.locked(self.root):
                if self._is_intact(digest):  # another process was quicker
                    return
                if target.exists():  # damaged: out of the way, to be swept
                    storage.rename(target, storage.unfinished(self.root))
                storage.rename(staging, target)
                storage.sync_directory(self.root)

    def _mark_used(self, digest: str) -> bool:
        """Keeps a backbone that is there from being collected before the version that it is for; False where it is not."""
        directory = self.root / digest
        if not directory.is_dir():
            return False
        try:
            with storage.locked(self.root):
                storage.touch(directory)
        except FileNotFoundError:
            return False
        except OSError:  # it is there, be it on a disk that cannot be written
            return True
        return True

    @contextmanager
    def held(self, digest: str) -> Iterator[None]:
        """Keeps all backbones where they are while the block runs, which gives one of them a version.

        Whoever removes backbones holds the same directory from the look at all versions to the removal. It is taken after
        that of a model, never before.

        Raises:
            BackboneNotFound: it is not there.
        """
        if not self.root.is_dir():
            raise _missing(digest)
        with storage.locked(self.root):
            if not self._has(digest):
                raise _missing(digest)
            yield

    def digests(self) -> Sequence[str]:
        """Of all backbones that are there, damaged ones too."""
        return sorted(p.name for p in self.root.iterdir() if self._has(p.name)) if self.root.is_dir() else []

    def _has(self, digest: str) -> bool:
        return _DIGEST.fullmatch(digest) is not None and (self.root / digest).is_dir()

    def get(self, digest: str) -> StoredBackbone:
        """The backbone of a digest.

        Raises:
            BackboneNotFound: it is not in this repository.
            VersionCorrupt: its configuration cannot be read.
        """
        directory = self.root / digest
        if not self._has(digest):
            raise _missing(digest)
        if directory.is_symlink():
            raise _damaged(digest)
        try:
            config = BackboneConfig.model_validate_json(storage.read_file(directory / "config.json"))
        except (OSError, ValidationError):
            raise _damaged(digest) from None
        return StoredBackbone(digest=digest, directory=directory, config=config)

    def size_bytes(self, digest: str) -> int:
        """Of a backbone's files; 0 where it is not there."""
        return _size_bytes(self.root / digest) if _DIGEST.fullmatch(digest) else 0

    def verify(self, digest: str) -> StoredBackbone:
        """As `get`, after reading every byte.

        Raises:
            VersionCorrupt: the files are not those that the digest names.
        """
        stored = self.get(digest)
        try:
            sums = {path.name: storage.sha256_file(path) for path in stored.directory.iterdir()}
        except OSError:
            raise _damaged(digest) from None
        if backbone_digest(sums) != digest or not set(sums) <= FILES:
            raise _damaged(digest)
        return stored

    def _is_intact(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except (BackboneNotFound, VersionCorrupt):
            return False
        return True

    def list(self) -> Sequence[StoredBackbone]:
        """All backbones, by source name; damaged ones are left out."""
        found = []
        for directory in self.root.iterdir() if self.root.is_dir() else ():
            with suppress(BackboneNotFound, VersionCorrupt):
                found.append(self.get(directory.name))
        return sorted(found, key=lambda stored: (stored.config.source, stored.digest))


def _size_bytes(directory: Path) -> int:
    with suppress(OSError):
        return sum(file.stat().st_size for file in directory.iterdir())
    return 0


def _missing(digest: str) -> BackboneNotFound:
    return BackboneNotFound(
        f"backbone {digest[:12] if _DIGEST.fullmatch(digest) else 'of no such digest'} is not in this repository; publish its models again"
    )


def _damaged(digest: str) -> VersionCorrupt:
    return VersionCorrupt(f"backbone {digest[:12]} is damaged on disk; publish its models again")


def build_backbone(
    config: BackboneConfig,
    state: dict[str, torch.Tensor],
    *,
    dropout: float | None = None,
    drop_path: float | None = None,
) -> TorchBackbone:
    """Builds the architecture and fills in the weights, strictly.

    What is dropped in training is no part of the configuration, so that a backbone has one identity however it was trained.

    Args:
        config: the architecture.
        state: tensors by parameter name.
        dropout: in training, the share of values that are dropped, wherever the architecture does that; its own without.
        drop_path: in training, the share of residual branches that are dropped in the last block, fewer before it (stochastic
            depth, Huang et al. 2016); the architecture's own without.

    Returns:
        A torch module that is a `Backbone`, in eval mode, fp32.

    Raises:
        RuntimeError: when a name or a shape does not fit.
        InvalidParameter: the architecture has nothing to drop.
    """
    if config.library == "timm":
        from models.timm_backbone import TimmBackbone

        return TimmBackbone(config, state, dropout=dropout, drop_path=drop_path)
    if drop_path:
        raise InvalidParameter(f"{config.source} drops no residual branches; leave drop_path out")
    if config.library == "graftwork":
        from models.lstm_backbone import LstmBackbone

        return LstmBackbone(config, state, dropout=dropout)
    from models.transformers_backbone import TransformersBackbone

    return TransformersBackbone(config, state, dropout=dropout)
