"""The OpenAPI document, as tests read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any

import jsonschema_rs

from service.api.openapi import openapi_document

DOCUMENT = openapi_document("0.0", admin=True)
COMPONENTS = DOCUMENT["components"]


def resolve(node: Any) -> Any:
    """What a reference refers to."""
    return reduce(getitem, node["$ref"].removeprefix("#/").split("/"), DOCUMENT)


def validator(schema: Any) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "components": COMPONENTS})


def nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Every object in the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)
