"""Rows that are ready for a backbone, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """One decoded, resized, cropped image: ``pixels_CHW`` is uint8; the backbone normalises."""

    truncated: ClassVar[bool] = False
    pixels_CHW: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words of a text, which stand between white space, up to the last one that is read.

    Attributes:
        text: as it was sent.
        spans: where each word starts and ends in it, in code points.
        tokens: for each word the index of its first token in the row; -1 where the tokenizer leaves nothing of it.
    """

    text: str
    spans: Sequence[tuple[int, int]]
    tokens: Sequence[int]

    @property
    def read(self) -> list[int]:
        """Which words have a token, ascending."""
        return [word for word, token in enumerate(self.tokens) if token >= 0]


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """One tokenised text (or pair, joined): token and segment ids without padding.

    Attributes:
        truncated: whether tokens were cut off at the end.
        words: which token stands for which word; only where the features of tokens are asked for.
    """

    ids: Sequence[int]
    segments: Sequence[int]
    truncated: bool = False
    words: Words | None = None


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two texts that a backbone reads one by one: two rows of its batch, whose features are combined for the head."""

    first: TextRow
    second: TextRow

    @property
    def truncated(self) -> bool:
        return self.first.truncated or self.second.truncated


Row: TypeAlias = ImageRow | TextRow | PairRow


@dataclass(frozen=True, kw_only=True)
class ImageBatch:
    """``pixels_BCHW``: uint8."""

    pixels_BCHW: torch.Tensor

    def to(self, device: torch.device) -> ImageBatch:
        return ImageBatch(pixels_BCHW=self.pixels_BCHW.to(device, non_blocking=True))


@dataclass(frozen=True, kw_only=True)
class TextBatch:
    """Token ids, segment ids and mask, each int64 ``(B, T)``; padded at the end to the longest row."""

    ids_BT: torch.Tensor
    segments_BT: torch.Tensor
    mask_BT: torch.Tensor

    def to(self, device: torch.device) -> TextBatch:
        return TextBatch(
            ids_BT=self.ids_BT.to(device, non_blocking=True),
            segments_BT=self.segments_BT.to(device, non_blocking=True),
            mask_BT=self.mask_BT.to(device, non_blocking=True),
        )


Batch: TypeAlias = ImageBatch | TextBatch

TEXT_BUCKET = 16  # tokens; rows whose lengths round up to the same multiple share a batch


def shape_bucket(row: Row) -> tuple[int, ...]:
    """Rows with the same bucket can share a batch at little cost in padding."""
    if isinstance(row, ImageRow):
        return tuple(row.pixels_CHW.shape)
    return (-(-text_length(row) // TEXT_BUCKET) * TEXT_BUCKET,)


def text_length(row: TextRow | PairRow) -> int:
    """Tokens that a batch is padded to at least, if this row is in it."""
    if isinstance(row, TextRow):
        return len(row.ids)
    return max(len(row.first.ids), len(row.second.ids))


def collate(rows: Sequence[Row], *, pad_id: int = 0) -> Batch:
    """One batch out of rows of one modality.

    Args:
        rows: at least one; images of equal shape, or texts of any length. A `PairRow` becomes two rows of the batch, one
            after the other.
        pad_id: the token id that fills up shorter texts; the mask hides it.
    """
    if isinstance(rows[0], ImageRow):
        # By numpy: torch divides a copy among threads, which wait for each other where the cores are busy.
        images = [row.pixels_CHW.numpy() for row in rows if isinstance(row, ImageRow)]
        return ImageBatch(pixels_BCHW=torch.from_numpy(np.stack(images)))
    texts = _texts(rows)
    lengths_B = np.array([len(row.ids) for row in texts])
    inside_BT = np.arange(lengths_B.max()) < lengths_B[:, None]
    ids_BT = _padded([row.ids for row in texts], inside_BT, pad_id)
    segments_BT = _padded([row.segments for row in texts], inside_BT, 0)
    return TextBatch(ids_BT=ids_BT, segments_BT=segments_BT, mask_BT=torch.from_numpy(inside_BT.astype(np.int64)))


def _texts(rows: Sequence[Row]) -> Sequence[TextRow]:
    texts: list[TextRow] = []
    for row in rows:
        if isinstance(row, TextRow):
            texts.append(row)
        elif isinstance(row, PairRow):
            texts += (row.first, row.second)
    return texts


def _padded(rows: Sequence[Sequence[int]], inside_BT: npt.NDArray[np.bool_], padding: int) -> torch.Tensor:
    """All rows in one pass, and not a tensor a row."""
    values_BT = np.full(inside_BT.shape, padding, np.int64)
    values_BT[inside_BT] = np.fromiter(chain.from_iterable(rows), np.int64)
    return torch.from_numpy(values_BT)
