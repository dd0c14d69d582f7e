"""An echo on mosec; see `tests.benchmarks.noop`. mosec reads the rest of the command line itself.

MOSEC_ECHO_BATCH=32 python -m tests.benchmarks.mosec_echo --port 8000 --wait 1
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Any

from mosec import Server, Worker


def predictions(request: Any) -> dict[str, Any]:
    labels = [sha256(text.encode()).hexdigest() for text in request["instances"]]
    return {"predictions": [{"label": label, "score": 1.0} for label in labels]}


class Echo(Worker):
    """Answers each text with its sha256."""

    def forward(self, data: Any) -> Any:
        return predictions(data)


class BatchedEcho(Worker):
    def forward(self, data: Any) -> Any:
        return [predictions(request) for request in data]


def main() -> None:
    """Serves until a signal."""
    batch = int(os.environ.get("MOSEC_ECHO_BATCH", "1"))
    server = Server()
    server.append_worker(Echo if batch == 1 else BatchedEcho, max_batch_size=batch)
    server.run()


if __name__ == "__main__":
    main()
