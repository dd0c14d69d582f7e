"""``inference.GRPCInferenceService``: what each of its methods answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from models.backbone import Modality
from models.errors import BodyTooLarge, GraftworkError, NotSupported
from models.version import check_name
from service.api.catalog import Catalog
from service.api.inference import Inference
from service.api.oip.address import reference
from service.api.oip.grpc_calls import Answer, Call, parse
from service.api.oip.grpc_messages import read_parameters, read_request, read_target, write_answer
from service.api.oip.grpc_scopes import INFERENCE
from service.api.oip.infer import ask
from service.api.oip.metadata import Document
from service.api.oip.metadata_routes import NO_LOG_SETTINGS, NO_SHARED_MEMORY, NO_TRACE, MetadataRoutes
from service.api.oip.model_control import SERVED_AS_IT_IS, ModelControl
from service.api.oip.statistics import Statistics
from service.settings import ServerSettings

_MISSING = {
    "ModelStreamInfer": "streams are not supported; send each request with ModelInfer",
    **dict.fromkeys(
        (f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        NO_SHARED_MEMORY,
    ),
    "TraceSetting": NO_TRACE,
    "LogSettings": NO_LOG_SETTINGS,
}


class InferenceService:
    """The methods.

    Args:
        settings: limits.
        inference: who answers.
        metadata: what server and models say of themselves over HTTP.
        catalog: which versions there are.
        statistics: what was asked of them.
        models: loads and unloads them.
    """

    def __init__(
        self,
        settings: ServerSettings,
        inference: Inference,
        metadata: MetadataRoutes,
        catalog: Catalog,
        statistics: Statistics,
        models: ModelControl,
    ) -> None:
        self._settings = settings
        self._inference = inference
        self._metadata = metadata
        self._catalog = catalog
        self._statistics = statistics
        self._models = models

    def answers(self) -> Mapping[str, Answer]:
        """Who answers a call, by the path of its method."""
        found: dict[str, Answer] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "ModelInfer": self.model_infer,
            "RepositoryIndex": self.repository_index,
            "RepositoryModelLoad": self.repository_model_load,
            "RepositoryModelUnload": self.repository_model_unload,
        }
        found |= {method: _missing(text) for method, text in _MISSING.items()}
        return {f"/{INFERENCE}/{method}": each for method, each in found.items()}

    async def model_infer(self, call: Call) -> Message:
        """``ModelInfer``."""
        data = await call.read()
        target = read_target(data, max_rest_bytes=self._settings.max_image_bytes)
        with self._inference.question(target, call.record) as question:
            question.ticket.take_bytes(len(data))
            if (seconds := call.seconds_left()) is not None:
                question.limit(seconds)
            is_text = question.version.manifest.modality is not Modality.IMAGE
            if is_text and len(data) > self._settings.max_json_bytes:
                raise BodyTooLarge(
                    f"the message has {len(data):,} bytes, over the limit of {self._settings.max_json_bytes:,} for texts"
                )
            request = read_request(data)
            plan, reply = await ask(
                request,
                question,
                max_rows=self._settings.max_instances,
                max_image_bytes=self._settings.max_image_bytes,
            )
        return write_answer(question.version, request, plan.tensors(reply), reply.truncated)

    async def server_live(self, call: Call) -> Message:
        """``ServerLive``: the process answers."""
        return service_pb2.ServerLiveResponse(live=True)

    async def server_ready(self, call: Call) -> Message:
        """``ServerReady``: models are loaded and checked."""
        return service_pb2.ServerReadyResponse(ready=self._catalog.not_ready_reason() is None)

    async def model_ready(self, call: Call) -> Message:
        """``ModelReady``: false also for what is not there, as in Triton."""
        message = parse(service_pb2.ModelReadyRequest, await call.read())
        return service_pb2.ModelReadyResponse(ready=is_model_ready(self._catalog, message.name, message.version))

    async def server_metadata(self, call: Call) -> Message:
        """``ServerMetadata``."""
        return _message(service_pb2.ServerMetadataResponse, self._metadata.server())

    async def model_metadata(self, call: Call) -> Message:
        """``ModelMetadata``."""
        message = parse(service_pb2.ModelMetadataRequest, await call.read())
        document = self._metadata.model(message.name, message.version)
        return _message(service_pb2.ModelMetadataResponse, document)

    async def model_config(self, call: Call) -> Message:
        """``ModelConfig``."""
        message = parse(service_pb2.ModelConfigRequest, await call.read())
        document = self._metadata.config(message.name, message.version)
        return _message(service_pb2.ModelConfigResponse, {"config": document})

    async def model_statistics(self, call: Call) -> Message:
        """``ModelStatistics``."""
        message = parse(service_pb2.ModelStatisticsRequest, await call.read())
        name = check_name(message.name) if message.name else None

        def statistics() -> Message:
            return _message(service_pb2.ModelStatisticsResponse, self._statistics.document(name, message.version))

        return await asyncio.to_thread(statistics)  # of a thousand models

    async def repository_index(self, call: Call) -> Message:
        """``RepositoryIndex``."""
        message = parse(service_pb2.RepositoryIndexRequest, await call.read())
        document = {"models": self._models.index(ready=message.ready)}
        return await asyncio.to_thread(_message, service_pb2.RepositoryIndexResponse, document)  # of a thousand models

    async def repository_model_load(self, call: Call) -> Message:
        """``RepositoryModelLoad``."""
        try:
            message = parse(service_pb2.RepositoryModelLoadRequest, await call.read())
        except BodyTooLarge:  # only files make it so large
            raise NotSupported(SERVED_AS_IT_IS) from None
        name, record = check_name(message.model_name), call.record
        await self._models.load(name, read_parameters(message.parameters), who=record.who, request_id=record.request_id)
        return service_pb2.RepositoryModelLoadResponse()

    async def repository_model_unload(self, call: Call) -> Message:
        """``RepositoryModelUnload``."""
        message = parse(service_pb2.RepositoryModelUnloadRequest, await call.read())
        name, record = check_name(message.model_name), call.record
        await self._models.unload(
            name, read_parameters(message.parameters), who=record.who, request_id=record.request_id
        )
        return service_pb2.RepositoryModelUnloadResponse()


def is_model_ready(catalog: Catalog, name: str, version: str | None) -> bool:
    """Whether requests for a version are answered; false also where there is none."""
    try:
        catalog.entry(reference(name, version))
    except GraftworkError:
        return False
    return True


def _missing(text: str) -> Callable[[Call], Any]:
    async def refuse(call: Call) -> Message:
        raise NotSupported(text)

    return refuse


def _message(kind: type[Message], document: Document) -> Message:
    """The message with the members of a document: HTTP and gRPC say the same."""
    return ParseDict(document, kind())
