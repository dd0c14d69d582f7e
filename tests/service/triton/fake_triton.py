"""A Triton whose features encode its inputs, and whose faults are a test's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from models.backbone import BackboneConfig, Modality
from service.triton.backbone_model import DIGEST_PARAMETER, BackboneModel
from service.triton.fleet import TritonFleet
from service.triton.triton_server import Tensors
from tests.processes import free_port

DIGEST = "0123456789abcdef" * 4
TEXTS = BackboneConfig(source="hf:y", library="transformers", architecture="y", modality=Modality.TEXT, feature_dim=2)
CONTRACT = BackboneModel.of(DIGEST, TEXTS)
DEADLINE = 60.0

Fault = tuple[grpc.StatusCode, str]
CONNECTION_BROKE: Fault = (grpc.StatusCode.UNAVAILABLE, "Socket closed")
GIVEN_UP: Fault = (grpc.StatusCode.CANCELLED, "CANCELLED")
QUEUE_FULL: Fault = (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
LATE: Fault = (grpc.StatusCode.UNAVAILABLE, "Request timeout expired")
REFUSED: Fault = (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape")
BUG: Fault = (grpc.StatusCode.INTERNAL, "the model failed")
UNKNOWN_MODEL: Fault = (grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'x' is not found")


@dataclass(kw_only=True)
class Held:
    """What a backbone on it is."""

    digest: str = DIGEST
    max_batch_size: int = 4
    instances: int = 1
    input_type: int = model_config_pb2.TYPE_INT64
    shift: float = 0.0  # of its features: other weights
    empty: bool = False  # features, as a python backend with numpy 2 gives them
    fails: bool = False  # whatever it is asked


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """One server with one backbone: the features of a row are its first token and how many it has.

    Attributes:
        held: what it says of its backbone; None where it has none.
        batches: the first tokens of each batch that it was asked for, but for those of checks, which are 0.
        faults: what the next inferences get instead of an answer.
        gate: closed, it answers no inference.
        left: seconds to the deadline that each batch came with, by gRPC, and for Triton's queue.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"127.0.0.1:{self.port}"
        self.held: Held | None = Held()
        self.is_ready = True
        self.batches: list[list[int]] = []
        self.faults: list[Fault] = []
        self.left: list[tuple[float, float]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._server: Any = None

    def start(self) -> None:
        # Without it, a port that another process has just taken would be shared with that one.
        self._server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        assert self._server.add_insecure_port(self.url) == self.port
        self._server.start()

    def stop(self) -> None:
        """At once: connections break."""
        self._server.stop(grace=None).wait()

    def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=self.is_ready)

    def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=self.held is not None and request.name == CONTRACT.name)

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert self.held is not None
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=self.held.max_batch_size)
        for spec in CONTRACT.inputs:
            config.input.add(name=spec.name, data_type=self.held.input_type, dims=spec.dims)
        config.output.add(name=CONTRACT.output.name, data_type=model_config_pb2.TYPE_FP32, dims=CONTRACT.output.dims)
        config.parameters[DIGEST_PARAMETER].string_value = self.held.digest
        config.instance_group.add(count=self.held.instances)
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        rows, length = request.inputs[0].shape
        ids_BT = np.frombuffer(request.raw_input_contents[0], np.int64).reshape(rows, length)
        assert self.held is not None
        assert rows <= self.held.max_batch_size
        if self.held.fails:
            context.abort(*BUG)
        if ids_BT.any():
            self.batches.append(ids_BT[:, 0].tolist())
            self.left.append((context.time_remaining(), request.parameters["timeout"].int64_param / 1e6))
            if self.faults:
                context.abort(*self.faults.pop(0))
            self.gate.wait(30)
        features_BD = np.stack([ids_BT[:, 0], (ids_BT != 0).sum(1)], axis=1).astype(np.float32) + self.held.shift
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        shape = [0] if self.held.empty else features_BD.shape
        response.outputs.add(name=CONTRACT.output.name, datatype="FP32", shape=shape)
        response.raw_output_contents.append(b"" if self.held.empty else features_BD.tobytes())
        return response


def tensors(*first: int, length: int = 3) -> Tensors:
    """A batch of texts, of which each begins with another token."""
    ids_BT = np.ones((len(first), length), dtype=np.int64)
    ids_BT[:, 0] = first
    return {spec.name: ids_BT for spec in CONTRACT.inputs}


SAMPLE: Tensors = {name: 0 * each for name, each in tensors(1).items()}


@contextmanager
def fake_fleet(count: int = 1, *, prepare: Callable[[Sequence[FakeTriton]], None] = lambda _: None) -> Iterator[Any]:
    """``(fleet, servers)``, until the end of the block.

    Args:
        prepare: called with the servers before they start.
    """
    servers = [FakeTriton() for _ in range(count)]
    prepare(servers)
    for server in servers:
        server.start()
    fleet = TritonFleet([server.url for server in servers])
    try:
        yield fleet, servers
    finally:
        fleet.close()
        for server in servers:
            server.gate.set()
            server.stop()
