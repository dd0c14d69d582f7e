"""An echo on LitServe, as its documentation teaches to write one; see `tests.benchmarks.noop`.

python -m tests.benchmarks.litserve_echo --port 8000 --batch 32
"""

import argparse
from hashlib import sha256
from typing import Any

import litserve


def predictions(texts: list[str]) -> list[dict[str, Any]]:
    return [{"label": sha256(text.encode()).hexdigest(), "score": 1.0} for text in texts]


class Echo(litserve.LitAPI):
    """Answers each text with its sha256."""

    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict) -> list[str]:
        return request["instances"]

    def predict(self, texts: Any) -> Any:
        return predictions(texts)

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        return {"predictions": output}


class BatchedEcho(Echo):
    def predict(self, batch: Any) -> Any:
        return [predictions(texts) for texts in batch]


def main() -> None:
    """Serves until a signal."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.litserve_echo")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1, help="the largest batch")
    parser.add_argument("--window", type=float, default=0.0, help="seconds that a batch is gathered for")
    parser.add_argument("--fast-queue", action="store_true")
    options = parser.parse_args()
    echo = Echo if options.batch == 1 else BatchedEcho
    server = litserve.LitServer(
        echo(max_batch_size=options.batch, batch_timeout=options.window),
        accelerator="cpu",
        fast_queue=options.fast_queue,
    )
    server.run(host="127.0.0.1", port=options.port, generate_client_file=False)


if __name__ == "__main__":
    main()
