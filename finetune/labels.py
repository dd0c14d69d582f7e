"""Labels from a table's cells, for each task; and which task the cells speak of.

What a cell lacks is said by a ``ValueError`` whose message continues "the label 'column' ...": the table knows the line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from finetune.example import Label
from models.task import Task

SEPARATOR = "|"
"""Between the labels of one cell, where a table has no lists."""

_OUTSIDE = "O"


def detect_task(cells: Iterable[object]) -> Task:
    """The task that a column of labels speaks of; tokens with tags are told by their two columns, not here.

    Lists everywhere: multi-label. Numbers everywhere, at least one of them with a fraction or written as a JSON float:
    regression. Anything else, whole numbers too: single-label.
    """
    cells = list(cells)
    if cells and all(isinstance(cell, list) for cell in cells):
        return Task.MULTI_LABEL
    numbers = [number for cell in cells if (number := _as_number(cell)) is not None]
    if len(numbers) < len(cells):
        return Task.SINGLE_LABEL
    fractions = (math.isfinite(number) and not number.is_integer() for number in numbers)
    return Task.REGRESSION if any(isinstance(cell, float) for cell in cells) or any(fractions) else Task.SINGLE_LABEL


def are_numbers(labels: Iterable[str]) -> bool:
    """Whether all classes are numbers, so that they might be amounts."""
    return all(_as_number(label) is not None for label in labels)


def _as_number(cell: object) -> float | None:
    """A cell as a number, infinite and undefined ones too; None if it is none."""
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        return None
    if isinstance(cell, str) and "_" in cell:  # Python's own way to write a thousand
        return None
    try:
        return float(cell)
    except (ValueError, OverflowError):
        return None


def parse_label(task: Task, cell: object) -> Label:
    """The label in a cell; tags of words need their words: see ``parse_tags``.

    Raises:
        ValueError: it is none; the message says how to correct it.
    """
    if task is Task.MULTI_LABEL:
        return parse_labels(cell)
    return parse_number(cell) if task is Task.REGRESSION else parse_class(cell)


def parse_class(cell: object) -> str:
    """One class: a string verbatim, a number or a boolean as JSON writes it."""
    if isinstance(cell, str) and cell.strip():
        reject_surrogates(cell)
        return cell
    if isinstance(cell, bool | int) or (isinstance(cell, float) and math.isfinite(cell)):
        return json.dumps(cell)
    if cell is None or isinstance(cell, str):
        raise ValueError("is empty; fill it in or delete the row")
    raise ValueError("is no string, number or boolean; give each row one label, or every row a list of labels")


def parse_labels(cell: object) -> tuple[str, ...]:
    """Every class in a list, or between ``|`` in a string; none in an empty one."""
    if isinstance(cell, str):
        cell = [label for part in cell.split(SEPARATOR) if (label := part.strip())]
    if cell is None:
        raise ValueError("is empty; write an empty list for a row that no label applies to")
    if not isinstance(cell, list):
        raise ValueError(f"is no list; give each row a list of labels, or labels with '{SEPARATOR}' between them")
    if any(isinstance(label, float | list | dict) for label in cell):
        raise ValueError("holds something else than strings; give each row a list of strings")
    try:
        return tuple(sorted({parse_class(label) for label in cell}))
    except ValueError as error:
        raise ValueError(f"holds one that {error}") from error


def parse_number(cell: object) -> float:
    """A finite number."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise ValueError("is empty; fill it in or delete the row")
    number = _as_number(cell)
    if number is None or not math.isfinite(number):
        shown = f"'{cell[:40]}'" if isinstance(cell, str) else str(number or "it")
        raise ValueError(f"must be a finite number, which {shown} is not; correct it or delete the row")
    return number


def parse_words(cell: object) -> list[str]:
    """Words in a list, or between white space in a string.

    Raises:
        ValueError: not a list of strings, or a word is empty or holds white space, so that joined words could not be
            taken apart again.
    """
    words = cell.split() if isinstance(cell, str) else [] if cell is None else cell
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("is no list of strings; give each row a list of words")
    for number, word in enumerate(words, 1):
        if word.split() != [word]:
            what = "holds white space" if word.strip() else "is empty"
            raise ValueError(f"has a word that {what} ('{word[:40]}', number {number}); split or remove it")
        reject_surrogates(word)
    return words


def parse_tags(cell: object, words: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """The BIO tags of words, and whether some had to be repaired.

    An entity that begins with ``I-`` gets a ``B-``: so the older IOB scheme, where ``B-`` is written only between
    neighbours (as in CoNLL 2003; Tjong Kim Sang & De Meulder), is read as it is meant.

    Raises:
        ValueError: not a list of strings, not as many as words, or something else than ``O``, ``B-type``, ``I-type``.
    """
    tags = cell.split() if isinstance(cell, str) else [] if cell is None else cell
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("is no list of strings; give each word the name of its tag: O, B-type or I-type")
    if len(tags) != len(words):
        raise ValueError(f"has {len(tags)} tags for {len(words)} words; give each word one tag")
    for number, tag in enumerate(tags, 1):
        if tag != _OUTSIDE and (tag[:2] not in ("B-", "I-") or not tag[2:].strip()):
            raise ValueError(f"has '{tag[:40]}' for word {number}; a tag is O, B-type or I-type")
        reject_surrogates(tag)
    repaired = tuple(
        f"B-{tag[2:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag
        for before, tag in zip([_OUTSIDE, *tags], tags, strict=False)
    )
    return repaired, repaired != tuple(tags)


def reject_surrogates(text: str) -> None:
    """Refuses half characters.

    Raises:
        ValueError: there is one.
    """
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds half of a surrogate pair, which is no character; correct the \\u escape") from error


def classes_in(task: Task, label: Label) -> tuple[str, ...]:
    """The classes that a label speaks of, sorted: of tags the types of entities, of a number none."""
    if isinstance(label, str):
        return (label,)
    if isinstance(label, float):
        return ()
    return tuple(sorted({tag[2:] for tag in label if tag != _OUTSIDE})) if task is Task.TOKEN_CLASSIFICATION else label


def types_of(task: Task, labels: Iterable[str]) -> set[str]:
    """The classes that labels of a head stand for: of tags the types of entities."""
    return {tag[2:] for tag in labels if tag != _OUTSIDE} if task is Task.TOKEN_CLASSIFICATION else set(labels)


def new_name(task: Task, label: str, names: Mapping[str, str]) -> str:
    """One label of a head with another name for its class: a tag with another name for its type of entity."""
    if task is not Task.TOKEN_CLASSIFICATION:
        return names.get(label, label)
    return label if label == _OUTSIDE else label[:2] + names.get(label[2:], label[2:])


def renamed(task: Task, label: Label, names: Mapping[str, str]) -> Label:
    """An example's label with other names for some classes."""
    if isinstance(label, float):
        return label
    if isinstance(label, str):
        return new_name(task, label, names)
    found = [new_name(task, name, names) for name in label]
    return tuple(found if task is Task.TOKEN_CLASSIFICATION else sorted(set(found)))


def without_classes(task: Task, label: Label, gone: Collection[str]) -> Label | None:
    """A label without some classes; None where nothing is left to learn from."""
    if isinstance(label, str):
        return None if label in gone else label
    if isinstance(label, float):
        return label
    if task is Task.TOKEN_CLASSIFICATION:
        return tuple(_OUTSIDE if tag[2:] in gone else tag for tag in label)
    return tuple(name for name in label if name not in gone)
