"""One fine-tuning job: from the user's data to a published version.

data -> checks -> split -> features, cached -> head -> evaluated once on the test split -> published
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from models.errors import DatasetInvalid, InvalidParameter
from models.options import EngineName
from models.repository import ModelRepository
from models.version import ModelVersion, check_name

if TYPE_CHECKING:
    import numpy as np

    from finetune.evaluation import Evaluation
    from finetune.extraction import Extraction
    from finetune.probe import Probe
    from models.backbone_store import StoredBackbone
    from models.checkpoint import Checkpoint
    from models.engine import Engine

DEFAULT_BACKBONES = {Modality.IMAGE: "timm:tf_efficientnet_lite0", Modality.TEXT: "hf:all-MiniLM-L6-v2"}


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """What a user asks for.

    Attributes:
        backbone: by name; the default for the data's modality without.
        device: ``cpu`` or ``cuda``.
        engine: what computes features; ``auto`` takes the fastest that gives the right ones.
        cache_dir: for features, graphs of backbones, and which engine is the fastest.
        seed: of the cross-validation's folds and the bootstrap.
        test_share: of each class, where the data brings no test split.
    """

    data: Path
    name: str
    cache_dir: Path
    backbone: str | None = None
    device: str = "cpu"
    engine: EngineName = "auto"
    seed: int = 0
    test_share: float = 0.2
    columns: ColumnNames | None = None
    encoding: str | None = None
    policy: Policy = field(default_factory=Policy)


def examine_data(settings: JobSettings, console: Console) -> Examination:
    """Checks the user's data, with a progress bar."""
    from models.image import decode_image

    with progress_bar(console, "checking the data") as progress:
        return examine(
            settings.data,
            columns=settings.columns,
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
    from finetune.evaluation import evaluate
    from finetune.probe import fit_probe

    started = time.monotonic()
    check_name(settings.name)
    if settings.backbone is not None:
        from models.sources import check_backbone_name  # with timm: seconds, which the data check need not wait for

        check_backbone_name(settings.backbone)
    examination = examine_data(settings, console)
    print_examination(examination, console)
    dataset = split_dataset(examination.require(), test_share=settings.test_share)

    train, test = dataset.pool, dataset.split("test")
    fresh = _not_duplicated(dataset, test)

    checkpoint = _checkpoint(settings, Modality(dataset.modality))
    stored = repository.backbones.add(checkpoint)
    engine = _engine(stored, settings, console)
    extraction = _extract([*train, *test], stored, checkpoint, engine, settings, console)
    features_ND = extraction.features_ND
    classes = dataset.classes
    targets_N = _targets([*train, *test], classes)
    count = len(train)

    with progress_bar(console, "fitting the head") as progress:
        probe = fit_probe(
            features_ND[:count],
            targets_N[:count],
            class_count=len(classes),
            seed=settings.seed,
            progress=progress,
        )
    probabilities_NC = _probabilities(probe, features_ND[count:])
    evaluation = evaluate(probabilities_NC, targets_N[count:], classes=classes, seed=settings.seed)
    deduplicated = (
        evaluate(probabilities_NC[fresh], targets_N[count:][fresh], classes=classes, seed=settings.seed)
        if len(fresh) < len(test)
        else evaluation
    )

    noticed = _own_findings(extraction, probe, checkpoint)
    if noticed:
        print_findings(noticed, console)
    findings = examination.findings + noticed
    version = _publish(
        settings, repository, dataset, findings, stored, checkpoint, engine, probe, evaluation, deduplicated
    )
    return JobResult(
        version=version,
        evaluation=evaluation,
        deduplicated=deduplicated,
        train_size=count,
        test_size=len(test),
        seconds=time.monotonic() - started,
    )


def _checkpoint(settings: JobSettings, modality: Modality) -> Checkpoint:
    from models.sources import fetch_checkpoint

    name = settings.backbone or DEFAULT_BACKBONES[modality]
    checkpoint = fetch_checkpoint(name)
    if checkpoint.config.modality is not modality:
        raise InvalidParameter(
            f"'{name}' reads {checkpoint.config.modality}s and the data holds {modality}s; "
            f"try --backbone {DEFAULT_BACKBONES[modality]}"
        )
    return checkpoint


def _engine(stored: StoredBackbone, settings: JobSettings, console: Console) -> Engine:
    import torch

    from models.engine_choice import EngineFactory

    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    engines = EngineFactory(settings.device, threads=threads, cache_dir=settings.cache_dir, wanted=settings.engine)
    with console.status("choosing an engine"):
        return engines.build(stored)


def _extract(
    examples: Sequence[Example],
    stored: StoredBackbone,
    checkpoint: Checkpoint,
    engine: Engine,
    settings: JobSettings,
    console: Console,
) -> Extraction:
    from finetune.extraction import extract_features
    from finetune.feature_cache import FeatureCache
    from models.preprocessor import build_preprocessor, preprocessing_identity

    with progress_bar(console, "extracting features") as progress:
        return extract_features(
            examples,
            preprocessor=build_preprocessor(checkpoint.preprocessor, stored.directory),
            engine=engine,
            identity="\n".join([stored.digest, engine.identity, preprocessing_identity(checkpoint.preprocessor)]),
            cache=FeatureCache(settings.cache_dir),
            threads=len(os.sched_getaffinity(0)),
            progress=progress,
        )


def _targets(examples: Sequence[Example], classes: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
    import numpy as np

    index = {label: i for i, label in enumerate(classes)}
    return np.array([index[example.label] for example in examples], dtype=np.int64)


def _probabilities(probe: Probe, features_ND: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Through the kernel that serves."""
    import numpy as np
    import torch

    from models.head import scores_by_head

    count = len(features_ND)
    return np.stack(scores_by_head(torch.from_numpy(features_ND), [probe.head] * count, [probe.temperature] * count))


def _not_duplicated(dataset: Dataset, test: Sequence[Example]) -> list[int]:
    duplicated = duplicated_in_training(dataset)
    fresh = [index for index, example in enumerate(test) if example.digest not in duplicated]
    if not fresh:
        raise DatasetInvalid("every test example is in the training data too; a test split must be new to the model")
    return fresh


def _own_findings(extraction: Extraction, probe: Probe, checkpoint: Checkpoint) -> tuple[Finding, ...]:
    """What the job noticed after the data check."""
    findings = []
    if extraction.truncated:
        limit = getattr(checkpoint.preprocessor, "max_tokens", None)
        message = f"texts are longer than the {limit} tokens that the backbone reads; what follows was cut off"
        findings.append(Finding(severity="info", code="long_text", message=message, count=extraction.truncated))
    if extraction.cache_error is not None:
        message = f"features could not be kept for the next run: {extraction.cache_error}; choose another --cache-dir"
        findings.append(Finding(severity="warning", code="cache_failed", message=message, count=1))
    if not probe.converged:
        message = "the head's optimiser was stopped at its limit of iterations; it may do better on cleaner data"
        findings.append(Finding(severity="warning", code="not_converged", message=message, count=1))
    return tuple(findings)


def _publish(
    settings: JobSettings,
    repository: ModelRepository,
    dataset: Dataset,
    findings: Sequence[Finding],
    stored: StoredBackbone,
    checkpoint: Checkpoint,
    engine: Engine,
    probe: Probe,
    evaluation: Evaluation,
    deduplicated: Evaluation,
) -> ModelVersion:
    from finetune.figures import confusion_matrix_png, reliability_png
    from finetune.publishing import GOLDEN_ITEMS, Graft, publish, spread
    from models.manifest import Data, Training

    golden = spread([*dataset.pool, *dataset.split("test")], GOLDEN_ITEMS, key=lambda example: example.digest)
    has_duplicates = deduplicated is not evaluation
    graft = Graft(
        name=settings.name,
        backbone=stored,
        engine=engine,
        preprocessor=checkpoint.preprocessor,
        head=probe.head,
        labels=dataset.classes,
        temperature=probe.temperature,
        golden_items=[example.read() for example in golden],
        training=Training(
            strategy="probe",
            seed=settings.seed,
            regularisation_c=probe.regularisation_c,
            feature_scaling=probe.feature_scaling,
            folds=probe.folds,
            cross_validated_accuracy=probe.cross_validated_accuracy,
            cross_validated_log_loss=probe.cross_validated_log_loss,
        ),
        data=Data(
            source=dataset.name,
            fingerprint=dataset.fingerprint,
            train_size=len(dataset.pool),
            test_size=len(dataset.split("test")),
            findings=tuple(finding.to_dict() for finding in findings),
        ),
        metrics={
            **evaluation.summary(),
            "accuracy_deduplicated": deduplicated.accuracy,
            "accuracy_deduplicated_ci": list(deduplicated.accuracy_ci),
        },
        report={
            "report/evaluation.json": json.dumps(evaluation.to_dict(), indent=1).encode(),
            "report/confusion_matrix.png": confusion_matrix_png(evaluation),
            "report/reliability.png": reliability_png(evaluation),
        },
        card={
            "dataset": dataset.name,
            "rows": {split: len(examples) for split, examples in dataset.splits.items()},
            "fingerprint": dataset.fingerprint,
            "strategy": "a linear head on frozen features (probe)",
            "regularisation_c": probe.regularisation_c,
            "folds": probe.folds,
            "seed": settings.seed,
            "evaluation": evaluation.to_dict(),
            "without_duplicates": deduplicated.to_dict() if has_duplicates else None,
            "findings": [
                (finding.severity, f"{finding.message} ({finding.count:,})" if finding.count else finding.message)
                for finding in findings
            ],
        },
    )
    return publish(repository, graft)
