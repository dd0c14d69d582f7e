"""Runs a backbone's graph on a CPU, with OpenVINO."""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbone import BackboneConfig
from models.batch import Batch, TextBatch
from models.batch_cost import UNMEASURED, BatchCost
from models.batch_shape import next_size
from models.engine import blank_batch
from models.features import FeatureKind, Features
from models.graph import graph_inputs
from models.graph_cache import CachedGraph
from models.openvino_library import openvino_runtime
from models.precision import Precision
from models.processor import int8_instructions

OPENVINO = "openvino"


class OpenVinoEngine:
    """Runs a graph of `models.graph`.

    Its identity names the graph and, in 8 bits, what multiplies them: both decide what a feature is.

    Args:
        graph: to run.
        config: of the backbone.
        precision: of the graph.
        kind: of the features that the graph gives.
        streams: batches that are computed at a time; each has its share of the threads.
        threads: in all.
        cost: of its batches, where that was measured.
    """

    def __init__(
        self,
        graph: CachedGraph,
        config: BackboneConfig,
        precision: Precision,
        kind: FeatureKind = FeatureKind.POOLED,
        *,
        streams: int,
        threads: int,
        cost: BatchCost = UNMEASURED,
    ) -> None:
        self.streams = streams
        self.cost = cost
        self._config = config
        self._kind = kind
        self.identity = f"{OPENVINO}-{version('openvino')}/cpu/{precision}/{graph.digest[:12]}"
        if precision is Precision.INT8:
            self.identity += f"/{int8_instructions()}"
        options = {
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # by default it computes in bfloat16 where the processor can
            "ENABLE_CPU_PINNING": False,  # decoding shares the cores
        }
        self._model = openvino_runtime().compile_model(graph.file, "CPU", options)
        self._requests = threading.local()  # of each thread that asks

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        if kind is not self._kind:
            raise ValueError(f"this graph gives features of kind {self._kind}, not {kind}")
        if not hasattr(self._requests, "own"):
            self._requests.own = self._model.create_infer_request()
        request: Any = self._requests.own
        try:
            request.infer(self._inputs(batch), share_inputs=True)
        except RuntimeError as error:
            if "bad_alloc" in str(error) or "allocate" in str(error):
                raise MemoryError("the machine has too little memory") from None
            raise
        found = request.get_output_tensor(0).data
        if isinstance(batch, TextBatch):
            rows, tokens = batch.ids_BT.shape
            found = found[:rows] if kind is FeatureKind.POOLED else found[:rows, :tokens]
        values = torch.from_numpy(found.copy())
        if kind is FeatureKind.POOLED:
            return Features(kind=kind, values=values)
        mask_BT = batch.mask_BT if isinstance(batch, TextBatch) else torch.ones(values.shape[:2])
        return Features(kind=kind, values=values, mask_BT=mask_BT)

    def _inputs(self, batch: Batch) -> list[NDArray[Any]]:
        """The graph's; those of texts with more padding, and with the last row again, as `models.batch_shape` says."""
        inputs = [tensor.numpy() for tensor in graph_inputs(batch)]
        if not isinstance(batch, TextBatch):
            return inputs
        rows, tokens = batch.ids_BT.shape
        more_rows, more_tokens = next_size(rows) - rows, next_size(tokens, self._config.max_tokens) - tokens
        wider = [np.pad(array_BT, ((0, 0), (0, more_tokens))) for array_BT in inputs]
        return [np.pad(array_BT, ((0, more_rows), (0, 0)), mode="edge") for array_BT in wider]

    def warm_up(self) -> None:
        self.features(blank_batch(self._config), self._kind)
