"""The probe of a job: a head on features as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from finetune.extraction import Extraction
from finetune.head_rows import head_rows
from finetune.material import Material
from finetune.probes.pairs import block_scales, unscaled
from finetune.probes.probe import Probe, Progress
from finetune.progress import progress_bar
from finetune.task_fit import Rows, task_fit
from finetune.training.processes import Start
from models.engine import Engine


class FoundProbe(NamedTuple):
    """A probe; ``material`` says how pairs are read, ``rows`` are those of training and test."""

    material: Material
    extraction: Extraction
    rows: Rows
    probe: Probe


def find_probe(
    material: Material, engine: Engine, where: str, *, cache_dir: Path, console: Console, linear: bool = False
) -> FoundProbe:
    """Extracts features of training and test, and fits a head on those of training.

    Pairs of texts are read in each way that the backbone knows, unless the material says in which; what cross-validation
    likes best is taken.

    Args:
        material: what on.
        engine: computes the features; made for the kind of them that the task's heads read.
        where: for the progress bars.
        cache_dir: where features are kept.
        console: for progress.
        linear: leaves out heads with a hidden layer.

    Raises:
        DatasetInvalid: see `finetune.extraction.extract_features`; or nothing can be held out.
        GraftworkError: the backbone gives numbers that are not finite.
    """
    every, found = [*material.train, *material.test], []
    for read in material.readings():
        rows, extraction = head_rows(read, every, engine, where, cache_dir=cache_dir, console=console)
        with progress_bar(console, f"fitting the head{where}") as progress:
            probe = _probe(read, rows.part(range(len(material.train))), linear=linear, progress=progress)
        found.append(FoundProbe(read, extraction, rows, probe))
    return min(found, key=lambda one: one.probe.chosen.loss)


def starting_head(material: Material, engine: Engine, *, cache_dir: Path, console: Console) -> Start:
    """A linear head on frozen features for training to start from, and how rows are made; the test split is not looked at.

    Arguments and errors are those of `find_probe`.
    """
    material = replace(material, test=(), fresh=())
    found = find_probe(material, engine, "", cache_dir=cache_dir, console=console, linear=True)
    return found.probe.head, found.material.preprocessor


def _probe(material: Material, train: Rows, *, linear: bool, progress: Progress) -> Probe:
    fitting = task_fit(material.task, material.classes, seed=material.seed)
    if material.pair != "separate":
        return fitting.fit(train, linear=linear, progress=progress)
    scales_D = block_scales(train.vectors_VD)
    scaled = replace(train, vectors_VD=train.vectors_VD * scales_D)
    probe = fitting.fit(scaled, linear=linear, progress=progress)
    return replace(probe, head=unscaled(probe.head, scales_D))
