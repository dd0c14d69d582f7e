"""Which columns of a table hold what a model is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.column_names import IMAGE_COLUMNS, PAIR_COLUMNS, TEXT_COLUMNS
from models.errors import DatasetInvalid, did_you_mean, shown

_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The column of the text or of the image's path; None leaves them to be guessed.

    Attributes:
        pair: of the second text.
    """

    text: str | None = None
    pair: str | None = None
    image: str | None = None


def choose_columns(there: Sequence[str], named: Columns, *, file: str) -> Columns:
    """The columns that the user named, or those of which the header leaves no doubt.

    Args:
        there: the columns of the table.
        named: by the user.
        file: the table, for messages.

    Raises:
        DatasetInvalid: with the columns that there are.
    """
    for name in (named.text, named.pair, named.image):
        if name is not None and name not in there:
            message = f"has no column '{shown(name)}' but {_listed(there)}{did_you_mean(name, there)}"
            raise DatasetInvalid(message, file=file)
    if named.image is not None and (named.text or named.pair):
        raise DatasetInvalid("is asked for texts and images; name one: --text-column or --image-column", file=file)
    if named.pair is not None and named.text is None:
        raise DatasetInvalid("needs the first text of a pair as well: --text-column", file=file)
    return named if named.text or named.image else _guessed(there, file)


def _guessed(there: Sequence[str], file: str) -> Columns:
    plain = {name.strip().casefold(): name for name in there}
    pairs = [Columns(text=plain[a], pair=plain[b]) for a, b in PAIR_COLUMNS if a in plain and b in plain]
    if len(pairs) == 1:
        return pairs[0]
    texts = [Columns(text=name) for known, name in plain.items() if known in TEXT_COLUMNS]
    images = [Columns(image=name) for known, name in plain.items() if known in IMAGE_COLUMNS]
    if len(texts + images) == 1 and not pairs:
        return (texts + images)[0]
    what = (
        "more than one column may be meant"
        if pairs or texts or images
        else "no column is known to hold a text or an image"
    )
    cure = "name it with --text-column (for pairs --pair-column too) or --image-column"
    raise DatasetInvalid(f"{what} among {_listed(there)}; {cure}", file=file)


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"'{shown(name)}'" for name in names[:_MOST_LISTED])
    return listed if len(names) <= _MOST_LISTED else f"{listed} and {len(names) - _MOST_LISTED} more"
