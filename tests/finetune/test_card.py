from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune.card import CardFacts, model_card
from finetune.comparison import Comparison
from finetune.curves import LearningCurves
from finetune.intervals import Interval
from finetune.mistakes import Mistakes
from finetune.training.history import History, Validation
from models.backbone import Modality
from models.task import Task
from tests.finetune.cards import FACTS, HOSTILE, html_of, scores_of


@given(st.lists(st.text(), min_size=2, max_size=4, unique=True))
@example([HOSTILE, "b"])
@example(["\ud800", "|"])
def test_any_label_keeps_the_tables_whole(labels: list[str]) -> None:
    card = model_card(replace(FACTS, classes=labels, evaluation=scores_of(labels)))
    card.encode()
    assert "<script" not in card
    html = html_of(card.partition("By class, with 95 % intervals:")[2])
    assert html.count("<tr>") == 1 + len(labels)
    assert html.count("<td>") == 6 * len(labels)


def test_the_body_tells_the_story() -> None:
    card = model_card(FACTS)
    for fact in (
        "# flowers:3",
        "one of 3 classes",
        "timm:resnet50",
        "Classes: daisy, rose, tulip.",
        "| train | 240 |",
        "c0ffee",
        "- **warning**: 2 texts occur twice",
        "C = 0.01",
        "temperature 1.25",
        "5-fold",
        "(report/confusion_matrix.png)",
        "(report/reliability.png)",
        "graftwork predict flowers:3 photo.jpg",
        "/v1/models/flowers/versions/3:predict",
        "graftwork 0.1.0, torch 2.11.0; 2026-03-01.",
    ):
        assert fact in card
    low, high = FACTS.evaluation["accuracy_ci"]
    assert f"| Accuracy | {FACTS.evaluation['accuracy']:.3f} | {low:.3f} to {high:.3f} |" in card
    assert "no evidence" not in card


def test_a_text_classifier_is_called_with_text() -> None:
    card = model_card(replace(FACTS, modality=Modality.TEXT))
    assert """-d '{"instances": ["a text"]}'""" in card
    assert "photo.jpg" not in card


def test_an_imported_classifier_claims_nothing() -> None:
    imported = CardFacts(
        name="imagenet",
        version=1,
        modality=Modality.IMAGE,
        backbone="timm:tf_efficientnet_lite0",
        classes=[f"thing {i}" for i in range(1000)],
        created="2026-03-01",
        libraries={},
    )
    card = model_card(imported)
    assert "Not evaluated here" in card
    assert "and 970 more." in card
    for absent in ("## Data", "## Training", "report/", "Accuracy", "None"):
        assert absent not in card


def test_chance_is_called_chance() -> None:
    shuffled = scores_of(["a", "b", "c"], wrong=1.0)
    card = model_card(replace(FACTS, evaluation=shuffled))
    assert "gives no evidence that anything was learned" in card


def test_scores_without_duplicates_stand_beside_the_others() -> None:
    clean = scores_of(["daisy", "rose", "tulip"], rows=45, wrong=0.5)
    card = model_card(replace(FACTS, without_duplicates=clean))
    assert "On the 45 that do not:" in card
    assert card.count("| Accuracy |") == 2
    assert f"| Accuracy | {clean['accuracy']:.3f} |" in card


@pytest.mark.parametrize(("rows", "said"), [(24, True), (300, False)])
def test_few_test_rows_are_a_limitation(rows: int, said: bool) -> None:
    card = model_card(replace(FACTS, evaluation=scores_of(["daisy", "rose", "tulip"], rows=rows)))
    assert ("fewer than 10 test rows" in card) is said


def test_the_run_its_mistakes_and_the_version_before_have_sections() -> None:
    history = History()
    history.add(Validation(epoch=0, score=0.5, loss=0.7))
    mistakes = Mistakes(task=Task.SINGLE_LABEL, rows=60, wrong=0, largest=())
    comparison = Comparison(
        previous="flowers:2",
        metric="accuracy",
        rows=60,
        score=0.9,
        previous_score=0.8,
        interval=Interval(0.02, 0.18),
        chance_better=0.99,
    )
    curves = LearningCurves(history=history, metric="accuracy")
    card = model_card(replace(FACTS, curves=curves, mistakes=mistakes, comparison=comparison))
    headings = [line for line in card.splitlines() if line.startswith("## ")]
    at = headings.index("## Learning curves")
    assert headings[at : at + 4] == [
        "## Learning curves",
        "## Results",
        "## Mistakes",
        "## Against the version before",
    ]
    for blocks in (curves.markdown(), mistakes.markdown(), comparison.markdown()):
        assert "\n\n".join(blocks) in card
    for heading in ("Learning curves", "Mistakes", "Against"):
        assert heading not in model_card(FACTS)
