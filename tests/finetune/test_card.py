from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st

from finetune.card import CardFacts, model_card
from finetune.comparison import Comparison
from finetune.curves import LearningCurves
from finetune.evaluations.single_label import evaluate_single_label
from finetune.intervals import Interval
from finetune.markdown import escape
from finetune.mistakes import Mistakes
from finetune.training.history import History, Validation
from models.backbone import Modality
from models.manifest import Training
from models.task import Task
from tests.finetune.markdown import HOSTILE, html_of


def scores_of(classes: list[str], *, rows: int = 60, wrong: float = 0.1) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    targets_N = np.arange(rows) % len(classes)
    guesses_N = np.where(generator.random(rows) < wrong, generator.integers(len(classes), size=rows), targets_N)
    return evaluate_single_label(np.eye(len(classes))[guesses_N], targets_N, classes=classes, seed=0).to_dict()


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
    training=Training(
        strategy="probe",
        seed=0,
        settings={"regularisation_c": 0.01, "feature_scaling": "whiten-0.75"},
        validated_on="cross-validation",
        validation_metric="accuracy",
        validation_score=0.9,
        validation_loss=0.3,
        folds=5,
    ),
    temperature=1.25,
    evaluation=scores_of(["daisy", "rose", "tulip"]),
    figures=[("Confusion matrix", "report/confusion_matrix.png"), ("Reliability", "report/reliability.png")],
    findings=[("warning", "2 texts occur twice")],
)


def metadata_of(card: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert found is not None
    metadata: dict[str, Any] = yaml.safe_load(found[1])
    return metadata


def test_the_hub_reads_the_metadata() -> None:
    data = ModelCard(model_card(FACTS)).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("graftwork", "image-classification", "apache-2.0")
    assert data.base_model == "timm/resnet50.a1_in1k"
    assert data.metrics == ["accuracy", "f1"]
    assert data.model_name == "flowers"
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == FACTS.evaluation["accuracy"]
    assert results["f1"].metric_value == FACTS.evaluation["macro_f1"]
    accuracy = results["accuracy"]
    assert (accuracy.task_type, accuracy.dataset_name, accuracy.dataset_split, accuracy.dataset_revision) == (
        "image-classification",
        "my flowers",
        "test",
        "c0ffee",
    )


def test_what_is_not_known_is_not_in_the_metadata() -> None:
    metadata = metadata_of(model_card(replace(FACTS, license=None, base_model=None, evaluation=None)))
    assert set(metadata) == {"library_name", "pipeline_tag", "tags"}


@given(st.text(min_size=1))
@example(HOSTILE)
@example("no")
@example("2026-03-01")
@example("\n---\n")
@example("\x85")
def test_any_name_comes_back_from_the_metadata(text: str) -> None:
    card = model_card(replace(FACTS, name=text, dataset=text))
    (index,) = metadata_of(card)["model-index"]
    assert index["name"] == text
    assert index["results"][0]["dataset"]["name"] == text
    card.encode()


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


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
@example("card_payment|__init__|\\|*a*|`b`|[c](d)|<e>|&amp;|~~f~~|_g_")
def test_an_escaped_label_is_shown_as_it_is(text: str) -> None:
    cell = html_of(f"| h |\n| --- |\n| {escape(text)} |").partition("<td>")[2].partition("</td>")[0]
    assert cell == text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def test_a_label_with_underscores_is_readable_in_the_source() -> None:
    assert escape("card_payment_not_recognised") == "card_payment_not_recognised"


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
    assert metadata_of(card)["pipeline_tag"] == "text-classification"
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


def test_of_many_classes_the_worst_come_first() -> None:
    labels = [f"label {i}" for i in range(77)]
    evaluation = scores_of(labels, rows=770, wrong=0.3)
    card = model_card(replace(FACTS, classes=labels, evaluation=evaluation))
    worst, others = card.partition("The 20 classes")[2].split("<details>")

    def rows(table: str) -> list[tuple[int, float]]:
        found = re.findall(r"^\| (\d+) \| label \1 \| [^|]+ \| [^|]+ \| ([\d.]+) [^|]+\|", table, re.MULTILINE)
        return [(int(number), float(f1)) for number, f1 in found]

    assert len(rows(worst)) == 20
    assert {number for number, _ in rows(worst) + rows(others)} == set(range(77))
    assert max(f1 for _, f1 in rows(worst)) <= min(f1 for _, f1 in rows(others))


@pytest.mark.parametrize(("rows", "said"), [(24, True), (300, False)])
def test_few_test_rows_are_a_limitation(rows: int, said: bool) -> None:
    card = model_card(replace(FACTS, evaluation=scores_of(["daisy", "rose", "tulip"], rows=rows)))
    assert ("fewer than 10 test rows" in card) is said


def test_the_run_its_mistakes_and_the_version_before_have_sections() -> None:
    history = History()
    history.add(Validation(epoch=0, score=0.5, error=0.01, loss=0.7))
    mistakes = Mistakes(task=Task.SINGLE_LABEL, rows=60, wrong=0, largest=())
    comparison = Comparison(
        previous="flowers:2",
        metric="accuracy",
        rows=60,
        differing=9,
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
