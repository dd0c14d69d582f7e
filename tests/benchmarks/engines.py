"""Rows a second of a backbone in torch, OpenVINO and ONNX Runtime, in fp32 and in int8, by the size of a batch; one thread.

    python -m tests.benchmarks.engines

ONNX Runtime is no dependency of ours: this is what decided so. To measure it too, with the same graph, and quantized by its
own tools (images statically on the same rows, texts dynamically, which was faster):

    .venv/bin/pip install onnxruntime onnx onnxscript
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from models.backbone_store import BackboneStore, StoredBackbone
from models.batch import Batch, Row, TextRow, collate
from models.features import FeatureKind
from models.graph import graph_inputs, torch_graph
from models.graph_cache import CALIBRATION_ROWS, GraphCache
from models.openvino_engine import OpenVinoEngine
from models.options import default_cache_dir
from models.precision import Precision
from models.preprocessor import build_preprocessor
from models.sample_batches import sample_rows
from models.sources import fetch_checkpoint
from models.torch_engine import TorchEngine
from tests.benchmarks.report import write
from tests.benchmarks.workload import BACKBONES, Workload, image_workload, text_workload
from tests.faults.figure import Figure

BATCHES = (1, 8, 32)
ROUNDS = 5
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "2"))

Run = Callable[[Batch], object]


def contestants(stored: StoredBackbone, directory: Path) -> dict[str, Run]:
    """Each runs a batch to its features."""

    def run(engine: Any) -> Run:
        return lambda batch: engine.features(batch, FeatureKind.POOLED)

    found = {"torch fp32": run(TorchEngine(stored.load()))}
    graphs = GraphCache(default_cache_dir(os.environ))
    for precision in Precision:
        graph = graphs.graph(stored, precision)
        engine = OpenVinoEngine(graph, stored.config, precision, streams=1, threads=1)
        found[f"OpenVINO {precision}"] = run(engine)
    if all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx", "onnxscript")):
        return found | onnx_contestants(stored, directory)
    print(f"ONNX Runtime is not installed, so its figures are left out; the start of {__file__} says how to have them")
    return found


def onnx_contestants(stored: StoredBackbone, directory: Path) -> dict[str, Run]:
    import onnxruntime
    from onnxruntime.quantization import QuantFormat, quantize_dynamic, quantize_static

    rows = sample_rows(stored, CALIBRATION_ROWS)
    example = graph_inputs(collate(rows[:2]))
    names = [f"input_{index}" for index in range(len(example))]
    size, length = torch.export.Dim("rows"), torch.export.Dim("tokens")
    shapes = tuple({0: size} if len(example) == 1 else {0: size, 1: length} for _ in example)
    file = directory / "fp32.onnx"
    module = torch_graph(stored.load(), collate(rows[:2]))
    torch.onnx.export(module, example, file, dynamo=True, dynamic_shapes=shapes, input_names=names, verbose=False)

    def feed(batch: Batch) -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in zip(names, graph_inputs(batch), strict=True)}

    quantized = directory / "int8.onnx"
    if len(example) > 1:
        quantize_dynamic(file, quantized, per_channel=True)
    else:
        samples = (feed(collate([row])) for row in rows)
        reader = SimpleNamespace(get_next=lambda: next(samples, None))
        quantize_static(file, quantized, reader, quant_format=QuantFormat.QDQ, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def run(file: Path) -> Run:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        return lambda batch: session.run(None, feed(batch))

    return {"ONNX Runtime fp32": run(file), "ONNX Runtime int8": run(quantized)}


def rate(run: Run, batches: Sequence[Batch], rows: int) -> float:
    done, turn = 0, itertools.cycle(batches)
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < SECONDS:
        run(next(turn))
        done += rows
    return done / elapsed


def compare(workload: Workload, directory: Path, console: Console) -> list[Figure]:
    """The figures of one workload: all take turns."""
    checkpoint = fetch_checkpoint(BACKBONES[workload.name])
    stored = BackboneStore(directory / "backbones").add(checkpoint)
    preprocessor = build_preprocessor(checkpoint.preprocessor, stored.directory)
    is_text = checkpoint.tokenizer_json is not None
    rows: list[Row] = [preprocessor.prepare(item.decode() if is_text else item) for item in workload.items]
    rows.sort(key=lambda row: len(row.ids) if isinstance(row, TextRow) else 0)
    runs = contestants(stored, directory)
    table = Table("engine", *(f"batches of {size}" for size in BATCHES), title=workload.unit, box=box.SIMPLE_HEAD)
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for size in BATCHES:
        batches = [collate(rows[start : start + size]) for start in range(0, len(rows) - size + 1, size)]
        for run in runs.values():
            run(batches[-1])
        with console.status(f"{workload.name}, batches of {size}"):
            rounds = [[rate(run, batches, size) for run in runs.values()] for _ in range(ROUNDS)]
        for name, each in zip(runs, zip(*rounds, strict=True), strict=True):
            rates[name].append(statistics.median(each))
    for name, each in rates.items():
        table.add_row(name, *(f"{value:.0f}" for value in each))
    console.print(table)
    return [
        Figure(
            goal="", name=f"engine_{name}_{workload.name}_b{size}".replace(" ", "_"), value=value, unit=workload.unit
        )
        for name, each in rates.items()
        for size, value in zip(BATCHES, each, strict=True)
    ]


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for workload in (image_workload(), text_workload(Path(scratch))):
            directory = Path(scratch) / workload.name
            directory.mkdir()
            write(compare(workload, directory, Console()))


if __name__ == "__main__":
    main()
