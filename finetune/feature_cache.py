"""Features on disk, so that the second head on the same data costs seconds.

    <cache_dir>/features/<sha256 of the identity>/<first two digits of the key>/<key>.safetensors

An entry is one batch as the engine saw it. Nothing depends on an entry being there: a missing or damaged one is
computed again. Its modification time says when it was last used (`models.garbage`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models import storage


class FeatureCache:
    """Batches of features by identity and key.

    An identity says what a feature depends on beside its input: backbone, engine, preprocessor. A key says which inputs
    were in the batch.

    Args:
        cache_dir: directories below it are created when the first entry is written.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._directory = cache_dir / "features"

    def read(self, identity: str, key: str, *, rows: int) -> npt.NDArray[np.float32] | None:
        """An entry ``(rows, D)``; None where there is none, or one that is damaged in any way."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        file = self._file(identity, key)
        try:
            tensors = load(file.read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None
        features_BD, checksum = tensors.get("features"), tensors.get("sha256")
        if features_BD is None or checksum is None or features_BD.dtype != np.float32:
            return None
        if features_BD.ndim != 2 or len(features_BD) != rows or checksum.tobytes() != _sha256(features_BD):
            return None
        with suppress(OSError):  # of a cache that cannot be written
            storage.touch(file)
        return features_BD

    def write(self, identity: str, key: str, features_BD: npt.NDArray[np.float32]) -> None:
        """Stores an entry; a reader sees all of it or nothing.

        Raises:
            OSError: the disk is full or read-only.
        """
        from safetensors.numpy import save

        features_BD = np.ascontiguousarray(features_BD)
        file = self._file(identity, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        staged = file.with_name(f".{key}.{secrets.token_hex(4)}")
        try:
            # Not synced to the disk: the checksum tells what a power cut left behind.
            staged.write_bytes(
                save({"features": features_BD, "sha256": np.frombuffer(_sha256(features_BD), dtype=np.uint8)})
            )
            os.replace(staged, file)
        except OSError:
            staged.unlink(missing_ok=True)
            raise

    def _file(self, identity: str, key: str) -> Path:
        return self._directory / hashlib.sha256(identity.encode()).hexdigest() / key[:2] / f"{key}.safetensors"


def _sha256(features_BD: npt.NDArray[np.float32]) -> bytes:
    return hashlib.sha256(features_BD.tobytes()).digest()
