"""What scikit-learn makes of the same frozen features with one fixed setting, untuned.

python -m tests.benchmarks.logistic_peer DATA SCRATCH

Classes: its logistic regression, C = 10 on sentence embeddings, C = 0.01 on standardised image features. Words: the same
on the features of each word. Pairs with a score: the cosine of the two embeddings, nothing learnt.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from finetune.example import Example, Label, text_example
from finetune.extraction import Extraction, extract_features
from finetune.job import DEFAULT_BACKBONES, examine_data
from finetune.job_settings import JobSettings
from finetune.predictions import Predictions
from finetune.primary_metric import METRICS
from models.engine_factory import EngineFactory
from models.precision import Precision
from models.preprocessor import build_preprocessor
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.task import Task


def main() -> None:
    """Prints score and seconds."""
    started = time.monotonic()
    data, scratch = map(Path, sys.argv[1:3])
    settings = JobSettings(data=data, name="data", cache_dir=scratch)
    dataset = examine_data(settings, Console(quiet=True)).require()
    train, test = dataset.split("train"), dataset.split("test")
    checkpoint = fetch_checkpoint(DEFAULT_BACKBONES[dataset.modality])
    stored, threads = ModelRepository(scratch / "repository").backbones.add(checkpoint), len(os.sched_getaffinity(0))
    kind = dataset.task.traits.features
    engine = EngineFactory("cpu", threads=threads, cache_dir=scratch).build(stored, Precision.FP32, kind)

    def extract(examples: Sequence[Example]) -> Extraction:
        preprocessor = build_preprocessor(checkpoint.preprocessor, stored.directory, kind)
        return extract_features(
            examples,
            preprocessor=preprocessor,
            engine=engine,
            identity="",
            cache=None,
            kind=kind,
            threads=threads,
        )

    answers: Sequence[Label]
    if dataset.task is Task.REGRESSION:
        first, second = (
            extract([text_example(example.texts[side], label=0.0, source="") for example in test]).features_VD
            for side in (0, 1)
        )
        answers = [float(value) for value in (first * second).sum(axis=1)]
    else:
        answers = _learn(dataset.task, train, test, extract([*train, *test]), is_image=not train[0].texts)
    statistic = METRICS[dataset.task.traits.primary_metric]([example.label for example in test], answers)
    (score,) = statistic(np.arange(len(test))[None])
    print(json.dumps({"score": float(score), "seconds": time.monotonic() - started}))


def _learn(
    task: Task, train: Sequence[Example], test: Sequence[Example], extraction: Extraction, *, is_image: bool
) -> Sequence[Label]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    every, words = [*train, *test], extraction.words
    if words is None:
        labels = [str(example.label) for example in every]
        rows = len(train)
    else:
        tags = [example.label for example in every if isinstance(example.label, tuple)]
        labels = [tags[index][word] for index, own in enumerate(words) for word in own]
        rows = sum(map(len, words[: len(train)]))
    model = LogisticRegression(C=0.01 if is_image else 10.0, max_iter=2000)
    model = make_pipeline(StandardScaler(), model) if is_image else model
    model.fit(extraction.features_VD[:rows], labels[:rows])
    return Predictions.of(
        model.predict_proba(extraction.features_VD[rows:]),
        None if words is None else words[len(train) :],
        task=task,
        classes=[str(label) for label in model.classes_],
    ).answers


if __name__ == "__main__":
    main()
