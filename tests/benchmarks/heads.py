"""A thousand heads on one backbone beside one head: throughput, memory, and how soon all of them are served.

Two servers stand side by side, one with a thousand models and one with a single model on the same backbone, and take turns.
Both get the same requests from as many clients, but that those of the first go to a thousand names, one after the other.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from tests.benchmarks.clients import Clients
from tests.benchmarks.report import write
from tests.benchmarks.workload import BACKBONES, Workload, image_workload, text_workload
from tests.faults.figure import Figure
from tests.processes import resident_bytes
from tests.server_process import ServerProcess

if TYPE_CHECKING:
    from models.golden import GoldenSet
    from models.head import Head
    from models.repository import ModelRepository
    from models.version import ModelVersion

HEADS = 1000
CLASSES = (11, *range(2, 11), *range(12, 21))  # of the heads, in turn; the one that is served alone has the mean
CLIENTS = 32
ROUNDS = 5
SECONDS = float(os.environ.get("GRAFTWORK_BENCH_SECONDS", "5"))
SCRAPES = 5
REPORT_BYTES = 40_000  # each of three files that a version brings along, as a job's do, and that a worker checks
NAMES = [f"head-{index:04d}" for index in range(HEADS)]


def publish(
    root: Path, backbone: str, items: Sequence[bytes], names: Sequence[str], *, report_bytes: int = REPORT_BYTES
) -> None:
    """Publishes models with random heads.

    The first one as a job does; the others with its golden features, so that a thousand take seconds.
    """
    import torch

    from finetune.publishing import FittedHead, Graft
    from finetune.publishing import publish as publish_graft
    from models.backbone import Modality
    from models.engine_factory import EngineFactory
    from models.golden import GoldenSet
    from models.head import Head
    from models.options import default_cache_dir
    from models.repository import ModelRepository
    from models.sources import fetch_checkpoint

    repository = ModelRepository(root)
    checkpoint = fetch_checkpoint(backbone)
    stored = repository.backbones.add(checkpoint)
    modality, dim = stored.config.modality, stored.config.feature_dim
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    engines = EngineFactory("cpu", threads=cores, cache_dir=default_cache_dir(os.environ))
    random = torch.Generator().manual_seed(0)
    heads = [
        Head(weight_CD=torch.randn(classes, dim, generator=random) / 10, bias_C=torch.randn(classes, generator=random))
        for classes in (CLASSES[index % len(CLASSES)] for index in range(len(names)))
    ]
    template = publish_graft(
        repository,
        Graft(
            name=names[0],
            backbone=stored,
            preprocessor=checkpoint.preprocessor,
            heads={
                precision: FittedHead(engine=engines.build(stored, precision), head=heads[0])
                for precision in reversed(engines.precisions(stored))
            },
            labels=_labels(heads[0]),
            golden_items=[item if modality is Modality.IMAGE else item.decode() for item in items[:4]],
            report={f"report/{index}.bin": os.urandom(report_bytes) for index in range(3)},
        ),
    )
    golden = [GoldenSet.read(template.directory, modality, precision) for precision in template.manifest.heads]
    for name, head in zip(names[1:], heads[1:], strict=True):
        _publish_like(repository, template, golden, name, head)


def _publish_like(
    repository: ModelRepository, template: ModelVersion, golden: Sequence[GoldenSet], name: str, head: Head
) -> None:
    from models.head import scores_by_head

    files = {path: (template.directory / path).read_bytes() for path in template.manifest.files}
    for each in golden:
        count = len(each.items)
        scores = scores_by_head(each.features_VD, [head] * count, [1.0] * count)
        files |= dataclasses.replace(each, scores_VC=[scores_C.tolist() for scores_C in scores]).files()
        files[each.precision.file("head.safetensors")] = head.to_bytes()
    manifest = template.manifest.model_copy(update={"name": name, "labels": _labels(head)})
    repository.publish(manifest, files, check=lambda directory: None)


def _labels(head: Head) -> tuple[str, ...]:
    return tuple(f"label-{index}" for index in range(len(head.bias_C)))


class Server(ServerProcess):
    """A server that is ready; ``seconds`` says how long that took."""

    def __post_init__(self) -> None:
        started = time.perf_counter()
        super().__post_init__()
        try:
            self.wait_until_ready()
        except BaseException:
            self.destroy()
            raise
        self.seconds = time.perf_counter() - started

    def worker_megabytes(self) -> float:
        """Resident memory of its worker."""
        (pid,) = self.workers()
        return resident_bytes(pid) / 1e6

    def seconds_of(self, path: str) -> float:
        """The median time that a GET takes."""
        seconds = []
        for _ in range(SCRAPES):
            started = time.perf_counter()
            assert self.request("GET", path).status == 200
            seconds.append(time.perf_counter() - started)
        return statistics.median(seconds)


def measure(workload: Workload, one: Server, many: Server) -> list[Figure]:
    """All figures of one modality."""
    memory = one.worker_megabytes(), many.worker_megabytes()
    alone, spread = (
        Clients(server.port, workload, [f"/v1/models/{name}:predict?top_k=1" for name in names])
        for server, names in ((one, NAMES[:1]), (many, NAMES))
    )
    for clients in (alone, spread):
        clients.run(CLIENTS, 2.0)
    rates = [(alone.run(CLIENTS, SECONDS)[0], spread.run(CLIENTS, SECONDS)[0]) for _ in range(ROUNDS)]
    for clients in (alone, spread):
        clients.close()
    for name in NAMES:  # so that each of them has all its metrics
        headers = {"content-type": workload.content_type}
        assert many.request("POST", f"/v1/models/{name}:predict", workload.bodies[0], headers).status == 200
    kind = workload.name.removesuffix("s")
    reported = {
        f"one_head_{workload.name}": (statistics.median(a for a, _ in rates), workload.unit),
        f"thousand_heads_{workload.name}": (statistics.median(s for _, s in rates), workload.unit),
        f"one_{kind}_head_ready": (one.seconds, "s"),
        f"thousand_{kind}_heads_ready": (many.seconds, "s"),
        f"one_{kind}_head_worker_memory": (memory[0], "MB"),
        f"thousand_{kind}_heads_worker_memory": (memory[1], "MB"),
        f"thousand_{kind}_heads_metrics": (many.seconds_of("/metrics"), "s"),
    }
    name = "thousand_heads_over_one" if workload.name == "texts" else f"thousand_{kind}_heads_over_one"
    ratio = statistics.median(s / a for a, s in rates)
    return [
        Figure(goal="", name=name, value=ratio, unit="ratio", relation=">=", bar=0.9),
        *(Figure(goal="", name=name, value=value, unit=unit) for name, (value, unit) in reported.items()),
    ]


def run(directory: Path, workload: Workload) -> list[Figure]:
    """Publishes, starts both servers, measures, and prints a table."""
    backbone = BACKBONES[workload.name]
    publish(directory / "one", backbone, workload.items, NAMES[:1])
    publish(directory / "many", backbone, workload.items, NAMES)
    Server(repository=directory / "one").destroy()  # so that neither of the two has to choose an engine
    one = Server(repository=directory / "one")
    try:
        many = Server(repository=directory / "many")
        try:
            figures = measure(workload, one, many)
        finally:
            many.destroy()
    finally:
        one.destroy()
    title = f"{workload.name}: {HEADS:,} heads of 2 to 20 classes beside one, {CLIENTS} clients"
    table = Table("figure", "value", title=title, box=box.SIMPLE_HEAD)
    for figure in figures:
        table.add_row(figure.name, f"{figure.value:.4g} {figure.unit}")
    Console().print(table)
    return figures


def main() -> None:
    """Runs the benchmark and adds its figures to ``build/bench.json``."""
    with tempfile.TemporaryDirectory() as scratch:
        for workload in (text_workload(Path(scratch)), image_workload()):
            write(run(Path(scratch) / workload.name, workload))


if __name__ == "__main__":
    main()
