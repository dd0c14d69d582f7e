"""A real server that serves gRPC as well, and Triton's client to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from tests.server_process import ServerProcess


class Spoken:
    """The server and the client.

    Attributes:
        port: of gRPC.
    """

    def __init__(self, server: ServerProcess, port: int) -> None:
        self.server = server
        self.port = port
        self.client = triton.InferenceServerClient(f"127.0.0.1:{port}")

    def infer(self, model: str, inputs: Mapping[str, NDArray[Any]], *outputs: str, **options: Any) -> Any:
        """An inference; arrays of objects are sent as bytes."""
        tensors = [tensor(name, values) for name, values in inputs.items()]
        wanted = [triton.InferRequestedOutput(name) for name in outputs] or None
        return self.client.infer(model, tensors, outputs=wanted, **options)

    def predictions(self, model: str, instances: Sequence[object]) -> Any:
        """What V1 says."""
        reply = self.server.predict(model, instances)
        assert reply.status == 200, reply.body
        return reply.json()["predictions"]


def tensor(name: str, values: NDArray[Any]) -> Any:
    names = {"O": "BYTES", "f": "FP32", "u": "UINT8"}
    made = triton.InferInput(name, values.shape, names[values.dtype.kind])
    made.set_data_from_numpy(values)
    return made


def words(*texts: str | bytes) -> NDArray[Any]:
    return np.array([text.encode() if isinstance(text, str) else text for text in texts], dtype=object)
