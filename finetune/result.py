"""What a fine-tuning job came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.version import ModelVersion

if TYPE_CHECKING:
    from finetune.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """The published version and how good it is.

    Attributes:
        evaluation: in fp32, on all rows of the test split.
        deduplicated: without those that are in the training data too; the same object where there are none.
        seconds: from the first look at the data to the published version.
    """

    version: ModelVersion
    evaluation: Evaluation
    deduplicated: Evaluation
    train_size: int
    test_size: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        evaluation = self.evaluation
        return {
            "model": self.version.name,
            "version": self.version.number,
            "task": str(self.version.manifest.task),
            "accuracy": evaluation.accuracy,
            "accuracy_ci": list(evaluation.accuracy_ci),
            "accuracy_deduplicated": self.deduplicated.accuracy,
            "accuracy_deduplicated_ci": list(self.deduplicated.accuracy_ci),
            "macro_f1": evaluation.macro_f1,
            "macro_f1_ci": list(evaluation.macro_f1_ci),
            "ece": evaluation.ece,
            "ece_ci": list(evaluation.ece_ci),
            "precisions": {
                precision: {
                    "validation_metric": head.training and head.training.validation_metric,
                    "validation_score": head.training and head.training.validation_score,
                    "accuracy": head.metrics.get("accuracy"),
                    "refused": head.refused,
                }
                for precision, head in self.version.manifest.heads.items()
            },
            "classes": len(self.version.manifest.labels),
            "train_size": self.train_size,
            "test_size": self.test_size,
            "seconds": round(self.seconds, 2),
            "path": str(self.version.directory),
        }
