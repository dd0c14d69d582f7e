"""What a server is told when it starts; read once, at the edge, and passed on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field

from models.options import PrecisionName, ServingEngineName, default_cache_dir
from service.http.limits import ConnectionLimits


class ServerSettings(BaseModel):
    """The server's settings.

    Attributes:
        keys: the file that holds the keys; ``.keys.json`` in the repository without.
        grpc_port: where gRPC is served; nowhere without.
        device: ``auto`` takes every GPU that is there, else the CPU.
        engine: what computes features; ``auto`` takes the fastest that gives the right ones, and ``triton`` asks others.
        triton_urls: the Triton servers that are asked then, ``HOST:PORT`` of their gRPC.
        precision: ``auto`` takes int8 for versions that may serve in it, where it is faster.
        cache_dir: where graphs of backbones are kept, and which engine is the fastest.
        workers: engine workers per device.
        request_timeout_seconds: a request that takes longer gets 504.
        drain_delay_seconds: how long a stopping server says that it is not ready before it takes no new connections,
            so that a load balancer can notice.
        drain_seconds: how long it then waits for the answers that it owes.
        max_json_bytes: the largest JSON body for text models. Images in JSON count against ``max_image_bytes``, and so do lists
            to be embedded, whose model stands in the body.
        max_image_bytes: the largest body for image models.
        max_tensor_bytes: the largest body of tensors for image models, in the Open Inference Protocol.
        max_instances: rows in one request.
        max_rows_in_flight: rows accepted and not yet answered; above it requests get 503. Without it, four batches a worker,
            and for each Triton server.
        max_bytes_in_flight: bytes of bodies that arrived and are not yet answered; above it requests get 503.
        worker_timeout_seconds: a worker that was not heard for so long hangs, and is replaced. (It is heard each second.)
        max_batch_rows: rows in one batch on the device.
        admin: whether versions can be promoted, rolled back and deleted over HTTP.
        backbone_memory: bytes of backbones that a worker may hold. Without it, workers on a CPU share half of the memory of the
            machine or the container, and those on a GPU have no limit.
        triton_metrics: whether ``/metrics`` has the names of Triton's metrics too.
        model_control: ``auto`` serves every model in the repository, ``explicit`` those that are loaded by their names.
        load_models: those that are loaded at the start, where they are loaded by their names; ``*`` for all.
        tei_model: the one that TEI's routes speak for: a name, ``name:number``, ``name@alias``, or a backbone's name. Without it,
            the language backbone that is loaded, where it is the only one.
        traces: whether requests are traced, and exported to where OpenTelemetry's variables say.
        connections: what one client connection may cost, and how many there may be.
        max_grpc_connections: of clients over gRPC; more are closed.
        max_grpc_calls: over gRPC that are being read or answered; more get UNAVAILABLE before they are read. Each may send a
            message of ``max_tensor_bytes``, whatever its method, which gRPC gathers before any of it is seen and which counts
            against ``max_bytes_in_flight`` only then. Without a key, only health calls are read, a few of them at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: Path
    keys: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1024, le=65535)
    grpc_port: int | None = Field(default=None, ge=1024, le=65535)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: ServingEngineName = "auto"
    triton_urls: tuple[str, ...] = ()
    precision: PrecisionName = "auto"
    cache_dir: Path = Field(default_factory=lambda: default_cache_dir(os.environ))
    workers: int = Field(default=1, ge=1, le=64)
    request_timeout_seconds: float = Field(default=30.0, gt=0)
    drain_delay_seconds: float = Field(default=1.0, ge=0)
    drain_seconds: int = Field(default=30, ge=0)
    max_json_bytes: int = 2 << 20
    max_image_bytes: int = 16 << 20
    max_tensor_bytes: int = 64 << 20
    max_instances: int = 64
    max_rows_in_flight: int | None = Field(default=None, ge=1)
    max_bytes_in_flight: int = 256 << 20
    worker_timeout_seconds: float = Field(default=10.0, ge=2)
    max_batch_rows: int = 32
    admin: bool = False
    backbone_memory: ByteSize | None = Field(default=None, gt=0)
    triton_metrics: bool = False
    model_control: Literal["auto", "explicit"] = "auto"
    load_models: tuple[str, ...] = ()
    tei_model: str | None = None
    traces: bool = False
    connections: ConnectionLimits = ConnectionLimits()
    max_grpc_connections: int = Field(default=256, ge=1)
    max_grpc_calls: int = Field(default=1024, ge=1)
