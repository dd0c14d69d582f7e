"""``graftwork finetune`` and ``models import``."""

from __future__ import annotations

import json
import os
from typing import Annotated, Literal

import typer

from finetune.data_cli import app as data_app
from finetune.data_options import (
    DataArgument,
    DropSmall,
    Encoding,
    GroupColumn,
    ImageColumn,
    LabelColumn,
    MaxUnreadable,
    OnUnreadable,
    Rename,
    StrictData,
    TaskOption,
    TextColumn,
    TextPairColumn,
)
from finetune.recipe_options import (
    AugmentationOption,
    BatchSize,
    Bf16,
    ClipNorm,
    Dropout,
    DropPath,
    Epochs,
    LabelSmoothing,
    LayerDecay,
    LearningRate,
    LoraAlpha,
    LoraRank,
    MicroBatchSize,
    OptimizerOption,
    Patience,
    Refit,
    StrategyOption,
    TrainedGroups,
    Warmup,
    WeightDecay,
)
from finetune.strategy import Strategy
from models.cores import available_cores
from models.options import (
    DEFAULT_REPOSITORY,
    CacheDirOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    RepositoryOption,
    default_cache_dir,
    example,
)

app = typer.Typer()


@app.command(
    epilog=example(
        "graftwork finetune photos/ --name flowers",
        "graftwork finetune intents.csv --name intents --label-column intent",
        "graftwork finetune photos/ --name flowers --backbone timm:resnet50 --json",
        "graftwork finetune photos/ --name flowers --rename dandelion=taraxacum",
    )
)
def finetune(
    data: DataArgument,
    name: Annotated[str, typer.Option(help="The model's name.")],
    strategy: StrategyOption = Strategy.PROBE,
    backbone: Annotated[
        str | None, typer.Option(help="timm:MODEL, hf:REPOSITORY, dir:PATH or scratch:lstm; one that fits without.")
    ] = None,
    task: TaskOption = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    rename: Rename = [],  # noqa: B006  # typer wants a list, and nobody writes to it
    encoding: Encoding = None,
    test_share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Where the data has no test split.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1)] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    on_unreadable: OnUnreadable = "skip",
    max_unreadable_ratio: MaxUnreadable = 0.01,
    drop_small_classes: DropSmall = False,
    strict_data: StrictData = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    cache_dir: CacheDirOption = None,
    as_json: JsonOption = False,
    learning_rate: LearningRate = None,
    epochs: Epochs = None,
    patience: Patience = None,
    refit: Refit = None,
    batch_size: BatchSize = None,
    micro_batch_size: MicroBatchSize = None,
    optimizer: OptimizerOption = None,
    weight_decay: WeightDecay = None,
    layer_decay: LayerDecay = None,
    warmup: Warmup = None,
    clip_norm: ClipNorm = None,
    label_smoothing: LabelSmoothing = None,
    dropout: Dropout = None,
    drop_path: DropPath = None,
    augmentation: AugmentationOption = None,
    trained_groups: TrainedGroups = None,
    lora_rank: LoraRank = None,
    lora_alpha: LoraAlpha = None,
    bf16: Bf16 = None,
) -> None:
    """Learn from labelled data, and publish what was learnt as the next version of NAME."""
    from rich.console import Console

    from finetune.checks import Policy
    from finetune.columns import ColumnNames
    from finetune.evaluations.metrics import HEADLINES, chance, shown
    from finetune.job import assist_job, run_job
    from finetune.job_settings import JobSettings
    from finetune.label_history import parse_renames, sentence
    from finetune.training.processes import is_first
    from models.precision import Precision
    from models.repository import ModelRepository
    from models.task import Task

    settings = JobSettings(
        data=data,
        name=name,
        cache_dir=cache_dir or default_cache_dir(os.environ),
        backbone=backbone,
        device=_device(device),
        engine=engine,
        precision=precision,
        strategy=strategy,
        recipe={
            name: value
            for name, value in {
                "learning_rate": learning_rate,
                "epochs": epochs,
                "patience": patience,
                "refit": refit,
                "batch_size": batch_size,
                "micro_batch_size": micro_batch_size,
                "optimizer": optimizer,
                "weight_decay": weight_decay,
                "layer_decay": layer_decay,
                "warmup": warmup,
                "clip_norm": clip_norm,
                "label_smoothing": label_smoothing,
                "dropout": dropout,
                "drop_path": drop_path,
                "augmentation": augmentation,
                "trained_groups": trained_groups,
                "lora_rank": lora_rank,
                "lora_alpha": lora_alpha,
                "bf16": bf16,
            }.items()
            if value is not None
        },
        seed=seed,
        test_share=test_share,
        columns=ColumnNames(
            text=text_column, image=image_column, label=label_column, text_pair=text_pair_column, group=group_column
        ),
        task=None if task is None else Task(task),
        encoding=encoding,
        renames=parse_renames(rename),
        policy=Policy(
            on_unreadable=on_unreadable,
            max_unreadable_ratio=max_unreadable_ratio,
            drop_small_classes=drop_small_classes,
            strict=strict_data,
        ),
    )
    if not is_first():
        assist_job(settings, ModelRepository(repository))
        return
    result = run_job(settings, ModelRepository(repository), Console(stderr=True))
    if as_json:
        print(json.dumps(result.to_dict()))
        return
    e, d = result.evaluation.summary(), result.deduplicated.summary()
    primary, *others = HEADLINES[result.version.manifest.task]
    width = max(len(shown(metric)) for metric in (primary, *others))
    print(f"{result.version} is published after {result.seconds:.1f} s: {result.version.directory}")
    for metric in (primary, *others):
        (low, high), rows = e[f"{metric}_ci"], f"; {e['rows']} test examples" if metric == primary else ""
        print(f"  {shown(metric):<{width}}  {e[metric]:.3f}  (95 %: {low:.3f} to {high:.3f}{rows})")
        if metric == primary and d["rows"] < e["rows"]:
            without = f"without the {e['rows'] - d['rows']} that are in the training data too"
            print(f"  {'':<{width}}  {d[metric]:.3f}  ({without})")
    for other, head in result.version.manifest.heads.items():
        if other is not Precision.FP32 and head.refused is None:
            what = f"{shown(primary)}; it serves in {other} where that is faster"
            print(f"  {other:<{width}}  {head.metrics[primary]:.3f}  ({what})")
    changes = result.version.manifest.label_changes
    if changes is not None:
        print(f"  labels: {sentence(name, changes)}")
    if result.comparison is not None:
        print(f"  {result.comparison.sentence}")
        if result.comparison.caveat is not None:
            print(f"  ({result.comparison.caveat})")
    if not result.evaluation.beats_chance:
        print(f"  no better than {chance(e)}: nothing was learned")
    print(f"serve it: graftwork serve    read about it: {result.version.directory / 'README.md'}")


