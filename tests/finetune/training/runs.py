"""Tiny runs: texts whose letters say the class, and pictures whose colour does."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from finetune.example import Example, text_example
from finetune.strategy import Strategy
from finetune.training.lesson import Lesson
from finetune.training.recipe import recipe_for
from finetune.training.run import Run
from models.backbone import Modality
from models.backbone_store import BackboneStore
from models.head import Head
from models.sources import fetch_checkpoint
from models.task import Task


def texts(count: int, *, seed: int = 0) -> list[Example]:
    """Words of the letters a to m, or of n to z: two classes that a random encoder does not tell apart well."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        label = "first" if number % 2 else "second"
        letters = "abcdefghijklm" if number % 2 else "nopqrstuvwxyz"
        words = ["".join(chance.choices(letters, k=chance.randint(2, 4))) for _ in range(chance.randint(2, 5))]
        found.append(text_example(" ".join(words), label=label, source=str(number)))
    return found


def pictures(count: int, directory: Path, *, seed: int = 0) -> list[Example]:
    """Reddish or greenish noise, as files."""
    random = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        label = "first" if number % 2 else "second"
        pixels_HWC = torch.randint(0, 200, (72, 80, 3), dtype=torch.uint8, generator=random)
        pixels_HWC[..., 0 if number % 2 else 1] += 40
        buffer = io.BytesIO()
        Image.fromarray(pixels_HWC.numpy()).save(buffer, "PNG")
        path = directory / f"{number}.png"
        path.write_bytes(buffer.getvalue())
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        found.append(Example(source=path.name, label=label, digest=digest, path=path, root=directory))
    return found


def run_of(backbone: str, directory: Path, strategy: Strategy = Strategy.FULL, **settings: Any) -> Run:
    """A run on the tiny text or vision backbone, from a random head."""
    checkpoint = fetch_checkpoint(backbone)
    stored = BackboneStore(directory / "backbones").add(checkpoint)
    (directory / "pictures").mkdir(exist_ok=True)
    is_text = stored.config.modality is Modality.TEXT
    every = texts(60) if is_text else pictures(60, directory / "pictures")
    recipe = recipe_for(
        strategy,
        stored.config.modality,
        len(every),
        **{"epochs": 4, "batch_size": 8, "learning_rate": 3e-3, "patience": 10, **settings},
    )
    generator = torch.Generator().manual_seed(1)
    return Run(
        stored=stored,
        preprocessor=checkpoint.preprocessor,
        task=Task.SINGLE_LABEL,
        labels=("first", "second"),
        head=Head(weight_CD=torch.randn(2, stored.config.feature_dim, generator=generator) / 10, bias_C=torch.zeros(2)),
        learn=lesson(every[:40]),
        validate=lesson(every[40:]),
        recipe=recipe,
    )


def lesson(examples: list[Example]) -> Lesson:
    return Lesson(examples=examples, targets=[torch.tensor(int(example.label == "second")) for example in examples])
