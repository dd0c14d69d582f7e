"""Raw bytes or text to rows; the same object in training, evaluation and serving, saved as JSON with the version."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from models.features import FeatureKind

if TYPE_CHECKING:
    from models.batch import Batch, Row

TextItem: TypeAlias = "str | tuple[str, str]"
PairReading: TypeAlias = Literal["joint", "separate"]
PAIR_WIDTH = 4  # feature vectors that stand beside each other for a pair whose texts are read separately
RawItem: TypeAlias = "bytes | TextItem"


class ImagePreprocessorConfig(BaseModel):
    """The checkpoint's own evaluation transform, in timm's terms; the mean and deviation are the backbone's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["image"] = "image"
    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str


class TextPreprocessorConfig(BaseModel):
    """How texts are read; the tokenizer is ``tokenizer.json`` beside the backbone's weights.

    Attributes:
        max_tokens: of a row.
        pad_id: of the token that fills up shorter rows.
        pair: how a pair of texts is read: as one joint row with segments, for a backbone that compares them itself, or as
            two rows, whose features are combined (`models.head_inputs`). None reads single texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    modality: Literal["text"] = "text"
    max_tokens: int = Field(ge=1)
    pad_id: int = 0
    pair: PairReading | None = None


PreprocessorConfig: TypeAlias = Annotated[
    ImagePreprocessorConfig | TextPreprocessorConfig, Field(discriminator="modality")
]


class Preprocessor(Protocol):
    """Turns one raw item into a row, and rows into a batch. Safe to call from several threads."""

    def prepare(self, item: RawItem, *, truncate: bool = False) -> Row:
        """One row; raises `models.errors.InputError` for an item that cannot be answered."""
        ...

    def collate(self, rows: Sequence[Row]) -> Batch: ...


def build_preprocessor(
    config: ImagePreprocessorConfig | TextPreprocessorConfig,
    backbone_dir: Path,
    kind: FeatureKind = FeatureKind.POOLED,
) -> Preprocessor:
    """The preprocessor that a version's manifest describes.

    Args:
        config: from the manifest.
        backbone_dir: where the backbone's ``tokenizer.json`` lies.
        kind: of the features that its rows are for: those of tokens need to know which token stands for which word.
    """
    if isinstance(config, ImagePreprocessorConfig):
        from models.image_preprocessor import ImagePreprocessor

        return ImagePreprocessor(config)
    from models.text_preprocessor import TextPreprocessor

    return TextPreprocessor(config, backbone_dir / "tokenizer.json", kind)


# To be raised with every change of ours in how an item becomes a row: cached features of the old way are then not used.
PREPROCESSING = 3


def preprocessing_identity(config: ImagePreprocessorConfig | TextPreprocessorConfig) -> str:
    """What a row depends on beside the item: the settings, our own steps and the libraries that take the others."""
    libraries = ("pillow", "timm", "torch", "torchvision") if config.modality == "image" else ("tokenizers",)
    versions = [f"{library}-{version(library)}" for library in libraries]
    return "\n".join([config.model_dump_json(), f"steps-{PREPROCESSING}", *versions])
