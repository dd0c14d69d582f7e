"""An engine worker as a process: what LitServe spawns on each device.

This module has no ``from __future__ import annotations``: LitServe reads the annotations of a LitAPI's methods at run time.
"""

import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from litserve import LitAPI
from litserve.loops.base import LitLoop
from litserve.specs.base import LitSpec

from models.cores import available_cores
from service.log import configure_logging, flush_log
from service.messages import Hello
from service.settings import ServerSettings
from service.worker.garbage import keep_all
from service.worker.servable import Servables

logger = logging.getLogger(__name__)

OpenServables: TypeAlias = Callable[[ServerSettings, str, int], Servables]

LITSERVE_PATH = "/engine"  # LitServe's key for our workers; no route has it
_PR_SET_PDEATHSIG = 1


class NoRoutes(LitSpec):
    """A spec without endpoints, so that the LitAPI gets no ``/predict`` of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.api_path = LITSERVE_PATH

    def setup(self, server: Any) -> None:
        pass

    def decode_request(self, request: Any, context_kwargs: Any = None) -> Any:
        raise AssertionError("requests do not pass through LitServe")

    def encode_response(self, output: Any, context_kwargs: Any = None) -> Any:
        raise AssertionError("requests do not pass through LitServe")


class EngineAPI(LitAPI):
    """What LitServe hands to each worker: where to connect, what to serve."""

    def __init__(self, settings: ServerSettings, socket_path: str, open_servables: OpenServables) -> None:
        super().__init__(api_path=LITSERVE_PATH, loop=EngineLoop(), spec=NoRoutes())
        self.settings = settings
        self.socket_path = socket_path
        self.open_servables = open_servables

    def setup(self, device: Any) -> None:
        """Returns at once: models are loaded in the loop, so that the port opens and readiness says so."""

    def predict(self, x: Any, **kwargs: Any) -> Any:
        raise AssertionError("requests do not pass through LitServe")


class EngineLoop(LitLoop):
    """The whole life of a worker process."""

    def __call__(self, lit_api: Any, device: Any, worker_id: int, *_args: Any, **_kwargs: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end of the socket is what ends a worker
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        die_with_parent(signal.SIGKILL)
        configure_logging()

        from service.worker.worker import serve_socket

        settings: ServerSettings = lit_api.settings
        device = device[0] if isinstance(device, list) else device
        threads = max(1, available_cores() // settings.workers)
        try:
            servables = lit_api.open_servables(settings, device, threads)
            keep_all()
            hello = Hello(worker=worker_id, pid=os.getpid(), device=device)
            with suppress(ConnectionError):
                serve_socket(
                    Path(lit_api.socket_path), hello, servables, threads=threads, max_batch_rows=settings.max_batch_rows
                )
        except Exception:
            logger.exception("worker %d failed", worker_id)  # multiprocessing would print it, and not as JSON
            sys.exit(1)
        finally:
            gc.unfreeze()  # else libraries complain, at the end, that something of theirs is left
            flush_log()


def open_registry(settings: ServerSettings, device: str, threads: int) -> Servables:
    """The versions of the repository: what a worker serves."""
    import torch  # here, because this takes seconds, and the process that forks must not have it

    from models.engine_factory import EngineFactory
    from models.repository import ModelRepository
    from service.worker.registry import Registry

    torch.set_num_threads(threads)
    if settings.engine == "triton":
        return _open_fleet(settings)
    engines = EngineFactory(
        device, threads=threads, cache_dir=settings.cache_dir, wanted=settings.engine, precision=settings.precision
    )
    # Libraries import their other half with a backbone: with a thousand versions, all of it would be looked at often.
    return Registry(ModelRepository(settings.repository), engines, on_engine=keep_all)


def _open_fleet(settings: ServerSettings) -> Servables:
    """The same versions, whose forward passes go to Triton; gRPC is imported here and nowhere else in a worker."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # it writes to stderr itself, where every line is JSON

    from models.repository import ModelRepository
    from service.triton.engine import TritonEngines
    from service.triton.fleet import TritonFleet
    from service.worker.registry import Registry

    fleet = TritonFleet(settings.triton_urls)
    return Registry(ModelRepository(settings.repository), TritonEngines(fleet), on_engine=keep_all, fleet=fleet)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Holds SIGINT back: for this process until the end of the block, for one that is spawned in it until it unblocks it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def die_with_parent(with_signal: signal.Signals) -> None:
    """Asks the kernel to signal this process when its parent dies, however it dies (Linux only)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(with_signal))
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it died before the kernel was asked
        os.kill(os.getpid(), with_signal)
