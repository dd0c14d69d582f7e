"""What the prediction routes of V1 take and give, for the OpenAPI document."""

from __future__ import annotations

from service.api.schemas import MAX_INSTANCES, NAME, NUMBER, REQUEST_ID, SCORE, TEXT, Json, array, record, ref

_INSTANCES = {"minItems": 1, "maxItems": MAX_INSTANCES}
WHITE_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAHLCMmQAAAABJRU5ErkJggg=="

_SOME_TEXT: Json = {**TEXT, "minLength": 1}
_TWO_TEXTS: Json = {"type": "array", "prefixItems": [_SOME_TEXT, _SOME_TEXT], "items": False, "minItems": 2}
_PLACE: Json = {"type": "integer", "minimum": 0}
_PROBABILITIES: Json = {"type": "object", "additionalProperties": SCORE, "minProperties": 1}
_TRUNCATED: Json = {"const": True, "description": "The text was too long, and only its start was read."}


def _prediction(description: str, example: Json, **members: Json) -> Json:
    """A prediction of one task; that of a text may be of its start only."""
    made = record(**members)
    made["properties"]["truncated"] = _TRUNCATED
    return {**made, "description": description, "examples": [example]}


PREDICTION_SCHEMAS: Json = {
    "Texts": {
        **record(instances=array(_SOME_TEXT, **_INSTANCES)),
        "description": "For a model that reads texts.",
    },
    "Pairs": {
        **record(instances=array({"anyOf": [record(text=_SOME_TEXT, text_pair=_SOME_TEXT), _TWO_TEXTS]}, **_INSTANCES)),
        "description": "For a model that reads pairs of texts.",
    },
    "Images": {
        **record(instances=array(record(b64={**TEXT, "contentEncoding": "base64"}), **_INSTANCES)),
        "description": "For a model that reads images: JPEG, PNG or WebP files.",
    },
    "Predictions": {
        **record(predictions=array(ref("Prediction"), minItems=1), model=NAME, version=NUMBER, request_id=REQUEST_ID),
        "description": "One prediction for each instance, in their order.",
    },
    "Prediction": {
        "anyOf": [ref(name) for name in ("SingleLabel", "MultiLabel", "Value", "Entities", "Features")],
        "description": "By the task of the version (`task` in its metadata).",
    },
    "SingleLabel": _prediction(
        "Of `single-label`.",
        {"label": "lost_card", "score": 0.75, "scores": {"lost_card": 0.75, "arrival": 0.25}},
        label={**TEXT, "description": "The most probable one."},
        score={**SCORE, "description": "Its probability."},
        scores={
            **_PROBABILITIES,
            "description": "Probabilities by label, highest first; of all labels, or of the `top_k` best.",
        },
    ),
    "MultiLabel": _prediction(
        "Of `multi-label`.",
        {"labels": ["food"], "scores": {"food": 0.9, "sport": 0.4}},
        labels={**array(TEXT), "description": "Those with a probability from the version's threshold on, best first."},
        scores={
            **_PROBABILITIES,
            "description": "Probabilities by label, each for itself, highest first; of all, or of the `top_k` best.",
        },
    ),
    "Value": _prediction(
        "Of `regression`.",
        {"value": 3.5, "interval": [2.75, 4.25]},
        value={"type": "number"},
        interval={
            **array({"type": "number"}, minItems=2, maxItems=2),
            "description": "From and to: it holds the true value in 90 of 100 cases.",
        },
    ),
    "Entities": _prediction(
        "Of `token-classification`. Words are what stands between white space.",
        {"entities": [{"label": "city", "text": "New York", "start": 9, "end": 17, "score": 0.97}]},
        entities=array(
            record(
                label=TEXT,
                text=TEXT,
                start={**_PLACE, "description": "In code points of the text that was sent."},
                end={**_PLACE, "description": "Of the code point behind it."},
                score={**SCORE, "description": "The probability of its least certain word."},
            )
        ),
    ),
    "Features": _prediction(
        "Of `embedding`.",
        {"embedding": [0.25, -0.5, 0.125]},
        embedding={
            **array({"type": "number"}, minItems=1),
            "description": "As the backbone gives it, in 32 bits; of length 1 only where the backbone makes it so.",
        },
    ),
}

# A media type without a schema: bytes as they are.
BODY: Json = {
    "required": True,
    "description": "What the model reads: texts, pairs of them (in JSON only), or image files (JPEG, PNG, WebP); not "
    "compressed. An image model also takes "
    "one file without a type, or as `application/x-www-form-urlencoded`, which is what `curl --data-binary` says.",
    "content": {
        "application/json": {
            "schema": {"anyOf": [ref("Texts"), ref("Pairs"), ref("Images")]},
            "examples": {
                "texts": {"value": {"instances": ["where is my card?", "my card is lost"]}},
                "pairs": {
                    "value": {
                        "instances": [
                            {"text": "where is my card?", "text_pair": "my card has not come"},
                            ["where is my card?", "how do I top up?"],
                        ]
                    }
                },
                "images": {"value": {"instances": [{"b64": WHITE_PIXEL}]}},
            },
        },
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": MAX_INSTANCES,
                "additionalProperties": {**TEXT, "contentMediaType": "application/octet-stream"},
                "description": "Each part is an instance, whatever its name and type.",
            },
            "examples": {"texts": {"value": {"first": "where is my card?", "second": "my card is lost"}}},
        },
        "text/plain": {
            "schema": {**TEXT, "minLength": 1, "description": "One text in UTF-8."},
            "examples": {"texts": {"value": "where is my card?"}},
        },
        "image/jpeg": {},
        "image/png": {},
        "image/webp": {},
        "application/octet-stream": {},
    },
}
