"""Forward passes by a fleet of Triton servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from models.batch import Batch, TextBatch
from models.batch_cost import UNMEASURED
from models.deadline import deadline
from models.engine import Engine, blank_batch
from models.features import FeatureKind, Features
from models.graph import graph_inputs
from models.precision import Precision
from service.triton.backbone_model import BackboneModel
from service.triton.fleet import TritonFleet

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone
    from service.triton.triton_server import Tensors

IN_FLIGHT = 2  # for each instance of a model: one batch that it computes, and one that is on its way


class TritonEngine:
    """A backbone that a fleet runs, for one kind of features; a `models.engine.Engine`.

    Its identity says nothing of library and device: those are the fleet's, whose servers may differ. What its batches cost is not
    measured, because the fleet is shared with others: batches are as large as the option allows where that is worth while on
    most devices.

    Args:
        fleet: runs it.
        stored: the backbone, of which only the description is read.
        kind: of the features.

    Raises:
        EngineUnavailable, VersionCorrupt: see `TritonFleet.open`.
    """

    def __init__(self, fleet: TritonFleet, stored: StoredBackbone, kind: FeatureKind) -> None:
        self._fleet = fleet
        self._kind = kind
        self._blank = blank_batch(stored.config)
        self._contract = BackboneModel.of(stored.digest, stored.config, kind)
        self._model = fleet.open(self._contract, self._tensors(self._blank))
        self.identity = f"triton/{stored.digest[:16]}/{Precision.FP32}"
        self.streams = min(fleet.most_in_flight, IN_FLIGHT * self._model.instances * fleet.size)
        self.cost = UNMEASURED

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        if kind is not self._kind:
            raise ValueError(f"this model gives features of kind {self._kind}, not {kind}")
        found = self._fleet.infer(self._model, self._tensors(batch), deadline())
        values = torch.from_numpy(found.copy())  # what came over the network cannot be written to
        if kind is FeatureKind.POOLED:
            return Features(kind=kind, values=values)
        mask_BT = batch.mask_BT if isinstance(batch, TextBatch) else torch.ones(values.shape[:2])
        return Features(kind=kind, values=values, mask_BT=mask_BT)

    def _tensors(self, batch: Batch) -> Tensors:
        inputs = zip(self._contract.inputs, graph_inputs(batch), strict=True)
        return {spec.name: tensor.numpy() for spec, tensor in inputs}

    def warm_up(self) -> None:
        self.features(self._blank, self._kind)


class TritonEngines:
    """The engines of a fleet; a `models.engine.EngineSource`.

    There is no exact engine beside them, though torch could run the backbone here as well: whoever offloads has chosen a machine
    that is not made for that, and a version that a fleet does not answer as it should must be noticed, not served slowly.

    Args:
        fleet: runs the backbones.
    """

    def __init__(self, fleet: TritonFleet) -> None:
        self._fleet = fleet

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        """That of the export."""
        return (Precision.FP32,)

    def build(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> Engine:
        """The engine of a backbone, once the fleet was found to have it.

        Raises:
            EngineUnavailable: no server is up.
            VersionCorrupt: none has the backbone; it names the cure.
        """
        return TritonEngine(self._fleet, stored, kind)

    def exact(self, stored: StoredBackbone) -> Engine | None:
        """None."""
        return None

    def reason(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind = FeatureKind.POOLED) -> str:
        """Why it is that engine."""
        servers = "a Triton server" if self._fleet.size == 1 else f"{self._fleet.size} Triton servers"
        return f"forward passes go to {servers}, as --engine triton asks for"
