"""What is wrong with a dataset, found before any training: cheap faults first, then every image is decoded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from finetune.dataset import SPLITS, Dataset, Example
from finetune.duplicates import find_duplicates
from finetune.example import Progress, Split, in_threads
from finetune.findings import Finding, Severity, raise_errors
from finetune.image_hash import hash_image
from finetune.label_slips import find_label_slips
from finetune.policy import Policy
from finetune.targets import (
    find_imbalance,
    find_nothing_to_learn,
    find_unlabelled,
    find_untested,
    settle_small_classes,
)
from models.errors import InputError

__all__ = ["Decode", "Policy", "check", "inspect"]

Decode = Callable[[bytes], Image.Image]
"""Decodes an image to upright RGB, or raises ``InputError``."""


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
    findings = find_nothing_to_learn(dataset)
    if findings:
        return dataset, tuple(findings)
    dataset, unusable = _leave_out_unusable(dataset, decode, policy, progress)
    findings += unusable
    findings += find_label_slips(dataset.pool + dataset.split("test"), dataset.task)
    dataset, small = settle_small_classes(dataset, policy)
    findings += small
    findings += find_nothing_to_learn(dataset)
    findings += find_duplicates(dataset, strict=policy.strict)
    findings += find_imbalance(dataset)
    findings += find_unlabelled(dataset)
    findings += find_untested(dataset)
    return dataset, tuple(findings)


def _leave_out_unusable(
    dataset: Dataset, decode: Decode | None, policy: Policy, progress: Progress | None
) -> tuple[Dataset, list[Finding]]:
    """The dataset without what cannot be used, its images hashed."""
    every = [(split, example) for split in SPLITS for example in dataset.split(split)]

    def looked_at(placed: tuple[Split, Example]) -> Example | str:
        """The example with what is known of it now, or what is wrong with it."""
        example = placed[1]
        if example.text is not None:
            return example if all(text.strip() for text in example.texts) else "holds only white space"
        if decode is None:
            return example
        try:
            return replace(example, hash=hash_image(decode(example.read_bytes())))
        except InputError as error:
            return error.message

    in_memory = dataset.modality == "text"
    found = list(map(looked_at, every)) if in_memory else in_threads(looked_at, every, progress)
    usable: dict[Split, list[Example]] = {split: [] for split in dataset.splits}
    unusable: list[tuple[Example, str]] = []
    for (split, example), seen in zip(every, found, strict=True):
        if isinstance(seen, str):
            unusable.append((example, seen))
        else:
            usable[split].append(seen)
    dataset = replace(dataset, splits={split: tuple(examples) for split, examples in usable.items()})
    if not unusable:
        return dataset, []
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
