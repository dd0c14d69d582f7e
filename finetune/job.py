"""One fine-tuning job: from the user's data to a published version.

data -> checks -> split -> features, cached -> head -> evaluated once on the test split -> published
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from finetune.checks import Policy
from finetune.columns import ColumnNames
from finetune.dataset import Dataset
from finetune.doctor import Examination, examine, print_examination
from finetune.duplicates import duplicated_in_training
from finetune.example import Example
from finetune.findings import Finding, print_findings
from finetune.progress import progress_bar
from finetune.result import JobResult
from finetune.split import split_dataset
from models.backbone import Modality
from models.errors import DatasetInvalid, GraftworkError, InvalidParameter
from models.options import EngineName, PrecisionName
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion, check_name

if TYPE_CHECKING:
    from finetune.fit import Fit, Material
    from models.checkpoint import Checkpoint
    from models.engine_factory import EngineFactory
    from models.precision import Precision

logger = logging.getLogger(__name__)

DEFAULT_BACKBONES = {Modality.IMAGE: "timm:tf_efficientnet_lite0", Modality.TEXT: "hf:all-MiniLM-L6-v2"}


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What a user asks for.

    Attributes:
        backbone: by name; the default for the data's modality without.
        device: ``cpu`` or ``cuda``.
        engine: what computes features; ``auto`` takes the fastest that gives the right ones.
        precision: ``auto`` fits a head for int8 too where that is faster.
        cache_dir: for features, graphs of backbones, and which engine is the fastest.
        seed: of the cross-validation's folds and the bootstrap.
        test_share: of each class, where the data brings no test split.
        task: what labels are for; None reads it from the data.
    """

    data: Path
    name: str
    cache_dir: Path
    backbone: str | None = None
    device: str = "cpu"
    engine: EngineName = "auto"
    precision: PrecisionName = "auto"
    seed: int = 0
    test_share: float = 0.2
    columns: ColumnNames | None = None
    task: Task | None = None
    encoding: str | None = None
    policy: Policy = field(default_factory=Policy)


def examine_data(settings: JobSettings, console: Console) -> Examination:
    """Checks the user's data, with a progress bar."""
    from models.image import decode_image

    with progress_bar(console, "checking the data") as progress:
        return examine(
            settings.data,
            columns=settings.columns,
            task=settings.task,
            encoding=settings.encoding,
            decode=decode_image,
            policy=settings.policy,
            progress=progress,
        )


def run_job(settings: JobSettings, repository: ModelRepository, console: Console) -> JobResult:
    """Runs a job to its end.

    Args:
        settings: what the user asks for.
        repository: where the version is published.
        console: for findings and progress.

    Raises:
        DatasetInvalid: the data cannot be used; nothing was published.
        BackboneNotFound: there is no such backbone.
        StorageFailed: the repository cannot be written.
    """
    from finetune.fit import Material, fit_head
    from models.precision import Precision

    started = time.monotonic()
    check_name(settings.name)
    if settings.backbone is not None:
        from models.sources import check_backbone_name  # with timm: seconds, which the data check need not wait for

        check_backbone_name(settings.backbone)
    engines = _engines(settings)
    examination = examine_data(settings, console)
    print_examination(examination, console)
    dataset = split_dataset(examination.require(), test_share=settings.test_share)

    train, test = dataset.pool, dataset.split("test")
    fresh = _not_duplicated(dataset, test)

    checkpoint = _checkpoint(settings, Modality(dataset.modality), train)
    stored = repository.backbones.add(checkpoint)
    material = Material(
        task=dataset.task,
        train=train,
        test=test,
        fresh=fresh,
        classes=dataset.classes,
        backbone=stored,
        preprocessor=checkpoint.preprocessor,
        seed=settings.seed,
    )
    kind = dataset.task.traits.features
    with console.status("choosing an engine"):
        wanted = engines.precisions(stored, kind)
    fits: dict[Precision, Fit] = {}
    failed: dict[Precision, str] = {}
    for precision in filter(wanted.__contains__, Precision):  # fp32, with which others are compared, comes first
        try:
            with console.status("preparing the engine"):
                engine = engines.build(stored, precision, kind)
            fit = fit_head(material, engine, precision, cache_dir=settings.cache_dir, console=console)
            fits[precision] = fit
            material = replace(material, preprocessor=fit.preprocessor)  # pairs are read alike in all precisions
        except Exception as error:  # such as features that are all the same, or a disk without room for a graph
            if precision is Precision.FP32:
                raise
            failed[precision] = error.message if isinstance(error, GraftworkError) else "it does not run here"
            logger.warning("%s is left out: %s", precision, error)

    noticed = _own_findings(fits, failed, checkpoint)
    if noticed:
        print_findings(noticed, console)
    findings = examination.findings + noticed
    version = _publish(settings, repository, dataset, findings, material, fits)
    fp32 = fits[Precision.FP32]
    return JobResult(
        version=version,
        evaluation=fp32.evaluation,
        deduplicated=fp32.deduplicated,
        train_size=len(train),
        test_size=len(test),
        seconds=time.monotonic() - started,
    )


