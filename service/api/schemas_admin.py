"""What the routes of an operator take and give, for the OpenAPI document."""

from __future__ import annotations

from service.api.schemas import ALIAS, EXPECT, NAME, NUMBER, POLICY, Json, record, ref

_POINTED: Json = {"anyOf": [NUMBER, {"type": "null"}]}

ADMIN_SCHEMAS: Json = {
    "Promotion": {
        **record(version=NUMBER),
        "properties": {"version": NUMBER, "expect": EXPECT},
        "additionalProperties": False,
        "examples": [{"version": 2, "expect": 1}],
    },
    "Expectation": {
        "type": "object",
        "properties": {"expect": EXPECT},
        "additionalProperties": False,
        "examples": [{"expect": 2}],
    },
    "Keep": {**record(keep=POLICY), "additionalProperties": False, "examples": [{"keep": "latest:3"}]},
    "Change": {
        **record(model=NAME, alias=ALIAS, version=_POINTED, before=_POINTED),
        "description": "Where an alias points now, and pointed before.",
        "examples": [{"model": "intents", "alias": "champion", "version": 2, "before": 1}],
    },
    "Deletion": {
        **record(model=NAME, version=NUMBER, deleted={"const": True}),
        "examples": [{"model": "intents", "version": 1, "deleted": True}],
    },
    "Kept": {**record(model=NAME, keep=POLICY), "examples": [{"model": "intents", "keep": "latest:3"}]},
}


def document_body(name: str) -> Json:
    """A body that is one of the schemas."""
    return {"required": True, "content": {"application/json": {"schema": ref(name)}}}
