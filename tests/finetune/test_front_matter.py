from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import yaml
from huggingface_hub import ModelCard
from hypothesis import example, given
from hypothesis import strategies as st

from finetune.card import model_card
from models.backbone import Modality
from tests.finetune.cards import FACTS, HOSTILE


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


def test_a_text_classifier_is_filed_under_texts() -> None:
    assert metadata_of(model_card(replace(FACTS, modality=Modality.TEXT)))["pipeline_tag"] == "text-classification"
