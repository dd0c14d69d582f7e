"""What figures are called, what they mean, and which come first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.task import Task

METRICS = {
    "accuracy": ("Accuracy", "share of rows that are right"),
    "macro_f1": ("Macro F1", "mean F1 over the classes that occur, each counted alike"),
    "micro_f1": ("Micro F1", "F1 over all labels of all rows together"),
    "mean_average_precision": (
        "Mean average precision",
        "area under precision over recall, mean over labels; no threshold",
    ),
    "exact_match": ("Exact match", "share of rows with all their labels and no other"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall over the classes, each counted alike"),
    "spearman": ("Spearman", "correlation of the order of values"),
    "pearson": ("Pearson", "linear correlation"),
    "mae": ("Mean absolute error", "in the unit of the values; 0 is perfect"),
    "r2": ("R2", "share of the variance that is explained; 0 is no better than the mean"),
    "coverage": ("Coverage", "share of true values inside the 90 % interval"),
    "entity_f1": ("Entity F1", "entities with exactly the right words and type"),
    "entity_precision": ("Entity precision", "share of what was found that is right"),
    "entity_recall": ("Entity recall", "share of what there is that was found"),
    "token_accuracy": ("Token accuracy", "share of words with the right tag; misleading, as most words are O"),
    "ece": ("Expected calibration error", "mean distance of scores from shares that are right, 15 bins; 0 is perfect"),
    "log_loss": ("Log loss", "nats; 0 is perfect"),
    "majority_accuracy": ("Accuracy of chance", "of always answering the most frequent class"),
    "chance_macro_f1": ("Macro F1 of chance", "of the same answers, given to rows at random"),
    "chance_spearman": ("Spearman of chance", "of values that have nothing to do with the rows"),
    "chance_entity_f1": ("Entity F1 of chance", "of the same tags, given to words at random"),
}
"""Every figure's name and what it means, in the order in which they are shown."""

HEADLINES: Mapping[Task, tuple[str, ...]] = {
    Task.SINGLE_LABEL: ("accuracy", "macro_f1", "ece"),
    Task.MULTI_LABEL: ("macro_f1", "micro_f1", "mean_average_precision"),
    Task.REGRESSION: ("spearman", "mae", "coverage"),
    Task.TOKEN_CLASSIFICATION: ("entity_f1", "entity_precision", "entity_recall"),
}
"""The figures that are told first; the first one is the task's primary metric."""


def shown(metric: str) -> str:
    """A figure's name on the command line, such as ``macro F1``."""
    return " ".join({"f1": "F1", "ece": "ECE"}.get(word, word) for word in metric.split("_"))


def chance(figures: Mapping[str, Any]) -> str:
    """What a model must be better than, from `Evaluation.summary`."""
    if "majority_class" in figures:
        return f"always answering '{figures['majority_class']}' ({figures['majority_accuracy']:.3f})"
    ((metric, value),) = ((key, value) for key, value in figures.items() if key.startswith("chance_"))
    return f"chance ({shown(metric.removeprefix('chance_'))} {value:.3f})"
