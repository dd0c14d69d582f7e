"""Graphs on disk, so that a second start takes seconds."""

from __future__ import annotations

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

BUILD = 1  # to be raised with every change in how a graph is made
CALIBRATION_ROWS = 128


class GraphCache:
    """Exported graphs by backbone, engine, precision and kind of features.

        <cache_dir>/graphs/<digest of the backbone>/<engine>-<build>-<precision>-<kind>/graph.xml

    Args:
        cache_dir: directories below it are created when the first graph is.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._directory = cache_dir / "graphs"

    def graph(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Path:
        """The file of a graph, which is made where it is not there yet.

        Raises:
            StorageFailed: the cache cannot be written.
        """
        directory = self._directory / stored.digest
        built_with = f"openvino-{version('openvino')}-nncf-{version('nncf')}-torch-{version('torch')}-{BUILD}"
        target = directory / f"{built_with}-{precision}-{kind}"
        graph = target / "graph.xml"
        if not graph.exists():
            with storage.reporting("the cache of graphs cannot be written"):
                storage.make_directory(directory)
                with storage.staging(directory) as staging:
                    _build(stored, precision, kind, staging / "graph.xml")
                    with storage.locked(directory):
                        if not graph.exists():  # another process was quicker
                            storage.rename(staging, target)
        return graph


def _build(stored: StoredBackbone, precision: Precision, kind: FeatureKind, file: Path) -> None:
    from models.graph import export_graph, quantize_graph

    rows = sample_rows(stored, CALIBRATION_ROWS)
    graph = export_graph(stored.load(), collate(rows[:2]), kind)
    if precision is Precision.INT8:
        graph = quantize_graph(graph, stored.config, [collate([row]) for row in rows])
    openvino_library().save_model(graph, file, compress_to_fp16=False)
