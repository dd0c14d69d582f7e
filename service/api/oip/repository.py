"""Triton's model repository extension over HTTP."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from models.errors import BodyTooLarge, NotSupported
from models.version import check_name
from service.api.declaration import route
from service.api.document import read_document
from service.api.oip.model_control import SERVED_AS_IT_IS, ModelControl
from service.api.telemetry import RECORD, RequestRecord
from service.auth.key import Scope

MODEL = "/v2/repository/models/{name:model}"
_NOTHING = b"{}"  # what an empty body stands for: not every client sends one


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class IndexRequest(_Document):
    """``ready`` leaves out what is not served."""

    ready: bool = False


class Parameters(_Document):
    """What Triton's clients may say of a load or an unload."""

    parameters: dict[str, Any] = {}


class RepositoryRoutes:
    """The handlers under ``/v2/repository``.

    Args:
        models: what they ask.
    """

    def __init__(self, models: ModelControl) -> None:
        self._models = models

    @route("POST", "/v2/repository/index", scope=Scope.METADATA)
    async def index(self, request: Request) -> Response:
        """``POST /v2/repository/index``: every version of every model, and its state."""
        wanted = await read_document(request, IndexRequest, if_empty=_NOTHING)
        return _json(self._models.index(ready=wanted.ready))

    @route("POST", MODEL + "/load", scope=Scope.ADMIN)
    async def load(self, request: Request) -> Response:
        """``POST /v2/repository/models/{name}/load``: loads a model, and answers once it is served."""
        name = check_name(request.path_params["name"])
        try:
            wanted = await read_document(request, Parameters, if_empty=_NOTHING)
        except BodyTooLarge:  # only files make it so large
            raise NotSupported(SERVED_AS_IT_IS) from None
        record: RequestRecord = request.scope[RECORD]
        await self._models.load(name, wanted.parameters, who=record.who, request_id=record.request_id)
        return _json({})

    @route("POST", MODEL + "/unload", scope=Scope.ADMIN)
    async def unload(self, request: Request) -> Response:
        """``POST /v2/repository/models/{name}/unload``: unloads a model; what is under way is answered."""
        name = check_name(request.path_params["name"])
        wanted = await read_document(request, Parameters, if_empty=_NOTHING)
        record: RequestRecord = request.scope[RECORD]
        await self._models.unload(name, wanted.parameters, who=record.who, request_id=record.request_id)
        return _json({})


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
