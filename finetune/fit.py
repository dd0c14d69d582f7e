"""A head for the features of one precision: features, head, calibration, evaluation on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from finetune.evaluations.evaluation import Evaluation
from finetune.example import Example
from finetune.extraction import Extraction
from finetune.head_rows import head_rows
from finetune.material import Material
from finetune.predictions import Predictions
from finetune.probe_search import find_probe
from finetune.probes.probe import Candidate
from finetune.publishing import FittedHead
from finetune.task_fit import Rows, scores_of, task_fit
from models.engine import Engine
from models.head import Head
from models.manifest import Calibration, Setting, Training
from models.precision import Precision
from models.preprocessor import (
    ImagePreprocessorConfig,
    TextPreprocessorConfig,
)

MOST_POINTS_LOST = 0.5  # of the validation score in per cent, for speed


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A head and what it is worth.

    Attributes:
        engine: computed the features that it was fitted and judged on.
        preprocessor: made the rows of them; of pairs it says how they are read.
        training: how it was found, and its score and loss on rows that it was not fitted on.
        converged: whether the optimiser ended by itself.
        test: what the head read of the test split.
        predictions: what it makes of it.
        evaluation: of these, on all rows.
        deduplicated: without those that are in the training data too; the same object where there are none.
        truncated: how many texts were cut to what the backbone reads.
        cache_error: why features could not be kept; None when all were.
    """

    engine: Engine
    preprocessor: ImagePreprocessorConfig | TextPreprocessorConfig
    head: Head
    calibration: Calibration
    training: Training
    converged: bool
    test: Rows
    predictions: Predictions
    evaluation: Evaluation
    deduplicated: Evaluation
    truncated: int
    cache_error: str | None

    def refusal(self, reference: Fit) -> str | None:
        """Why this head must not serve in place of a slower one; None where it may. The test split has no say in it."""
        found, wanted = self.training.validation_score, reference.training.validation_score
        if reference is self or round(100 * (wanted - found), 9) <= MOST_POINTS_LOST:
            return None
        what = f"{self.training.validation_metric.replace('_', ' ')} by {self.training.validated_on}"
        return f"{what} {found:.3f}, in fp32 {wanted:.3f}: over {MOST_POINTS_LOST:g} points lost"

    def fitted_head(self, reference: Fit) -> FittedHead:
        """What is published of it.

        Args:
            reference: the fit in fp32, which may be this one.
        """
        primary, without = self.training.validation_metric, self.deduplicated.summary()
        return FittedHead(
            engine=self.engine,
            head=self.head,
            calibration=self.calibration,
            training=self.training,
            metrics={
                **self.evaluation.summary(),
                f"{primary}_deduplicated": without[primary],
                f"{primary}_deduplicated_ci": without[f"{primary}_ci"],
            },
            refused=self.refusal(reference),
        )


def fit_head(material: Material, engine: Engine, precision: Precision, *, cache_dir: Path, console: Console) -> Fit:
    """Extracts features, chooses and fits a head on them as they are, and evaluates it once on the test split.

    Pairs of texts are read in each way that the backbone knows, unless the material says in which; what cross-validation
    likes best is taken.

    Args:
        material: what on.
        engine: computes the features; made for the kind of them that the task's heads read.
        precision: of the engine, for the progress bars.
        cache_dir: where features are kept.
        console: for progress.

    Raises:
        DatasetInvalid: see `finetune.extraction.extract_features`; or nothing can be held out.
        GraftworkError: the backbone gives numbers that are not finite.
    """
    found = find_probe(material, engine, _where(precision), cache_dir=cache_dir, console=console)
    read, probe = found.material, found.probe
    return _judged(
        read,
        found.rows.part(range(len(material.train), len(material.train) + len(material.test))),
        head=probe.head,
        calibration=probe.chosen.calibration,
        training=Training(
            strategy="probe",
            seed=material.seed,
            settings={**probe.chosen.settings, **({} if read.pair is None else {"pair": read.pair})},
            validated_on="cross-validation",
            validation_metric=material.task.traits.primary_metric,
            validation_score=probe.chosen.score,
            validation_loss=probe.chosen.loss,
            folds=probe.folds,
        ),
        converged=probe.converged,
        engine=engine,
        extraction=found.extraction,
    )


def calibrate(
    material: Material,
    head: Head,
    engine: Engine,
    precision: Precision,
    *,
    validation: Sequence[Example],
    settings: Mapping[str, Setting],
    cache_dir: Path,
    console: Console,
) -> Candidate:
    """Temperature, threshold or interval of a head that was trained elsewhere, and what it is worth.

    Args:
        material: its backbone is the one that the head was trained with; of pairs its preprocessor says how they are read.
        head: with the activation of the task.
        engine: computes that backbone.
        precision: of the engine, for the progress bars.
        validation: examples that neither learnt from.
        settings: how it was trained.
        cache_dir: where features are kept.
        console: for progress.

    Raises:
        DatasetInvalid, GraftworkError: see `finetune.extraction.extract_features`.
    """
    rows, _ = head_rows(material, validation, engine, _where(precision), cache_dir=cache_dir, console=console)
    return task_fit(material.task, material.classes, seed=material.seed).judge(rows, head, settings)


def fit_given_head(
    material: Material,
    head: Head,
    chosen: Candidate,
    engine: Engine,
    precision: Precision,
    *,
    strategy: str,
    cache_dir: Path,
    console: Console,
) -> Fit:
    """Evaluates a head that was trained elsewhere, once, on the test split.

    Args:
        material, head, engine, precision, cache_dir, console: as for `calibrate`.
        chosen: what that gave.
        strategy: how it was trained, for the manifest.

    Raises:
        DatasetInvalid, GraftworkError: see `finetune.extraction.extract_features`.
    """
    test, extraction = head_rows(
        material, material.test, engine, _where(precision), cache_dir=cache_dir, console=console
    )
    return _judged(
        material,
        test,
        head=task_fit(material.task, material.classes, seed=material.seed).finished(head, chosen),
        calibration=chosen.calibration,
        training=Training(
            strategy=strategy,
            seed=material.seed,
            settings=dict(chosen.settings),
            validated_on="validation split",
            validation_metric=material.task.traits.primary_metric,
            validation_score=chosen.score,
            validation_loss=chosen.loss,
        ),
        converged=True,
        engine=engine,
        extraction=extraction,
    )


def _judged(
    material: Material,
    test: Rows,
    *,
    head: Head,
    calibration: Calibration,
    training: Training,
    converged: bool,
    engine: Engine,
    extraction: Extraction,
) -> Fit:
    """The one look at the test split."""
    fitting = task_fit(material.task, material.classes, calibration, seed=material.seed)
    scores_VC = scores_of(head, test.vectors_VD, calibration.temperature)
    evaluation = deduplicated = fitting.evaluate(test, scores_VC)
    if len(material.fresh) < len(material.test):
        deduplicated = fitting.evaluate(test.part(material.fresh), scores_VC[test.places(material.fresh)])
    return Fit(
        engine=engine,
        preprocessor=material.preprocessor,
        head=head,
        calibration=calibration,
        training=training,
        converged=converged,
        test=test,
        predictions=Predictions.of(
            scores_VC, test.words, task=material.task, classes=material.classes, threshold=calibration.threshold
        ),
        evaluation=evaluation,
        deduplicated=deduplicated,
        truncated=extraction.truncated,
        cache_error=extraction.cache_error,
    )


def _where(precision: Precision) -> str:
    return "" if precision is Precision.FP32 else f" ({precision})"
