"""What offloading adds to a batch: the way to a Triton on this machine and back, for a backbone that computes nothing.

    python -m tests.benchmarks.offload

It is gRPC, Triton's own work, and the copies between it and its python backend, beside no time at all for an engine in the worker.
It needs the environment of `.ci/run`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from models.backbone import BackboneConfig, Modality
from service.export.outline import Outline
from service.export.triton_config import TritonModel
from service.triton.backbone_model import DIGEST_PARAMETER, VERSION, BackboneModel
from service.triton.fleet import TritonFleet
from service.triton.triton_server import Tensors
from tests.benchmarks.report import write
from tests.faults.figure import Figure
from tests.service.triton.triton_process import TritonProcess, ready_triton

BATCHES = (1, 8, 32)
TOKENS = 64
ROUNDS = 300
KINDS = {
    "images": BackboneConfig(
        source="none",
        library="timm",
        architecture="none",
        modality=Modality.IMAGE,
        feature_dim=1280,
        options={"input_size": [3, 224, 224]},
    ),
    "texts": BackboneConfig(
        source="none", library="transformers", architecture="none", modality=Modality.TEXT, feature_dim=384
    ),
}
NOTHING = """
import numpy
import triton_python_backend_utils as triton


class TritonPythonModel:
    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(each, "INPUT").as_numpy().shape[0] for each in requests]
        features = [triton.Tensor("features", numpy.zeros((count, WIDTH), numpy.float32)) for count in rows]
        return [triton.InferenceResponse([each]) for each in features]
"""


def write_model(contract: BackboneModel, repository: Path) -> None:
    """A model of Triton that has the tensors of a backbone."""
    model = TritonModel(
        name=contract.name,
        outline=Outline.of_backbone(contract),
        backend="python",
        delay_microseconds=0,
        parameters={DIGEST_PARAMETER: contract.digest},
    )
    model.write(repository / contract.name)
    folder = repository / contract.name / VERSION
    folder.mkdir()
    width = str(contract.output.dims[-1])
    (folder / "model.py").write_text(NOTHING.replace("INPUT", contract.inputs[0].name).replace("WIDTH", width))


def tensors(contract: BackboneModel, rows: int) -> Tensors:
    types = {"UINT8": np.uint8, "INT64": np.int64, "FP32": np.float32}
    return {
        spec.name: np.ones((rows, *(TOKENS if size == -1 else size for size in spec.dims)), types[spec.datatype])
        for spec in contract.inputs
    }


def measure(kind: str, contract: BackboneModel, triton: TritonProcess, table: Table) -> list[Figure]:
    """The figures of one kind of rows."""
    fleet = TritonFleet([triton.url])
    model = fleet.open(contract, tensors(contract, 1))
    figures = []
    for rows in BATCHES:
        batch = tensors(contract, rows)
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            fleet.infer(model, batch, None)
            seconds.append(time.perf_counter() - started)
        least, median = 1e3 * min(seconds), 1e3 * statistics.median(seconds)
        size = sum(each.nbytes for each in batch.values())
        table.add_row(kind, str(rows), f"{size / 1e3:.0f}", f"{least:.1f}", f"{median:.1f}")
        figures.append(Figure(goal="", name=f"offload_adds_{kind}_b{rows}", value=median, unit="ms a batch"))
    fleet.close()
    return figures


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    table = Table("", "rows", "kB", "least", "median", title="ms a batch", box=box.SIMPLE_HEAD)
    contracts = {
        kind: BackboneModel.of(f"{number:064x}"[::-1], config) for number, (kind, config) in enumerate(KINDS.items(), 1)
    }
    with tempfile.TemporaryDirectory() as scratch:
        for contract in contracts.values():
            write_model(contract, Path(scratch))
        with ready_triton(Path(scratch)) as triton:
            figures = [figure for kind, each in contracts.items() for figure in measure(kind, each, triton, table)]
    Console().print(table)
    write(figures)


if __name__ == "__main__":
    main()
