"""Which columns of a table hold the text or the image's path, and the label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.example import Modality
from finetune.findings import shortlist
from finetune.rows import Rows
from models.errors import DatasetInvalid, did_you_mean

_TEXT = frozenset(
    [
        "text",
        "sentence",
        "review",
        "content",
        "message",
        "comment",
        "body",
        "tweet",
        "utterance",
        "query",
        "question",
        "document",
        "description",
        "sms",
    ]
)
_IMAGE = frozenset(
    [
        "image",
        "image_path",
        "image_file",
        "image_name",
        "img",
        "img_path",
        "path",
        "filepath",
        "file_path",
        "file",
        "filename",
        "file_name",
    ]
)
_LABEL = frozenset(["label", "labels", "class", "class_name", "category", "target", "intent", "sentiment", "topic"])


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """The columns that the user named; None leaves one to be guessed from the header."""

    text: str | None = None
    image: str | None = None
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each column of a table is; ``split`` is None when no column says where a row belongs."""

    modality: Modality
    content: str
    label: str
    split: str | None


def choose_columns(rows: Rows, named: ColumnNames) -> Columns:
    """The columns that the user named, the others guessed from the header.

    Raises:
        DatasetInvalid: a named column is absent, or the header does not speak for itself.
    """
    if named.text is not None and named.image is not None:
        raise DatasetInvalid("is asked for texts and images; name one: --text-column or --image-column", file=rows.file)
    label = _column(rows, named.label, _LABEL, "label", taken=(named.text, named.image))
    modality = _modality(rows, named, label)
    if modality == "text":
        content = _column(rows, named.text, _TEXT, "text", taken=(label,))
    else:
        content = _column(rows, named.image, _IMAGE, "image", taken=(label,))
    if content == label:
        raise DatasetInvalid(f"column '{label}' cannot be both {modality} and label", file=rows.file, line=1)
    split = next((name for name in rows.columns if name.casefold() == "split"), None)
    return Columns(modality=modality, content=content, label=label, split=split)


def _modality(rows: Rows, named: ColumnNames, label: str) -> Modality:
    if named.text is not None:
        return "text"
    if named.image is not None:
        return "image"
    texts, images = _matching(rows, _TEXT, (label,)), _matching(rows, _IMAGE, (label,))
    if texts and images:
        message = f"columns {shortlist(texts + images)} may hold the content; name one: --text-column or --image-column"
        raise DatasetInvalid(message, file=rows.file, line=1)
    return "image" if images else "text"


def _column(rows: Rows, named: str | None, known: frozenset[str], what: str, *, taken: Sequence[str | None]) -> str:
    """The column that the user named, or the only one whose name is known to mean this."""
    if named is not None:
        return _named(rows, named)
    matching = _matching(rows, known, taken)
    if len(matching) == 1:
        return matching[0]
    option = "--text-column or --image-column" if what == "text" and not matching else f"--{what}-column"
    if matching:
        message = f"columns {shortlist(matching)} may each hold the {what}; name one with {option}"
    else:
        message = (
            f"no column is known to hold the {what} among {shortlist(rows.columns, most=20)}; name it with {option}"
        )
    raise DatasetInvalid(message, file=rows.file, line=1)


def _matching(rows: Rows, known: frozenset[str], taken: Sequence[str | None]) -> list[str]:
    return [name for name in rows.columns if name not in taken and name.strip().casefold() in known]


def _named(rows: Rows, name: str) -> str:
    if name not in rows.columns:
        message = f"has no column '{name}' but {shortlist(rows.columns, most=20)}"
        raise DatasetInvalid(message + did_you_mean(name, list(rows.columns)), file=rows.file, line=1)
    return name
