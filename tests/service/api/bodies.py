"""Bodies of texts and images, and what becomes of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import pytest

from models.backbone import Modality
from models.errors import InputError
from service.api.body import read_instances

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"  # what curl --data-binary says
PNG = b"\x89PNG\r\n\x1a\n and so on"


def read(body: bytes, media_type: str | None = JSON, modality: Modality = Modality.TEXT) -> Sequence[bytes]:
    headers = {} if media_type is None else {"content-type": media_type}
    return read_instances(body, headers, modality, max_instances=64)


def refusal(body: bytes, media_type: str | None = JSON, modality: Modality = Modality.TEXT) -> tuple[int, str]:
    with pytest.raises(InputError) as caught:
        read(body, media_type, modality)
    return caught.value.status, caught.value.code


def images(*data: bytes) -> bytes:
    return json.dumps({"instances": [{"b64": base64.b64encode(each).decode()} for each in data]}).encode()


def texts(*items: object) -> bytes:
    return json.dumps({"instances": items}).encode()
