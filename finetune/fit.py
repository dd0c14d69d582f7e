"""A head for the features of one precision: features, cross-validated head, evaluation on the test split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from finetune.evaluation import Evaluation, evaluate
from finetune.example import Example, Label
from finetune.extraction import Extraction, extract_features
from finetune.feature_cache import FeatureCache
from finetune.probe import Probe, fit_probe
from finetune.progress import progress_bar
from finetune.publishing import FittedHead
from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.head import scores_by_head
from models.manifest import Calibration, Training
from models.precision import Precision
from models.preprocessor import (
    ImagePreprocessorConfig,
    TextPreprocessorConfig,
    build_preprocessor,
    preprocessing_identity,
)

MOST_POINTS_LOST = 0.5  # of cross-validated accuracy in per cent, for speed


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every head of a job is fitted and judged on.

    Attributes:
        train: every example but those of the test split.
        fresh: indices of the test examples whose content is not in the training data.
        classes: labels in the order of a head's rows.
        seed: of the cross-validation's folds and the bootstrap.
    """

    train: Sequence[Example]
    test: Sequence[Example]
    fresh: Sequence[int]
    classes: Sequence[str]
    backbone: StoredBackbone
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    seed: int


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A head and what it is worth.

    Attributes:
        evaluation: on all rows of the test split.
        deduplicated: without those that are in the training data too; the same object where there are none.
    """

    engine: Engine
    extraction: Extraction
    probe: Probe
    seed: int
    evaluation: Evaluation
    deduplicated: Evaluation

    def refusal(self, reference: Fit) -> str | None:
        """Why this head must not serve in place of a slower one; None where it may. The test split has no say in it."""
        found, wanted = self.probe.cross_validated_accuracy, reference.probe.cross_validated_accuracy
        if reference is self or round(100 * (wanted - found), 9) <= MOST_POINTS_LOST:
            return None
        return f"cross-validated accuracy {found:.3f}, in fp32 {wanted:.3f}: over {MOST_POINTS_LOST:g} points lost"

    def fitted_head(self, reference: Fit) -> FittedHead:
        """What is published of it.

        Args:
            reference: the fit in fp32, which may be this one.
        """
        probe = self.probe
        return FittedHead(
            engine=self.engine,
            head=probe.head,
            calibration=Calibration(temperature=probe.temperature),
            training=Training(
                strategy="probe",
                seed=self.seed,
                settings={
                    "regularisation_c": probe.regularisation_c,
                    "feature_scaling": probe.feature_scaling,
                },
                validated_on="cross-validation",
                validation_metric="accuracy",
                validation_score=probe.cross_validated_accuracy,
                validation_loss=probe.cross_validated_log_loss,
                folds=probe.folds,
            ),
            metrics={
                **self.evaluation.summary(),
                "accuracy_deduplicated": self.deduplicated.accuracy,
                "accuracy_deduplicated_ci": list(self.deduplicated.accuracy_ci),
            },
            refused=self.refusal(reference),
        )


def fit_head(material: Material, engine: Engine, precision: Precision, *, cache_dir: Path, console: Console) -> Fit:
    """Extracts features, chooses and fits a head, and evaluates it once on the test split.

    Args:
        material: what on.
        engine: computes the features.
        precision: of the engine, for the progress bars.
        cache_dir: where features are kept.
        console: for progress.

    Raises:
        DatasetInvalid: see `finetune.extraction.extract_features` and `finetune.probe.fit_probe`.
        GraftworkError: the backbone gives numbers that are not finite.
    """
    where = "" if precision is Precision.FP32 else f" ({precision})"
    count, examples = len(material.train), [*material.train, *material.test]
    with progress_bar(console, f"extracting features{where}") as progress:
        extraction = extract_features(
            examples,
            preprocessor=build_preprocessor(material.preprocessor, material.backbone.directory),
            engine=engine,
            identity="\n".join(
                [material.backbone.digest, engine.identity, preprocessing_identity(material.preprocessor)]
            ),
            cache=FeatureCache(cache_dir),
            threads=len(os.sched_getaffinity(0)),
            progress=progress,
        )
    features_ND, targets_N = extraction.features_ND, _targets(examples, material.classes)
    with progress_bar(console, f"fitting the head{where}") as progress:
        probe = fit_probe(
            features_ND[:count],
            targets_N[:count],
            class_count=len(material.classes),
            seed=material.seed,
            progress=progress,
        )
    scores_NC, targets_N, fresh = _scores(probe, features_ND[count:]), targets_N[count:], material.fresh
    evaluation = evaluate(scores_NC, targets_N, classes=material.classes, seed=material.seed)
    deduplicated = evaluation
    if len(fresh) < len(material.test):
        deduplicated = evaluate(scores_NC[fresh], targets_N[fresh], classes=material.classes, seed=material.seed)
    return Fit(
        engine=engine,
        extraction=extraction,
        probe=probe,
        seed=material.seed,
        evaluation=evaluation,
        deduplicated=deduplicated,
    )


def _targets(examples: Sequence[Example], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    index: dict[Label, int] = {label: i for i, label in enumerate(classes)}
    return np.array([index[example.label] for example in examples], dtype=np.int64)


def _scores(probe: Probe, features_ND: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """Through the kernel that serves."""
    count = len(features_ND)
    return np.stack(scores_by_head(torch.from_numpy(features_ND), [probe.head] * count, [probe.temperature] * count))
