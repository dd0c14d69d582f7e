"""A version of ours on mosec: its engine, preprocessor and head behind mosec's server; see `tests.benchmarks.peers`.

MOSEC_MODEL=images MOSEC_REPOSITORY=dir MOSEC_BATCH=8 python -m tests.benchmarks.mosec_model --port 8000
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mosec import Server, Worker

STREAMS = int(os.environ.get("MOSEC_WORKERS", "1"))


class Model(Worker):
    """Prepares and computes the requests of a batch; each of several workers has its share of the cores."""

    def __init__(self) -> None:
        super().__init__()
        import torch

        from models.engine_factory import EngineFactory
        from models.options import default_cache_dir
        from models.repository import ModelRepository
        from service.worker.registry import Registry

        threads = max(1, len(os.sched_getaffinity(0)) // STREAMS)
        torch.set_num_threads(threads)
        engines = EngineFactory("cpu", threads=threads, cache_dir=default_cache_dir(os.environ))
        registry = Registry(ModelRepository(Path(os.environ["MOSEC_REPOSITORY"])), engines)
        version = registry.load(os.environ["MOSEC_MODEL"], 1)
        self.predictor = version.predictor
        self.is_text = version.manifest.modality == "text"

    def deserialize(self, data: bytes) -> Any:
        """The body: an image file, or texts in JSON."""
        return super().deserialize(data)["instances"][0] if self.is_text else bytes(data)

    def forward(self, data: Any) -> Any:
        batch = data if isinstance(data, list) else [data]
        labels = self.predictor.labels
        answers = []
        for scores in self.predictor.predict(batch).tolist():
            best = max(range(len(scores)), key=scores.__getitem__)
            answers.append({"predictions": [{"label": labels[best], "score": scores[best]}]})
        return answers if isinstance(data, list) else answers[0]


def main() -> None:
    """Serves until a signal."""
    server = Server()
    batch = int(os.environ.get("MOSEC_BATCH", "1"))
    server.append_worker(Model, num=STREAMS, max_batch_size=batch, max_wait_time=1, timeout=60)
    server.run()


if __name__ == "__main__":
    main()
