"""A fleet of Triton servers, asked from the threads of a worker."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import DeadlineExceeded, EngineUnavailable, VersionCorrupt
from service.messages import RemoteEngine
from service.triton.backbone_model import BackboneModel
from service.triton.remote_model import RemoteModel
from service.triton.triton_server import ModelGone, NotAnswered, Tensors, TritonServer

logger = logging.getLogger(__name__)

T = TypeVar("T")
TRIES = 3  # of a batch
GRACE_SECONDS = 0.1  # for the answer that a server is late, which is a reason to look after it


class TritonFleet:
    """Some Triton servers, any of which may answer for any other. Safe to use from several threads.

    A batch goes to the server that has the fewest in flight, of those that are up. It is asked for again, up to three times in
    all, only where a server cannot have answered: the connection broke or was refused, the server gave up as it was stopping, or
    its queue was full. Another server gets it then, if one is up. What a server has answered is final, an error too, and so is
    the deadline: where a server is late, nobody is asked again. Inference changes nothing, so that a batch that was computed
    twice does no harm.

    Args:
        urls: ``HOST:PORT`` of each server's gRPC.
        most_in_flight: batches that it is asked for at a time.
    """

    def __init__(self, urls: Sequence[str], *, most_in_flight: int = 16) -> None:
        self.most_in_flight = most_in_flight
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="triton", daemon=True)
        self._thread.start()
        self._servers: Sequence[TritonServer] = ()
        self._servers, self._watching = self._run(self._connect(urls))

    async def _connect(self, urls: Sequence[str]) -> tuple[Sequence[TritonServer], Sequence[asyncio.Task[None]]]:
        servers = [TritonServer(url, self._on_change) for url in urls]
        await asyncio.gather(*(server.look() for server in servers))
        return servers, [asyncio.create_task(server.watch()) for server in servers]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _on_change(self) -> None:
        with self._changed:
            self._changed.notify_all()

    @property
    def size(self) -> int:
        """How many servers there are."""
        return len(self._servers)

    def wait_until_up(self, seconds: float) -> bool:
        """Waits for the first server that is up; returns whether there is one."""
        with self._changed:
            return self._changed.wait_for(lambda: any(server.is_up for server in self._servers), seconds)

    def take_report(self) -> Sequence[RemoteEngine]:
        """How each server is, and what it was asked since this was asked last."""
        return [server.take_report() for server in self._servers]

    def open(self, contract: BackboneModel, sample: Tensors) -> RemoteModel:
        """A model of the fleet, checked on every server that is up: those that do not have it get nothing to compute for it.

        Args:
            contract: what it has to be.
            sample: the inputs of one row, which all servers have to answer alike.

        Raises:
            EngineUnavailable: no server is up.
            VersionCorrupt: no server that is up has the right one.
        """
        return self._run(self._open(RemoteModel(contract, sample)))

    async def _open(self, model: RemoteModel) -> RemoteModel:
        verdicts = []
        for server in self._servers:
            if server.is_up:
                with suppress(NotAnswered, EngineUnavailable):
                    verdicts.append(await asyncio.shield(model.check(server)))
        if not verdicts:
            raise EngineUnavailable(self._nobody)
        if all(verdicts):
            raise VersionCorrupt(verdicts[0])
        return model

    def infer(self, model: RemoteModel, tensors: Tensors, deadline: float | None) -> NDArray[Any]:
        """The output of a model for a batch of any size, in its order.

        Args:
            tensors: by the names of the inputs, the batch axis first.
            deadline: by the monotonic clock, seconds; None where nobody is in a hurry.

        Raises:
            EngineUnavailable: no server is up that has it, or those that were asked broke off.
            DeadlineExceeded: there was no answer in time.
            VersionCorrupt: the answer is not what the model should give; or, without a deadline, no server that is up has it.
            InferenceServerException: what a server says.
        """
        return self._run(self._infer(model, tensors, deadline))

    async def _infer(self, model: RemoteModel, tensors: Tensors, deadline: float | None) -> NDArray[Any]:
        rows, most = len(next(iter(tensors.values()))), model.most_rows
        parts = [{name: each[start : start + most] for name, each in tensors.items()} for start in range(0, rows, most)]
        late = None if deadline is None else deadline - time.monotonic() + GRACE_SECONDS
        try:
            async with asyncio.timeout(late):
                found = await asyncio.gather(*(self._ask(model, part, deadline) for part in parts))
        except TimeoutError:
            raise DeadlineExceeded("the request did not finish in time") from None
        return found[0] if len(found) == 1 else np.concatenate(found)

    async def _ask(self, model: RemoteModel, tensors: Tensors, deadline: float | None) -> NDArray[Any]:
        for attempt in range(TRIES):
            server = await self._choose(model, is_patient=deadline is None)
            try:
                found = await server.infer(model.contract, tensors, deadline, again=attempt > 0)
            except NotAnswered:
                continue
            except ModelGone:
                model.forget(server)
                continue
            model.check_shape(found, tensors)
            return found
        raise EngineUnavailable(f"a batch was asked for {TRIES} times, and no Triton server answered; try again")

    async def _choose(self, model: RemoteModel, *, is_patient: bool) -> TritonServer:
        """The server with the fewest batches in flight, and of those the one that was asked the longest ago.

        One that has come up is looked at beside the others' work, and waited for only where there is no other.

        Raises:
            EngineUnavailable: none is up that has the model.
            VersionCorrupt: nor is there for whoever is patient, and would wait in vain.
        """
        up = sorted((each for each in self._servers if each.is_up), key=lambda each: (each.in_flight, each.asked))
        checks = {each: model.check(each) for each in up if model.verdict(each) is None}
        for server in up:
            if model.verdict(server) == "":
                return server
        for server, check in checks.items():
            with suppress(NotAnswered, EngineUnavailable):
                if await asyncio.shield(check) == "":
                    return server
        refusals = [refusal for each in up if (refusal := model.verdict(each))]
        if not refusals:
            raise EngineUnavailable(self._nobody)
        raise VersionCorrupt(refusals[0]) if is_patient else EngineUnavailable(refusals[0])

    @property
    def _nobody(self) -> str:
        return f"none of {self.size} Triton servers is ready; try again"

    def close(self) -> None:
        """Ends all connections."""

        async def end() -> None:
            for task in self._watching:
                task.cancel()
            await asyncio.gather(*self._watching, return_exceptions=True)
            for server in self._servers:
                await server.close()

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
