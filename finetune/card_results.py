"""What a card tells of an evaluation: figures, classes, and precisions beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from finetune.evaluations.metrics import METRICS, chance, shown
from finetune.markdown import escape, table
from models.task import Task

MOST_CLASSES_IN_TABLE = 20

NOUN = {task: "entities" if task is Task.TOKEN_CLASSIFICATION else "rows" for task in Task}
"""What the test split counts of a class."""


def results(task: Task, evaluation: Mapping[str, Any], without_duplicates: Mapping[str, Any] | None) -> list[str]:
    """Blocks of Markdown.

    Args:
        evaluation: as `Evaluation.to_dict` gives it.
        without_duplicates: the same for the test rows that have no duplicate in the training data; None if all are such.
    """
    blocks = [
        f"On {evaluation['rows']:,} rows of the test split, which took no part in any choice. "
        "Intervals cover 95 %: Wilson's for shares of rows, bootstrap over rows for the others.",
        _scores_table(evaluation),
    ]
    if not evaluation["beats_chance"]:
        blocks.append(_nothing_learned(task, evaluation))
    if without_duplicates is not None:
        blocks.append(
            f"Some test rows also occur in the training data. On the {without_duplicates['rows']:,} that do not:"
        )
        blocks.append(_scores_table(without_duplicates))
    return [*blocks, *_per_class(task, evaluation["per_class"])]


def _nothing_learned(task: Task, evaluation: Mapping[str, Any]) -> str:
    figure = METRICS[task.traits.primary_metric][0]
    against = escape(chance(evaluation))
    advice = "Check the labels or give more data"
    if task is Task.SINGLE_LABEL:
        advice += "; where one class is far more frequent than the others, judge by balanced accuracy and macro F1"
    return (
        f"**{figure} gives no evidence that anything was learned**: its interval does not lie above that of {against}. "
        f"{advice}."
    )


def _scores_table(evaluation: Mapping[str, Any]) -> str:
    rows = []
    for key, (name, meaning) in METRICS.items():
        if key not in evaluation:
            continue
        low_high = evaluation.get(f"{key}_ci")
        interval = "" if low_high is None else f"{low_high[0]:.3f} to {low_high[1]:.3f}"
        rows.append((name, f"{evaluation[key]:.3f}", interval, meaning))
    return table(("score", "value", "95 % interval", "meaning"), rows)


def _per_class(task: Task, per_class: Sequence[Mapping[str, Any]]) -> list[str]:
    if not per_class:
        return []

    def rows(scores: Iterable[tuple[int, Mapping[str, Any]]]) -> str:
        return table(
            ("no.", "class", "precision", "recall", "F1", f"test {NOUN[task]}"),
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


def precisions(task: Task, heads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Blocks of Markdown that compare heads for several precisions; none for a single one.

    Args:
        heads: by precision, as in the manifest.
    """
    if len(heads) < 2:
        return []
    rows, primary = [], task.traits.primary_metric
    for precision, head in heads.items():
        training, metrics = head["training"], head["metrics"]
        rows.append(
            (
                escape(precision),
                "" if training is None else f"{training['validation_score']:.3f}",
                f"{metrics[primary]:.3f}" if primary in metrics else "",
                "" if head["agreement"] is None else f"{head['agreement']:.3f}",
                _may_serve(head),
            )
        )
    return [
        "## Precisions",
        "Each has a head of its own. Which one serves is decided where it is served: the fastest of those that may. "
        "Scores above are those of fp32.",
        table(
            ("precision", _validation(heads.values()), f"test {shown(primary)}", "agreement with fp32", "may serve"),
            rows,
        ),
    ]


def embedding_precisions(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """As `precisions`, of an embedding: what computes it, and how near it is to fp32."""
    rows = [
        (
            escape(precision),
            escape(record["engine"]["identity"]),
            "" if record["agreement"] is None else f"{record['agreement']:.3f}",
            _may_serve(record),
        )
        for precision, record in records.items()
    ]
    return ["## Precisions", table(("precision", "engine", "mean cosine with fp32", "may serve"), rows)]


def _may_serve(record: Mapping[str, Any]) -> str:
    return "yes" if record["refused"] is None else f"no: {escape(record['refused'])}"


def _validation(heads: Iterable[Mapping[str, Any]]) -> str:
    """What the validation scores of some heads are."""
    trainings = [head["training"] for head in heads if head["training"] is not None]
    if not trainings:
        return "validation"
    return f"{escape(shown(trainings[0]['validation_metric']))}, {escape(trainings[0]['validated_on'])}"
