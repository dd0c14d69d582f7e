"""The API process: routes, and what lives as long as they do."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import orjson
from fastapi import FastAPI
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models.errors import GraftworkError, NotReady
from models.repository import ModelRepository
from service.catalog import Catalog
from service.metrics import Metrics
from service.problems import from_http_exception, problem
from service.settings import ServerSettings
from service.telemetry import RequestRecord, Telemetry
from service.v1 import V1Routes
from service.workers import WorkerPool

logger = logging.getLogger(__name__)

DRAIN_SIGNAL = signal.SIGUSR1  # the parent says with it that the server is about to stop

Handler = Callable[[Request], Awaitable[Response]]


class Application:
    """Everything in the API process but the HTTP server itself.

    Args:
        settings: the server's settings.
        version: of Graftwork.
        worker_socket: a listening local socket; engine workers connect to it.
    """

    def __init__(self, settings: ServerSettings, version: str, worker_socket: socket.socket) -> None:
        self._settings = settings
        self._worker_socket = worker_socket
        self._metrics = Metrics(version)
        self._catalog = Catalog(ModelRepository(settings.repository), self._metrics)
        self._pool = WorkerPool(self._metrics, self._catalog.on_connect)
        self._catalog.connections = self._pool.connections
        self.cut_off = 0  # requests that were accepted, but not answered in the time to drain
        self._v1 = V1Routes(settings, self._catalog, self._pool, self._metrics)

    def mount(self, app: FastAPI) -> None:
        """Adds the routes, the error responses and the telemetry to an application."""
        v1 = self._v1
        app.router.redirect_slashes = False  # the target would be built from a Host header that anyone can send
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/v1/models/{name}:predict", v1.predict),
            ("POST", "/v1/models/{name}/versions/{number}:predict", v1.predict),
            ("POST", "/v1/models/{name}/labels/{alias}:predict", v1.predict),
            ("GET", "/v1/models", v1.list_models),
            ("GET", "/v1/models/{name:model}", v1.model_status),
            ("GET", "/v1/models/{name:model}/metadata", v1.model_metadata),
            ("GET", "/health/live", self.live),
            ("GET", "/health/ready", self.ready),
            # The same two questions as clients of the Open Inference Protocol ask them; only the status counts there.
            ("GET", "/v2/health/live", self.live),
            ("GET", "/v2/health/ready", self.ready),
            ("GET", "/metrics", self.metrics),
        ]
        register_url_convertor("model", _ModelName())
        for method, path, handler in routes:
            methods = ["GET", "HEAD"] if method == "GET" else [method]
            app.add_route(path, handler, methods=methods)
        app.add_exception_handler(GraftworkError, _on_error)
        app.add_exception_handler(HTTPException, _on_http_exception)
        app.add_middleware(Telemetry, metrics=self._metrics, on_cut_off=self._count_cut_off)

    def _count_cut_off(self) -> None:
        self.cut_off += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accepts workers and follows the repository."""
        server = await asyncio.start_unix_server(self._pool.accept, sock=self._worker_socket)
        following = asyncio.create_task(self._catalog.follow())
        asyncio.get_running_loop().add_signal_handler(DRAIN_SIGNAL, self._catalog.drain)
        logger.info("listening on http://%s:%d", self._settings.host, self._settings.port)
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            server.close()

    async def live(self, request: Request) -> Response:
        """``GET /health/live``: the process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """``GET /health/ready``: 200 once models are loaded and checked, else 503 with the reason."""
        reason = self._catalog.not_ready_reason()
        self._metrics.ready.set(reason is None)
        if reason is not None:
            raise NotReady(reason)
        return _json({"ready": True})

    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``: in the text format of Prometheus."""
        self._metrics.ready.set(self._catalog.not_ready_reason() is None)
        return Response(self._metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


class _ModelName(StringConvertor):
    """A path segment without a verb: ``GET /v1/models/flowers:predict`` is the wrong method, not an odd name."""

    regex = "[^/:]+"


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GraftworkError)
    record: RequestRecord = request.scope["graftwork"]
    record.error = error
    return problem(error, record.request_id)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    record: RequestRecord = request.scope["graftwork"]
    record.error = from_http_exception(error, request.url.path, request.method)
    return problem(record.error, record.request_id, dict(error.headers or {}))


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
