"""Texts to rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from models.batch import Batch, Row, TextRow, collate
from models.errors import ContextLengthExceeded, EmptyText, InvalidUnicode, TextTooLong
from models.preprocessor import RawItem, TextPreprocessorConfig

MAX_TEXT_BYTES = 1 << 20


class TextPreprocessor:
    """Tokenises one text, or a pair joined as the tokenizer does it.

    Special tokens that are spelled out in a text (``[CLS]``) are text like any other.
    """

    def __init__(self, config: TextPreprocessorConfig, tokenizer_file: Path) -> None:
        self._config = config
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """Tokenises one text.

        Args:
            item: a text, or a pair of texts.
            truncate: cut a text that is too long at the end, instead of refusing it.

        Raises:
            EmptyText: nothing but white space.
            TextTooLong: over 1 MiB.
            InvalidUnicode: a lone surrogate.
            ContextLengthExceeded: more tokens than the backbone reads, and ``truncate`` is off.
        """
        assert not isinstance(item, bytes)
        parts = (item,) if isinstance(item, str) else item
        for part in parts:
            _check_text(part)
        # A batch of one: `encode` holds the interpreter's lock while it tokenises, and keeps offsets that nobody asks for.
        (encoding,) = self._tokenizer.encode_batch_fast([item])
        ids, segments, limit = encoding.ids, encoding.type_ids, self._config.max_tokens
        if not ids:
            raise EmptyText("the text holds no character that the model reads")
        if len(ids) <= limit:
            return TextRow(ids=ids, segments=segments)
        if not truncate:
            raise ContextLengthExceeded(
                f"the text has {len(ids)} tokens, the model reads {limit}; shorten it or add ?truncate=true"
            )
        kept = _kept(encoding.sequence_ids, limit)
        return TextRow(ids=[ids[i] for i in kept], segments=[segments[i] for i in kept], truncated=True)

    def collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows, pad_id=self._config.pad_id)


def _kept(parts: Sequence[int | None], limit: int) -> Sequence[int]:
    """Which tokens stay when a text or a pair is cut: special tokens, and the first ones of each part.

    A pair loses tokens from its longer part first, as in ``truncation="longest_first"``. The library's own truncation is
    a setting of the shared tokenizer, and for a pair keeps every combination of what it cut off: 2 GB for two texts of
    70 kB.

    Args:
        parts: for each token the part it belongs to, 0 or 1, or None for a special token.
        limit: how many tokens may stay.

    Returns:
        Their indices, ascending.
    """
    lengths = (parts.count(0), parts.count(1))
    room = max(limit - parts.count(None), 0)
    shorter = min(*lengths, room // 2)
    rooms = [room - shorter, shorter] if lengths[0] > lengths[1] else [shorter, room - shorter]
    kept = []
    for index, part in enumerate(parts):
        if part is not None:
            if rooms[part] == 0:
                continue
            rooms[part] -= 1
        kept.append(index)
    return kept


def _check_text(text: str) -> None:
    if not text.strip():
        raise EmptyText("the text is empty; send at least one character that is not white space")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidUnicode("the text holds a lone surrogate, which is no character") from None
    if size > MAX_TEXT_BYTES:
        raise TextTooLong(f"the text has {size:,} bytes, over the limit of {MAX_TEXT_BYTES:,}")
