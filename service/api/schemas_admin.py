"""What the routes of an operator take and give, for the OpenAPI document."""

from __future__ import annotations

from service.api.schemas import ALIAS, EXPECT, NAME, NUMBER, POLICY, Json, record, ref

_POINTED: Json = {"anyOf": [NUMBER, {"type": "null"}]}

ADMIN_SCHEMAS: Json = {
    "Promotion": {
        **record(version=NUMBER),
        "properties": {"version": NUMBER, "expect": EXPECT},
        "additionalProperties": False,
    },
    "Expectation": {
        "type": "object",
        "properties": {"expect": EXPECT},
        "additionalProperties": False,
    },
    "Keep": {**record(keep=POLICY), "additionalProperties": False},
    "Change": {
        **record(model=NAME, alias=ALIAS, version=_POINTED, before=_POINTED),
        "description": "Where an alias points now, and pointed before.",
    },
    "Deletion": record(model=NAME, version=NUMBER, deleted={"const": True}),
    "Kept": record(model=NAME, keep=POLICY),
}


def document_body(name: str, **example: object) -> Json:
    """A body that is one of the schemas, and an example of it."""
    content = {"schema": ref(name), "examples": {"texts": {"value": example}}}
    return {"required": True, "content": {"application/json": content}}
