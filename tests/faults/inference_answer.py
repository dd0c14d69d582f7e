"""What must hold of every answer to an inference in the Open Inference Protocol."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from service.api.oip.tensor import SIZES
from service.api.openapi import openapi_document

LENGTH = "inference-header-content-length"


def wrong_inference(headers: Mapping[str, str], body: bytes) -> str | None:
    """What is wrong with an answer, if anything is.

    Args:
        headers: with names in lower case.
        body: as it was sent.
    """
    try:
        encoding = headers.get("content-encoding")
        plain = body if encoding is None else zlib.decompress(body, {"gzip": 31, "deflate": 15}[encoding])
        size = headers.get(LENGTH)
        if headers.get("content-type") != ("application/json" if size is None else "application/octet-stream"):
            return f"is {headers.get('content-type')} with a length of {size}"
        head, rest = (plain, b"") if size is None else (plain[: int(size)], plain[int(size) :])
        document = json.loads(head)
    except (KeyError, ValueError, zlib.error) as error:
        return f"cannot be read: {error!r}"
    for wrong in _validator().iter_errors(document):
        return f"does not follow its schema: {wrong.message}"
    return _wrong_tensors(document["outputs"], len(rest))


def _wrong_tensors(outputs: list[dict[str, Any]], bytes_behind: int) -> str | None:
    taken = 0
    for tensor in outputs:
        name, count = tensor["name"], math.prod(tensor["shape"])
        if ("data" in tensor) == ("parameters" in tensor):
            return f"has data of {name} twice, or not at all"
        if "data" in tensor:
            if len(tensor["data"]) != count:
                return f"has {len(tensor['data'])} values of {name}, not {count}"
            continue
        size = tensor["parameters"]["binary_data_size"]
        taken += size
        each = SIZES[tensor["datatype"]]
        if size != count * each if each else size < 4 * count:
            return f"has {size} bytes of {name}, which has {count} elements"
    return (
        None
        if taken == bytes_behind
        else f"has {bytes_behind} bytes behind the JSON, of which {taken} belong to tensors"
    )


@cache
def _validator() -> Any:
    components = openapi_document("0")["components"]
    return jsonschema_rs.Draft202012Validator({"$ref": "#/components/schemas/InferResponse", "components": components})
