"""What was asked of each version, and how long it took: Triton's statistics extension."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models.version import check_name
from service.api.catalog import Catalog
from service.api.catalog_model import CatalogModel, CatalogVersion
from service.api.declaration import route
from service.api.metrics import Metrics
from service.api.oip.address import reference
from service.api.request_counts import BatchCounts, Durations, VersionCounts
from service.auth.key import Scope


class Statistics:
    """The document of the extension, for HTTP and gRPC; nothing in it is estimated.

    Triton's ``compute_input`` is what a row takes to be prepared, ``compute_infer`` what its batch takes; making the answer is
    part of that, so ``compute_output`` takes no time.

    Args:
        catalog: which versions there are.
        metrics: what is counted of them.
    """

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics

    def document(self, name: str | None = None, version: str | None = None) -> dict[str, Any]:
        """The statistics of every version that is served, or of a model's, or of one version; in any thread.

        Args:
            name: of a model. None and "" stand for none.
            version: a number or an alias; likewise.

        Returns:
            What becomes JSON, and with `google.protobuf.json_format.ParseDict` a ``ModelStatisticsResponse``.

        Raises:
            ModelNotFound, VersionNotFound, InvalidParameter: there is none.
            VersionNotLoaded, NotReady, VersionCorrupt: the version is not served.
        """
        if name and version:
            entries: Iterable[CatalogVersion] = [self._catalog.entry(reference(name, version))]
        elif name:
            entries = _served(self._catalog.model(check_name(name)))
        else:
            models = self._catalog.models
            entries = [entry for name in sorted(models) for entry in _served(models[name])]
        counted = self._metrics.versions
        nothing = VersionCounts()
        return {"model_stats": [_model_stats(e, counted.get((e.name, str(e.number)), nothing)) for e in entries]}


def _served(model: CatalogModel) -> Iterable[CatalogVersion]:
    return [entry for _, entry in sorted(model.versions.items()) if entry.is_served]


def _model_stats(entry: CatalogVersion, counts: VersionCounts) -> dict[str, Any]:
    ok, ended = counts.outcomes["ok"], counts.outcomes.total()
    answered = counts.compute.count
    return {
        "name": entry.name,
        "version": str(entry.number),
        "last_inference": counts.last_answer_ms,
        "inference_count": counts.rows,
        "execution_count": counts.executions,
        "inference_stats": {
            "success": _duration(ok, counts.ok_seconds),
            "fail": _duration(ended - ok, counts.failed_seconds),
            "queue": _durations(counts.queue),
            "compute_input": _durations(counts.decode),
            "compute_infer": _durations(counts.compute),
            "compute_output": _duration(answered, 0.0),
            "cache_hit": _duration(0, 0.0),
            "cache_miss": _duration(0, 0.0),
        },
        "response_stats": {},
        "batch_stats": [_batch_stats(rows, counts.batches[rows]) for rows in sorted(counts.batches)],
        "memory_usage": [],
    }


def _batch_stats(rows: int, same: BatchCounts) -> dict[str, Any]:
    nothing = _duration(same.count, 0.0)
    infer = _duration(same.count, same.seconds)
    return {"batch_size": rows, "compute_input": nothing, "compute_infer": infer, "compute_output": nothing}


def _durations(durations: Durations) -> dict[str, int]:
    return _duration(durations.count, durations.sum)


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}


class StatisticsRoutes:
    """The handlers of the statistics extension.

    The first path is no model called ``stats``: that one has its statistics at ``/v2/models/stats/stats``.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics

    @route("GET", "/v2/models/stats", scope=Scope.METADATA)
    async def all_statistics(self, request: Request) -> Response:
        """``GET /v2/models/stats``: of every version that is served."""
        return _json(await asyncio.to_thread(self._statistics.document))  # megabytes, of a thousand models

    @route(
        "GET",
        "/v2/models/{name:model}/stats",
        "/v2/models/{name:model}/versions/{version}/stats",
        scope=Scope.METADATA,
    )
    async def model_statistics(self, request: Request) -> Response:
        """``GET /v2/models/{name}[/versions/{version}]/stats``: of a model's versions that are served, or of one."""
        return _json(self._statistics.document(request.path_params["name"], request.path_params.get("version")))


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
