"""One Triton server, as a worker sees it: whether it is up, and what was asked of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from models.errors import DeadlineExceeded, EngineUnavailable, GraftworkError
from service.messages import RemoteEngine
from service.triton.backbone_model import VERSION, BackboneModel

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # between health checks
HEALTH_SECONDS = 3.0  # until a health check has failed
CHECK_SECONDS = 60.0  # for what nobody waits for: the first inference of a model may compile it
_CHANNEL: Sequence[tuple[str, int]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # It connects again within a second of its return; gRPC by itself waits up to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.dns_min_time_between_resolutions_ms", 1000),  # it may come back at another address; else that takes 30 s
)

T = TypeVar("T")
Tensors: TypeAlias = Mapping[str, NDArray[Any]]


class NotAnswered(Exception):
    """It is gone, or takes nothing more now; another server, or the same one later, may answer."""


class ModelGone(Exception):
    """It has no such model, or not any more."""


class TritonServer:
    """One URL. For the event loop that it was made on only, but for `take_report`.

    It is up once a health check has passed, and down from the first connection error, or failed health check, to the next one
    that passes. Ready as Triton has it: while all of its models are.

    Args:
        url: ``HOST:PORT`` of its gRPC.
        on_change: called when it comes up or goes down.

    Attributes:
        starts: how often it came up: what was found out about its models holds for one of them.
        in_flight: inferences.
        asked: when the last one began, by the monotonic clock.
    """

    def __init__(self, url: str, on_change: Callable[[], None]) -> None:
        self.url = url
        self.is_up = False
        self.starts = 0
        self.in_flight = 0
        self.asked = 0.0
        self._on_change = on_change
        self._client = InferenceServerClient(url, channel_args=list(_CHANNEL))
        self._doubted = asyncio.Event()
        self._counting = threading.Lock()
        self._requests = self._failures = self._retries = 0
        self._complaint = ""

    # Health

    async def watch(self) -> None:
        """Looks after its health for ever: each second, and at once after it has not answered."""
        while True:
            self._doubted.clear()
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._doubted.wait()
                    await asyncio.sleep(LOOK_SECONDS / 10)  # one that breaks every connection is not asked without end

    async def look(self) -> None:
        """One health check."""
        try:
            ready = await self._client.is_server_ready(client_timeout=HEALTH_SECONDS)
        except InferenceServerException as error:
            self._set_down(error.message() or "it does not answer")
        except Exception as error:  # whatever else the client raises: the watch goes on
            self._set_down(f"a health check failed: {error!r}")
        else:
            if ready:
                self._set_up()
            else:
                self._set_down("it says that it is not ready")

    def _set_up(self) -> None:
        if not self.is_up:
            self.is_up, self._complaint = True, ""
            self.starts += 1
            logger.info("the Triton server %s is ready", self.url)
            self._on_change()

    def _set_down(self, reason: str) -> None:
        if self.is_up or not self._complaint:
            self.is_up, self._complaint = False, reason
            logger.warning("the Triton server %s is not used until it is ready: %s", self.url, reason)
            self._on_change()

    # Questions

    async def config(self, model: str) -> Any:
        """What the server says of a model, as ``inference.ModelConfig``.

        Raises:
            ModelGone: it has none that is ready.
            NotAnswered, EngineUnavailable: see `infer`.
        """
        asked = self._client.is_model_ready(model, VERSION, client_timeout=CHECK_SECONDS)
        if not await self._answer(asked, is_patient=True):
            raise ModelGone
        config = self._client.get_model_config(model, VERSION, client_timeout=CHECK_SECONDS)
        return (await self._answer(config, is_patient=True)).config

    async def infer(
        self, model: BackboneModel, tensors: Tensors, deadline: float | None, *, again: bool = False
    ) -> NDArray[Any]:
        """The output of a model.

        Args:
            tensors: by the names of its inputs.
            deadline: by the monotonic clock, seconds: the server is told to leave it then.
            again: another server was asked before, or this one.

        Raises:
            NotAnswered: it is gone, or about to be, or its queue is full.
            ModelGone: it has no such model any more.
            DeadlineExceeded: it did not answer in time.
            EngineUnavailable: nor did it without a deadline.
            InferenceServerException: whatever else it says.
        """
        seconds = CHECK_SECONDS if deadline is None else deadline - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded("the request did not finish in time")
        self.in_flight += 1
        self.asked = time.monotonic()
        answered = False
        try:
            result = await self._answer(
                self._client.infer(
                    model.name,
                    [_input(spec.name, spec.datatype, tensors[spec.name]) for spec in model.inputs],
                    model_version=VERSION,
                    outputs=[InferRequestedOutput(model.output.name)],
                    client_timeout=seconds,
                    timeout=round(seconds * 1e6),  # in Triton's queue, from which gRPC's own does not take it
                ),
                is_patient=deadline is None,
            )
            answered = True
        finally:
            self.in_flight -= 1
            with self._counting:
                self._requests += 1
                self._retries += again
                self._failures += not answered
        output: NDArray[Any] = result.as_numpy(model.output.name)
        return output

    async def _answer(self, call: Awaitable[T], *, is_patient: bool) -> T:
        try:
            return await call
        except InferenceServerException as error:
            match error.status():
                case "StatusCode.NOT_FOUND":
                    raise ModelGone from None
                case "StatusCode.CANCELLED":  # not by us: it is stopping, and gives up what it has in hand
                    self._doubted.set()
                    raise NotAnswered from None
                case "StatusCode.UNAVAILABLE":
                    message = error.message()
                    if "unknown model" in message:  # it is being unloaded
                        raise ModelGone from None
                    if "timeout expired" in message:  # it waited in Triton's queue of the model for too long
                        raise _late(is_patient) from None
                    if "queue size" not in message:  # that queue is not full: it is the server that is not there
                        self._set_down(message)
                        self._doubted.set()
                    raise NotAnswered from None
                case "StatusCode.DEADLINE_EXCEEDED":
                    self._doubted.set()  # it may hang: a health check tells
                    raise _late(is_patient) from None
            raise

    def take_report(self) -> RemoteEngine:
        """How it is, and what it was asked since this was asked last; from any thread."""
        with self._counting:
            report = RemoteEngine(
                url=self.url,
                up=self.is_up,
                requests=self._requests,
                failures=self._failures,
                retries=self._retries,
            )
            self._requests = self._failures = self._retries = 0
        return report

    async def close(self) -> None:
        await self._client.close()


def _late(is_patient: bool) -> GraftworkError:
    if is_patient:
        return EngineUnavailable("a Triton server does not answer; try again")
    return DeadlineExceeded("the request did not finish in time")


def _input(name: str, datatype: str, values: NDArray[Any]) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor
