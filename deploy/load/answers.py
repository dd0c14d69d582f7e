"""Whether an answer is the right one."""

from __future__ import annotations

import base64
import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from items import Item

OF_A_REQUEST = ("request_id", "id", "created")  # what differs from answer to answer and says nothing of the item
TOLERANCE = (
    0.01  # of a score: rows are computed in batches of other sizes, which moves its last digits, in 8 bits some more
)


class Answers:
    """What each item was answered with at first, or what it has to be answered with.

    Args:
        items: that are asked.
        expected: documents that must be part of the answers, by item; the first answer is right where it is None.
        version: that must have answered.
        tolerance: of numbers.
    """

    def __init__(
        self,
        items: Sequence[Item],
        *,
        expected: Sequence[object] | None = None,
        version: int | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        self._items = items
        self._expected = expected
        self._version = version
        self._tolerance = tolerance
        self._bytes: list[bytes | None] = [None] * len(items)  # an answer that was found right
        self._first: list[dict[object, object]] = [{} for _ in items]  # by version: a new one may answer otherwise

    def complaint(self, index: int, body: bytes, request_id: str | None = None) -> str | None:
        """What is wrong with an answer of status 200 to an item; nothing where it is right.

        Args:
            request_id: that was sent along; an answer with another one is somebody else's.
        """
        if body == self._bytes[index]:
            return None
        try:
            document = json.loads(body)
        except ValueError:
            document = body
        complaint = self._complaint(index, document, request_id)
        if complaint is None:
            self._bytes[index] = body
        return complaint

    def _complaint(self, index: int, document: Any, request_id: str | None) -> str | None:
        version: object = None
        if isinstance(document, dict):
            version = document.get("version")
            if request_id is not None and document.get("request_id", request_id) != request_id:
                return f"is the answer to request {document['request_id']}, not to {request_id}"
            if self._version is not None and version != self._version:
                return f"is of version {version}, not {self._version}"
            for prediction in document.get("predictions", ()):
                if (why := _odd(prediction, self._tolerance)) is not None:
                    return why
            document = {name: value for name, value in document.items() if name not in OF_A_REQUEST}
        if self._expected is not None:
            predictions = document.get("predictions") if isinstance(document, dict) else None
            is_right = contains(predictions, [self._expected[index]], self._tolerance)
            return None if is_right else f"is not what was expected: {_short(document)}"
        known = self._first[index]
        first = known.setdefault(version, document) if version is not None or not known else next(iter(known.values()))
        if contains(document, first, self._tolerance) and contains(first, document, self._tolerance):
            return None
        return f"was {_short(first)} at first, and is {_short(document)} now"


def contains(found: Any, wanted: Any, tolerance: float) -> bool:
    """Whether a document has all that another one has, up to a tolerance of numbers, and up to ties between two labels."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found
            and (
                contains(found[name], value, tolerance)
                or (name == "label" and _is_tie(found, wanted, tolerance))
                or (name == "scores" and _are_cut(found[name], value, tolerance))
                or (name == "embedding" and _are_vectors(found[name], value, tolerance))
            )
            for name, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(contains(a, b, tolerance) for a, b in zip(found, wanted, strict=True))
        )
    if isinstance(wanted, float) or isinstance(found, float):
        numbers = isinstance(found, int | float) and isinstance(wanted, int | float)
        return numbers and math.isclose(found, wanted, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == wanted)


def _is_tie(found: Mapping[str, Any], wanted: Mapping[str, Any], tolerance: float) -> bool:
    """Whether another label is the best now, and was as good as the best one before, or was cut by ``top_k``."""
    scores, best = wanted.get("scores"), wanted.get("score")
    if not isinstance(scores, dict) or not isinstance(best, float):
        return False
    return contains(scores.get(found["label"], found.get("score")), best, 2 * tolerance)


def _are_cut(found: Any, wanted: Any, tolerance: float) -> bool:
    """Whether the scores that are missing were cut by ``top_k``: none is above those that are there, and all make 1 at most."""
    if not (isinstance(found, dict) and isinstance(wanted, dict) and found):
        return False
    missing = [score for label, score in wanted.items() if label not in found]
    is_room = sum(found.values()) + sum(missing) <= 1 + 2 * tolerance
    is_low = all(score <= min(found.values()) + 2 * tolerance for score in missing)
    return is_room and is_low and all(contains(found[k], wanted[k], tolerance) for k in found.keys() & wanted.keys())


def _are_vectors(found: Any, wanted: Any, tolerance: float) -> bool:
    """Of embeddings in base64."""
    if not (isinstance(found, str) and isinstance(wanted, str) and len(found) == len(wanted)):
        return False
    try:
        vectors = [array("f", base64.b64decode(each, validate=True)) for each in (found, wanted)]
    except ValueError:
        return False
    return all(abs(a - b) <= tolerance for a, b in zip(*vectors, strict=True))


def _odd(prediction: Any, tolerance: float) -> str | None:
    """What contradicts itself in a prediction of one label."""
    if not isinstance(prediction, dict) or not isinstance(scores := prediction.get("scores"), dict) or not scores:
        return None
    label = prediction.get("label")
    if label is not None and (label not in scores or scores[label] + tolerance < max(scores.values())):
        return f"says {label!r}, which is not the best of its scores"
    return None


def _short(document: object) -> str:
    text = document.decode(errors="replace") if isinstance(document, bytes) else json.dumps(document)
    return text if len(text) <= 300 else f"{text[:300]} ..."


def read_expected(file: Path) -> list[object]:
    """The predictions of each row, as ``graftwork predict DATA --output FILE.jsonl`` writes them."""
    lines: Iterable[str] = file.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines if line.strip()]
    if missing := [number for number, row in enumerate(rows, 1) if not row.get("prediction")]:
        raise ValueError(f"{file}: row {missing[0]} has no prediction")
    return [row["prediction"] for row in rows]
