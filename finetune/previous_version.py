"""The version before: asked for its answers to the test rows, so that a new one can be compared with it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finetune.comparison import Comparison, compare
from finetune.example import Example, Progress
from finetune.findings import Finding, Severity, shortlist
from finetune.learnt_rows import rows_not_learnt
from finetune.predictions import Predictions, predict
from finetune.primary_metric import Metric
from models.backbone import Modality
from models.errors import GraftworkError
from models.task import Task
from models.version import ModelVersion

if TYPE_CHECKING:
    from models.engine import EngineSource
    from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig
    from models.repository import ModelRepository

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What the head of the new version read of the test rows: a version on the same backbone reads the same.

    Attributes:
        backbone: its digest.
        preprocessor: how its rows were made.
        vectors_VD: fp32, in the order of the examples.
        words: for each example which of its words have a vector; None where each example has one.
    """

    backbone: str
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    vectors_VD: npt.NDArray[np.float32]
    words: Sequence[Sequence[int]] | None = None


def compare_with_previous(
    repository: ModelRepository,
    name: str,
    examples: Sequence[Example],
    predictions: Predictions,
    *,
    fingerprint: str,
    engines: EngineSource,
    seed: int,
    renamed: Mapping[str, str] | None = None,
    vectors: Vectors | None = None,
    metric: Metric | None = None,
    progress: Progress | None = None,
) -> Comparison | Finding | None:
    """Compares a version that is about to be published with the newest one of its name. Never raises.

    Both answer in fp32. Rows that the earlier version has learnt from are left out, where it says which those are.

    Args:
        repository: holds the earlier versions.
        name: of the model.
        examples: the test split.
        predictions: of the new version for them.
        fingerprint: of the new version's data, splits included.
        engines: makes the engine that the earlier version is asked with.
        seed: of the bootstrap.
        renamed: from what a label was called in the earlier version to what the new one calls it.
        vectors: spare the earlier version its engine, where its backbone is the same.
        metric: the task's primary one without.
        progress: called with (done, total) while the earlier version answers.

    Returns:
        The comparison; None for the first version; a finding where the earlier version cannot be compared with.
    """
    previous = "the version before"
    try:
        numbers = repository.numbers(name)
        if not numbers:
            return None
        previous = f"{name}:{numbers[-1]}"
        version = _relabelled(repository.read(name, numbers[-1]), renamed or {})
        difference = _difference(version, examples, predictions)
        if difference is not None:
            return _not_compared("info", f"{previous} {difference}, so the two are not compared")
        repository.verify(version)
        rows = rows_not_learnt(version.directory, examples)
        if rows == []:
            return _not_compared("info", f"{previous} has learnt from every test row, so the two are not compared")
        earlier, caveat = _ask(repository, version, examples, engines, vectors, progress), _caveat(version, fingerprint)
        if rows is not None:
            left_out = len(examples) - len(rows)
            caveat = f"{left_out:,} test rows are left out, from which {previous} has learnt" if left_out else None
            examples = [examples[row] for row in rows]
            predictions, earlier = predictions.part(rows), earlier.part(rows)
        return compare(examples, predictions, earlier, previous=previous, seed=seed, metric=metric, caveat=caveat)
    except Exception as error:  # whatever an old version is like, the new one is done and can be published
        logger.warning("%s cannot be compared with: %s", previous, error)
        why = error.message if isinstance(error, GraftworkError) else "it cannot be asked here"
        return _not_compared("warning", f"{previous} is not compared with: {why}")


def _relabelled(version: ModelVersion, renamed: Mapping[str, str]) -> ModelVersion:
    """The version as if its labels were called what they are called now."""
    labels = version.manifest.labels
    fitting = {old: new for old, new in renamed.items() if new not in labels}
    labels = tuple(fitting.get(label, label) for label in labels)
    return replace(version, manifest=version.manifest.model_copy(update={"labels": labels}))


def _difference(version: ModelVersion, examples: Sequence[Example], predictions: Predictions) -> str | None:
    """What keeps two versions from being compared, as the predicate of a sentence; None where nothing does."""
    manifest = version.manifest
    pairs = [isinstance(example.text, tuple) for example in examples]
    reads = Modality.IMAGE if any(example.text is None for example in examples) else Modality.TEXT
    if manifest.task is not predictions.task:
        return f"answers another task, {manifest.task}"
    if manifest.modality is not reads or (manifest.pair is not None) is not any(pairs):
        return f"reads {'pairs of texts' if manifest.pair else f'{manifest.modality}s'}"
    missing = sorted(set(predictions.classes) - set(manifest.labels))
    extra = sorted(set(manifest.labels) - set(predictions.classes))
    if extra and manifest.task is Task.REGRESSION:
        return f"predicts {shortlist(extra)}"
    lacks, has = f"does not know {shortlist(missing)}", f"also knows {shortlist(extra)}"
    return " and ".join([lacks] * bool(missing) + [has] * bool(extra)) or None


def _ask(
    repository: ModelRepository,
    version: ModelVersion,
    examples: Sequence[Example],
    engines: EngineSource,
    vectors: Vectors | None,
    progress: Progress | None,
) -> Predictions:
    """What an earlier version says of the examples."""
    from models.precision import Precision
    from models.predictor import Predictor, read_head
    from models.preprocessor import build_preprocessor

    manifest = version.manifest
    head, calibration = read_head(version.directory, manifest), manifest.reference.calibration
    if (
        vectors is not None
        and vectors.backbone == manifest.backbone.digest
        and vectors.preprocessor == manifest.preprocessor
    ):
        import torch

        from models.head import scores_by_head

        count = len(vectors.vectors_VD)
        scores_VC = np.stack(
            scores_by_head(torch.from_numpy(vectors.vectors_VD), [head] * count, [calibration.temperature] * count)
        )
        return Predictions.of(
            scores_VC,
            vectors.words,
            task=manifest.task,
            classes=manifest.labels,
            threshold=calibration.threshold,
        )
    stored = repository.backbones.get(manifest.backbone.digest)
    predictor = Predictor(
        preprocessor=build_preprocessor(manifest.preprocessor, stored.directory, manifest.kind),
        engine=engines.build(stored, Precision.FP32, manifest.kind),
        head=head,
        labels=manifest.labels,
        task=manifest.task,
        calibration=calibration,
    )
    return predict(predictor, examples, progress)


def _caveat(version: ModelVersion, fingerprint: str) -> str | None:
    data = version.manifest.data
    if data is not None and data.fingerprint == fingerprint:
        return None
    what = "was imported" if data is None else "was trained on other data, or on another split of it"
    return f"{version} {what}: some of these test rows may have been among its training rows, which would flatter it"


def _not_compared(severity: Severity, message: str) -> Finding:
    return Finding(severity=severity, code="not_compared", message=message, count=0)
