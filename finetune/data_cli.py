"""``graftwork doctor`` and ``samples``: data before anything learns from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from finetune.data_options import (
    DataArgument,
    DropSmall,
    Encoding,
    GroupColumn,
    ImageColumn,
    LabelColumn,
    MaxUnreadable,
    OnUnreadable,
    StrictData,
    TaskOption,
    TextColumn,
    TextPairColumn,
)
from models.options import JsonOption, example

app = typer.Typer()
samples_app = typer.Typer(
    no_args_is_help=True, help="Sample data to try things with, from packages that are installed."
)
app.add_typer(samples_app, name="samples")


@app.command(
    epilog=example(
        "graftwork doctor photos/",
        "graftwork doctor intents.csv --strict-data --json",
        "graftwork doctor reviews.parquet --task regression --group-column author",
    )
)
def doctor(
    data: DataArgument,
    task: TaskOption = None,
    text_column: TextColumn = None,
    text_pair_column: TextPairColumn = None,
    image_column: ImageColumn = None,
    label_column: LabelColumn = None,
    group_column: GroupColumn = None,
    encoding: Encoding = None,
    on_unreadable: OnUnreadable = "skip",
    max_unreadable_ratio: MaxUnreadable = 0.01,
    drop_small_classes: DropSmall = False,
    strict_data: StrictData = False,
    as_json: JsonOption = False,
) -> None:
    """Check labelled data, and do nothing else; exit code 1 if it cannot be trained on."""
    from rich.console import Console

    from finetune.checks import Policy
    from finetune.columns import ColumnNames
    from finetune.doctor import examine, print_examination
    from finetune.progress import progress_bar
    from models.image import decode_image
    from models.task import Task

    with progress_bar(Console(stderr=True), "checking the data") as progress:
        examination = examine(
            data,
            columns=ColumnNames(
                text=text_column, image=image_column, label=label_column, text_pair=text_pair_column, group=group_column
            ),
            task=None if task is None else Task(task),
            encoding=encoding,
            decode=decode_image,
            policy=Policy(
                on_unreadable=on_unreadable,
                max_unreadable_ratio=max_unreadable_ratio,
                drop_small_classes=drop_small_classes,
                strict=strict_data,
            ),
            progress=progress,
        )
    if as_json:
        print(json.dumps(examination.to_dict()))
    else:
        print_examination(examination, Console())
    if not examination.healthy:
        raise typer.Exit(1)


@samples_app.command("list", epilog=example("graftwork samples list"))
def list_samples(as_json: JsonOption = False) -> None:
    """List the sample data sets."""
    from finetune.samples import SAMPLES

    rows = [
        {"name": s.name, "modality": s.modality, "classes": s.classes, "rows": s.count, "description": s.description}
        for s in SAMPLES.values()
    ]
    if as_json:
        print(json.dumps({"samples": rows}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "reads", "classes", "rows", "what it is", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


@samples_app.command("write", epilog=example("graftwork samples write digits digits/"))
def write_samples(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of `graftwork samples list`.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    per_class: Annotated[int | None, typer.Option(min=1, help="Examples of each class.")] = None,
) -> None:
    """Write a sample data set to a folder."""
    from finetune.samples import write_sample

    path = write_sample(name, directory, per_class=per_class)
    print(f"written: {path}")
