"""Command-line options about a user's data, which ``finetune`` and ``doctor`` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

DataArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders (also under train/, val/, test/), or a CSV, TSV, JSONL or Parquet file.",
    ),
]
TaskOption = Annotated[
    Literal["single-label", "multi-label", "regression", "token-classification"] | None,
    typer.Option(help="What labels are for; read from the data without."),
]
TextColumn = Annotated[str | None, typer.Option(help="Column with the text; guessed from the header without.")]
TextPairColumn = Annotated[str | None, typer.Option(help="Column with the second text of a pair.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column with the image's path.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column with the label, the number or the tags.")]
GroupColumn = Annotated[
    str | None, typer.Option(help="Column with what a row belongs to, such as a person; no group is split.")
]
Rename = Annotated[
    list[str],
    typer.Option(metavar="OLD=NEW", help="Read OLD as NEW, which takes its place among the labels; repeatable."),
]
Encoding = Annotated[str | None, typer.Option(help="Of tables and text files; UTF-8 without.")]
OnUnreadable = Annotated[Literal["skip", "fail"], typer.Option(help="Images that do not decode, texts that are empty.")]
MaxUnreadable = Annotated[float, typer.Option(min=0, max=1, help="The share of examples that may be skipped.")]
DropSmall = Annotated[bool, typer.Option("--drop-small-classes", help="Leave out classes with too few examples.")]
StrictData = Annotated[bool, typer.Option("--strict-data", help="Refuse content or groups that occur in two splits.")]
