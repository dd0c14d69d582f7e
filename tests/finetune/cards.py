"""Facts for model cards, and what a reader makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from markdown_it import MarkdownIt

from finetune.card import CardFacts
from finetune.evaluation import evaluate
from models.backbone import Modality

HOSTILE = 'a "b": |c|\n---\n- <script>alert(1)</script> `d` *e* _f_ [g](h) \\ 🎉 \x00 \u2028 no #'


def scores_of(classes: list[str], *, rows: int = 60, wrong: float = 0.1) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    targets_N = np.arange(rows) % len(classes)
    guesses_N = np.where(generator.random(rows) < wrong, generator.integers(len(classes), size=rows), targets_N)
    return evaluate(np.eye(len(classes))[guesses_N], targets_N, classes=classes, seed=0).to_dict()


FACTS = CardFacts(
    name="flowers",
    version=3,
    modality=Modality.IMAGE,
    backbone="timm:resnet50",
    classes=["daisy", "rose", "tulip"],
    created="2026-03-01",
    libraries={"graftwork": "0.1.0", "torch": "2.11.0"},
    base_model="timm/resnet50.a1_in1k",
    license="apache-2.0",
    dataset="my flowers",
    rows={"train": 240, "test": 60},
    fingerprint="c0ffee",
    strategy="frozen features",
    regularisation_c=0.01,
    temperature=1.25,
    folds=5,
    seed=0,
    evaluation=scores_of(["daisy", "rose", "tulip"]),
    findings=[("warning", "2 texts occur twice")],
)


def html_of(markdown: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(markdown)
