from __future__ import annotations

import base64

import pytest

from models.backbone import Modality
from models.errors import InvalidInstances
from service.api.embedding_request import read_inputs

FILE = base64.b64encode(b"a file").decode()


@pytest.mark.parametrize("kind", ["image/png", "IMAGE/SVG+xml", "image/x-a.b;charset=utf-8", "image/png" + ";a=b" * 8])
def test_an_image_is_what_its_data_url_holds(kind: str) -> None:
    inputs = read_inputs([f"data:{kind};base64,{FILE}"], Modality.IMAGE, "input")
    assert (inputs.form, inputs.items) == ("item", [b"a file"])


@pytest.mark.parametrize(
    "kind", ["image/png" + ";a" * 9, "image/p" + ";a" * 1_000_000, "image/pn\u00e9", "text/plain", "image/", ""]
)
def test_the_head_of_a_data_url_is_short_and_plain(kind: str) -> None:
    """Any number of parameters took a gigabyte to look through."""
    with pytest.raises(InvalidInstances, match="send each as a string data:image"):
        read_inputs(f"data:{kind};base64,{FILE}", Modality.IMAGE, "input")
