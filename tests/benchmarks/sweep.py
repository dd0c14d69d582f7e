"""A grid of one setting of a strategy, epoch by epoch: what the defaults of `finetune.training.recipe` rest on.

    python -m tests.benchmarks.sweep DATA full learning_rate=5e-5,1e-4,3e-4 epochs=6
    python -m tests.benchmarks.sweep DATA lora learning_rate=5e-4 --shots 32
    python -m tests.benchmarks.sweep DATA partial --shots 8 --seed 1 --every

The defaults are chosen by what the validation rows say. What the test rows say stands beside it, and at the end of each run
that of the epoch with the highest score and of the one that `finetune.training.history` takes: it judges the rule alone.
With ``--every`` the validation rows are learnt from too, as in the end of a recipe that refits, and say nothing any more; the test
rows are looked at before the first step and after the last.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

from rich.console import Console

from finetune.job import DEFAULT_BACKBONES, examine_data
from finetune.job_settings import JobSettings
from finetune.material import Material
from finetune.probe_search import starting_head
from finetune.split import split_dataset
from finetune.strategy import Strategy
from finetune.training.grafted import Grafted
from finetune.training.history import Validation
from finetune.training.processes import accelerating
from finetune.training.recipe import recipe_for
from finetune.training.rows import TrainingRows
from finetune.training.run import Run, train
from finetune.training.validation import Validator
from finetune.tuning import held_out, lesson
from models.engine_factory import EngineFactory
from models.precision import Precision
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from tests.benchmarks.few_shot import few_shot


class Sweep:
    """One data set and strategy; the probe that every run starts from is fitted once."""

    def __init__(self, data: Path, strategy: Strategy, scratch: Path, *, every: bool) -> None:
        settings = JobSettings(data=data, name="data", cache_dir=scratch)
        self._dataset = split_dataset(examine_data(settings, Console(quiet=True)).require())
        self._learn, self._validate = held_out(self._dataset)
        if every:
            self._learn = [*self._learn, *self._validate]
        self._test = self._dataset.split("test")
        self._strategy, self._scratch, self._every = strategy, scratch, every
        checkpoint = fetch_checkpoint(DEFAULT_BACKBONES[self._dataset.modality])
        self._stored = ModelRepository(scratch / "repository").backbones.add(checkpoint)
        material = Material(
            task=self._dataset.task,
            train=self._learn,
            test=self._validate,
            fresh=range(len(self._validate)),
            classes=self._dataset.classes,
            backbone=self._stored,
            preprocessor=checkpoint.preprocessor,
            seed=0,
        )
        engines = EngineFactory("cpu", threads=len(os.sched_getaffinity(0)), cache_dir=scratch)
        engine = engines.build(self._stored, Precision.FP32, material.task.traits.features)
        self._start = starting_head(material, engine, cache_dir=scratch, console=Console(quiet=True))

    def run(self, **chosen: object) -> None:
        """Trains with some settings and prints each epoch."""
        task, classes, (head, preprocessor) = self._dataset.task, self._dataset.classes, self._start
        judged: dict[int, Validation] = {}  # epochs, on the test rows
        recipe = recipe_for(self._strategy, self._dataset.modality, len(self._learn), patience=1000, **chosen)
        looked_at = {0, recipe.epochs} if self._every else range(recipe.epochs + 1)

        class Watched(Validator):
            def judge(self, grafted: Grafted, epoch: int) -> Validation:
                found = super().judge(grafted, epoch)
                if epoch in looked_at:
                    judged[epoch] = test.judge(grafted, epoch)
                    print(f"  {epoch:2}  {_shown(found)}   {_shown(judged[epoch])}", flush=True)
                return found

        run = Run(
            stored=self._stored,
            preprocessor=preprocessor,
            task=task,
            labels=classes,
            head=head,
            learn=lesson(self._learn, task, classes),
            validate=lesson(self._validate, task, classes),
            recipe=recipe,
        )
        print(
            json.dumps(chosen), f"{len(self._learn)} rows, {len(self._validate)} to validate, {len(self._test)} to test"
        )
        print("epoch  validation score and loss   test score and loss")
        with accelerating("cpu", bf16=False) as accelerator:
            rows = TrainingRows(
                self._test, run.preprocessor, self._stored.directory, augment="none", seed=0, kind=task.traits.features
            )
            test = Validator(
                rows, lesson(self._test, task, classes), task=task, labels=classes, device=accelerator.device
            )
            with mock.patch("finetune.training.run.Validator", Watched):
                trained = train(run, accelerator, directory=self._scratch / "runs")
        trained.clear()
        history = trained.outcome.history
        ends = f"test scores: probe {judged[0].score:.4f}, last {judged[recipe.epochs].score:.4f}"
        if self._every:
            print(ends)
            return
        highest = max(history.validations, key=lambda each: (each.score, -each.loss))
        print(
            f"{ends}, highest validation score {judged[highest.epoch].score:.4f}, chosen {judged[history.best.epoch].score:.4f}"
        )


def _shown(validation: Validation) -> str:
    return f"{validation.score:.4f} ±{validation.error:.4f} {validation.loss:.4f}"


def main() -> None:
    """Runs every combination of the settings that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("strategy", type=Strategy)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE,VALUE", help="fields of a recipe")
    parser.add_argument("--shots", type=int, help="examples of each class; all without")
    parser.add_argument("--seed", type=int, default=0, help="of their choice")
    parser.add_argument("--every", action="store_true", help="learn from the validation rows too")
    chosen = parser.parse_args()
    grid = {name: values.split(",") for name, _, values in (each.partition("=") for each in chosen.settings)}
    with tempfile.TemporaryDirectory() as scratch:
        data = chosen.data
        if chosen.shots:
            data = few_shot(data, chosen.shots, Path(scratch) / "data", seed=chosen.seed)
        sweep = Sweep(data, chosen.strategy, Path(scratch), every=chosen.every)
        for values in itertools.product(*grid.values()):
            sweep.run(**dict(zip(grid, map(_parsed, values), strict=True)))


def _parsed(value: str) -> object:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


if __name__ == "__main__":
    main()
