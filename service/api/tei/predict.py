"""``POST /predict``."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import InvalidInstances, InvalidParameter, TooManyInstances, UnsuitableModel
from models.signature import LOGITS, PROBABILITIES, VALUE
from models.task import Task
from service.api.part_rows import rows_of
from service.api.tei.model import NAME_IT, ModelKind
from service.api.tei.request import (
    Document,
    TeiRequest,
    check_count,
    flag,
    member,
    parameters,
    read_truncate,
)
from service.api.turns import in_turns
from service.messages import Wish, pack_pair

MOST_SCORES = 200_000  # in one answer: some 10 MB
_NUMBERS_A_LABEL = 50  # an entry of the answer takes as long as so many numbers elsewhere
_FUNCTIONS = {Task.SINGLE_LABEL: "softmax", Task.MULTI_LABEL: "sigmoid"}  # that make scores of logits


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """What is to be classified.

    Attributes:
        items: a text each, or two.
        is_batch: whether it came as a list of them.
    """

    items: Sequence[bytes]
    is_batch: bool


async def predict(request: TeiRequest) -> bytes:
    """Every label with its score, highest first: a list for one text, a list of lists for a batch.

    The hub's own clients always send ``parameters``, and read a list of lists, as their hosted models answer.
    """
    document, manifest = request.document, request.manifest
    labels = manifest.labels
    if request.kind is ModelKind.EMBEDDING:
        raise UnsuitableModel(f"the model makes embeddings, and is no classifier; name one: {NAME_IT}")
    sequences = read_sequences(member(document, "inputs"), pairs=manifest.pair is not None)
    if len(sequences.items) > 1 and len(sequences.items) * len(labels) > MOST_SCORES:
        raise TooManyInstances(
            f"the model has {len(labels):,} labels; send at most {max(1, MOST_SCORES // len(labels)):,} inputs in one request",
            parameter="inputs",
        )
    wish = Wish(outputs=(_output(document, manifest.task),), truncate=read_truncate(document))
    most = _read_top_k(document)
    parts = await request.question.ask_in_parts(sequences.items, wish)
    rows = rows_of(parts, len(sequences.items), as_json=False)
    written = [
        orjson.dumps(_ranked(labels, row)[:most]) async for row in in_turns(rows, len(labels) * _NUMBERS_A_LABEL)
    ]
    if not sequences.is_batch and "parameters" not in document:
        return written[0]
    return b"[%s]" % b",".join(written)


def read_sequences(value: Any, *, pairs: bool) -> Sequences:
    """One text, one pair ``[a, b]``, or a batch ``[[a], ...]`` or ``[[a, b], ...]`` of them.

    Args:
        value: of the document's member.
        pairs: whether the model reads pairs.

    Raises:
        InvalidInstances: it is something else, or the model reads other things.
        EmptyText, TooManyInstances: a batch of none, or too large a one.
    """
    match value:
        case str():
            return Sequences(items=[_sequence([value], 0, pairs=pairs)], is_batch=False)
        case [str(), *_]:
            return Sequences(items=[_sequence(value, 0, pairs=pairs)], is_batch=False)
        case list():
            check_count(value, "inputs")
            items = [_sequence(each, row, pairs=pairs) for row, each in enumerate(value)]
            return Sequences(items=items, is_batch=True)
    raise _invalid(0)


def _sequence(value: Any, row: int, *, pairs: bool) -> bytes:
    match value:
        case [str(first)] if not pairs:
            return first.encode()
        case [str(first), str(second)] if pairs:
            return pack_pair(first.encode(), second.encode())
        case [str()]:
            raise InvalidInstances(f"input {row}: the model reads pairs of texts; send two", parameter="inputs")
        case [str(), str()]:
            raise InvalidInstances(
                f'input {row}: the model reads single texts; send one, and several as [["..."], ["..."]]',
                parameter="inputs",
            )
    raise _invalid(row)


def _invalid(row: int) -> InvalidInstances:
    return InvalidInstances(
        f"input {row} is neither a text nor a pair; 'inputs' must be a string, a pair of strings, "
        'or a batch: [["..."], ["..."]] or [["...", "..."], ...]',
        parameter="inputs",
    )


def _output(document: Document, task: Task) -> str:
    """The tensor that has the scores that are asked for."""
    raw = flag(document, "raw_scores")
    function = parameters(document).get("function_to_apply")
    if function not in (None, "none", _FUNCTIONS.get(task)):
        known = " or ".join(f'"{each}"' for each in ("none", _FUNCTIONS.get(task)) if each)
        raise InvalidParameter(f"'function_to_apply' must be {known} for this model", parameter="parameters")
    if task is Task.REGRESSION:
        return VALUE
    return LOGITS if raw or function == "none" else PROBABILITIES


def _read_top_k(document: Document) -> int | None:
    value = parameters(document).get("top_k")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidParameter("'top_k' must be a whole number from 1", parameter="parameters")
    return value


def _ranked(labels: Sequence[str], row: bytes) -> list[dict[str, object]]:
    scored = sorted(zip(array("f", row), labels, strict=True), key=lambda each: -each[0])
    return [{"label": label, "score": score} for score, label in scored]
