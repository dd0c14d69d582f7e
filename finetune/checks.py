"""What is wrong with a dataset, found before any training: cheap faults first, then every image is decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from finetune.dataset import SPLITS, Dataset, Example
from finetune.duplicates import find_duplicates
from finetune.example import Progress, in_threads
from finetune.findings import Finding, Severity, raise_errors, shortlist
from finetune.labels import find_label_slips
from models.errors import InputError, did_you_mean

Decode = Callable[[bytes], object]
"""Decodes an image or raises ``InputError``; the result is thrown away."""

_IMBALANCED = 10


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How much a dataset is forgiven.

    Attributes:
        on_unreadable: leave out images that do not decode and texts that are empty, or fail.
        max_unreadable_ratio: the share of all examples that may be left out.
        min_class_size: training examples that a class needs.
        drop_small_classes: leave out a class that has fewer, rather than fail.
        strict: content that occurs in two splits is an error.
    """

    on_unreadable: Literal["skip", "fail"] = "skip"
    max_unreadable_ratio: float = 0.01
    min_class_size: int = 2
    drop_small_classes: bool = False
    strict: bool = False


def check(
    dataset: Dataset, *, decode: Decode | None, policy: Policy | None = None, progress: Progress | None = None
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Like ``inspect``, for those who cannot go on with errors.

    Raises:
        DatasetInvalid: for the first finding that is an error.
    """
    dataset, findings = inspect(dataset, decode=decode, policy=policy, progress=progress)
    raise_errors(findings)
    return dataset, findings


def inspect(
    dataset: Dataset, *, decode: Decode | None, policy: Policy | None = None, progress: Progress | None = None
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Finds what is wrong with a dataset, and leaves out what the policy lets go.

    Args:
        dataset: as loaded.
        decode: of an image's bytes; None leaves images undecoded. Called from several threads at once.
        policy: what is forgiven.
        progress: called with (done, total) while images are decoded.

    Returns:
        The dataset without unusable examples and dropped classes, and all findings, errors among them.

    Raises:
        DatasetInvalid: a file changed or vanished since it was loaded.
    """
    policy = policy or Policy()
    findings = _too_few_classes(dataset)
    if findings:
        return dataset, tuple(findings)
    dataset, unusable = _leave_out_unusable(dataset, decode, policy, progress)
    findings += unusable
    findings += find_label_slips(dataset.pool + dataset.split("test"))
    dataset, small = _settle_small_classes(dataset, policy)
    findings += small
    findings += _too_few_classes(dataset)
    findings += find_duplicates(dataset, strict=policy.strict)
    findings += _imbalance(dataset)
    findings += _test_coverage(dataset)
    return dataset, tuple(findings)


def _too_few_classes(dataset: Dataset) -> list[Finding]:
    train = dataset.split("train")
    labels = {example.label for example in train}
    if not train:
        message = "There are no training examples; add some."
    elif len(labels) == 1:
        message = f"All training examples are labelled {shortlist(labels)}; add examples of a second class."
    else:
        return []
    return [Finding(severity="error", code="too_few_classes", message=message, count=len(labels))]


def _leave_out_unusable(
    dataset: Dataset, decode: Decode | None, policy: Policy, progress: Progress | None
) -> tuple[Dataset, list[Finding]]:
    every = [example for split in SPLITS for example in dataset.split(split)]

    def fault(example: Example) -> str | None:
        if example.text is not None:
            return None if example.text.strip() else "holds only white space"
        if decode is None:
            return None
        content = example.read()
        assert isinstance(content, bytes)
        try:
            decode(content)
        except InputError as error:
            return error.message
        return None

    in_memory = dataset.modality == "text"
    faults = list(map(fault, every)) if in_memory else in_threads(fault, every, progress)
    unusable = [(example, why) for example, why in zip(every, faults, strict=True) if why is not None]
    if not unusable:
        return dataset, []
    gone = {id(example) for example, _ in unusable}
    dataset = replace(
        dataset,
        splits={
            split: tuple(example for example in examples if id(example) not in gone)
            for split, examples in dataset.splits.items()
        },
    )
    what = "texts are empty" if in_memory else f"images cannot be decoded (the first: {unusable[0][1]})"
    message = f"{len(unusable)} of {len(every)} {what}"
    severity: Severity = "warning"
    if policy.on_unreadable == "fail":
        severity, message = "error", message + "; repair or remove them, or pass --on-unreadable skip."
    elif len(unusable) > policy.max_unreadable_ratio * len(every):
        severity = "error"
        message += (
            f", more than the {policy.max_unreadable_ratio:.1%} that may be left out; repair or remove them, "
            f"or raise --max-unreadable-ratio."
        )
    else:
        message += " and were left out; repair or remove them."
    return dataset, [
        Finding(
            severity=severity,
            code="empty_text" if in_memory else "unreadable_file",
            message=message,
            count=len(unusable),
            examples=tuple(example.source for example, _ in unusable),
        )
    ]


def _settle_small_classes(dataset: Dataset, policy: Policy) -> tuple[Dataset, list[Finding]]:
    sizes = Counter(example.label for example in dataset.split("train"))
    small = [label for label in dataset.classes if sizes[label] < policy.min_class_size]
    if not small:
        return dataset, []
    if policy.drop_small_classes:
        message = (
            f"Classes with fewer than {policy.min_class_size} training examples were left out: {shortlist(small)}."
        )
        finding = _about_classes("warning", "class_too_small", message, small, dataset)
        dropped = set(small)
        splits = {
            split: tuple(example for example in examples if example.label not in dropped)
            for split, examples in dataset.splits.items()
        }
        return replace(dataset, splits=splits), [finding]
    large = [label for label in dataset.classes if label not in small]
    findings = []
    too_few = [label for label in small if sizes[label]]
    if too_few:
        near = did_you_mean(too_few[0], large, most=1) if len(too_few) == 1 else ""
        message = (
            f"Classes with fewer than {policy.min_class_size} training examples: {shortlist(too_few)}{near}; "
            f"add examples, correct the label, or leave them out with --drop-small-classes."
        )
        findings.append(_about_classes("error", "class_too_small", message, too_few, dataset))
    unknown = [label for label in small if not sizes[label]]
    if unknown:
        message = (
            f"Classes that occur in val or test but not in train: {shortlist(unknown)}; "
            f"add training examples, correct the label, or leave them out with --drop-small-classes."
        )
        findings.append(_about_classes("error", "class_not_in_training", message, unknown, dataset))
    return dataset, findings


def _about_classes(severity: Severity, code: str, message: str, labels: list[str], dataset: Dataset) -> Finding:
    concerned = set(labels)
    sources = (example.source for split in SPLITS for example in dataset.split(split) if example.label in concerned)
    return Finding(severity=severity, code=code, message=message, count=len(labels), examples=tuple(sources))


def _imbalance(dataset: Dataset) -> list[Finding]:
    sizes = Counter(example.label for example in dataset.split("train")).most_common()
    if len(sizes) < 2 or sizes[0][1] < _IMBALANCED * sizes[-1][1]:
        return []
    (large, most), (small, least) = sizes[0], sizes[-1]
    message = (
        f"Class {shortlist([large])} has {most} training examples, {shortlist([small])} has {least}; "
        f"judge the model by macro F1, not by accuracy."
    )
    return [Finding(severity="warning", code="imbalance", message=message, count=len(sizes))]


def _test_coverage(dataset: Dataset) -> list[Finding]:
    if not dataset.split("test"):
        message = "There is no test split; a share of each class will be held out, chosen by content."
        return [Finding(severity="info", code="no_test_split", message=message, count=0)]
    tested = {example.label for example in dataset.split("test")}
    missing = [label for label in dataset.classes if label not in tested]
    if not missing:
        return []
    message = f"Classes without a test example cannot be judged: {shortlist(missing)}; add some."
    return [Finding(severity="warning", code="class_not_in_test", message=message, count=len(missing))]
