"""What is asked: requests that are made of photographs and texts, or given as they are."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MEDIA_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Item:
    """A request that is sent again and again, and whose answer must stay the same.

    Attributes:
        name: of the file below the folder, or of the line; what an error is reported by.
        path: of the request.
        body: of the request, as bytes.
    """

    name: str
    path: str
    content_type: str
    body: bytes


def read_items(
    data: Path, *, models: Sequence[str] = (), ask: str = "predict", text_column: str = "text"
) -> list[Item]:
    """The requests that some data make: each is asked of the models in turn.

    Args:
        data: a folder of images (also below it), one image, a ``.txt`` file with a text a line, a CSV or TSV file, or a JSONL
            file. A line of the latter has a ``text``; or it is a request: a ``path``, and a ``body`` (a string, or a JSON
            document) or a ``file`` beside it, and perhaps a ``content_type``.
        models: names, also with versions or aliases as in ``flowers/versions/3``; requests as they are need none.
        ask: ``predict`` or ``embeddings``.
        text_column: of CSV, TSV and JSONL.

    Raises:
        ValueError: there is nothing to ask, or nobody to ask it of.
    """
    if data.suffix.lower() == ".jsonl" and (requests := list(_requests(data))):
        return requests
    contents = list(_images(data) if data.is_dir() or data.suffix.lower() in MEDIA_TYPES else _texts(data, text_column))
    if not contents:
        raise ValueError(f"{data}: there is no image or text in it")
    if not models:
        raise ValueError("name a model (--model)")
    make = _embedding if ask == "embeddings" else _prediction
    count = max(len(contents), len(models))
    pairs = ((contents[index % len(contents)], models[index % len(models)]) for index in range(count))
    return [make(name, content, model) for (name, content), model in pairs]


def _images(data: Path) -> Iterator[tuple[str, Path]]:
    files = [data] if data.is_file() else sorted(data.rglob("*"))
    for file in files:
        if file.suffix.lower() in MEDIA_TYPES and file.is_file():
            yield (file.name if file == data else str(file.relative_to(data))), file


def _texts(data: Path, column: str) -> Iterator[tuple[str, str]]:
    with data.open(newline="", encoding="utf-8") as file:
        if data.suffix.lower() in (".csv", ".tsv"):
            rows = csv.DictReader(file, delimiter="\t" if data.suffix.lower() == ".tsv" else ",")
            texts: Iterator[str] = (row[column] for row in rows)
        elif data.suffix.lower() == ".jsonl":
            texts = (json.loads(line)[column] for line in file if line.strip())
        else:
            texts = (line.strip() for line in file if line.strip())
        try:
            yield from ((f"row {number}", text) for number, text in enumerate(texts, 1))
        except KeyError:
            raise ValueError(f"{data}: there is no column '{column}' (--text-column)") from None


def _requests(data: Path) -> Iterator[Item]:
    files: dict[str, bytes] = {}  # many requests may share one
    with data.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            document = json.loads(line)
            if "path" not in document:
                return
            if (file := document.get("file")) is not None:
                body = files[file] if file in files else files.setdefault(file, (data.parent / file).read_bytes())
                content_type = MEDIA_TYPES.get(Path(file).suffix.lower(), JSON)
            else:
                given = document["body"]
                body, content_type = (given if isinstance(given, str) else json.dumps(given)).encode(), JSON
            content_type = document.get("content_type", content_type)
            yield Item(name=f"row {number}", path=document["path"], content_type=content_type, body=body)


def _prediction(name: str, content: Path | str, model: str) -> Item:
    path = f"/v1/models/{model}:predict"
    if isinstance(content, Path):
        media_type = MEDIA_TYPES[content.suffix.lower()]
        return Item(name=f"{model} {name}", path=path, content_type=media_type, body=content.read_bytes())
    return Item(
        name=f"{model} {name}", path=path, content_type=JSON, body=json.dumps({"instances": [content]}).encode()
    )


def _embedding(name: str, content: Path | str, model: str) -> Item:
    if isinstance(content, Path):
        file = base64.b64encode(content.read_bytes()).decode()
        content = f"data:{MEDIA_TYPES[content.suffix.lower()]};base64,{file}"
    body = json.dumps({"model": model, "input": content}).encode()
    return Item(name=f"{model} {name}", path="/v1/embeddings", content_type=JSON, body=body)
