r"""One fine-tuning job: from the user's data to a published version.

data -> checks -> split -> features, cached -> head            -> evaluated once on the test split -> published
                        \-> probe -> training of the backbone  /
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from finetune.dataset import Dataset
from finetune.doctor import Examination, examine, print_examination
from finetune.duplicates import new_test_rows
from finetune.example import Example
from finetune.findings import Finding, print_findings
from finetune.job_settings import JobSettings
from finetune.label_history import LabelHistory
from finetune.progress import progress_bar
from finetune.result import JobResult
from finetune.split import split_dataset
from models.backbone import Modality
from models.cores import available_cores
from models.errors import InvalidParameter
from models.repository import ModelRepository
from models.version import ModelVersion, check_name

if TYPE_CHECKING:
    from finetune.fit import Fit
    from finetune.fits import Fits
    from finetune.material import Material
    from finetune.report import Report
    from finetune.training.processes import Start
    from finetune.training.recipe import Recipe
    from finetune.tuning import Tuned
    from models.checkpoint import Checkpoint
    from models.engine import Engine
    from models.engine_factory import EngineFactory
    from models.manifest import LabelChanges
    from models.precision import Precision

DEFAULT_BACKBONES = {Modality.IMAGE: "timm:tf_efficientnet_lite0", Modality.TEXT: "hf:all-MiniLM-L6-v2"}


def examine_data(
    settings: JobSettings, console: Console, relabel: Callable[[Dataset], Dataset] | None = None
) -> Examination:
    """Checks the user's data, with a progress bar."""
    from models.image import decode_image

    with progress_bar(console, "checking the data") as progress:
        return examine(
            settings.data,
            columns=settings.columns,
            task=settings.task,
            encoding=settings.encoding,
            relabel=relabel,
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
        InvalidParameter: a rename does not fit; see also `finetune.tuning.tune`, for Conflict and OutOfMemory too.
    """
    from finetune.report import report_on

    started = time.monotonic()
    job = _prepare(settings, repository, console)
    tuned = None if job.recipe is None else _tune(settings, job, job.recipe, repository, console)
    fits = _fits(settings, job, tuned, console)
    report = report_on(
        settings.name,
        job.dataset,
        fits,
        tuned,
        job.findings + fits.findings() + (() if tuned is None else tuned.findings()),
        label_changes=job.label_changes,
        repository=repository,
        engines=job.engines,
        seed=settings.seed,
        console=console,
    )
    if noticed := report.findings[len(job.findings) :]:
        print_findings(noticed, console)
    version = _publish(settings, repository, report)
    if tuned is not None:
        tuned.clear()
    return JobResult(
        version=version,
        evaluation=fits.reference.evaluation,
        deduplicated=fits.reference.deduplicated,
        comparison=report.comparison,
        train_size=len(job.material.train),
        test_size=len(job.material.test),
        seconds=time.monotonic() - started,
    )


def assist_job(settings: JobSettings, repository: ModelRepository) -> None:
    """Takes this process's share of the training; the first process does everything else. Raises as `run_job` does."""
    console = Console(quiet=True)
    job = _prepare(settings, repository, console)
    if job.recipe is not None:
        _tune(settings, job, job.recipe, repository, console)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A job whose data and backbone are there.

    Attributes:
        recipe: how the backbone learns; None where it does not.
        findings: of the data check.
        label_changes: since the version before, if there is one.
    """

    dataset: Dataset
    material: Material
    engines: EngineFactory
    recipe: Recipe | None
    findings: tuple[Finding, ...]
    label_changes: LabelChanges | None


def _prepare(settings: JobSettings, repository: ModelRepository, console: Console) -> _Job:
    from finetune.material import Material
    from finetune.recipe_of import recipe_of

    check_name(settings.name)
    if settings.backbone is not None:
        from models.sources import check_backbone_name  # with timm: seconds, which the data check need not wait for

        check_backbone_name(settings.backbone)
    recipe = recipe_of(settings)
    engines = _engines(settings)
    history = LabelHistory(repository, settings.name, settings.renames)
    examination = examine_data(settings, console, history.relabelled)
    print_examination(examination, console)
    dataset = split_dataset(examination.require(), test_share=settings.test_share)
    fresh = new_test_rows(dataset)
    checkpoint = _checkpoint(settings, Modality(dataset.modality), dataset.pool)
    material = Material(
        task=dataset.task,
        train=dataset.pool,
        test=dataset.split("test"),
        fresh=fresh,
        classes=dataset.classes,
        backbone=repository.backbones.add(checkpoint),
        preprocessor=checkpoint.preprocessor,
        seed=settings.seed,
    )
    return _Job(
        dataset=dataset,
        material=material,
        engines=engines,
        recipe=None if recipe is None else recipe(dataset),
        findings=examination.findings,
        label_changes=history.changes(dataset),
    )


def _tune(
    settings: JobSettings, job: _Job, recipe: Recipe, repository: ModelRepository, console: Console
) -> Tuned | None:
    """Trains the backbone, from a probe on what it learns from; None in all processes but the first."""
    from finetune.probe_search import starting_head
    from finetune.tuning import Pupil, held_out, tune
    from models.precision import Precision

    material, (learn, validate) = job.material, held_out(job.dataset)

    def probe(pupil: Pupil) -> Start:
        with console.status("preparing the engine"):
            engine = job.engines.build(material.backbone, Precision.FP32, material.task.traits.features)
        part = replace(material, train=pupil.learn, preprocessor=pupil.preprocessor)
        return starting_head(part, engine, cache_dir=settings.cache_dir, console=console)

    return tune(
        Pupil(
            stored=material.backbone,
            preprocessor=material.preprocessor,
            task=material.task,
            labels=material.classes,
            learn=learn,
            validate=validate,
        ),
        recipe,
        probe,
        repository.backbones,
        device=settings.device,
        directory=settings.cache_dir / "runs",
        console=console,
    )


def _fits(settings: JobSettings, job: _Job, tuned: Tuned | None, console: Console) -> Fits:
    """The trained head, judged; or a probe's, where no backbone was trained, or none became better than a probe."""
    from finetune.fit import calibrate, fit_given_head, fit_head
    from finetune.fits import fit_every_precision
    from models.precision import Precision

    def probe(material: Material, engine: Engine, precision: Precision) -> Fit:
        return fit_head(material, engine, precision, cache_dir=settings.cache_dir, console=console)

    if tuned is None or not tuned.gained:
        return fit_every_precision(job.material, job.engines, probe, console)

    (stored, head), kept = tuned.judged, settings.cache_dir

    def given(material: Material, engine: Engine, precision: Precision) -> Fit:
        judges = engine
        if tuned.refitted:  # that backbone is never served, so that nobody asks which engine is the fastest
            exact, kind = precision is Precision.FP32, material.task.traits.features
            judges = job.engines.exact(stored) if exact else job.engines.build(stored, precision, kind)
        chosen = calibrate(
            replace(material, backbone=stored),
            head,
            judges,
            precision,
            validation=tuned.validate,
            settings=tuned.settings(),
            cache_dir=kept,
            console=console,
        )
        final = tuned.published.head
        return fit_given_head(
            material, final, chosen, engine, precision, strategy=settings.strategy, cache_dir=kept, console=console
        )

    trained = replace(job.material, backbone=tuned.published.stored, preprocessor=tuned.preprocessor)
    return fit_every_precision(trained, job.engines, given, console)


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

    threads = available_cores()
    torch.set_num_threads(threads)
    return EngineFactory(
        settings.device,
        threads=threads,
        cache_dir=settings.cache_dir,
        wanted=settings.engine,
        precision=settings.precision,
    )


def _publish(settings: JobSettings, repository: ModelRepository, report: Report) -> ModelVersion:
    from finetune.publishing import GOLDEN_ITEMS, Graft, publish, spread
    from models.manifest import Data

    dataset, material, fits = report.dataset, report.fits.material, report.fits
    golden = spread([*material.train, *material.test], GOLDEN_ITEMS, key=lambda example: example.digest)
    graft = Graft(
        name=settings.name,
        backbone=material.backbone,
        preprocessor=material.preprocessor,
        heads={precision: fit.fitted_head(fits.reference) for precision, fit in fits.by_precision.items()},
        labels=dataset.classes,
        golden_items=[example.read() for example in golden],
        task=dataset.task,
        data=Data(
            source=dataset.name,
            fingerprint=dataset.fingerprint,
            train_size=len(material.train),
            test_size=len(material.test),
            findings=tuple(finding.to_dict() for finding in report.findings),
        ),
        label_changes=report.label_changes,
        report=report.files(),
        card=report.card(),
    )
    return publish(repository, graft)
