"""From fitted heads to a version, for every task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from finetune.publishing import FittedHead, Graft
from models.backbone_store import StoredBackbone
from models.features import FeatureKind
from models.golden import GoldenSet
from models.head import Head
from models.manifest import Calibration
from models.precision import Precision
from models.repository import ModelRepository
from models.sources import fetch_checkpoint
from models.task import Task
from tests.tiny_models import FINE, TAGS, TwoPrecisions, publish_tasks, torch_engine


def test_a_version_of_each_task_in_two_precisions(tiny_text: str, tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    versions = publish_tasks(repository, tiny_text, TwoPrecisions(FINE))
    for version in versions.values():
        manifest = version.manifest
        repository.verify(version)
        assert set(manifest.heads) == set(Precision)
        for precision in Precision:
            golden = GoldenSet.read(version.directory, manifest.modality, precision)
            assert golden.features_VD.shape[1] == manifest.head_dim
            words = sum(len(str(item).split()) for item in golden.items)
            assert len(golden.scores_VC) == (words if manifest.kind is FeatureKind.TOKENS else 2)
    assert versions["topics"].manifest.reference.calibration == Calibration(threshold=0.5)
    assert versions["prices"].manifest.reference.calibration == Calibration(interval=0.5)
    assert versions["names"].manifest.labels == TAGS
    assert versions["follows"].manifest.pair == "joint"
    assert versions["likeness"].manifest.head_dim == 4 * versions["likeness"].manifest.backbone.feature_dim


def test_the_card_says_what_is_answered_and_how_it_is_asked(tiny_text: str, tmp_path: Path) -> None:
    versions = publish_tasks(ModelRepository(tmp_path), tiny_text)
    cards = {name: (version.directory / "README.md").read_text() for name, version in versions.items()}
    for name, words in {
        "topics": ("which of 4 labels hold", "pipeline_tag: text-classification"),
        "prices": ("predicts price", "90 %"),
        "names": ("Classes: name, place.", "pipeline_tag: token-classification"),
        "follows": ("Puts a pair of texts into one of 3 classes", '"text_pair"'),
        "likeness": ("predicts likeness", "--pairs", "pipeline_tag: sentence-similarity"),
    }.items():
        for each in words:
            assert each in cards[name], (name, each)


def test_an_embedding_has_no_head_and_all_else_has_one(tiny_text: str, tmp_path: Path) -> None:
    checkpoint = fetch_checkpoint(tiny_text)
    stored = ModelRepository(tmp_path).backbones.add(checkpoint)
    width = stored.config.feature_dim
    some = Head(weight_CD=torch.ones(2, width), bias_C=torch.zeros(2), activation="identity")
    for task, head in ((Task.EMBEDDING, some), (Task.REGRESSION, Head.none(width))):
        with pytest.raises(ValueError, match="an embedding has no head"):
            Graft(
                name="x",
                backbone=stored,
                preprocessor=checkpoint.preprocessor,
                heads={Precision.FP32: FittedHead(engine=torch_engine(stored), head=head)},
                labels=("value",),
                golden_items=["a"],
                task=task,
            )


def test_a_head_with_the_activation_of_another_task_is_no_graft(tiny_text: str, tmp_path: Path) -> None:
    checkpoint = fetch_checkpoint(tiny_text)
    stored: StoredBackbone = ModelRepository(tmp_path).backbones.add(checkpoint)
    head = Head(weight_CD=torch.ones(2, stored.config.feature_dim), bias_C=torch.zeros(2))
    graft = Graft(
        name="topics",
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        heads={Precision.FP32: FittedHead(engine=torch_engine(stored), head=head)},
        labels=("a", "b"),
        golden_items=["a"],
    )
    with pytest.raises(ValueError, match="the heads for multi-label have the activation sigmoid"):
        replace(graft, task=Task.MULTI_LABEL)
