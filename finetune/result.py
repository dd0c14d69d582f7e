"""What a fine-tuning job came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.evaluations.metrics import HEADLINES
from models.version import ModelVersion

if TYPE_CHECKING:
    from finetune.comparison import Comparison
    from finetune.evaluations.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The published version and how good it is.

    Attributes:
        evaluation: in fp32, on all rows of the test split.
        deduplicated: without those that are in the training data too; the same object where there are none.
        comparison: with the version before, where that could be asked.
        seconds: from the first look at the data to the published version.
    """

    version: ModelVersion
    evaluation: Evaluation
    deduplicated: Evaluation
    comparison: Comparison | None = None
    train_size: int
    test_size: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        manifest, figures = self.version.manifest, self.evaluation.summary()
        primary, *others = HEADLINES[manifest.task]
        return {
            "model": self.version.name,
            "version": self.version.number,
            "task": str(manifest.task),
            **_with_interval(primary, figures),
            **_with_interval(primary, self.deduplicated.summary(), f"{primary}_deduplicated"),
            **{name: value for other in others for name, value in _with_interval(other, figures).items()},
            "beats_chance": self.evaluation.beats_chance,
            "precisions": {
                precision: {
                    "validation_metric": head.training and head.training.validation_metric,
                    "validation_score": head.training and head.training.validation_score,
                    primary: head.metrics.get(primary),
                    "refused": head.refused,
                }
                for precision, head in manifest.heads.items()
            },
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "classes": len(manifest.labels),
            "label_changes": None if manifest.label_changes is None else manifest.label_changes.model_dump(mode="json"),
            "train_size": self.train_size,
            "test_size": self.test_size,
            "seconds": round(self.seconds, 2),
            "path": str(self.version.directory),
        }


def _with_interval(metric: str, figures: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    return {name or metric: figures[metric], f"{name or metric}_ci": figures[f"{metric}_ci"]}
