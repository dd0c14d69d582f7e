"""The metadata of a model card, by which the Hugging Face Hub finds and files a model: YAML in front of the text.

Source: the `Hub's model card specification`_. Names come from the user's data and may hold anything, so all goes
through a YAML emitter.

.. _Hub's model card specification: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetune.score_tables import MEANING
from models.backbone import Modality
from models.task import Task

if TYPE_CHECKING:
    from finetune.card import CardFacts

_PIPELINE = {Modality.IMAGE: "image-classification", Modality.TEXT: "text-classification"}


def front_matter(facts: CardFacts) -> str:
    """The metadata as YAML; what is not known is left out."""
    import yaml

    pipeline = _pipeline(facts)
    metadata: dict[str, Any] = {
        "license": facts.license,
        "library_name": "graftwork",
        "pipeline_tag": pipeline,
        "base_model": facts.base_model,
        "tags": ["graftwork", "transfer-learning"],
    }
    if facts.evaluation is not None:
        data = facts.dataset or "unnamed"
        dataset = {"type": data, "name": data, "split": "test", "revision": facts.fingerprint}
        metadata["metrics"] = ["accuracy", "f1"]
        result = {
            "task": {"type": pipeline},
            "dataset": _without_none(dataset),
            "metrics": [
                {"type": kind, "name": MEANING[key][0], "value": facts.evaluation[key]}
                for kind, key in (("accuracy", "accuracy"), ("f1", "macro_f1"), ("expected_calibration_error", "ece"))
            ],
        }
        metadata["model-index"] = [{"name": facts.name, "results": [result]}]
    # Non-ASCII characters are escaped: raw, PyYAML's own reader takes some of them (U+0085) for line breaks.
    text: str = yaml.safe_dump(_without_none(metadata), sort_keys=False, width=10_000)
    return text


def _pipeline(facts: CardFacts) -> str:
    """The Hub's name for the task."""
    if facts.task is Task.TOKEN_CLASSIFICATION:
        return "token-classification"
    if facts.task is Task.REGRESSION and facts.pair:
        return "sentence-similarity"
    return _PIPELINE[facts.modality]


def _without_none(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
