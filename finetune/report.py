"""What is told of a job beside the version itself: findings, files of the report, sections of the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console

from finetune import learnt_rows
from finetune.comparison import Comparison
from finetune.curves import LearningCurves
from finetune.dataset import Dataset
from finetune.figures import ReportFigure, figures_of
from finetune.findings import Finding
from finetune.fits import Fits
from finetune.label_history import find_label_changes
from finetune.mistakes import Mistakes, find_mistakes
from finetune.previous_version import Vectors, compare_with_previous
from finetune.progress import progress_bar
from finetune.tuning import Tuned
from models.engine import EngineSource
from models.manifest import LabelChanges
from models.repository import ModelRepository


@dataclass(frozen=True, kw_only=True)
class Report:
    """A job, told.

    Attributes:
        curves: of the training of the backbone, whether it gained anything or not.
        comparison: with the version before; None where there is none, or none to compare with.
        label_changes: since the version before; None where there is none.
    """

    dataset: Dataset
    fits: Fits
    findings: tuple[Finding, ...]
    curves: LearningCurves | None
    mistakes: Mistakes
    comparison: Comparison | None
    label_changes: LabelChanges | None = None

    @cached_property
    def _figures(self) -> Sequence[ReportFigure]:
        return figures_of(self.fits.reference.evaluation)

    def files(self) -> Mapping[str, bytes]:
        """By relative path in the version."""
        return {
            learnt_rows.FILE: learnt_rows.learnt_rows(self.fits.material.train),
            "report/evaluation.json": json.dumps(self.fits.reference.evaluation.to_dict(), indent=1).encode(),
            **{figure.file: figure.png for figure in self._figures},
            **({} if self.curves is None else self.curves.files()),
            **self.mistakes.files(),
        }

    def card(self) -> Mapping[str, Any]:
        """Fields of `finetune.card.CardFacts`."""
        fp32 = self.fits.reference
        return {
            "dataset": self.dataset.name,
            "rows": {split: len(examples) for split, examples in self.dataset.splits.items()},
            "fingerprint": self.dataset.fingerprint,
            "training": fp32.training,
            "evaluation": fp32.evaluation.to_dict(),
            "without_duplicates": None if fp32.deduplicated is fp32.evaluation else fp32.deduplicated.to_dict(),
            "figures": [(figure.title, figure.file) for figure in self._figures],
            "findings": [
                (finding.severity, f"{finding.message} ({finding.count:,})" if finding.count else finding.message)
                for finding in self.findings
            ],
            "curves": self.curves,
            "mistakes": self.mistakes,
            "comparison": self.comparison,
        }


def report_on(
    name: str,
    dataset: Dataset,
    fits: Fits,
    tuned: Tuned | None,
    findings: tuple[Finding, ...],
    *,
    label_changes: LabelChanges | None = None,
    repository: ModelRepository,
    engines: EngineSource,
    seed: int,
    console: Console,
) -> Report:
    """Looks at what came of a job.

    Args:
        name: of the model, of which there may be earlier versions.
        findings: of the data check and of the fits.
        label_changes: since the version before.
        engines: make the engine that the earlier version is asked with.
        seed: of the bootstrap.
    """
    material, fp32 = fits.material, fits.reference
    # Neither version may shine with rows that were there to learn from.
    fresh = fp32.test.part(material.fresh)
    with progress_bar(console, "comparing versions") as progress:
        comparison = compare_with_previous(
            repository,
            name,
            fresh.examples,
            fp32.predictions.part(material.fresh),
            fingerprint=dataset.fingerprint,
            engines=engines,
            seed=seed,
            renamed={} if label_changes is None else dict(label_changes.renamed),
            vectors=Vectors(
                backbone=material.backbone.digest,
                preprocessor=material.preprocessor,
                vectors_VD=fresh.vectors_VD,
                words=fresh.words,
            ),
            progress=progress,
        )
    curves = None
    if tuned is not None:
        outcome = tuned.trained.outcome
        curves = LearningCurves(
            history=outcome.history,
            metric=fp32.training.validation_metric,
            stopped=outcome.stopped,
            refitted_on=len(material.train) if tuned.refitted else None,
        )
        curves.show(console)
    findings += find_label_changes(name, label_changes)
    if isinstance(comparison, Finding):
        findings, comparison = (*findings, comparison), None
    return Report(
        dataset=dataset,
        fits=fits,
        findings=findings,
        curves=curves,
        mistakes=find_mistakes(material.test, fp32.predictions),
        comparison=comparison,
        label_changes=label_changes,
    )
