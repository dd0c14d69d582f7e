"""What is wrong with what is to be learned: classes that are too few, too small or never tested, numbers that are all one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from finetune.dataset import SPLITS, Dataset, Split
from finetune.findings import Finding, Severity, printable, shortlist
from finetune.labels import classes_in, without_classes
from finetune.policy import Policy
from models.errors import did_you_mean
from models.task import Task

_IMBALANCED = 10
_NOUN = {Task.SINGLE_LABEL: "Class", Task.MULTI_LABEL: "Label", Task.TOKEN_CLASSIFICATION: "Type of entity"}
_NOUNS = {Task.SINGLE_LABEL: "Classes", Task.MULTI_LABEL: "Labels", Task.TOKEN_CLASSIFICATION: "Types of entities"}


def find_nothing_to_learn(dataset: Dataset) -> list[Finding]:
    """An error where training examples do not differ in what they are labelled with."""
    train = dataset.split("train")
    values = {example.label for example in train}
    sizes = _sizes(dataset, "train")
    code, count = "too_few_classes", len(sizes)
    if not train:
        message = "There are no training examples; add some."
    elif dataset.task is Task.REGRESSION and len(values) == 1:
        code, count = "constant_target", len(train)
        message = (
            f"'{printable(dataset.target)}' is {values.pop()} in all training examples; add examples with other values."
        )
    elif dataset.task is Task.SINGLE_LABEL and len(sizes) == 1:
        message = f"All training examples are labelled {shortlist(sizes)}; add examples of a second class."
    elif dataset.task is Task.MULTI_LABEL and not sizes:
        message = "No training example carries a label; add labels."
    elif dataset.task is Task.TOKEN_CLASSIFICATION and not sizes:
        message = "No training example has an entity, all tags are O; tag some words B-type and I-type."
    else:
        return []
    return [Finding(severity="error", code=code, message=message, count=count)]


def settle_small_classes(dataset: Dataset, policy: Policy) -> tuple[Dataset, list[Finding]]:
    """Classes that are too small to be learned become errors, or are left out.

    Of an example with several labels, and of tagged words, only the label is left out; the example stays.
    """
    sizes = _sizes(dataset, "train")
    known = sorted({name for split in SPLITS for name in _sizes(dataset, split)})
    small = [name for name in known if sizes[name] < policy.min_class_size]
    rows = len(dataset.split("train"))
    always = [
        name
        for name in known
        if dataset.task is Task.MULTI_LABEL and name not in small and rows - sizes[name] < policy.min_class_size
    ]
    if not small and not always:
        return dataset, []
    noun = _NOUNS[dataset.task]
    few = f"{noun} with fewer than {policy.min_class_size} training examples"
    constant = f"{noun} that fewer than {policy.min_class_size} training examples are without"
    if policy.drop_small_classes:
        findings = [
            _finding("warning", code, f"{what} were left out: {shortlist(names)}.", names, dataset)
            for code, what, names in (("class_too_small", few, small), ("label_always_set", constant, always))
            if names
        ]
        return _without(dataset, {*small, *always}), findings
    findings = []
    too_few = [name for name in small if sizes[name]]
    if too_few:
        large = [name for name in known if name not in small]
        near = did_you_mean(too_few[0], large, most=1) if len(too_few) == 1 else ""
        message = (
            f"{few}: {shortlist(too_few)}{near}; "
            f"add examples, correct the label, or leave them out with --drop-small-classes."
        )
        findings.append(_finding("error", "class_too_small", message, too_few, dataset))
    unknown = [name for name in small if not sizes[name]]
    if unknown:
        message = (
            f"{noun} that occur in val or test but not in train: {shortlist(unknown)}; "
            f"add training examples, correct the label, or leave them out with --drop-small-classes."
        )
        findings.append(_finding("error", "class_not_in_training", message, unknown, dataset))
    if always:
        message = (
            f"{constant}: {shortlist(always)}; add examples without them, "
            f"or leave out the labels with --drop-small-classes."
        )
        findings.append(_finding("error", "label_always_set", message, always, dataset))
    return dataset, findings


def find_imbalance(dataset: Dataset) -> list[Finding]:
    """A warning where one class is ten times as large as another."""
    sizes = _sizes(dataset, "train").most_common()
    if len(sizes) < 2 or sizes[0][1] < _IMBALANCED * sizes[-1][1]:
        return []
    (large, most), (small, least) = sizes[0], sizes[-1]
    measure = "the F1 of each type" if dataset.task is Task.TOKEN_CLASSIFICATION else "macro F1"
    message = (
        f"{_NOUN[dataset.task]} {shortlist([large])} has {most} training examples, {shortlist([small])} has {least}; "
        f"judge the model by {measure}, not by accuracy."
    )
    return [Finding(severity="warning", code="imbalance", message=message, count=len(sizes))]


def find_unlabelled(dataset: Dataset) -> list[Finding]:
    """A word on examples that no label applies to: right for some data, a slip in other."""
    bare = [example.source for split in SPLITS for example in dataset.split(split) if example.label == ()]
    if not bare or dataset.task is not Task.MULTI_LABEL:
        return []
    message = "Examples without any label; they are learned from as examples of none."
    return [Finding(severity="info", code="no_label", message=message, count=len(bare), examples=tuple(bare))]


def find_untested(dataset: Dataset) -> list[Finding]:
    """What the test split cannot judge, or that there is none."""
    test = dataset.split("test")
    if not test:
        of = "the examples" if dataset.task is Task.REGRESSION else "each class"
        message = f"There is no test split; a share of {of} will be held out, chosen by content."
        return [Finding(severity="info", code="no_test_split", message=message, count=0)]
    if dataset.task is Task.REGRESSION:
        values = {example.label for example in test}
        if len(values) > 1:
            return []
        message = f"'{printable(dataset.target)}' is {values.pop()} in all test examples, so nothing can correlate; add others."
        return [Finding(severity="warning", code="constant_target", message=message, count=len(test))]
    tested = _sizes(dataset, "test")
    missing = sorted({name for split in SPLITS for name in _sizes(dataset, split)} - set(tested))
    if not missing:
        return []
    message = f"{_NOUNS[dataset.task]} without a test example cannot be judged: {shortlist(missing)}; add some."
    return [Finding(severity="warning", code="class_not_in_test", message=message, count=len(missing))]


def _sizes(dataset: Dataset, split: Split) -> Counter[str]:
    """In how many examples each class occurs."""
    return Counter(name for example in dataset.split(split) for name in classes_in(dataset.task, example.label))


def _without(dataset: Dataset, gone: Collection[str]) -> Dataset:
    splits = {
        split: tuple(
            replace(example, label=label)
            for example in examples
            if (label := without_classes(dataset.task, example.label, gone)) is not None
        )
        for split, examples in dataset.splits.items()
    }
    return replace(dataset, splits=splits)


def _finding(severity: Severity, code: str, message: str, names: Collection[str], dataset: Dataset) -> Finding:
    concerned = set(names)
    sources = (
        example.source
        for split in SPLITS
        for example in dataset.split(split)
        if concerned.intersection(classes_in(dataset.task, example.label))
    )
    return Finding(severity=severity, code=code, message=message, count=len(names), examples=tuple(sources))
