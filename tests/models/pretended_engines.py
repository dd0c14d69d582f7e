"""Engines whose rate or features are what a test says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models import engine_choice as choice_module
from models.batch import Batch
from models.features import FeatureKind, Features
from models.openvino_engine import OpenVinoEngine


def pretend(monkeypatch: pytest.MonkeyPatch, **rates: float) -> None:
    """Each engine, however it is run, has a rate."""
    monkeypatch.setattr(
        choice_module, "_rates", lambda engines, batches, kind: {each: rates[each.engine] for each in engines}
    )


class Crooked(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = super().features(batch, kind)
        return replace(features, values=features.values * 1.01)


class NotNumbers(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        return Features(kind=kind, values=super().features(batch, kind).values * float("nan"))


class Careless(OpenVinoEngine):
    """Only what it makes of padding is wrong."""

    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        features = super().features(batch, kind)
        assert features.mask_BT is not None
        return replace(features, values=features.values.masked_fill(features.mask_BT[:, :, None] == 0, torch.nan))


class Constant(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        return Features(kind=kind, values=torch.zeros_like(super().features(batch, kind).values))


class Broken(OpenVinoEngine):
    def features(self, batch: Batch, kind: FeatureKind) -> Features:
        raise RuntimeError("an operation that it does not know")
