"""Raw bytes or text to rows; the same object in training, evaluation and serving, saved as JSON with the version."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from models.errors import ContextLengthExceeded, EmptyText, InvalidUnicode, TextTooLong

if TYPE_CHECKING:
    from models.batch import Batch, Row

TextItem: TypeAlias = "str | tuple[str, str]"
RawItem: TypeAlias = "bytes | TextItem"

MAX_TEXT_BYTES = 1 << 20


class ImagePreprocessorConfig(BaseModel):
    """The checkpoint's own evaluation transform, in timm's terms; the mean and deviation are the backbone's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["image"] = "image"
    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str


class TextPreprocessorConfig(BaseModel):
    """Tokens at most, and where the tokenizer lies: ``tokenizer.json`` beside the backbone's weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["text"] = "text"
    max_tokens: int
    pad_id: int = 0


PreprocessorConfig: TypeAlias = Annotated[
    ImagePreprocessorConfig | TextPreprocessorConfig, Field(discriminator="modality")
]


class Preprocessor(Protocol):
    """Turns one raw item into a row, and rows into a batch. Safe to call from several threads."""

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """One row; raises `models.errors.InputError` for an item that cannot be answered."""
        ...

    def collate(self, rows: Sequence[Row]) -> Batch: ...


def build_preprocessor(config: ImagePreprocessorConfig | TextPreprocessorConfig, backbone_dir: Path) -> Preprocessor:
    """The preprocessor that a version's manifest describes.

    Args:
        config: from the manifest.
        backbone_dir: where the backbone's ``tokenizer.json`` lies.
    """
    if isinstance(config, ImagePreprocessorConfig):
        return ImagePreprocessor(config)
    return TextPreprocessor(config, backbone_dir / "tokenizer.json")


# To be raised with every change of ours in how an item becomes a row: cached features of the old way are then not used.
PREPROCESSING = 1


def preprocessing_identity(config: ImagePreprocessorConfig | TextPreprocessorConfig) -> str:
    """What a row depends on beside the item: the settings, our own steps and the libraries that take the others."""
    libraries = ("pillow", "timm", "torchvision") if config.modality == "image" else ("tokenizers",)
    versions = [f"{library}-{version(library)}" for library in libraries]
    return "\n".join([config.model_dump_json(), f"steps-{PREPROCESSING}", *versions])


class ImagePreprocessor:
    """Decodes, resizes and crops as timm's evaluation transform does; pixels stay uint8."""

    def __init__(self, config: ImagePreprocessorConfig) -> None:
        from timm.data import create_transform

        self._transform: Any = create_transform(
            input_size=config.input_size,
            interpolation=config.interpolation,
            crop_pct=config.crop_pct,
            crop_mode=config.crop_mode,
            is_training=False,
            normalize=False,
        )

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """Decodes one image file to ``(3, H, W)``; ``truncate`` has no meaning here."""
        from models.batch import ImageRow
        from models.image import decode_image

        assert isinstance(item, bytes)
        return ImageRow(pixels_CHW=self._transform(decode_image(item)))

    def collate(self, rows: Sequence[Row]) -> Batch:
        from models.batch import collate

        return collate(rows)


class TextPreprocessor:
    """Tokenises one text, or a pair joined as the tokenizer does it.

    Special tokens that are spelled out in a text (``[CLS]``) are text like any other.
    """

    def __init__(self, config: TextPreprocessorConfig, tokenizer_file: Path) -> None:
        from tokenizers import Tokenizer

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
        from models.batch import TextRow

        assert not isinstance(item, bytes)
        parts = (item,) if isinstance(item, str) else item
        for part in parts:
            _check_text(part)
        encoding = self._tokenizer.encode(*parts)
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
        from models.batch import collate

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
