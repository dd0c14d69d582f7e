"""Where a run goes on after it was killed: its state on disk, complete or not there at all.

    <cache_dir>/runs/<identity of the run>/checkpoints/checkpoint-00000120/   state.safetensors, state.json

The newest one stays. It is written beside the one before it, synced, renamed, and only then is the older one removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from models import storage

TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a run depends on beside its recipe and its data.

    Attributes:
        step: how many are done.
        weights: what learns, by name, as it is now.
        best: the same, as it was after the best epoch.
        optimizer: what the optimiser remembers.
        facts: the rest, as JSON.
    """

    step: int
    weights: Mapping[str, torch.Tensor]
    best: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        directory: of this run alone; made with the first checkpoint.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, state: TrainingState) -> None:
        """Replaces the last checkpoint.

        Raises:
            StorageFailed: the disk is full or read-only; the last checkpoint is still there.
        """
        groups = {"weights": state.weights, "best": state.best, "optimizer": state.optimizer}
        tensors = save(
            {
                f"{group}/{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
                for group, named in groups.items()
                for name, tensor in named.items()
            }
        )
        facts = {"step": state.step, "sha256": hashlib.sha256(tensors).hexdigest(), **state.facts}
        with storage.reporting("the training state cannot be kept"):
            storage.make_directory(self._directory)
            with storage.staging(self._directory) as staging:
                storage.write_file(staging / TENSORS, tensors)
                storage.write_file(staging / FACTS, json.dumps(facts).encode())
                storage.sync_directory(staging)
                older = self._found()
                target = self._directory / f"checkpoint-{state.step:08}"
                if target not in older:
                    storage.rename(staging, target)
                storage.sync_directory(self._directory)
            for directory in older:
                if directory != target:
                    storage.remove(directory)

    def load(self) -> TrainingState | None:
        """The newest checkpoint that is whole; None where there is none."""
        for directory in reversed(self._found()):
            try:
                data = (directory / TENSORS).read_bytes()
                facts = json.loads((directory / FACTS).read_bytes())
                if hashlib.sha256(data).hexdigest() != facts.pop("sha256"):
                    continue
                tensors = load(data)
                step = int(facts.pop("step"))
            except (OSError, ValueError, KeyError, SafetensorError):
                continue
            groups: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "best": {}, "optimizer": {}}
            for key, tensor in tensors.items():
                group, _, name = key.partition("/")
                groups[group][name] = tensor
            return TrainingState(step=step, facts=facts, **groups)
        return None

    def _found(self) -> list[Path]:
        return sorted(self._directory.glob("checkpoint-*"))
