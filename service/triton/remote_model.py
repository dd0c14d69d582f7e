"""A backbone on the servers of a fleet, each of which has to have the same one."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.model_config_pb2 import DataType
from tritonclient.utils import InferenceServerException

from models.errors import VersionCorrupt
from service.triton.backbone_model import DIGEST_PARAMETER, BackboneModel
from service.triton.triton_server import ModelGone, Tensors, TritonServer

logger = logging.getLogger(__name__)

REFUSAL_SECONDS = 5.0  # until a server without the right model is looked at again
TOLERANCE = (
    1e-2  # of what two servers make of the same row, relative to its largest feature: other weights are far beyond it
)
_CURE = "export it into the fleet's repository: graftwork models export NAME --format triton --to DIR"
_TYPES = {"UINT8": "TYPE_UINT8", "INT64": "TYPE_INT64", "FP32": "TYPE_FP32"}


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    """What was found of a server's model, at one of the server's starts.

    Attributes:
        refusal: why it is not used; nothing where it is.
    """

    start: int
    refusal: str
    at: float


class RemoteModel:
    """What is asked of a fleet, and who of it may be asked. For the fleet's event loop only.

    Args:
        contract: what the model is called, reads and gives.
        sample: the inputs of one row, which all servers have to answer alike.

    Attributes:
        most_rows: the largest batch that every server takes.
        instances: of the model, on one server.
    """

    def __init__(self, contract: BackboneModel, sample: Tensors) -> None:
        self.contract = contract
        self.most_rows = 1 << 30
        self.instances = 1
        self._sample = sample
        self._expected: NDArray[Any] | None = None
        self._verdicts: dict[str, _Verdict] = {}
        self._checks: dict[str, asyncio.Task[str]] = {}  # under way

    def verdict(self, server: TritonServer) -> str | None:
        """Why a server is not used for it, empty where it is; None where that is not known since the server came up."""
        known = self._verdicts.get(server.url)
        if known is None or known.start != server.starts:
            return None
        is_old = bool(known.refusal) and time.monotonic() > known.at + REFUSAL_SECONDS
        return None if is_old else known.refusal

    def check(self, server: TritonServer) -> asyncio.Task[str]:
        """Finds out whether a server has the right one, once for all who wait for it: each shields the task from its own end.

        Returns:
            What gives the verdict, or raises NotAnswered or EngineUnavailable as `TritonServer.infer`.
        """
        task = self._checks.get(server.url)
        if task is None:
            task = self._checks[server.url] = asyncio.create_task(self._judge(server))
            task.add_done_callback(lambda done: self._end(server, done))
        return task

    def _end(self, server: TritonServer, task: asyncio.Task[str]) -> None:
        del self._checks[server.url]
        if not task.cancelled() and (error := task.exception()) is not None:  # perhaps nobody waits for it
            logger.debug("the Triton server %s was not checked: %r", server.url, error)

    async def _judge(self, server: TritonServer) -> str:
        start, refusal = server.starts, ""
        try:
            await self._check(server)
        except ModelGone:
            refusal = f"there is no Triton model {self.contract.name} that is ready; {_CURE}"
        except VersionCorrupt as error:
            refusal = error.message
        except InferenceServerException as error:  # of the model: others on the server may well be computed
            refusal = f"the Triton model {self.contract.name} fails on a row: {error.message()}; look at Triton's log"
        if refusal:
            logger.warning("the Triton server %s is not used for %s: %s", server.url, self.contract.name, refusal)
        self._verdicts[server.url] = _Verdict(start=start, refusal=refusal, at=time.monotonic())
        return refusal

    def forget(self, server: TritonServer) -> None:
        """A server has it no more: it is asked again what it has."""
        self._verdicts.pop(server.url, None)

    async def _check(self, server: TritonServer) -> None:
        config = await server.config(self.contract.name)
        self._check_config(config)
        found = await server.infer(self.contract, self._sample, None)
        self.check_shape(found, self._sample)
        if self._expected is None:
            self._expected = found
        elif not np.allclose(found, self._expected, rtol=0, atol=TOLERANCE * float(np.abs(self._expected).max())):
            raise VersionCorrupt(f"it gives other features than the rest of the fleet; {_CURE}")
        self.most_rows = min(self.most_rows, config.max_batch_size)
        self.instances = sum(group.count * max(1, len(group.gpus)) for group in config.instance_group) or 1

    def _check_config(self, config: Any) -> None:
        contract = self.contract
        digest = config.parameters[DIGEST_PARAMETER].string_value
        if digest != contract.digest:
            raise VersionCorrupt(f"the Triton model {contract.name} is of another backbone; {_CURE}")
        if config.max_batch_size < 1:
            raise VersionCorrupt(f"the Triton model {contract.name} takes no batches; {_CURE}")
        found = {each.name: (each.data_type, tuple(each.dims)) for each in (*config.input, *config.output)}
        specs = (*contract.inputs, contract.output)
        wanted = {spec.name: (DataType.Value(_TYPES[spec.datatype]), spec.dims) for spec in specs}
        if found != wanted:
            raise VersionCorrupt(f"the Triton model {contract.name} has other tensors; {_CURE}")

    def check_shape(self, found: NDArray[Any] | None, tensors: Tensors) -> None:
        """Raises `VersionCorrupt` unless features are as many as they must be of some inputs."""
        rows, *length = next(iter(tensors.values())).shape[:2]
        dims = self.contract.output.dims
        wanted = (rows, *dims) if len(dims) == 1 else (rows, *length, dims[-1])
        if found is None or found.shape != wanted:
            shape = () if found is None else found.shape
            raise VersionCorrupt(f"the Triton model {self.contract.name} gives features {shape}, not {wanted}; {_CURE}")
