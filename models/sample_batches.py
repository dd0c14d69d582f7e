"""Inputs that every machine has: engines are compared, timed and calibrated on them.

They take no part in training or evaluation. Images are crops of scikit-learn's two photographs; texts are sentences of the
standard library's docstrings. Another Python or Pillow may give a few others; a graph that was calibrated on them then has
another digest, which is part of its engine's identity.
"""

from __future__ import annotations

import ast
import importlib.util
import random
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.backbone import Modality
from models.batch import ImageRow, Row, TextRow

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone

_MODULES = ("argparse", "calendar", "csv", "doctest", "email", "logging", "mailbox", "tarfile", "unittest", "zipfile")
_MOST_TOKENS = 128  # of a sample


def sample_rows(stored: StoredBackbone, count: int) -> Sequence[Row]:
    """Rows for a backbone, the same ones each time in one installation.

    Args:
        stored: whose input size or tokenizer they are made with.
        count: how many, at most 256.
    """
    if stored.config.modality is Modality.IMAGE:
        _, height, width = stored.config.options["input_size"]
        return _crops(count, height, width)
    most_tokens = min(stored.config.max_tokens or _MOST_TOKENS, _MOST_TOKENS)
    return _sentences(count, stored.directory / "tokenizer.json", most_tokens)


def _crops(count: int, height: int, width: int) -> Sequence[Row]:
    """Crops of all sizes, mirrored or not, brighter or darker: activations beyond those of two photographs as they are."""
    from PIL import Image, ImageEnhance
    from sklearn.datasets import load_sample_images

    photographs = [Image.fromarray(pixels_HWC) for pixels_HWC in load_sample_images().images]
    chance = random.Random(0)
    rows = []
    for index in range(count):
        photograph = photographs[index % 2]
        share = chance.uniform(0.2, 1.0)
        size = (share * photograph.width, share * photograph.height)
        left, top = (chance.uniform(0, whole - part) for whole, part in zip(photograph.size, size, strict=True))
        crop = photograph.resize((width, height), Image.Resampling.BICUBIC, (left, top, left + size[0], top + size[1]))
        if chance.random() < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        crop = ImageEnhance.Brightness(crop).enhance(chance.uniform(0.6, 1.4))
        crop = ImageEnhance.Color(crop).enhance(chance.uniform(0.0, 1.5))
        pixels_HWC = torch.frombuffer(bytearray(crop.tobytes()), dtype=torch.uint8).view(height, width, 3)
        rows.append(ImageRow(pixels_CHW=pixels_HWC.permute(2, 0, 1).contiguous()))
    return rows


def _sentences(count: int, tokenizer_file: Path, most_tokens: int) -> Sequence[Row]:
    from models.text_preprocessor import read_tokenizer

    tokenizer = read_tokenizer(tokenizer_file)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encodings = tokenizer.encode_batch(list(_prose()[:count]))
    return [TextRow(ids=each.ids[:most_tokens], segments=each.type_ids[:most_tokens]) for each in encodings]


@cache
def _prose() -> Sequence[str]:
    """Sentences of 4 to 60 words, shuffled."""
    sentences: set[str] = set()
    for name in _MODULES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                text = " ".join((ast.get_docstring(node) or "").split())
                sentences.update(part for part in re.split(r"(?<=\.) ", text) if 4 <= len(part.split()) <= 60)
    ordered = sorted(sentences)
    random.Random(0).shuffle(ordered)
    return ordered
