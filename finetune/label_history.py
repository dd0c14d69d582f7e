"""Labels over the versions of a model: each keeps its place, under whatever name, so that clients may count on its index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from finetune.dataset import Dataset
from finetune.findings import Finding, printable, shortlist
from finetune.labels import classes_in, new_name, renamed, types_of
from models.errors import InvalidParameter, VersionCorrupt, VersionNotFound, did_you_mean
from models.manifest import LabelChanges
from models.task import Task

if TYPE_CHECKING:
    from models.repository import ModelRepository
    from models.version import ModelVersion


class LabelHistory:
    """The labels of a model so far.

    Args:
        repository: holds the earlier versions.
        name: of the model.
        renames: from what a label was called to what it is to be called.
    """

    def __init__(self, repository: ModelRepository, name: str, renames: Mapping[str, str]) -> None:
        self._repository, self._name, self._renames = repository, name, renames
        self._found: dict[Task, ModelVersion | None] = {}

    def earlier(self, task: Task) -> ModelVersion | None:
        """The newest version for the task that can be read: looked up once, whatever is published meanwhile."""
        if task not in self._found:
            self._found[task] = self._newest(task)
        return self._found[task]

    def _newest(self, task: Task) -> ModelVersion | None:
        for number in reversed(self._repository.numbers(self._name)):
            try:
                version = self._repository.read(self._name, number)
            except (VersionCorrupt, VersionNotFound):
                continue
            if version.manifest.task is task:
                return version
        return None

    def relabelled(self, dataset: Dataset) -> Dataset:
        """The dataset with its labels renamed, and in the order of the earlier version; new ones come last.

        Raises:
            InvalidParameter: a label is to be renamed that there is none of, or to a name that is taken.
        """
        task, earlier = dataset.task, self.earlier(dataset.task)
        if self._renames:
            self._check(dataset, earlier)
            splits = {
                split: tuple(replace(one, label=renamed(task, one.label, self._renames)) for one in examples)
                for split, examples in dataset.splits.items()
            }
            dataset = replace(dataset, splits=splits)
        return replace(dataset, known=() if earlier is None else tuple(self._names_now(earlier).values()))

    def _names_now(self, earlier: ModelVersion) -> dict[str, str]:
        """The labels of the earlier version in their order, each with what it is called now."""
        task = earlier.manifest.task
        return {label: new_name(task, label, self._renames) for label in earlier.manifest.labels}

    def _check(self, dataset: Dataset, earlier: ModelVersion | None) -> None:
        if dataset.task is Task.REGRESSION:
            raise InvalidParameter("a regression has no labels to rename; leave out --rename")
        examples = [example for every in dataset.splits.values() for example in every]
        present = {name for example in examples for name in classes_in(dataset.task, example.label)}
        before = set() if earlier is None else types_of(dataset.task, earlier.manifest.labels)
        for old, new in self._renames.items():
            if old not in present | before:
                nor = "" if earlier is None else f" nor in {earlier}"
                tag = dataset.task is Task.TOKEN_CLASSIFICATION and old[:2] in ("B-", "I-")
                hint = "; leave out B- and I-" if tag else did_you_mean(old, sorted(present | before))
                raise InvalidParameter(f"--rename: no label '{printable(old)}' is in the data{nor}{hint}")
            if new in before:
                raise InvalidParameter(
                    f"--rename: {earlier} has a label '{printable(new)}' already; choose another name, "
                    f"or correct '{printable(old)}' in the data"
                )

    def changes(self, dataset: Dataset) -> LabelChanges | None:
        """How the labels of a dataset that was relabelled differ from the earlier ones; None for a first version."""
        earlier = self.earlier(dataset.task)
        if earlier is None:
            return None
        now, was = dataset.classes, self._names_now(earlier)
        return LabelChanges(
            version=earlier.number,
            added=tuple(label for label in now if label not in was.values()),
            removed=tuple(old for old, new in was.items() if new not in now),
            renamed=tuple((old, new) for old, new in was.items() if old != new and new in now),
        )


def parse_renames(pairs: Sequence[str]) -> Mapping[str, str]:
    """Reads ``OLD=NEW``, each label verbatim.

    Raises:
        InvalidParameter: one is no such pair, or two of them do not go together.
    """
    renames: dict[str, str] = {}
    for pair in pairs:
        old, _, new = pair.partition("=")
        if not old.strip() or not new.strip() or old == new:
            raise InvalidParameter(f"--rename '{printable(pair)}' is no pair of names; write OLD=NEW")
        if old in renames or new in renames.values():
            raise InvalidParameter(
                f"--rename '{printable(pair)}' names a label that another --rename names; "
                "give each label one name, and each name to one label"
            )
        renames[old] = new
    return renames


def sentence(name: str, changes: LabelChanges) -> str:
    """What has become of the labels, for a console, a card and a finding."""
    earlier = f"{name}:{changes.version}"
    parts = [
        f"{shortlist(labels)} {'is' if len(labels) == 1 else 'are'} {what}"
        for labels, what in ((changes.added, "new"), (changes.removed, "gone"))
        if labels
    ]
    parts += [f"'{printable(old)}' is now called '{printable(new)}'" for old, new in changes.renamed]
    return f"since {earlier}, {'; '.join(parts)}; the order is the same" if parts else f"those of {earlier}"


def find_label_changes(name: str, changes: LabelChanges | None) -> tuple[Finding, ...]:
    """Says so where labels were added or removed."""
    if changes is None or not (changes.added or changes.removed):
        return ()
    message = f"labels: {sentence(name, changes)}"
    count = len(changes.added) + len(changes.removed)
    return (Finding(severity="info", code="labels_changed", message=message, count=count),)
