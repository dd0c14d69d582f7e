"""A new version against the one before it: the same test rows, resampled in pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finetune.example import Example, Progress
from finetune.findings import Finding, Severity, shortlist
from finetune.intervals import Interval, bootstrap, percentile
from finetune.markdown import escape
from finetune.predictions import Predictions, predict
from finetune.primary_metric import METRICS, Metric
from models.backbone import Modality
from models.errors import GraftworkError
from models.task import Task
from models.version import ModelVersion

if TYPE_CHECKING:
    from models.engine import EngineSource
    from models.preprocessor import ImagePreprocessorConfig, TextPreprocessorConfig
    from models.repository import ModelRepository

logger = logging.getLogger(__name__)

RESAMPLES = 2000
FEWEST_DIFFERING = (
    6  # of five that all speak for one side, a sign test says p = 0.06 (McNemar 1947): a bootstrap is too sure
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two versions on the same rows, by their task's primary metric.

    Attributes:
        previous: the earlier version, such as ``flowers:3``.
        rows: number of test rows.
        differing: on how many of them the two differ: one is right and one is wrong, or, of answers that may be more or
            less right, they are not the same.
        score: of the new version.
        previous_score: of the earlier one.
        interval: 95 %, of the difference.
        chance_better: the share of resamples in which the new version is better; one in which they are equal counts half.
        caveat: why the earlier version may look better than it is; None where there is no reason.
    """

    previous: str
    metric: str
    rows: int
    differing: int
    score: float
    previous_score: float
    interval: Interval
    chance_better: float
    caveat: str | None = None

    @property
    def difference(self) -> float:
        """Above 0 where the new version is better."""
        return self.score - self.previous_score

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval leaves 0 out and enough rows differ, else ``no clear difference``."""
        if self.differing < FEWEST_DIFFERING or self.interval.low <= 0 <= self.interval.high:
            return "no clear difference"
        return "better" if self.difference > 0 else "worse"

    @property
    def sentence(self) -> str:
        """All of it in a sentence, for a console."""
        if not self.differing:
            return f"{self.previous} does as well on each of the {self.rows:,} test rows: {self.verdict}"
        return (
            f"{self.metric.replace('_', ' ').replace('f1', 'F1')} {self.score:.3f}, {self.previous} has {self.previous_score:.3f} on the same "
            f"{self.rows:,} rows: {self.difference:+.3f} (95 %: {self.interval.low:+.3f} to {self.interval.high:+.3f}), "
            f"better with a chance of {_percent(self.chance_better)}: {self.verdict}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "previous": self.previous,
            "metric": self.metric,
            "rows": self.rows,
            "differing": self.differing,
            "score": self.score,
            "previous_score": self.previous_score,
            "difference": self.difference,
            "difference_ci": list(self.interval),
            "chance_better": self.chance_better,
            "verdict": self.verdict,
            "caveat": self.caveat,
        }

    def markdown(self) -> list[str]:
        """Blocks for the model card."""
        blocks = [f"{escape(self.sentence[0].upper() + self.sentence[1:])}."]
        if self.differing:
            blocks.append(
                f"The two differ on {self.differing:,} rows. Interval and chance are those of a paired bootstrap: rows are "
                "drawn again and again, for both versions the same."
            )
        return blocks if self.caveat is None else [*blocks, f"{escape(self.caveat)}."]


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
    vectors: Vectors | None = None,
    metric: Metric | None = None,
    progress: Progress | None = None,
) -> Comparison | Finding | None:
    """Compares a version that is about to be published with the newest one of its name. Never raises.

    Both answer in fp32.

    Args:
        repository: holds the earlier versions.
        name: of the model.
        examples: the test split.
        predictions: of the new version for them.
        fingerprint: of the new version's data, splits included.
        engines: makes the engine that the earlier version is asked with.
        seed: of the bootstrap.
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
        version = repository.read(name, numbers[-1])
        difference = _difference(version, examples, predictions)
        if difference is not None:
            return _not_compared("info", f"{previous} {difference}, so the two are not compared")
        repository.verify(version)
        earlier = _ask(repository, version, examples, engines, vectors, progress)
        return _compare(version, examples, predictions, earlier, fingerprint, seed, metric)
    except Exception as error:  # whatever an old version is like, the new one is done and can be published
        logger.warning("%s cannot be compared with: %s", previous, error)
        why = error.message if isinstance(error, GraftworkError) else "it cannot be asked here"
        return _not_compared("warning", f"{previous} is not compared with: {why}")


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


def _compare(
    version: ModelVersion,
    examples: Sequence[Example],
    predictions: Predictions,
    earlier: Predictions,
    fingerprint: str,
    seed: int,
    metric: Metric | None,
) -> Comparison:
    name = predictions.task.traits.primary_metric
    metric = metric or METRICS[name]
    truths = [example.label for example in examples]
    differing = sum(
        one != other and (predictions.task is not Task.SINGLE_LABEL or truth in (one, other))
        for truth, one, other in zip(truths, predictions.answers, earlier.answers, strict=True)
    )
    new, old = metric(truths, predictions.answers), metric(truths, earlier.answers)

    def scores(rows_RN: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return np.column_stack([new(rows_RN), old(rows_RN)])

    score, previous_score = scores(np.arange(len(examples))[None])[0].tolist()
    resampled_R2 = bootstrap(scores, len(examples), seed=seed, resamples=RESAMPLES)
    gain_R = resampled_R2[:, 0] - resampled_R2[:, 1]
    return Comparison(
        previous=str(version),
        metric=name,
        rows=len(examples),
        differing=differing,
        score=score,
        previous_score=previous_score,
        interval=percentile(score - previous_score, gain_R),
        chance_better=float((gain_R > 0).mean() + (gain_R == 0).mean() / 2),
        caveat=_caveat(version, fingerprint),
    )


def _caveat(version: ModelVersion, fingerprint: str) -> str | None:
    data = version.manifest.data
    if data is not None and data.fingerprint == fingerprint:
        return None
    what = "was imported" if data is None else "was trained on other data, or on another split of it"
    return f"{version} {what}: some of these test rows may have been among its training rows, which would flatter it"


def _not_compared(severity: Severity, message: str) -> Finding:
    return Finding(severity=severity, code="not_compared", message=message, count=0)


def _percent(share: float) -> str:
    """Never 0 or 100 %: so many resamples were not drawn."""
    percent = round(100 * share)
    return "over 99 %" if percent == 100 else "under 1 %" if percent == 0 else f"{percent} %"
