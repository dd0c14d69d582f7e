"""The API process: routes, and what lives as long as they do."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from models.audit import AuditLog
from models.errors import GraftworkError, InvalidParameter, NotReady, RouteNotFound
from models.repository import ModelRepository
from service.api.admin import AdminRoutes
from service.api.admission import Admission
from service.api.backbones import Backbones
from service.api.catalog import Catalog
from service.api.declaration import route, routes
from service.api.docs import DocsRoutes
from service.api.gate import Gate
from service.api.gpu_metrics import GpuMetrics, gpu_exposition
from service.api.inference import Inference
from service.api.metrics import Metrics
from service.api.model_ids import ModelIds
from service.api.model_listing import ModelRoutes
from service.api.oip.infer_http import INFER, InferRoute, match_infer
from service.api.oip.metadata_routes import MetadataRoutes, MissingRoutes
from service.api.oip.model_control import ModelControl
from service.api.oip.repository import RepositoryRoutes
from service.api.oip.statistics import Statistics, StatisticsRoutes
from service.api.openai.embeddings import EMBEDDINGS, EmbeddingsRoute, match_embeddings
from service.api.openapi import OpenApiRoute
from service.api.problems import from_http_exception
from service.api.tei.errors import HEALTH
from service.api.tei.info import InfoRoute
from service.api.tei.model import TeiModel
from service.api.tei.routes import TEI, TeiRoutes, match_tei
from service.api.telemetry import RECORD, Telemetry, refuse
from service.api.triton_metrics import triton_exposition, triton_gpu_exposition
from service.api.v1 import PREDICTION, V1Routes, match_prediction
from service.api.workers import WorkerPool
from service.auth.key import Scope as KeyScope
from service.auth.key_file import open_key_file
from service.auth.keyring import Keyring
from service.log import flush_log
from service.settings import ServerSettings

if TYPE_CHECKING:
    from service.api.oip.grpc_server import GrpcServer

Match: TypeAlias = Callable[[Scope], Any]
Handle: TypeAlias = Callable[[Scope, Receive, Any], Awaitable[tuple[bytes, Sequence[tuple[bytes, bytes]]]]]

logger = logging.getLogger(__name__)

BATCHES_IN_FLIGHT = (
    4  # a worker, or a server that computes for it: one being computed, the others ready or on their way
)
DRAIN_SIGNAL = signal.SIGUSR1  # the parent says with it that the server is about to stop


class Application:
    """Everything in the API process but the HTTP server itself.

    Args:
        settings: the server's settings.
        version: of Graftwork.
        worker_socket: a listening local socket; engine workers connect to it, and leave their flight records beside it.
        workers: how many there shall be, on all devices.
        backbone_memory: bytes of backbones that each of them may hold; None for no limit.

    Attributes:
        telemetry: takes HTTP requests, as ASGI has them.
    """

    def __init__(
        self,
        settings: ServerSettings,
        version: str,
        worker_socket: socket.socket,
        *,
        workers: int,
        backbone_memory: int | None = None,
    ) -> None:
        self._settings = settings
        self._version = version
        self._worker_socket = worker_socket
        self._metrics = Metrics(version)
        self._metrics.expect_workers(workers)
        self._gpus = None if settings.device == "cpu" else GpuMetrics()
        repository = ModelRepository(settings.repository)
        load_models = settings.load_models if settings.model_control == "explicit" else None
        self._catalog = Catalog(repository, self._metrics, budget_bytes=backbone_memory, load_models=load_models)
        self._model_control = ModelControl(self._catalog, AuditLog(repository.root))
        self._admin = [AdminRoutes(repository, self._catalog)] if settings.admin else []
        computing = workers * max(1, len(settings.triton_urls))
        max_rows = settings.max_rows_in_flight or BATCHES_IN_FLIGHT * settings.max_batch_rows * computing
        self._admission = Admission(
            max_rows=max_rows,
            max_bytes=settings.max_bytes_in_flight,
            workers=workers,
            metrics=self._metrics,
        )
        self._pool = WorkerPool(
            self._metrics,
            self._admission,
            self._catalog.on_connect,
            Path(worker_socket.getsockname()).parent,
            silence_seconds=settings.worker_timeout_seconds,
            # By then, nobody waits for any row of it.
            busy_seconds=settings.request_timeout_seconds + settings.worker_timeout_seconds,
            max_backlog=settings.max_bytes_in_flight,
        )
        self._catalog.connections = self._pool.connections
        self.cut_off = 0  # requests that were accepted, but not answered in the time to drain
        self._keyring = Keyring(open_key_file(settings.keys, settings.repository))
        is_local = settings.host == "127.0.0.1"
        self._gate = Gate(self._keyring, self._metrics, on_loopback=is_local)

        def is_described() -> bool:
            return is_local or self._keyring.is_closed  # without keys, whoever is on this machine may read how it works

        self._openapi = OpenApiRoute(version, is_described, admin=settings.admin)
        self._docs = DocsRoutes(is_described)
        self._inference = Inference(
            self._catalog,
            self._pool,
            self._admission,
            self._metrics,
            timeout_seconds=settings.request_timeout_seconds,
            batch_rows=settings.max_batch_rows,
            workers=workers,
        )
        backbones = Backbones(self._catalog)
        ids = ModelIds(self._catalog, backbones)
        self._models = ModelRoutes(self._catalog, backbones, ids)
        v1, embeddings = V1Routes(settings, self._inference), EmbeddingsRoute(settings, ids, self._inference)
        tei_model = TeiModel(settings.tei_model, ids, backbones, self._catalog)
        tei = TeiRoutes(settings, tei_model, self._inference)
        self._info = InfoRoute(
            settings, tei_model, self._catalog, repository, version, workers=workers, max_rows=max_rows
        )
        self._metadata = MetadataRoutes(self._catalog, version, max_rows=settings.max_instances)
        self._told = Statistics(self._catalog, self._metrics)
        self._statistics = StatisticsRoutes(self._told)
        infer = InferRoute(settings, self._inference)
        # What each dialect's prediction requests are told by, and who answers them.
        self._predictions: Sequence[tuple[Match, Handle]] = [
            (match_prediction, v1.predict),
            (match_infer, infer.infer),
            (match_embeddings, embeddings.embed),
            (match_tei, tei.answer),
        ]
        handlers = {GraftworkError: _on_error, HTTPException: _on_http_exception}
        # Slashes are not added by redirects: the target would be built from a Host header that anyone can send.
        self._paths = self._routes()
        self._router = ExceptionMiddleware(Router(self._paths, redirect_slashes=False), handlers)
        self.telemetry = Telemetry(self._dispatch, self._metrics, self._count_cut_off)
        self._grpc: GrpcServer | None = None

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        handle, parts = self._prediction(scope)
        if handle is None:
            scope["app"] = self  # with it, the router raises its refusals instead of answering them
            await self._router(scope, receive, send)
            return
        # The road that nearly all requests take is short: no router, no layers between it and the server.
        scope[RECORD].counted = True
        self._metrics.observe_begin()
        try:
            self._gate.admit(scope, KeyScope.PREDICT)
            body, headers = await handle(scope, receive, parts)
        except GraftworkError as error:
            await refuse(scope, error)(scope, receive, send)
            return
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _prediction(self, scope: Scope) -> tuple[Handle | None, Any]:
        """Who answers a prediction request, and the parts of its path."""
        for match, handle in self._predictions:
            if (parts := match(scope)) is not None:
                return handle, parts
        return None, None

    def _routes(self) -> list[Route]:
        register_url_convertor("model", _ModelName())
        register_url_convertor("model_id", _ModelId())
        # Statistics are before whatever else has a model's name in its path, or all of them would be those of a model "stats".
        oip = (self._statistics, self._metadata, RepositoryRoutes(self._model_control), MissingRoutes())
        told = (self._models, self, self._info, self._openapi, self._docs)
        return routes(self._gate, *told, *oip, *self._admin)

    def _count_cut_off(self) -> None:
        self.cut_off += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accepts workers and follows the repository."""
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(self._pool.connection, sock=self._worker_socket)
        following = (self._catalog.follow(), self._pool.watch(), self._keyring.follow())
        background = [asyncio.create_task(each) for each in following]
        loop.add_signal_handler(DRAIN_SIGNAL, self._drain)
        try:
            if self._settings.traces:
                self._start_tracing()
            if self._settings.grpc_port is not None:
                await self._start_grpc()
            logger.info("listening on http://%s:%d", self._settings.host, self._settings.port)
            yield
        except GraftworkError as error:
            logger.error("the server cannot start: %s", error.message)  # whoever else says so does not flush the log
            raise
        finally:
            if self._grpc is not None:
                await self._grpc.stop()
            for task in background:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            server.close()
            if self.telemetry.tracing is not None:
                self.telemetry.tracing.close()
            flush_log()  # a forked process ends without the interpreter's own end

    async def _start_grpc(self) -> None:
        """In this process, after the fork, and nowhere else: see `service.api.oip.grpc_server`."""
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to stderr itself, where every line is JSON
        from service.api.oip.grpc_calls import Calls
        from service.api.oip.grpc_health import Health
        from service.api.oip.grpc_server import GrpcServer
        from service.api.oip.grpc_service import InferenceService

        calls = Calls(self._settings, self._gate, self._metrics, self.telemetry, self._count_cut_off)
        service = InferenceService(
            self._settings, self._inference, self._metadata, self._catalog, self._told, self._model_control
        )
        server = GrpcServer(self._settings, calls, service, Health(self._catalog, self._gate))
        await server.start()
        self._grpc = server

    def _start_tracing(self) -> None:
        """In this process, after the fork, as gRPC: see `service.api.tracing`."""
        try:
            from service.api.tracing import Tracing

            self.telemetry.tracing = Tracing.to_collector(self._version, self._paths)
        except ValueError as error:  # OpenTelemetry reads some of its variables when it is imported
            raise InvalidParameter(f"traces cannot be exported: {error}; look at the variables OTEL_...") from None

    def _drain(self) -> None:
        """The server is about to stop: it says that it is not ready, and ends connections, each with an answer.

        A connection that is still open when it stops is closed then, and may be so just as the next request is on its way.
        """
        self._catalog.drain()
        self.telemetry.closing = self._inference.closing = True
        if self._grpc is not None:
            self._grpc.drain()

    # Each has further paths, by which clients of the Open Inference Protocol and of TEI ask; only the status counts there.

    @route("GET", "/health/live", "/v2/health/live", scope=None)
    async def live(self, request: Request) -> Response:
        """``GET /health/live``: the process answers."""
        return _json({"live": True})

    @route("GET", "/health/ready", "/v2/health/ready", HEALTH, scope=None)
    async def ready(self, request: Request) -> Response:
        """``GET /health/ready``: 200 once models are loaded and checked, else 503 with the reason."""
        reason = self._catalog.not_ready_reason()
        self._metrics.ready.set(reason is None)
        if reason is not None:
            raise NotReady(reason + ("" if self._pool.connections else self._pool.why_nobody_is_connected()))
        return _json({"ready": True})

    @route("GET", "/metrics", scope=KeyScope.METRICS)
    async def metrics(self, request: Request) -> Response:
        """``GET /metrics``: in the text format of Prometheus."""
        self._metrics.ready.set(self._catalog.not_ready_reason() is None)
        self._metrics.observe_failed(self._catalog.failed())
        exposition = await asyncio.to_thread(self._metrics.exposition)  # megabytes, of a thousand models
        gpus = [] if self._gpus is None else await asyncio.to_thread(self._gpus.read)
        exposition += gpu_exposition(gpus).encode()
        if self._settings.triton_metrics:
            users = self._catalog.users()
            exposition += (await asyncio.to_thread(triton_exposition, users, self._metrics.versions)).encode()
            exposition += triton_gpu_exposition(gpus).encode()
        return Response(exposition, media_type="text/plain; version=0.0.4; charset=utf-8")

    @PREDICTION
    @INFER
    @EMBEDDINGS
    @TEI
    async def only_post(self, request: Request) -> Response:
        """Predictions are dispatched before the router; it overlooks the end of a line behind a path that looks like theirs."""
        raise RouteNotFound(f"there is no route {request.url.path[:128]}")


class _ModelName(StringConvertor):
    """A path segment without a verb: ``GET /v1/models/flowers:predict`` is the wrong method, not an odd name."""

    regex = "[^/:]+"


class _ModelId(StringConvertor):
    """The same, with a version's number or not: ``flowers``, ``flowers:2``."""

    regex = "[^/:]+(?::[0-9]+)?"


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GraftworkError)
    return refuse(request.scope, error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refuse(request.scope, from_http_exception(error, request.url.path, request.method), error.headers)


def _json(document: object) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
