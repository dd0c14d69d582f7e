from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from models.backbone import Modality
from models.manifest import Calibration, HeadRecord
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig
from models.signature import TensorSpec, signature
from models.task import Task
from tests.models.versions import EMBEDDING as WITHOUT_HEAD
from tests.models.versions import HEAD, manifest
from tests.tiny_models import IMAGES, text_manifest


def head(**calibration: Any) -> dict[Precision, HeadRecord]:
    return {Precision.FP32: HEAD.model_copy(update={"calibration": Calibration(**calibration)})}


def outputs(**changes: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each.name: (each.datatype, each.shape) for each in signature(manifest(**changes)).outputs}


WIDTH = manifest().backbone.feature_dim
EMBEDDING = {"embedding": ("FP32", (-1, WIDTH))}
SCORES = {"probabilities": ("FP32", (-1, 3)), "logits": ("FP32", (-1, 3))}
LABELS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("task", "labels", "expected"),
    [
        (Task.SINGLE_LABEL, LABELS, {**SCORES, "label": ("BYTES", (-1,)), **EMBEDDING}),
        (Task.MULTI_LABEL, LABELS, {**SCORES, "holds": ("BOOL", (-1, 3)), **EMBEDDING}),
        (Task.REGRESSION, ("price",), {"value": ("FP32", (-1,)), "interval": ("FP32", (-1, 2)), **EMBEDDING}),
        (Task.TOKEN_CLASSIFICATION, ("B-x", "I-x", "O"), {"entities": ("BYTES", (-1,))}),
    ],
)
def test_each_task_has_its_outputs(task: Task, labels: tuple[str, ...], expected: Mapping[str, object]) -> None:
    calibration = {Task.MULTI_LABEL: {"threshold": 0.5}, Task.REGRESSION: {"interval": 0.5}}.get(task, {})
    found = outputs(task=task, labels=labels, heads=head(**calibration))
    assert list(found.items()) == list(expected.items())


def test_an_embedding_is_all_that_one_without_a_head_gives() -> None:
    assert outputs(**WITHOUT_HEAD) == EMBEDDING


def test_a_text_model_reads_texts() -> None:
    found = signature(manifest())
    assert found.inputs == (TensorSpec(name="text", datatype="BYTES"),)
    assert not found.alternatives
    assert found.input("text") is found.inputs[0]
    assert found.input("Text") is None
    assert found.output("nothing") is None


@pytest.mark.parametrize(("pair", "has_embedding"), [("joint", True), ("separate", False)])
def test_a_model_of_pairs_reads_both_texts(pair: Any, has_embedding: bool) -> None:
    found = signature(manifest(preprocessor=TextPreprocessorConfig(max_tokens=16, pair=pair)))
    assert [each.name for each in found.inputs] == ["text", "text_pair"]
    assert not found.alternatives
    assert (found.output("embedding") is not None) == has_embedding


def test_an_image_model_reads_files_or_pixels() -> None:
    found = signature(text_manifest("a", 1, Modality.IMAGE))
    assert found.alternatives
    assert found.inputs == (
        TensorSpec(name="image", datatype="BYTES"),
        TensorSpec(name="pixel_values", datatype="FP32", shape=(-1, *IMAGES.input_size), also="UINT8"),
    )


def test_what_has_classes_names_them() -> None:
    found = {each.name: tuple(each.labels) for each in signature(manifest(labels=LABELS)).outputs}
    assert found == {"probabilities": LABELS, "logits": LABELS, "label": (), "embedding": ()}
