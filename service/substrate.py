"""LitServe as the substrate: it picks devices, spawns a worker on each, binds the port and forks the HTTP server.

Its own request path is replaced through its public hooks: a `LitAPI` without routes, a `LitLoop` that is the whole worker,
and our routes on ``server.app``. Where no hook reaches, `GraftworkServer` overrides one method, and says why.

This module has no ``from __future__ import annotations``: LitServe reads the annotations of a LitAPI's methods at run time.
"""

import gc
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from litserve import LitAPI, LitServer
from litserve.connector import check_cuda_with_nvidia_smi
from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import InvalidParameter
from service.api.application import DRAIN_SIGNAL, Application
from service.flight_record import FlightRecord
from service.http.connection import ClientConnection
from service.http.limits import fit_to_open_files
from service.http.sweep import Sweep
from service.memory import memory_bytes
from service.messages import Died, pack
from service.orphans import LOOK_SECONDS, reap_orphans
from service.restart import Restart
from service.settings import ServerSettings
from service.worker.process import (
    LITSERVE_PATH,
    EngineAPI,
    OpenServables,
    die_with_parent,
    interrupts_held,
    open_registry,
)

logger = logging.getLogger(__name__)

LISTENING_SOCKETS = 8  # each more costs every new connection 3 us of the API process
SOCKET_NAME = "workers.sock"
SOCKET_PATH_MAX = 104  # bytes, of sockaddr_un: 108 on Linux, 104 on macOS


