"""How a file of answers was asked for: a small file beside it, so that runs do not mix."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import Conflict, shown
from models.storage import read_file, replace_file, reporting
from service.scoring.columns import Columns

RECORD_SUFFIX = ".run.json"  # behind the name of the file of answers
_TOLD = {
    "reference": "the model",
    "text_column": "--text-column",
    "pair_column": "--pair-column",
    "image_column": "--image-column",
    "top_k": "--top-k",
    "truncate": "--truncate",
}


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What answers depend on, besides the input and the version that answers.

    Attributes:
        reference: as the user typed it: ``flowers@champion`` is not what it stands for today.
        text_column: the column that is read, whether it was named or guessed; None where there is none.
    """

    reference: str
    text_column: str | None
    pair_column: str | None
    image_column: str | None
    top_k: int
    truncate: bool

    @classmethod
    def of(cls, reference: str, columns: Columns, *, top_k: int, truncate: bool) -> RunRecord:
        """That of a run.

        Args:
            columns: those that were chosen.
        """
        return cls(
            reference=reference,
            text_column=columns.text,
            pair_column=columns.pair,
            image_column=columns.image,
            top_k=top_k,
            truncate=truncate,
        )

    def write(self, output: Path) -> None:
        """Puts it beside a file of answers, in the place of one that is there.

        Raises:
            StorageFailed: it cannot be written.
        """
        path = _beside(output)
        with reporting(f"{path} cannot be written"):
            replace_file(path, json.dumps(asdict(self), indent=2).encode() + b"\n")

    def check(self, output: Path) -> None:
        """Makes sure that the answers in a file were asked for in this way.

        Raises:
            Conflict: they were not, or nothing says how.
        """
        try:
            there = json.loads(read_file(_beside(output)))
            before = {name: there[name] for name in _TOLD}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise Conflict(
                f"{output} has answers, and {_beside(output).name}, which says how they were asked for, is missing or "
                "damaged; name another file, or add --overwrite to write it anew"
            ) from None
        changes = [
            f"{_TOLD[name]} was {_shown(before[name])} and is {_shown(value)}"
            for name, value in asdict(self).items()
            if before[name] != value
        ]
        if changes:
            raise Conflict(
                f"{output} was begun in another way: {', '.join(changes)}; "
                "ask as before, name another file, or add --overwrite to write it anew"
            )


def _beside(output: Path) -> Path:
    return output.with_name(output.name + RECORD_SUFFIX)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return shown(value if isinstance(value, str) else json.dumps(value))
