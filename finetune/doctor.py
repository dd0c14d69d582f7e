"""A dataset's examination: what is in it, what is wrong with it, and what to do about that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from finetune.checks import Decode, Policy, inspect
from finetune.dataset import SPLITS, ColumnNames, Dataset, Split, load_dataset
from finetune.example import Progress
from finetune.findings import Finding, print_findings, printable, raise_errors
from models.errors import DatasetInvalid
from models.task import Task

_MOST_CLASSES = 30


@dataclass(frozen=True, kw_only=True)
class Examination:
    """What a look at a dataset brought.

    Attributes:
        data: as the user named it.
        dataset: what may be trained on, without what was left out; None when it could not even be read.
        findings: errors among them when the dataset cannot be used.
    """

    data: str
    dataset: Dataset | None
    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Whether training may start."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def counts(self) -> Mapping[str, Mapping[Split, int]]:
        """Class -> split -> examples, for the splits that exist."""
        if self.dataset is None:
            return {}
        counts = self.dataset.counts
        return {label: {split: counts[split][label] for split in counts} for label in self.dataset.classes}

    def require(self) -> Dataset:
        """The dataset.

        Raises:
            DatasetInvalid: there is an error among the findings.
        """
        raise_errors(self.findings)
        assert self.dataset is not None
        return self.dataset

    def to_dict(self) -> dict[str, object]:
        """The examination as JSON types."""
        dataset = self.dataset
        return {
            "data": self.data,
            "healthy": self.healthy,
            "modality": None if dataset is None else dataset.modality,
            "task": None if dataset is None else str(dataset.task),
            "pairs": dataset is not None and dataset.pairs,
            "fingerprint": None if dataset is None else dataset.fingerprint,
            "splits": {} if dataset is None else {split: len(dataset.splits[split]) for split in dataset.splits},
            "classes": {label: dict(splits) for label, splits in self.counts.items()},
            "findings": [finding.to_dict() for finding in self.findings],
        }


def examine(
    data: Path,
    *,
    columns: ColumnNames | None = None,
    task: Task | None = None,
    encoding: str | None = None,
    relabel: Callable[[Dataset], Dataset] | None = None,
    decode: Decode | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
) -> Examination:
    """Loads and inspects a dataset; whatever is wrong with it becomes a finding.

    Args:
        data: see ``load_dataset``; so are ``columns``, ``task`` and ``encoding``.
        columns: of a table.
        task: what labels are for.
        encoding: of tables and text files.
        relabel: changes labels, or their order, before anything is looked at.
        decode: of an image's bytes; None leaves images undecoded.
        policy: what is forgiven.
        progress: called with (done, total) while images are hashed, and again while they are decoded.
    """
    dataset: Dataset | None = None
    findings: tuple[Finding, ...] = ()
    try:
        dataset, findings = load_dataset(data, columns=columns, task=task, encoding=encoding, progress=progress)
        if relabel is not None:
            dataset = relabel(dataset)
        dataset, more = inspect(dataset, decode=decode, policy=policy, progress=progress)
        findings += more
    except DatasetInvalid as error:
        findings += (Finding(severity="error", code=error.code, message=error.message, count=1),)
    return Examination(data=str(data), dataset=dataset, findings=findings)


def print_examination(examination: Examination, console: Console) -> None:
    """Prints a table of classes and splits, at most 30 classes long, or of numbers, then the findings."""
    dataset = examination.dataset
    if dataset is not None:
        console.print(_table_of_numbers(dataset) if dataset.task is Task.REGRESSION else _table_of_classes(dataset))
    print_findings(examination.findings, console)


def _table_of_classes(dataset: Dataset) -> Table:
    splits = [split for split in SPLITS if split in dataset.splits]
    what = {Task.MULTI_LABEL: "label", Task.TOKEN_CLASSIFICATION: "words tagged"}.get(dataset.task, "class")
    table = Table(what, *splits, show_footer=True)
    for split, column in zip(splits, table.columns[1:], strict=True):
        column.justify = "right"
        column.footer = str(len(dataset.splits[split]))
    names = {Task.MULTI_LABEL: "labels", Task.TOKEN_CLASSIFICATION: "tags"}.get(dataset.task, "classes")
    table.columns[0].footer = f"{len(dataset.classes)} {names} of {_contents(dataset)}"
    for label in dataset.classes[:_MOST_CLASSES]:
        table.add_row(Text(printable(label)), *(str(dataset.counts[split][label]) for split in splits))
    if len(dataset.classes) > _MOST_CLASSES:
        table.add_row(Text(f"... and {len(dataset.classes) - _MOST_CLASSES} more", style="dim"))
    return table


def _table_of_numbers(dataset: Dataset) -> Table:
    table = Table(escape(printable(dataset.target)), _contents(dataset), "least", "mean", "greatest")
    for split in (split for split in SPLITS if split in dataset.splits):
        values = [example.label for example in dataset.splits[split] if isinstance(example.label, float)]
        figures = (min(values), sum(values) / len(values), max(values)) if values else ()
        table.add_row(split, str(len(values)), *(f"{figure:g}" for figure in figures))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _contents(dataset: Dataset) -> str:
    return "pairs of texts" if dataset.pairs else f"{dataset.modality}s"
