"""Rows a second of a training run beside bare steps of the same network on batches that are on the device already.

    python -m tests.benchmarks.training            # the default backbones
    python -m tests.benchmarks.training cuda       # ViT-B/16 and BERT-base, with random weights

A bare step is forward, loss, backward and AdamW, in the precision of the run, on the batches of the run. A run decodes, augments
and batches besides, cuts gradients, and keeps a log. Everything learns (strategy ``full``). They take turns; the median of the
ratios counts.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from finetune.example import Example, image_example, text_example
from finetune.strategy import Strategy
from finetune.training.grafted import Grafted
from finetune.training.lesson import Lesson
from finetune.training.order import RowOrder
from finetune.training.processes import accelerating, has_bf16
from finetune.training.recipe import recipe_for
from finetune.training.rows import TrainingRows
from finetune.training.run import Run, train
from finetune.tuning import loaders_for
from models.backbone_store import BackboneStore
from models.checkpoint import Checkpoint
from models.embedded import require_embedded_directory
from models.features import FeatureKind
from models.head import Head
from models.sources import fetch_checkpoint
from models.task import Task
from tests.benchmarks.report import write
from tests.benchmarks.workload import BACKBONES, photographs, sentences
from tests.faults.figure import Figure

STEPS = {"cpu": 12, "cuda": 60}
BATCH = {"cpu": 32, "cuda": 128}
WARM, ROUNDS = 3, 3
BAR = 0.85  # on a GPU; on a CPU decoding takes its share of the same cores
LABELS = ("even", "odd")


def vit_base() -> Checkpoint:
    import timm

    from models.timm_checkpoint import timm_checkpoint

    model = timm.create_model("vit_base_patch16_224")
    return timm_checkpoint("ViT-B/16", "vit_base_patch16_224", dict(model.state_dict()), overrides={})


def bert_base(directory: Path) -> Checkpoint:
    """With the tokenizer of the encoder that comes in a package, whose vocabulary is BERT's."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig()).save_pretrained(directory)
    embedded = require_embedded_directory(BACKBONES["texts"]) / "model"
    (directory / "tokenizer.json").write_bytes((embedded / "tokenizer.json").read_bytes())
    return fetch_checkpoint(f"dir:{directory}")


def image_examples(directory: Path, count: int) -> Sequence[Example]:
    """Photographs, over and over."""
    files = photographs()
    for index, content in enumerate(files):
        (directory / f"{index}.jpg").write_bytes(content)
    every = [
        image_example(directory, Path(f"{index}.jpg"), label=LABELS[index % 2], file=str(index))
        for index in range(len(files))
    ]
    return [every[index % len(every)] for index in range(count)]


def text_examples(directory: Path, count: int) -> Sequence[Example]:
    """Sentences, over and over."""
    every = [text.decode() for text in sentences(directory)]
    return [
        text_example(every[index % len(every)], label=LABELS[index % 2], source=str(index)) for index in range(count)
    ]


class Pair:
    """One backbone, learning in a run and in bare steps."""

    def __init__(self, checkpoint: Checkpoint, examples: Sequence[Example], device: str, directory: Path) -> None:
        self._device, self._directory = device, directory
        lesson = Lesson(examples=examples, targets=[torch.tensor(index % 2) for index in range(len(examples))])
        stored = BackboneStore(directory / "backbones").add(checkpoint)
        random = torch.Generator().manual_seed(0)
        head = Head(weight_CD=torch.randn(2, stored.config.feature_dim, generator=random) / 10, bias_C=torch.zeros(2))
        recipe = recipe_for(
            Strategy.FULL,
            stored.config.modality,
            len(examples),
            epochs=1,
            batch_size=BATCH[device],
            bf16=has_bf16(device),
            dropout=0.0,
        )
        few = Lesson(examples=examples[:1], targets=lesson.targets[:1])
        self._run = Run(
            stored=stored,
            preprocessor=checkpoint.preprocessor,
            task=Task.SINGLE_LABEL,
            labels=LABELS,
            head=head,
            learn=lesson,
            validate=few,
            recipe=recipe,
        )

    def trained(self) -> float:
        """Rows a second of a run, of the median step."""
        run, modality = self._run, self._run.stored.config.modality
        with accelerating(self._device, bf16=run.recipe.bf16) as accelerator:
            found = train(
                run, accelerator, directory=self._directory / "runs", loaders=loaders_for(self._device, modality)
            )
        found.clear()
        steps = found.outcome.history.steps[WARM:]
        return len(steps) * run.recipe.batch_size / sum(run.recipe.batch_size / step.rows_per_second for step in steps)

    def bare(self) -> float:
        """Rows a second of steps on batches that are there."""
        run, device = self._run, torch.device(self._device)
        grafted = Grafted(run.stored.load(dropout=0.0), run.head, FeatureKind.POOLED).to(device).train()
        optimizer = torch.optim.AdamW(grafted.parameters(), lr=1e-4)
        rows = TrainingRows(
            run.learn.examples, run.preprocessor, run.stored.directory, augment="none", seed=0, kind=FeatureKind.POOLED
        )
        size, batches = run.recipe.batch_size, []
        order = RowOrder(len(rows), batch_size=size, seed=run.recipe.seed, lengths=rows.lengths)
        for numbers_B in order.epoch(0):  # the same rows in the same batches as in the run
            own = [rows[0, number] for number in numbers_B.tolist()]
            targets_B = torch.stack([run.learn.targets[number] for number in numbers_B.tolist()]).to(device)
            batches.append((rows.preprocessor.collate(own).to(device), own, targets_B))
        seconds = []
        for batch, own, targets_B in batches:
            started = time.monotonic()
            with torch.autocast(device.type, torch.bfloat16, enabled=run.recipe.bf16):
                loss = torch.nn.functional.cross_entropy(grafted(batch, own), targets_B)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - started)
        return len(seconds[WARM:]) * size / sum(seconds[WARM:])


def main() -> None:
    """Measures images and texts and adds the ratios to the figures."""
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    count = BATCH[device] * (WARM + STEPS[device])
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        for name in ("pictures", "texts", "bert"):
            (directory / name).mkdir()
        is_gpu = device == "cuda"
        pairs = {
            "images": Pair(
                vit_base() if is_gpu else fetch_checkpoint(BACKBONES["images"]),
                image_examples(directory / "pictures", count),
                device,
                directory,
            ),
            "texts": Pair(
                bert_base(directory / "bert") if is_gpu else fetch_checkpoint(BACKBONES["texts"]),
                text_examples(directory / "texts", count),
                device,
                directory,
            ),
        }
        figures = []
        for name, pair in pairs.items():
            rounds = [(pair.trained(), pair.bare()) for _ in range(ROUNDS)]
            ratio = statistics.median(own / bare for own, bare in rounds)
            own, bare = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"{name} on {device}: {own:.0f} rows/s in a run, {bare:.0f} in bare steps, ratio {ratio:.2f}")
            title = f"training_{name}_{device}_over_bare_steps"
            figures.append(
                Figure(goal="", name=title, value=ratio, unit="x", relation=">=", bar=BAR if is_gpu else None)
            )
        write(figures)


if __name__ == "__main__":
    main()