def _checkpoint(settings: JobSettings, modality: Modality, train: Sequence[Example]) -> Checkpoint:
    from models.sources import SCRATCH_LSTM, fetch_checkpoint

    name = settings.backbone or DEFAULT_BACKBONES[modality]
    if name == SCRATCH_LSTM and modality is Modality.TEXT:
        from finetune.from_scratch import lstm_checkpoint

        return lstm_checkpoint([example.text for example in train if example.text is not None], settings.seed)
    checkpoint = fetch_checkpoint(name)
    if checkpoint.config.modality is not modality:
        raise InvalidParameter(
            f"'{name}' reads {checkpoint.config.modality}s and the data holds {modality}s; "
            f"try --backbone {DEFAULT_BACKBONES[modality]}"
        )
    return checkpoint


def _engines(settings: JobSettings) -> EngineFactory:
    import torch

    from models.engine_factory import EngineFactory

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    return EngineFactory(
        settings.device,
        threads=threads,
        cache_dir=settings.cache_dir,
        wanted=settings.engine,
        precision=settings.precision,
    )


def _not_duplicated(dataset: Dataset, test: Sequence[Example]) -> list[int]:
    duplicated = duplicated_in_training(dataset)
    fresh = [index for index, example in enumerate(test) if example.identity not in duplicated]
    if not fresh:
        raise DatasetInvalid("every test example is in the training data too; a test split must be new to the model")
    return fresh


def _own_findings(
    fits: Mapping[Precision, Fit], failed: Mapping[Precision, str], checkpoint: Checkpoint
) -> tuple[Finding, ...]:
    """What the job noticed after the data check."""
    from models.precision import Precision

    findings = []
    fp32 = fits[Precision.FP32]
    if fp32.truncated:
        limit = getattr(checkpoint.preprocessor, "max_tokens", None)
        message = f"texts are longer than the {limit} tokens that the backbone reads; what follows was cut off"
        findings.append(Finding(severity="info", code="long_text", message=message, count=fp32.truncated))
    if fp32.cache_error is not None:
        message = f"features could not be kept for the next run: {fp32.cache_error}; choose another --cache-dir"
        findings.append(Finding(severity="warning", code="cache_failed", message=message, count=1))
    if not fp32.converged:
        message = "the head's optimiser was stopped at its limit of iterations; it may do better on cleaner data"
        findings.append(Finding(severity="warning", code="not_converged", message=message, count=1))
    refused = {**failed, **{precision: fit.refusal(fits[Precision.FP32]) for precision, fit in fits.items()}}
    for precision, why in refused.items():
        if why is not None:
            message = f"it will not be served in {precision}: {why}"
            findings.append(Finding(severity="info", code="precision_refused", message=message, count=0))
    return tuple(findings)


def _publish(
    settings: JobSettings,
    repository: ModelRepository,
    dataset: Dataset,
    findings: Sequence[Finding],
    material: Material,
    fits: Mapping[Precision, Fit],
) -> ModelVersion:
    from finetune.figures import figures_of
    from finetune.publishing import GOLDEN_ITEMS, Graft, publish, spread
    from models.manifest import Data
    from models.precision import Precision

    golden = spread([*material.train, *material.test], GOLDEN_ITEMS, key=lambda example: example.digest)
    fp32 = fits[Precision.FP32]
    figures = figures_of(fp32.evaluation)
    graft = Graft(
        name=settings.name,
        backbone=material.backbone,
        preprocessor=material.preprocessor,
        heads={precision: fit.fitted_head(fp32) for precision, fit in fits.items()},
        labels=dataset.classes,
        golden_items=[example.read() for example in golden],
        task=dataset.task,
        data=Data(
            source=dataset.name,
            fingerprint=dataset.fingerprint,
            train_size=len(material.train),
            test_size=len(material.test),
            findings=tuple(finding.to_dict() for finding in findings),
        ),
        report={
            "report/evaluation.json": json.dumps(fp32.evaluation.to_dict(), indent=1).encode(),
            **{figure.file: figure.png for figure in figures},
        },
        card={
            "dataset": dataset.name,
            "rows": {split: len(examples) for split, examples in dataset.splits.items()},
            "fingerprint": dataset.fingerprint,
            "training": fp32.training,
            "evaluation": fp32.evaluation.to_dict(),
            "without_duplicates": None if fp32.deduplicated is fp32.evaluation else fp32.deduplicated.to_dict(),
            "figures": [(figure.title, figure.file) for figure in figures],
            "findings": [
                (finding.severity, f"{finding.message} ({finding.count:,})" if finding.count else finding.message)
                for finding in findings
            ],
        },
    )
    return publish(repository, graft)
