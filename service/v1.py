"""Prediction routes in the dialect of KServe V1 and TensorFlow Serving."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models.backbone import Modality
from models.errors import DeadlineExceeded, InvalidParameter, Overloaded
from models.version import ModelVersion, Reference, check_alias, check_name, parse_number
from service.body import read_body, read_instances
from service.catalog import Catalog, CatalogModel
from service.metrics import Metrics
from service.settings import ServerSettings
from service.telemetry import RequestRecord
from service.workers import WorkerPool


class V1Routes:
    """The handlers under ``/v1``.

    Args:
        settings: limits.
        catalog: which versions there are.
        pool: who answers.
        metrics: what is counted.
    """

    def __init__(self, settings: ServerSettings, catalog: Catalog, pool: WorkerPool, metrics: Metrics) -> None:
        self._settings = settings
        self._catalog = catalog
        self._pool = pool
        self._metrics = metrics
        self._rows_in_flight = 0

    async def predict(self, request: Request) -> Response:
        """``POST /v1/models/{name}:predict``, also below ``/versions/{number}`` and ``/labels/{alias}``."""
        record: RequestRecord = request.scope["graftwork"]
        record.counted = True
        with self._metrics.in_flight.track_inprogress():
            version = self._catalog.resolve(_reference(request.path_params))
            record.model, record.version = version.name, str(version.number)
            return await self._answer(request, record, version)

    async def _answer(self, request: Request, record: RequestRecord, version: ModelVersion) -> Response:
        settings, modality = self._settings, version.manifest.modality
        top_k, truncate = _options(request.query_params)
        limit = settings.max_image_bytes if modality is Modality.IMAGE else settings.max_json_bytes
        deadline = asyncio.timeout(settings.request_timeout_seconds)
        try:
            async with deadline:
                body = await read_body(request, limit)
                items = read_instances(body, request.headers, modality, max_instances=settings.max_instances)
                self._admit(len(items))
                try:
                    reply = await self._pool.predict(
                        version.name, version.number, items, top_k=top_k, truncate=truncate
                    )
                finally:
                    self._release(len(items))
        except TimeoutError:
            if not deadline.expired():
                raise
            raise DeadlineExceeded(f"there was no answer within {settings.request_timeout_seconds:g} s") from None
        self._metrics.observe_answer(record.model, record.version, len(items), reply.timings)
        tail = orjson.dumps({"model": version.name, "version": version.number, "request_id": record.request_id})
        return Response(b'{"predictions":%s,%s' % (reply.predictions, tail[1:]), media_type="application/json")

    def _admit(self, rows: int) -> None:
        if self._rows_in_flight + rows > self._settings.max_rows_in_flight:
            raise Overloaded("the server is full; try again shortly")
        self._rows_in_flight += rows
        self._metrics.rows_in_flight.set(self._rows_in_flight)

    def _release(self, rows: int) -> None:
        self._rows_in_flight -= rows
        self._metrics.rows_in_flight.set(self._rows_in_flight)

    async def list_models(self, request: Request) -> Response:
        """``GET /v1/models``: the names of all models."""
        return _json({"models": sorted(self._catalog.models)})

    async def model_status(self, request: Request) -> Response:
        """``GET /v1/models/{name}``: its versions and their states."""
        name = check_name(request.path_params["name"])
        model = self._catalog.model(name)
        return _json({"name": name, **_status(model)})

    async def model_metadata(self, request: Request) -> Response:
        """``GET /v1/models/{name}/metadata``: the manifest of the version that an unaddressed request would get."""
        version = self._catalog.resolve(Reference(name=check_name(request.path_params["name"])))
        return _json(version.manifest.model_dump(mode="json"))


def _status(model: CatalogModel) -> dict[str, object]:
    return {
        "ready": any(entry.state == "ready" for entry in model.versions.values()),
        "default_version": model.default,
        "aliases": model.routes,
        "versions": [
            {"version": number, "state": entry.state, **({"reason": entry.reason} if entry.reason else {})}
            for number, entry in sorted(model.versions.items())
        ],
    }


def _reference(path: Mapping[str, str]) -> Reference:
    name = check_name(path["name"])
    if "number" in path:
        return Reference(name=name, number=parse_number(path["number"]))
    if "alias" in path:
        return Reference(name=name, alias=check_alias(path["alias"]))
    return Reference(name=name)


def _options(query: Mapping[str, str]) -> tuple[int | None, bool]:
    """``top_k`` and ``truncate``; other parameters are ignored."""
    top_k = query.get("top_k")
    if top_k is not None and not (top_k.isascii() and top_k.isdecimal() and int(top_k[:9]) >= 1 and len(top_k) < 10):
        raise InvalidParameter("top_k must be a whole number from 1")
    truncate = query.get("truncate", "false").lower()
    if truncate not in ("true", "false"):
        raise InvalidParameter("truncate must be true or false")
    return None if top_k is None else int(top_k), truncate == "true"


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
