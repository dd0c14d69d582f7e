"""Checkpoints to be bent, and what they compute."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from models.backbone import Modality
from models.backbone_store import build_backbone
from models.batch import collate
from models.checkpoint import Checkpoint
from models.features import FeatureKind
from models.preprocessor import build_preprocessor
from models.torch_engine import TorchEngine
from tests.models.pictures import encode, picture


def copy_of(name: str, directory: Path) -> Path:
    """A copy of a ``dir:`` checkpoint, to be bent."""
    shutil.copytree(name.removeprefix("dir:"), directory)
    return directory


def change_config(directory: Path, **changes: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def features(checkpoint: Checkpoint, directory: Path) -> torch.Tensor:
    if checkpoint.tokenizer_json is not None:
        (directory / "tokenizer.json").write_bytes(checkpoint.tokenizer_json)
    item = encode(picture(), "PNG") if checkpoint.config.modality is Modality.IMAGE else "a text"
    row = build_preprocessor(checkpoint.preprocessor, directory).prepare(item)
    engine = TorchEngine(build_backbone(checkpoint.config, checkpoint.state))
    return engine.features(collate([row]), FeatureKind.POOLED).values