app.add_typer(data_app)


def import_command(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE", help="timm:MODEL, hf:REPOSITORY or dir:PATH.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    embedding: Annotated[
        bool, typer.Option("--embedding", help="Answer with embeddings, also where there is a classifier.")
    ] = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    repository: RepositoryOption = DEFAULT_REPOSITORY,
    cache_dir: CacheDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a checkpoint without training: its own classifier, or else its embeddings."""
    from finetune.importing import import_checkpoint
    from models.engine_factory import EngineFactory
    from models.repository import ModelRepository

    threads, cache = available_cores(), cache_dir or default_cache_dir(os.environ)
    engines = EngineFactory("cpu", threads=threads, cache_dir=cache, wanted=engine, precision=precision)
    version = import_checkpoint(ModelRepository(repository), backbone, name, engines, embedding=embedding)
    dimensions, classes = version.manifest.backbone.feature_dim, len(version.manifest.labels)
    document = {
        "model": version.name,
        "version": version.number,
        "task": version.manifest.task,
        "classes": classes,
        "dimensions": dimensions,
        "path": str(version.directory),
    }
    what = f"{classes} classes" if classes else f"embeddings of {dimensions} numbers"
    print(json.dumps(document) if as_json else f"{version} is published: {what}")


def _device(device: str) -> str:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device here", param_hint="--device")
    return "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
