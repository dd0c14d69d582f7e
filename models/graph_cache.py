"""Graphs on disk, so that a second start takes seconds."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from models import storage
from models.batch import collate
from models.features import FeatureKind
from models.openvino_library import openvino_library
from models.precision import Precision
from models.sample_batches import sample_rows

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone

BUILD = 3  # to be raised with every change in how a graph is made
CALIBRATION_ROWS = 128
GRAPH, WEIGHTS, CHECKSUM = "graph.xml", "graph.bin", "graph.sha256"


@dataclass(frozen=True, kw_only=True)
class CachedGraph:
    """A graph on disk.

    Attributes:
        file: what OpenVINO reads.
        digest: sha256 (hex) of all that it consists of.
    """

    file: Path
    digest: str


class GraphCache:
    """Exported graphs by backbone, libraries, precision and kind of features.

        <cache_dir>/graphs/<digest of the backbone>/<libraries>-<build>-<precision>-<kind>/graph.xml, .bin, .sha256

    A graph that is not what was written, after a power cut say, is made again.

    Args:
        cache_dir: directories below it are created when the first graph is.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._directory = cache_dir / "graphs"
        self._known: dict[Path, CachedGraph] = {}

    def graph(
        self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED
    ) -> CachedGraph:
        """A backbone's graph, which is made where it is not there yet.

        Raises:
            StorageFailed: the cache cannot be written.
        """
        directory = self._directory / stored.digest
        built_with = f"openvino-{version('openvino')}-nncf-{version('nncf')}-torch-{version('torch')}-{BUILD}"
        target = directory / f"{built_with}-{precision}-{kind}"
        known = self._known.get(target)
        if known is not None and known.file.exists():
            return known
        with suppress(OSError):  # it is not there, or cannot be written
            storage.touch(target)  # first, so that it is not collected while it is read
        digest = _intact(target)
        if digest is None:
            with storage.reporting("the cache of graphs cannot be written"):
                digest = _make(stored, precision, kind, directory, target)
        self._known[target] = CachedGraph(file=target / GRAPH, digest=digest)
        return self._known[target]


def _make(stored: StoredBackbone, precision: Precision, kind: FeatureKind, directory: Path, target: Path) -> str:
    storage.make_directory(directory)
    with storage.staging(directory) as staging:
        _build(stored, precision, kind, staging / GRAPH)
        digest = _digest(staging)
        storage.write_file(staging / CHECKSUM, digest.encode())
        for name in (GRAPH, WEIGHTS):
            storage.sync_file(staging / name)
        storage.sync_directory(staging)
        with storage.locked(directory):
            quicker = _intact(target)
            if quicker is not None:  # another process was
                return quicker
            if target.exists():  # damaged: out of the way, to be swept
                storage.rename(target, storage.unfinished(directory))
            storage.rename(staging, target)
            storage.sync_directory(directory)
    return digest


def _intact(target: Path) -> str | None:
    """The digest of a graph that is what was written; None of any other."""
    try:
        written = (target / CHECKSUM).read_text()
        return written if written == _digest(target) else None
    except (OSError, UnicodeDecodeError):
        return None


def _digest(directory: Path) -> str:
    sums = "".join(storage.sha256_file(directory / name) for name in (GRAPH, WEIGHTS))
    return hashlib.sha256(sums.encode()).hexdigest()


def _build(stored: StoredBackbone, precision: Precision, kind: FeatureKind, file: Path) -> None:
    from models.graph import export_graph, quantize_graph

    rows = sample_rows(stored, CALIBRATION_ROWS)
    graph = export_graph(stored.load(), collate(rows[:2]), [collate(rows[2:5]), collate(rows[5:6])], kind)
    if precision is Precision.INT8:
        graph = quantize_graph(graph, stored.config, [collate([row]) for row in rows])
    openvino_library().save_model(graph, file, compress_to_fp16=False)
