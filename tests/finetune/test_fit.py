"""Which heads may serve, and heads that were trained elsewhere; other fits are seen in `test_job` and `test_tasks`."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from finetune.example import Example, text_example
from finetune.fit import Fit, calibrate, fit_given_head, fit_head
from finetune.material import Material
from models.backbone_store import BackboneStore
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig
from models.sources import fetch_checkpoint
from models.task import Task
from tests.tiny_models import torch_engine


def fit(accuracy: float) -> Any:
    training = SimpleNamespace(validation_score=accuracy, validation_metric="accuracy", validated_on="cross-validation")
    return SimpleNamespace(training=training)


@pytest.mark.parametrize(
    ("accuracy", "may_serve"), [(0.95, True), (0.90, True), (0.8951, True), (0.8949, False), (0.1, False)]
)
def test_half_a_point_of_cross_validated_accuracy_may_be_lost(accuracy: float, may_serve: bool) -> None:
    refusal = Fit.refusal(fit(accuracy), fit(0.90))
    assert (refusal is None) is may_serve
    if refusal is not None:
        assert f"{accuracy:.3f}" in refusal
        assert "0.900" in refusal


def test_exactly_half_a_point_is_half_a_point() -> None:
    assert 100 * (185 / 200 - 184 / 200) > 0.5  # in floating-point numbers
    assert Fit.refusal(fit(184 / 200), fit(185 / 200)) is None


def examples(count: int, start: int = 0) -> list[Example]:
    """Texts of letters are worth little, texts of digits much."""
    texts = [
        (f"{'abcd'[n % 4]}bc" if n % 2 else f"{n % 7}12 45") + f" {'e' * (n % 11)}x{n}"
        for n in range(start, start + count)
    ]
    return [text_example(text, label=float(n % 2) + 0.5, source=f"{n}") for n, text in enumerate(texts)]


@pytest.fixture
def material(tiny_text: str, tmp_path: Path) -> Material:
    checkpoint = fetch_checkpoint(tiny_text)
    return Material(
        task=Task.REGRESSION,
        train=examples(80),
        test=examples(30, start=200),
        fresh=range(30),
        classes=("worth",),
        backbone=BackboneStore(tmp_path).add(checkpoint),
        preprocessor=checkpoint.preprocessor,
        seed=0,
    )


def test_a_head_that_was_trained_elsewhere_is_calibrated_on_the_validation_split(
    material: Material, tmp_path: Path
) -> None:
    engine, console = torch_engine(material.backbone), Console(file=io.StringIO())
    probe = fit_head(material, engine, Precision.FP32, cache_dir=tmp_path / "cache", console=console)
    chosen = calibrate(
        material,
        probe.head,
        engine,
        Precision.FP32,
        validation=examples(40, start=400),
        settings={"epochs": 3},
        cache_dir=tmp_path / "cache",
        console=console,
    )
    given = fit_given_head(
        replace(material, fresh=range(10)),
        probe.head,
        chosen,
        engine,
        Precision.FP32,
        strategy="full",
        cache_dir=tmp_path / "cache",
        console=console,
    )
    assert given.training.strategy == "full"
    assert given.training.settings == {"epochs": 3}
    assert given.training.validated_on == "validation split"
    assert given.training.folds is None
    assert given.training.validation_loss == pytest.approx(probe.training.validation_loss, abs=0.1)
    assert given.calibration.interval == pytest.approx(probe.calibration.interval, abs=0.4)
    assert given.calibration != probe.calibration
    found, wanted = given.evaluation.summary(), probe.evaluation.summary()
    assert found["spearman"] == wanted["spearman"]
    assert (given.evaluation.rows, given.deduplicated.rows) == (30, 10)
    assert given.refusal(given) is None


def test_pairs_that_the_material_says_how_to_read_are_read_so(material: Material, tmp_path: Path) -> None:
    def paired(ones: list[Example]) -> list[Example]:
        texts = [str(one.text) for one in ones]
        pairs = zip(texts, texts[1:] + texts[:1], strict=True)
        return [text_example(pair, label=one.label, source=one.source) for pair, one in zip(pairs, ones, strict=True)]

    assert isinstance(material.preprocessor, TextPreprocessorConfig)
    engine, console = torch_engine(material.backbone), Console(file=io.StringIO())
    pairs = replace(material, train=paired(examples(80)), test=paired(examples(30, start=200)))
    read: dict[str | None, Fit] = {}
    for way in ("joint", "separate", None):
        config = material.preprocessor.model_copy(update={"pair": way})
        told = replace(pairs, preprocessor=config)
        read[way] = fit_head(told, engine, Precision.FP32, cache_dir=tmp_path / "cache", console=console)
    width = material.backbone.config.feature_dim
    assert read["joint"].head.feature_dim == width
    assert read["separate"].head.feature_dim == 4 * width
    best = min((read["joint"], read["separate"]), key=lambda fit: fit.training.validation_loss)
    assert read[None].training == best.training
    assert read[None].preprocessor == best.preprocessor
    assert read[None].head.to_bytes() == best.head.to_bytes()
