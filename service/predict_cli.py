"""``graftwork predict``: a few inputs at once, or a folder or table row by row."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.errors import InvalidParameter
from models.options import JsonOption, example

if TYPE_CHECKING:
    from service.client import Item, Prediction
    from service.scoring.batch import Batch
    from service.scoring.output import Done

app = typer.Typer()

RETRIES = 8  # about a minute: as long as a server takes to start again
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended
_BATCH = "For a folder or a table"


@app.command(
    epilog=example(
        "graftwork predict flowers photo.jpg",
        "graftwork predict intents@champion 'where is my card?' --top-k 3",
        "graftwork predict flowers:2 *.jpg --json",
        "graftwork predict duplicates --pairs 'where is my card?' 'my card has not come'",
        "graftwork predict flowers photos/ --output answers.csv",
        "graftwork predict intents queries.csv --text-column text --output answers.jsonl",
        "graftwork predict duplicates rows.jsonl --text-column a --pair-column b > answers.jsonl",
    )
)
def predict(
    reference: Annotated[str, typer.Argument(metavar="NAME[:N|@ALIAS]", help="Which model answers.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Image files or texts; - reads one text a line. Or one folder of images, or one .csv, .tsv or .jsonl file.",
        ),
    ],
    url: Annotated[str, typer.Option(envvar="GRAFTWORK_URL", help="The server.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="GRAFTWORK_API_KEY", show_default=False, help="The key to show; better in the environment."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many scores to show.")] = 3,
    truncate: Annotated[bool, typer.Option("--truncate", help="Cut texts that are too long.")] = False,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Take texts two by two, for a model that reads pairs.")
    ] = False,
    as_json: JsonOption = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where answers go: .csv or .jsonl. What is there is gone on with.  [default: JSONL on standard output]",
            rich_help_panel=_BATCH,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew where FILE exists.", rich_help_panel=_BATCH)
    ] = False,
    text_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Holds the text.", rich_help_panel=_BATCH)
    ] = None,
    pair_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Holds the second text of a pair.", rich_help_panel=_BATCH)
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Holds the path of an image, relative to the table.", rich_help_panel=_BATCH
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, max=64, help="Requests under way at a time.", rich_help_panel=_BATCH)
    ] = 4,
) -> None:
    """Ask a running server.

    Of a folder or a table every row is asked about, and written with its own columns, its answer (in CSV label and score, labels,
    value, low and high, entities, or embedding), its error and the model. A row that is refused has its error in the column `error`, and takes no other
    with it. After Ctrl-C, or where the server was lost, the same command goes on behind the last row that is written, on the
    version that answered first.
    """
    from models.version import Reference

    parsed = Reference.parse(reference)
    batches = [text for text in inputs if text != "-" and _is_batch(text)]
    if batches:
        from service.scoring.batch import Batch
        from service.scoring.columns import Columns

        if len(inputs) > 1:
            raise InvalidParameter(f"{batches[0]} is scored row by row; name nothing beside it")
        if pairs:
            raise InvalidParameter("--pairs is for texts; name two columns: --text-column and --pair-column")
        batch = Batch(
            reference=parsed,
            path=Path(batches[0]),
            columns=Columns(text=text_column, pair=pair_column, image=image_column),
            output=output,
            overwrite=overwrite,
            top_k=top_k,
            truncate=truncate,
            concurrency=concurrency,
        )
        _score(batch, url, api_key, as_json=as_json)
        return
    if output is not None or text_column or pair_column or image_column:
        raise InvalidParameter(
            "--output and the names of columns are for a folder of images, or a .csv, .tsv or .jsonl file"
        )
    items: list[Item] = []
    for text in inputs:
        items.extend(line.rstrip("\n") for line in sys.stdin) if text == "-" else items.append(_item(text))
    if not items:
        raise InvalidParameter("there is nothing to predict; name image files or texts")
    kinds = {isinstance(item, Path) for item in items}
    if len(kinds) > 1:
        names = [str(item) for item in items if not isinstance(item, Path)]
        raise InvalidParameter(f"a model reads images or texts, and '{names[0]}' is no file while others are")
    if pairs:
        items = _two_by_two(items)
    from service.client import Client

    with Client(url, api_key) as client:
        answers = client.predict(parsed, items, top_k=top_k, truncate=truncate)
    if as_json:
        print(json.dumps(answers.to_dict()))
        return
    width = max(len(str(item)) for item in items)
    for item, prediction in zip(items, answers.predictions, strict=True):
        print(f"{item!s:<{min(width, 60)}.60}  {_summary(prediction)}")
    print(f"answered by {answers.model}:{answers.version}")


def _score(batch: Batch, url: str, api_key: str | None, *, as_json: bool) -> None:
    from rich.console import Console

    from service.client import AsyncClient

    stopped = False

    async def run() -> Done:
        running = asyncio.current_task()
        assert running is not None

        def stop() -> None:
            nonlocal stopped
            stopped = True
            running.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop)
        async with AsyncClient(url, api_key) as opening, AsyncClient(url, api_key, retries=RETRIES) as client:
            return await batch.run(opening, client, Console(stderr=True), lambda: stopped)

    try:
        done = asyncio.run(run())
    except asyncio.CancelledError:
        again = "; the same command goes on from there" if batch.output else ""
        print(f"stopped{again}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    if as_json and batch.output:
        print(json.dumps({"output": str(batch.output), "rows": done.rows, "errors": done.errors, "model": done.model}))
    print(_result(batch, done), file=sys.stderr)


def _result(batch: Batch, done: Done) -> str:
    failed = f", {done.errors:,} of them with an error: see the column error" if done.errors else ""
    complete = f"{batch.output} was complete: " if done.rows == done.before else ""
    return f"{complete}{done.rows:,} rows by {done.model}{failed}"


def _two_by_two(items: Sequence[Item]) -> list[Item]:
    texts = [item for item in items if isinstance(item, str)]
    if len(texts) % 2 or len(texts) < len(items):
        raise InvalidParameter("--pairs takes an even number of texts")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _summary(prediction: Prediction) -> str:
    """A prediction of any task in one line; of several labels, those that hold have a star."""
    from service.client import Entities, Features, MultiLabel, Value

    match prediction:
        case Value():
            low, high = prediction.interval
            return f"{prediction.value:.6g}   {low:.6g} to {high:.6g}"
        case Features():
            first = "  ".join(f"{number:.4f}" for number in prediction.embedding[:5])
            return f"{len(prediction.embedding)} numbers: {first} ..."
        case Entities():
            return "   ".join(f"{each.label} {each.text!r} {each.score:.3f}" for each in prediction.entities)
    holding = prediction.labels if isinstance(prediction, MultiLabel) else ()
    return "   ".join(
        f"{label}{'*' if label in holding else ''} {score:.3f}" for label, score in prediction.scores.items()
    )


def _is_batch(text: str) -> bool:
    from service.scoring.table import TABLE_SUFFIXES

    try:
        path = Path(text)
        return path.is_dir() or (path.suffix.lower() in TABLE_SUFFIXES and path.is_file())
    except (OSError, ValueError):  # too long for a name, or not one: a text
        return False


def _item(text: str) -> str | Path:
    """A file where there is one of that name, else a text, unless it looks like a file that is not there."""
    from service.scoring.folder import IMAGE_SUFFIXES
    from service.scoring.table import TABLE_SUFFIXES

    try:
        path = Path(text)
        if path.is_file():
            return path
        if path.suffix.lower() in (*IMAGE_SUFFIXES, *TABLE_SUFFIXES) and not any(c.isspace() for c in text):
            raise InvalidParameter(f"{text}: there is no such file")
    except (OSError, ValueError):  # too long for a name, or not one: a text
        pass
    return text
