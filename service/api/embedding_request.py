"""What is to be embedded, as clients of several interfaces send it: texts, tokens of texts, or images as data URLs."""

from __future__ import annotations

import binascii
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.backbone import Modality
from models.errors import InvalidBase64, InvalidInstances, InvalidParameter, TooManyInstances
from models.version import ModelVersion
from service.messages import Form, Item

MOST_INPUTS = 2048  # in one list, as at OpenAI
# In one body: more numbers hold up all requests for over a tenth of a second. (OpenAI takes 300,000 tokens.)
MOST_COMMAS = 500_000
_DATA_URL = re.compile(r"data:image/[\w.+-]{1,64}(?:;[\w=.+-]{1,64}){0,8}?;base64,", re.IGNORECASE | re.ASCII)
_KINDS = "a string, an array of strings, an array of token numbers or an array of such arrays"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One or more of a kind.

    Attributes:
        form: what workers take them for.
        items: one a row.
    """

    form: Form
    items: Sequence[Item]


def read_inputs(value: Any, modality: Modality, parameter: str) -> Inputs:
    """What a document's member holds.

    Args:
        value: of the member: one string or many, or the tokens of one text or of many.
        modality: of the model that is asked.
        parameter: the member's name, for errors.

    Raises:
        InvalidInstances: it holds nothing, or what the model does not read.
        InvalidBase64: an image is not in base64.
        TooManyInstances: more than `MOST_INPUTS`.
    """
    many = [value] if _is_one(value) else value
    if not isinstance(many, list):
        raise InvalidInstances(f"'{parameter}' must be {_KINDS}", parameter=parameter)
    if not many:
        raise InvalidInstances(f"'{parameter}' is empty; send at least one", parameter=parameter)
    if len(many) > MOST_INPUTS:
        raise TooManyInstances(
            f"'{parameter}' has {len(many):,} inputs, over the limit of {MOST_INPUTS:,}; send several requests",
            parameter=parameter,
        )
    if isinstance(many[0], list):
        if modality is not Modality.TEXT:
            raise InvalidInstances("this model reads images, which have no tokens", parameter=parameter)
        return Inputs(form="tokens", items=[_tokens(each, row, parameter) for row, each in enumerate(many)])
    if modality is Modality.IMAGE:
        return Inputs(form="item", items=[_image(each, row, parameter) for row, each in enumerate(many)])
    return Inputs(form="text", items=[_text(each, row, parameter) for row, each in enumerate(many)])


def check_dimensions(value: Any, width: int, version: ModelVersion) -> int | None:
    """How many dimensions are asked for; None for all.

    Raises:
        InvalidParameter: it is no number of dimensions that the version has.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= width:
        raise InvalidParameter(
            f"'dimensions' must be a whole number from 1 to {width}: {version} has no more", parameter="dimensions"
        )
    return None if value == width else value


def _is_one(value: Any) -> bool:
    """Whether it is one text, or the tokens of one: then its first member is a number."""
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and _is_number(value[0]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: Any, row: int, parameter: str) -> bytes:
    if not isinstance(value, str):
        raise InvalidInstances(f"input {row} is no string; '{parameter}' must be {_KINDS}", parameter=parameter)
    return value.encode()


def _tokens(value: Any, row: int, parameter: str) -> bytes:
    if not isinstance(value, list) or not {int}.issuperset(map(type, value)):
        raise InvalidInstances(
            f"input {row} is no array of token numbers; '{parameter}' must be {_KINDS}", parameter=parameter
        )
    try:
        tokens = array("i", value)
    except OverflowError:
        tokens = array("i", [-1])
    if min(tokens, default=0) < 0:
        raise InvalidInstances(f"input {row} has a token that no model has", parameter=parameter)
    return tokens.tobytes()


def _image(value: Any, row: int, parameter: str) -> bytes:
    match = _DATA_URL.match(value) if isinstance(value, str) else None
    if match is None:
        raise InvalidInstances(
            f"input {row}: this model reads images; send each as a string data:image/png;base64,...",
            parameter=parameter,
        )
    try:
        return binascii.a2b_base64(memoryview(value.encode())[match.end() :], strict_mode=True)
    except (binascii.Error, ValueError):
        raise InvalidBase64(f"input {row} is not in standard base64 with padding", parameter=parameter) from None
