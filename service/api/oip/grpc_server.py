"""The gRPC server in the API process: it starts after the fork, answers what it accepted, and ends.

Nothing of grpc is in a process that does not serve it: its threads do not survive a fork, so that the parent must not have any.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import grpc

from models.errors import InvalidParameter
from service.api.oip.grpc_calls import Calls
from service.api.oip.grpc_health import Health
from service.api.oip.grpc_reflection import Reflection
from service.api.oip.grpc_scopes import HEALTH, INFERENCE, REFLECTION, SCOPES
from service.api.oip.grpc_service import InferenceService
from service.settings import ServerSettings

logger = logging.getLogger(__name__)

_ROOM_BYTES = 64 << 10  # of a message, beside its tensors
_REFUSED_AT_ONCE = (
    256  # calls of a connection beyond max_grpc_calls that are told so; further ones wait in their client
)
# Those whose answers are several messages.
_STREAMS = {f"/{INFERENCE}/ModelStreamInfer", f"/{HEALTH}/Watch", *(f"/{n}/ServerReflectionInfo" for n in REFLECTION)}


class GrpcServer:
    """Serves gRPC on a port of its own.

    Args:
        settings: address and limits.
        calls: what surrounds each call.
        service: answers about models.
        health: answers about health.
    """

    def __init__(self, settings: ServerSettings, calls: Calls, service: InferenceService, health: Health) -> None:
        self._settings = settings
        self._calls = calls
        self._health = health
        self._answers = {**service.answers(), **health.answers(), **Reflection().answers()}
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Takes calls from now on.

        Raises:
            InvalidParameter: it cannot listen on its port.
        """
        self._server = grpc.aio.server(options=_options(self._settings))
        for service in (INFERENCE, HEALTH, *REFLECTION):
            self._server.add_generic_rpc_handlers((self._handlers(service),))
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError:
            raise InvalidParameter(f"cannot listen on {address}; try another --grpc-port") from None
        await self._server.start()
        logger.info("listening for gRPC on %s", address)

    def _handlers(self, service: str) -> grpc.GenericRpcHandler:
        found = {}
        for path in SCOPES:
            _, name, method = path.split("/")
            if name == service:
                make = self._calls.stream if path in _STREAMS else self._calls.unary
                found[method] = make(path, self._answers[path])
        return grpc.method_handlers_generic_handler(service, found)

    def drain(self) -> None:
        """The server is about to stop: in a while it takes no new calls."""
        self._health.drain()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(self._settings.drain_delay_seconds))

    async def stop(self) -> None:
        """Returns once every call is answered, or the time to drain is over."""
        self._health.drain()
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(0.0))
        await self._stopping

    async def _stop(self, delay_seconds: float) -> None:
        await asyncio.sleep(delay_seconds)
        seconds = self._settings.drain_seconds
        timer = asyncio.get_running_loop().call_later(seconds, self._set_over)  # before grpc cancels what is left
        await self._server.stop(seconds)
        timer.cancel()

    def _set_over(self) -> None:
        self._calls.is_over = True


def _options(settings: ServerSettings) -> Sequence[tuple[str, int]]:
    limits = settings.connections
    return [
        ("grpc.so_reuseport", 0),  # or a second server would take half of the connections of the first one
        ("grpc.max_receive_message_length", settings.max_tensor_bytes + _ROOM_BYTES),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_allowed_incoming_connections", settings.max_grpc_connections),
        ("grpc.max_concurrent_streams", settings.max_grpc_calls + _REFUSED_AT_ONCE),
        ("grpc.max_connection_idle_ms", round(limits.keep_alive_seconds * 1000)),
        ("grpc.server_handshake_timeout_ms", round(limits.header_timeout_seconds * 1000)),
        # Clients that look whether the server is there, as often as tritonclient's KeepAliveOptions have it, are welcome.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        # And we look whether they are: one that was unplugged would hold its connection for hours.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
    ]
