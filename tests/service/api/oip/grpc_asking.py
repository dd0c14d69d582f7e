"""Calls over gRPC to an application in this process, or to a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from service.api.oip.grpc_scopes import MODEL_INFER
from service.api.oip.tensor import pack_elements


def text_request(*texts: bytes, model: str = "letters", outputs: Sequence[str] = (), **members: Any) -> Any:
    """A request as tritonclient sends it: the texts are raw."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[len(texts)])
    wanted = [service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs]
    raw = [pack_elements(texts)]
    return service_pb2.ModelInferRequest(
        model_name=model, inputs=[tensor], outputs=wanted, raw_input_contents=raw, **members
    )


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[Any]:
    """A connection of its own, closed at the end."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}",
        options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)],
    ) as made:
        yield made


class Answered:
    """What came of a call.

    Attributes:
        status: its name, such as ``OK``.
        details: of a refusal: ``code: text``.
        data: of the message, where there is one.
        trailers: the metadata at the end.
    """

    def __init__(self, status: str, details: str, data: bytes, trailers: Mapping[str, str]) -> None:
        self.status = status
        self.details = details
        self.data = data
        self.trailers = trailers

    @property
    def code(self) -> str:
        """Of the error."""
        return self.details.partition(":")[0]

    def inference(self) -> Any:
        assert self.status == "OK", self.details
        return service_pb2.ModelInferResponse.FromString(self.data)


async def ask(
    made: Any,
    message: Any,
    path: str = MODEL_INFER,
    *,
    metadata: Mapping[str, str] | None = None,
    timeout: float | None = 20.0,
) -> Answered:
    """One call; a message that is bytes already is sent as it is."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    call = made.unary_unary(path)(data, metadata=tuple((metadata or {}).items()), timeout=timeout)
    try:
        answer, status, details = await call, "OK", ""
    except grpc.aio.AioRpcError as error:
        answer, status, details = b"", error.code().name, error.details() or ""
    return Answered(status, details, answer, dict(await call.trailing_metadata() or ()))
