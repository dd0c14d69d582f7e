"""Texts to rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from models import storage
from models.batch import Batch, PairRow, Row, TextRow, Words, collate
from models.errors import (
    ContextLengthExceeded,
    EmptyText,
    InvalidInstances,
    InvalidUnicode,
    TextTooLong,
    VersionCorrupt,
)
from models.features import FeatureKind
from models.preprocessor import RawItem, TextItem, TextPreprocessorConfig

MAX_TEXT_BYTES = 1 << 20
_WORD = re.compile(r"\S+")  # what `str.split` gives


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``; raises `VersionCorrupt` where it is none."""
    try:
        return Tokenizer.from_buffer(storage.read_file(file))
    except Exception:  # the library's own errors have no other class
        raise VersionCorrupt("the tokenizer of the backbone is missing or damaged; publish its models again") from None


class TextPreprocessor:
    """Tokenises texts, or pairs of them.

    Special tokens that are spelled out in a text (``[CLS]``) are text like any other.

    Args:
        config: says how pairs are read.
        tokenizer_file: a ``tokenizer.json``.
        kind: of the features that rows are for; where it is tokens, rows hold their words.
    """

    def __init__(
        self, config: TextPreprocessorConfig, tokenizer_file: Path, kind: FeatureKind = FeatureKind.POOLED
    ) -> None:
        self._config = config
        self._needs_words = kind is FeatureKind.TOKENS
        self._tokenizer = read_tokenizer(tokenizer_file)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        # Of a batch of one: `encode` holds the interpreter's lock while it tokenises. The fast one keeps no offsets.
        self._encode = self._tokenizer.encode_batch if self._needs_words else self._tokenizer.encode_batch_fast

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """Tokenises one text or pair.

        Args:
            item: a text; where the configuration says how pairs are read, a pair of texts.
            truncate: cut a text that is too long at the end, instead of refusing it.

        Raises:
            EmptyText: nothing but white space.
            TextTooLong: over 1 MiB.
            InvalidUnicode: a lone surrogate.
            ContextLengthExceeded: more tokens than the backbone reads, and ``truncate`` is off.
        """
        assert isinstance(item, str if self._config.pair is None else tuple)
        if isinstance(item, str):
            return self.prepare_text(item, truncate=truncate)
        for part in item:
            _check_text(part)
        if self._config.pair == "joint":
            return self._row(item, truncate)
        return PairRow(first=self._row(item[0], truncate), second=self._row(item[1], truncate))

    def prepare_text(self, text: str, *, truncate: bool = False) -> TextRow:
        """Tokenises one text, also where the configuration says how pairs are read; raises as `prepare`."""
        _check_text(text)
        return self._row(text, truncate)

    def prepare_tokens(self, ids: Sequence[int], *, truncate: bool = False) -> TextRow:
        """One text that was tokenised elsewhere, by the same tokenizer.

        Args:
            ids: of its tokens; special tokens around them are added where they are missing.
            truncate: as in `prepare`.

        Raises:
            EmptyText: there are none.
            InvalidInstances: one is not in the vocabulary.
            ContextLengthExceeded: as `prepare`.
        """
        if not ids:
            raise EmptyText("there are no tokens; send at least one")
        before, after = self._around
        ids, limit = list(ids), self._config.max_tokens
        if ids[: len(before)] == before and ids[len(ids) - len(after) :] == after:
            ids = ids[len(before) : len(ids) - len(after)]
        room = limit - len(before) - len(after)
        truncated = len(ids) > room
        if truncated and not truncate:
            raise _too_long(len(before) + len(ids) + len(after), limit)
        ids = ids[: max(room, 0)]
        if (unknown := next((i for i in ids if i < 0 or self._tokenizer.id_to_token(i) is None), None)) is not None:
            raise InvalidInstances(f"this model has no token {unknown}; send the text, or tokens of its own tokenizer")
        row = [*before, *ids, *after]
        return TextRow(ids=row, segments=[0] * len(row), truncated=truncated)

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens before a text, and those behind it."""
        (encoding,) = self._tokenizer.encode_batch(["a"])
        own = [index for index, part in enumerate(encoding.sequence_ids) if part is not None]
        first, last = (own[0], own[-1]) if own else (len(encoding.ids), len(encoding.ids))
        return encoding.ids[:first], encoding.ids[last + 1 :]

    def _row(self, item: TextItem, truncate: bool) -> TextRow:
        (encoding,) = self._encode([item])
        ids, segments, limit = encoding.ids, encoding.type_ids, self._config.max_tokens
        if not ids:
            raise EmptyText("the text holds no character that the model reads")
        if len(ids) <= limit:
            if not self._needs_words:
                return TextRow(ids=ids, segments=segments)
            return TextRow(ids=ids, segments=segments, words=_words(item, encoding, range(len(ids))))
        if not truncate:
            raise _too_long(len(ids), limit)
        kept = _kept(encoding.sequence_ids, limit)
        return TextRow(
            ids=[ids[i] for i in kept],
            segments=[segments[i] for i in kept],
            truncated=True,
            words=_words(item, encoding, kept) if self._needs_words else None,
        )

    def collate(self, rows: Sequence[Row]) -> Batch:
        return collate(rows, pad_id=self._config.pad_id)


def _too_long(tokens: int, limit: int) -> ContextLengthExceeded:
    return ContextLengthExceeded(
        f"the text has {tokens} tokens, the model reads {limit}; shorten it, or have it cut: truncate"
    )


def _words(item: TextItem, encoding: Encoding, kept: Sequence[int]) -> Words:
    """Which token stands for which word, in a row of those tokens of an encoding that are kept."""
    assert isinstance(item, str)
    offsets = encoding.offsets
    return find_words(item, [offsets[i] for i in kept])


def find_words(text: str, offsets: Sequence[tuple[int, int]]) -> Words:
    """The words of a text, each with the first token that lies in it (Devlin et al. 2019, 5.3).

    Args:
        offsets: for each token where it starts and ends in the text, in code points; of a special token, nothing (0, 0).
    """
    spans, tokens = [], []
    token = 0
    for match in _WORD.finditer(text):
        start, end = match.span()
        while token < len(offsets) and offsets[token][1] <= start:  # special tokens too
            token += 1
        if token == len(offsets):
            break
        spans.append((start, end))
        tokens.append(token if offsets[token][0] < end else -1)
    return Words(text=text, spans=spans, tokens=tokens)


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
