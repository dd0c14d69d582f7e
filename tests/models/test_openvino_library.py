from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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


AT_ONCE = """
import os, sys, threading
import numpy
from models.openvino_library import openvino_runtime

sys.setswitchinterval(1e-6)
graph = openvino_runtime().compile_model(sys.argv[1], "CPU")
requests = [graph.create_infer_request() for _ in range(4)]
together = threading.Barrier(len(requests))

def infer(request):
    together.wait()
    request.infer([numpy.zeros((1, 3, 64, 64), numpy.uint8)], share_inputs=True)

threads = [threading.Thread(target=infer, args=(request,)) for request in requests]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, tiny_vision: str) -> Path:
    directory = tmp_path_factory.mktemp("graph")
    stored = BackboneStore(directory / "backbones").add(fetch_checkpoint(tiny_vision))
    return GraphCache(directory / "cache").graph(stored, Precision.FP32).file


def test_the_first_batches_of_a_process_may_come_from_several_threads(graph: Path) -> None:
    subprocess.run([sys.executable, "-c", AT_ONCE, str(graph)], check=True, timeout=60)


def test_a_signal_arrives_after_graphs_have_come_and_gone(graph: Path) -> None:
    # With its fault handler Python has a stack for signals; so has every process of pytest.
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", INTERRUPTED, str(graph)], check=True)
