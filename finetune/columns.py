"""Which columns of a table hold the text, the pair, the words or the image's path, the label, and the group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune.example import Modality
from finetune.findings import shortlist
from finetune.rows import Rows
from models.column_names import IMAGE_COLUMNS, PAIR_COLUMNS, TEXT_COLUMNS
from models.errors import DatasetInvalid, did_you_mean
from models.task import Task

_LABEL = frozenset(["label", "labels", "class", "class_name", "category", "target", "intent", "sentiment", "topic"])
_OTHER_LABEL = frozenset(
    ["score", "similarity", "rating", "stars", "value", "tags"]
)  # where there is none of the above
_WORDS = frozenset(["tokens", "words"])
_TAGS = frozenset(["tags", "ner_tags"])
_GROUP = frozenset(["group", "group_id"])


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """The columns that the user named; None leaves one to be guessed from the header.

    Attributes:
        text_pair: the second text of a pair.
        group: what a row belongs to.
    """

    text: str | None = None
    image: str | None = None
    label: str | None = None
    text_pair: str | None = None
    group: str | None = None


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What each column of a table is.

    Attributes:
        content: the text, the first text of a pair, the words, or the image's path.
        text_pair: the second text of a pair; None without pairs.
        split: None when no column says where a row belongs.
        group: None when no column says what a row belongs to.
        tagged: whether the content is words and the label their tags.
    """

    modality: Modality
    content: str
    label: str
    text_pair: str | None = None
    split: str | None = None
    group: str | None = None
    tagged: bool = False


def choose_columns(rows: Rows, named: ColumnNames, task: Task | None = None) -> Columns:
    """The columns that the user named, the others guessed from the header.

    Args:
        rows: with a header; its first row tells lists from strings.
        named: by the user.
        task: that the user named.

    Raises:
        DatasetInvalid: a named column is absent, or the header does not speak for itself.
    """
    if named.image is not None and (named.text is not None or named.text_pair is not None):
        raise DatasetInvalid("is asked for texts and images; name one: --text-column or --image-column", file=rows.file)
    split = next((name for name in rows.columns if name.casefold() == "split"), None)
    group = _group(rows, named)
    tagged = _tagged(rows, named) if task is None else task is Task.TOKEN_CLASSIFICATION
    if tagged:
        if named.image is not None or named.text_pair is not None:
            message = "is asked for tags of words, which neither images nor pairs have; name another --task"
            raise DatasetInvalid(message, file=rows.file)
        label = _column(rows, named.label, (_TAGS, _LABEL), "label", taken=(named.text, group))
        content = _column(rows, named.text, (_WORDS, TEXT_COLUMNS), "text", taken=(label, group))
        return _checked(
            rows, Columns(modality="text", content=content, label=label, split=split, group=group, tagged=True)
        )
    taken = (named.text, named.text_pair, named.image, group)
    pair = _pair(rows, named, group)
    label = _column(rows, named.label, (_LABEL, _OTHER_LABEL), "label", taken=taken + (pair or ()))
    modality = _modality(rows, named, (label, group), pair)
    if modality == "text":
        content = pair[0] if pair else _column(rows, named.text, (TEXT_COLUMNS,), "text", taken=(label, group))
    else:
        content = _column(rows, named.image, (IMAGE_COLUMNS,), "image", taken=(label, group))
    return _checked(
        rows,
        Columns(
            modality=modality,
            content=content,
            text_pair=pair[1] if pair and modality == "text" else None,
            label=label,
            split=split,
            group=group,
        ),
    )


def _checked(rows: Rows, columns: Columns) -> Columns:
    for other, what in ((columns.content, columns.modality), (columns.text_pair, "text"), (columns.group, "group")):
        if other == columns.label:
            raise DatasetInvalid(f"column '{other}' cannot be both {what} and label", file=rows.file, line=1)
    if columns.content == columns.text_pair:
        raise DatasetInvalid(f"column '{columns.content}' cannot be both texts of a pair", file=rows.file, line=1)
    return columns


def _group(rows: Rows, named: ColumnNames) -> str | None:
    if named.group is not None:
        return _named(rows, named.group)
    matching = _matching(rows, _GROUP, (named.text, named.text_pair, named.image, named.label))
    return matching[0] if len(matching) == 1 else None


def _tagged(rows: Rows, named: ColumnNames) -> bool:
    """Whether the table holds lists of words beside lists of tags."""
    words = [named.text] if named.text else _matching(rows, _WORDS, ())
    tags = [named.label] if named.label else _matching(rows, _TAGS, ())
    if named.image is not None or named.text_pair is not None or not rows.rows:
        return False
    first = rows.rows[0].cells
    return any(isinstance(first.get(name), list) for name in words) and any(
        isinstance(first.get(name), list) for name in tags
    )


def _pair(rows: Rows, named: ColumnNames, group: str | None) -> tuple[str, str] | None:
    """The two columns of a pair: named, or known to go together; one that is named alone is a single text."""
    if named.text_pair is not None:
        second = _named(rows, named.text_pair)
        first = {right: left for left, right in PAIR_COLUMNS}.get(second.strip().casefold())
        partner = [] if first is None else _matching(rows, frozenset([first]), (named.label,))
        if named.text is None and partner:
            return partner[0], second
        return _column(rows, named.text, (TEXT_COLUMNS,), "text", taken=(second, named.label, group)), second
    if named.text is not None or named.image is not None:
        return None
    there = {name.strip().casefold(): name for name in rows.columns if name not in (named.label, group)}
    pairs = [(there[first], there[second]) for first, second in PAIR_COLUMNS if first in there and second in there]
    if len(pairs) > 1:
        message = f"more than one pair of columns may hold texts: {shortlist(name for pair in pairs for name in pair)}"
        raise DatasetInvalid(message + "; name two with --text-column and --text-pair-column", file=rows.file, line=1)
    return pairs[0] if pairs else None


def _modality(rows: Rows, named: ColumnNames, taken: tuple[str | None, ...], pair: tuple[str, str] | None) -> Modality:
    if named.text is not None or named.text_pair is not None:
        return "text"
    if named.image is not None:
        return "image"
    texts, images = list(pair or _matching(rows, TEXT_COLUMNS, taken)), _matching(rows, IMAGE_COLUMNS, taken)
    if texts and images:
        message = f"columns {shortlist(texts + images)} may hold the content; name one: --text-column or --image-column"
        raise DatasetInvalid(message, file=rows.file, line=1)
    return "image" if images else "text"


def _column(
    rows: Rows, named: str | None, known: Sequence[frozenset[str]], what: str, *, taken: Sequence[str | None]
) -> str:
    """The column that the user named, or the only one whose name is known to mean this.

    Args:
        known: sets of names; the first of which there is any decides.
    """
    if named is not None:
        return _named(rows, named)
    matching = next(filter(None, (_matching(rows, names, taken) for names in known)), [])
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
