"""What a head reads of examples, through the engine that will serve it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from finetune.example import Example
from finetune.extraction import Extraction, extract_features
from finetune.feature_cache import FeatureCache
from finetune.material import Material
from finetune.progress import progress_bar
from finetune.task_fit import Rows
from models.cores import available_cores
from models.engine import Engine
from models.preprocessor import build_preprocessor, preprocessing_identity


def head_rows(
    material: Material, examples: Sequence[Example], engine: Engine, where: str, *, cache_dir: Path, console: Console
) -> tuple[Rows, Extraction]:
    """The examples with their vectors, and how those were come by.

    Args:
        material: says which backbone, and how rows of it are made.
        engine: computes it.
        where: for the progress bar.
        cache_dir: where features are kept.
        console: for progress.

    Raises:
        DatasetInvalid, GraftworkError: see `finetune.extraction.extract_features`.
    """
    kind = material.task.traits.features
    with progress_bar(console, f"extracting features{where}") as progress:
        extraction = extract_features(
            examples,
            preprocessor=build_preprocessor(material.preprocessor, material.backbone.directory, kind),
            engine=engine,
            identity="\n".join(
                [material.backbone.digest, engine.identity, preprocessing_identity(material.preprocessor)]
            ),
            cache=FeatureCache(cache_dir),
            kind=kind,
            threads=available_cores(),
            progress=progress,
        )
    return Rows(examples=examples, vectors_VD=extraction.features_VD, words=extraction.words), extraction