class GraftworkServer(LitServer):
    """The parent process: owns the lives of the API process and the workers.

    Args:
        settings: the server's settings.
        version: of Graftwork.
        open_servables: called in each worker with the settings, its device and its number of threads.

    Raises:
        InvalidParameter: another process listens on the port, or on that for gRPC.
    """

    def __init__(self, settings: ServerSettings, version: str, open_servables: OpenServables = open_registry) -> None:
        _check_address(settings.host, settings.port, "--port")
        if settings.grpc_port is not None:
            _check_address(settings.host, settings.grpc_port, "--grpc-port")
            if settings.grpc_port == settings.port:
                raise InvalidParameter(f"HTTP and gRPC cannot share the port {settings.port}; try another --grpc-port")
        accelerator = _accelerator(settings.device)
        self.settings = settings
        self.exit_code = 0
        self._runtime_dir = make_runtime_dir()
        socket_path = str(self._runtime_dir / SOCKET_NAME)
        self._records: dict[int, Path] = {}  # of the last death of each worker
        # Listening before anything is spawned: a worker may connect at once, the API process inherits the socket.
        self._worker_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._worker_socket.bind(socket_path)
        self._worker_socket.listen(64)
        super().__init__(
            EngineAPI(settings, socket_path, open_servables),
            accelerator=accelerator,
            workers_per_device=settings.workers,
            disable_openapi_url=True,
            restart_workers=True,
        )
        workers = len(self._inference_workers_config_for_api(LITSERVE_PATH))
        is_here = settings.engine != "triton"
        has_default = is_here and accelerator == "cpu"
        budget = settings.backbone_memory or (memory_bytes() // 2 // workers if has_default else None)
        self._application = Application(settings, version, self._worker_socket, workers=workers, backbone_memory=budget)
        self.app: Any = self._requests_past(self.app)
        self.uvicorn_graceful_timeout = settings.drain_seconds

    def serve(self) -> int:
        """Runs until a signal or the death of the API process.

        Returns:
            The exit code: 0 after a signal and a clean end, 1 where requests may have been lost.
        """
        self._wake_reader, self._wake_writer = multiprocessing.Pipe(duplex=False)
        self._parent_pid = os.getpid()
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(DRAIN_SIGNAL, signal.SIG_IGN)  # for the API process, until it has a handler of its own
        try:
            self.run(
                host=self.settings.host,
                port=self.settings.port,
                num_api_servers=1,
                generate_client_file=False,
                log_level="warning",
                log_config=None,
                access_log=False,
                server_header=False,
                loop="uvloop",
                http=self._client_connections(),
                ws="none",
                proxy_headers=False,
            )
        finally:
            shutil.rmtree(self._runtime_dir, ignore_errors=True)
        return self.exit_code

    def _client_connections(self) -> Callable[..., ClientConnection]:
        """What uvicorn takes for its protocol class, with our limits; all connections of the API process share it."""
        others = self.settings.max_grpc_connections if self.settings.grpc_port is not None else 0
        limits = fit_to_open_files(self.settings.connections, others=others)
        return partial(ClientConnection, limits=limits, sweep=Sweep(limits.sweep_seconds))

    def _on_signal(self, *_args: Any) -> None:
        if os.getpid() == self._parent_pid:
            self._wake_writer.send_bytes(b"stop")
        else:  # the forked API process has this handler before uvicorn sets its own, and after
            sys.exit(1 if self._application.cut_off else 0)

    def _requests_past(self, app: FastAPI) -> ASGIApp:
        """Leaves the start and the end of the API process to LitServe's FastAPI application, and no request.

        It puts six layers around each (a body limit, telemetry, compression that breaks tritonclient.http.aio:
        triton-inference-server/server#6887), which take longer than all that a prediction needs in this process.
        """
        serve = self._application.telemetry

        async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
            await (serve if scope["type"] == "http" else app)(scope, receive, send)

        return gateway

    # Overrides

    def _register_internal_endpoints(self) -> None:
        """None of ``/``, ``/health`` and ``/info``: ours have other meanings (and theirs ask for the API key)."""

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Ours; theirs moves responses from a queue of a Manager process, which we do not have."""
        die_with_parent(signal.SIGTERM)
        gc.freeze()  # what was made so far stays: a full collection would look at all of it, and hold up requests for 0.1 s
        gc.set_threshold(10_000)  # Python's own 700 new objects are a few requests, and none of them leaves garbage
        async with self._application.running():
            yield

    def _init_manager(self, num_api_servers: int) -> Any:
        """No Manager process: nothing of ours goes through its queues (1.6 ms a hop), and it would outlive a kill."""
        self.workers_setup_status: dict[str, Any] = {}
        self.litapi_request_queues = {LITSERVE_PATH: None}
        self._transport = None
        self._shutdown_event = _Never()
        return None

    def launch_inference_worker(self, lit_api: LitAPI) -> Any:
        """As theirs, but Ctrl-C, which reaches every process of the terminal, does not meet a worker before it is ready."""
        with interrupts_held():
            return super().launch_inference_worker(lit_api)

    def launch_single_inference_worker(self, lit_api: LitAPI, worker_id: int) -> Any:
        """As `launch_inference_worker`."""
        with interrupts_held():
            return super().launch_single_inference_worker(lit_api, worker_id)

    def verify_worker_status(self) -> None:
        """The port opens at once; readiness is ours."""

    def _start_server(
        self, port: int, num: int, log_level: str, sockets: list[socket.socket], kind: str, **kwargs: Any
    ) -> Any:
        """Leaves the listening sockets to the API process: while a copy is open here, who connects waits for nobody.

        libuv accepts one connection of a socket each time around its loop (libuv/libuv#3696), and a busy loop takes 50 ms:
        of a few hundred new clients, some would wait for seconds. Each copy of the socket lets in one more.
        """
        sockets = [copy for each in sockets for copy in (each, *(each.dup() for _ in range(LISTENING_SOCKETS - 1)))]
        uvicorn_workers = super()._start_server(port, num, log_level, sockets, kind, **kwargs)
        for listening in (*sockets, self._worker_socket):
            listening.close()
        return uvicorn_workers

    def _start_worker_monitoring(self, manager: Any, uvicorn_workers: dict[int, Any]) -> None:
        """Supervises in the main thread; theirs polls every 2 s and never looks at the API process."""
        (api_process,) = uvicorn_workers.values()
        restarts = {index: Restart() for index in range(len(self.inference_workers))}
        is_first_process = self._parent_pid == 1  # of its container
        while True:
            alive = {p.sentinel: i for i, p in enumerate(self.inference_workers) if not restarts[i].pending}
            pauses = [r.seconds_left() for r in restarts.values() if r.pending]
            if is_first_process:
                reap_orphans({process.pid for process in (api_process, *self.inference_workers)})
                pauses.append(LOOK_SECONDS)
            awaited: list[Any] = [self._wake_reader, api_process.sentinel, *alive]
            ended = multiprocessing.connection.wait(awaited, min(pauses, default=None))
            if self._wake_reader in ended:
                self._wake_reader.recv_bytes()
                return
            if api_process.sentinel in ended:
                logger.error("the API process died; the server stops")
                self.exit_code = 1
                return
            for sentinel in ended:
                index = alive[sentinel]
                self._on_death(index, restarts[index])
            for index, restart in restarts.items():
                if restart.pending and restart.seconds_left() == 0:
                    self._start_again(index, restart)

    def _start_again(self, index: int, restart: Restart) -> None:
        try:
            restart.started()
            self.inference_workers[index] = self.launch_single_inference_worker(self.lit_api, index)
        except OSError as error:  # no more processes, memory or open files for now
            restart.died()
            logger.error("worker %d cannot be started: %s; it is tried again", index, error.strerror)

    def _on_death(self, index: int, restart: Restart) -> None:
        process = self.inference_workers[index]
        process.join()  # its end was seen, but its exit code is known only once it is reaped
        exit_code = process.exitcode
        record = self._runtime_dir / f"flight-{process.pid}"
        restart.died(has_answered=FlightRecord.has_answered(record))
        if (old := self._records.get(index)) is not None:
            old.unlink(missing_ok=True)  # not yet the new one: the API process may be about to read it
        self._records[index] = record
        logger.error("worker %d ended with exit code %s; it is replaced", index, exit_code)
        died = Died(worker=index, exit_code=exit_code, deaths=restart.deaths, pause_seconds=restart.seconds_left())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(self.lit_api.socket_path)
            connection.sendall(pack(died))

    def _perform_graceful_shutdown(self, manager: Any, uvicorn_workers: dict[int, Any], *_args: Any) -> None:
        """Lets the API process answer what it accepted, unless a second signal comes; theirs needs the Manager."""
        for process in uvicorn_workers.values():
            if process.is_alive():
                os.kill(process.pid, DRAIN_SIGNAL)
            awaited = [process.sentinel, self._wake_reader]
            ended = multiprocessing.connection.wait(awaited, self.settings.drain_delay_seconds)
            deadline = time.monotonic() + self.settings.drain_seconds + 2
            while not ended and time.monotonic() < deadline:
                process.terminate()  # again each second: a signal is lost on a process that is just being forked
                ended = multiprocessing.connection.wait(awaited, 1.0)
            if process.sentinel not in ended:
                logger.error("the API process (pid %d) is killed before it has ended", process.pid)
            process.kill()
            process.join()
            if process.exitcode != 0:
                self.exit_code = 1
        for process in self.inference_workers:
            process.kill()  # a worker holds nothing that outlives the API process
            process.join()


class _Never:
    """LitServe waits for this event once supervision has ended: there is nothing left to wait for."""

    def wait(self) -> None:
        pass


def make_runtime_dir() -> Path:
    """A private directory for the workers' socket; its path must be short, which TMPDIR is not everywhere."""
    short_enough = len(tempfile.gettempdir()) + len(f"/graftwork-12345678/{SOCKET_NAME}") < SOCKET_PATH_MAX
    return Path(tempfile.mkdtemp(prefix="graftwork-", dir=None if short_enough else "/tmp"))


def _check_address(host: str, port: int, option: str) -> None:
    """Says in our words what LitServe, or gRPC, would run into later, in the middle of its start."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InvalidParameter(f"cannot listen on {host}:{port}: {error.strerror}; try another {option}") from None


def _accelerator(device: str) -> str:
    """LitServe's name for a device, found without importing torch, which must not be in the process that forks."""
    gpus = check_cuda_with_nvidia_smi() if device != "cpu" else 0
    if device == "cuda" and gpus == 0:
        raise InvalidParameter("there is no CUDA device here (nvidia-smi lists none); use --device cpu")
    return "cuda" if gpus > 0 else "cpu"
