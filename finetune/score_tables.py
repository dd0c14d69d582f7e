"""The scores of an evaluation as Markdown tables: of all rows, and class by class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetune.markdown import escape, table

MOST_CLASSES_IN_TABLE = 20

MEANING = {
    "accuracy": ("Accuracy", "share of rows that are right"),
    "macro_f1": ("Macro F1", "mean F1 over the classes that occur, each counted alike"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall over the classes, each counted alike"),
    "ece": ("Expected calibration error", "mean distance of confidence from accuracy, 15 bins; 0 is perfect"),
    "log_loss": ("Log loss", "nats; 0 is perfect"),
    "majority_accuracy": ("Accuracy of chance", "of always answering the most frequent class"),
}


def scores_table(evaluation: Mapping[str, Any]) -> str:
    """Each score with its interval and what it means.

    Args:
        evaluation: as `finetune.evaluation.Evaluation.to_dict` gives it.
    """
    rows = []
    for key, (name, meaning) in MEANING.items():
        low_high = evaluation.get(f"{key}_ci")
        interval = "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}"
        rows.append((name, f"{evaluation[key]:.3f}", interval, meaning))
    return table(("score", "value", "95 % interval", "meaning"), rows)


def class_tables(per_class: Sequence[Mapping[str, Any]]) -> list[str]:
    """Blocks with the scores of each class; of many classes those with the lowest F1 first, the others folded away."""

    def rows(scores: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
        return table(
            ("no.", "class", "precision", "recall", "F1", "test rows"),
            (
                (
                    str(number),
                    escape(one["label"]),
                    *(_with_interval(one[key], one.get(f"{key}_ci")) for key in ("precision", "recall", "f1")),
                    f"{one['support']:,}",
                )
                for number, one in scores
            ),
        )

    numbered = list(enumerate(per_class))
    if len(numbered) <= MOST_CLASSES_IN_TABLE:
        return ["By class, with 95 % intervals:", rows(numbered)]
    # A class without test rows has an F1 of 0 that says nothing: it goes last.
    numbered.sort(key=lambda pair: (pair[1]["support"] == 0, pair[1]["f1"]))
    return [
        f"The {MOST_CLASSES_IN_TABLE} classes with the lowest F1:",
        rows(numbered[:MOST_CLASSES_IN_TABLE]),
        f"<details><summary>The other {len(numbered) - MOST_CLASSES_IN_TABLE:,} classes</summary>",
        rows(numbered[MOST_CLASSES_IN_TABLE:]),
        "</details>",
    ]


def _with_interval(value: float, low_high: Sequence[float] | None) -> str:
    return f"{value:.3f}" if low_high is None else f"{value:.3f} ({low_high[0]:.2f} to {low_high[1]:.2f})"
