from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from models.backbone_store import BackboneStore
from models.graph_cache import GraphCache
from models.precision import Precision
from models.sources import fetch_checkpoint

INTERRUPTED = """
import signal, sys
from models.openvino_library import openvino_runtime

graphs = [openvino_runtime().compile_model(sys.argv[1], "CPU") for _ in range(2)]
del graphs[0], graphs[0]
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
signal.raise_signal(signal.SIGINT)
assert seen == [signal.SIGINT]
"""


def test_a_signal_arrives_after_graphs_have_come_and_gone(tmp_path: Path, tiny_vision: str) -> None:
    stored = BackboneStore(tmp_path / "backbones").add(fetch_checkpoint(tiny_vision))
    graph = GraphCache(tmp_path / "cache").graph(stored, Precision.FP32)
    # With its fault handler Python has a stack for signals; so has every process of pytest.
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, str(graph)], check=True)
