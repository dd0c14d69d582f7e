"""What clients of Text Embeddings Inference (TEI) ask, as a part of the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence

from models import errors
from models.errors import from_code
from service.api import examples_tei as examples
from service.api.embedding_request import MOST_INPUTS
from service.api.openapi_operation import READY, VERSION, WHAT_IS_WRONG, Refusals, get, media, operation
from service.api.schemas import NUMBER, TEXT, Json, array, record, ref
from service.api.tei.errors import EMBED, HEALTH, INFO, PREDICT, RERANK, ROOT, SIMILARITY, tei_error_type, tei_status
from service.auth.key import Scope

_INFO: Refusals = (*VERSION, errors.VersionNotFound, errors.UnsuitableModel)
_ASK: Refusals = (
    *(*_INFO, errors.UnsupportedMediaType, errors.EmptyBody, errors.BodyTooLarge),
    *(errors.InvalidJson, errors.JsonTooDeep, errors.InvalidUtf8, errors.InvalidUnicode, errors.NonFinite),
    *(errors.InvalidDocument, errors.InvalidInstances, errors.TooManyInstances),
    *(errors.EmptyText, errors.TextTooLong, errors.ContextLengthExceeded),
    *(errors.Overloaded, errors.WorkerLost, errors.WorkerCrashed, errors.OutOfMemory, errors.DeviceFailed),
    errors.EngineUnavailable,
    errors.DeadlineExceeded,
)


def _with(schema: Json, **optional: Json) -> Json:
    return {**schema, "properties": {**schema["properties"], **optional}}


_MANY = {"minItems": 1, "maxItems": MOST_INPUTS}
_COUNT: Json = {"type": "integer", "minimum": 0}
_SOME_TEXT: Json = {**TEXT, "minLength": 1}
_TOKENS: Json = array(_COUNT, minItems=1)
_SCORE: Json = {"type": "number"}
_FLAG: Json = {"type": ["boolean", "null"], "default": False}
_TRUNCATE: Json = {**_FLAG, "description": "Cut texts that are too long, at their end."}
_SENTENCES: Json = record(source_sentence=_SOME_TEXT, sentences=array(_SOME_TEXT, **_MANY))
_LABELS: Json = record(
    id2label={"type": "object", "additionalProperties": TEXT},
    label2id={"type": "object", "additionalProperties": _COUNT},
)
TEI_SCHEMAS: Json = {
    "TeiError": {
        **record(
            error={**TEXT, "minLength": 1, "description": "What is wrong, and the cure."},
            error_type={"enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]},
            code={**TEXT, "description": "Stable: what programs may match on."},
        ),
        "description": "As TEI's clients read it.",
    },
    "TeiEmbed": _with(
        record(
            inputs={
                "anyOf": [_SOME_TEXT, array(_SOME_TEXT, **_MANY), _TOKENS, array(_TOKENS, **_MANY)],
                "description": "Texts, or tokens of the model's own tokenizer.",
            }
        ),
        normalize={**_FLAG, "default": True, "description": "Scale each to length 1."},
        dimensions={"anyOf": [NUMBER, {"type": "null"}], "description": "Only so many, the first ones."},
        truncate=_TRUNCATE,
    ),
    "TeiEmbeddings": {
        **array(array(_SCORE, minItems=1), minItems=1),
        "description": "One for each text, also for a single one.",
    },
    "TeiPredict": {
        **_with(
            record(
                inputs={
                    "anyOf": [
                        _SOME_TEXT,
                        array(_SOME_TEXT, minItems=1, maxItems=2),
                        array(array(_SOME_TEXT, minItems=1, maxItems=2), **_MANY),
                    ],
                    "description": "One text, one pair of them, or a batch of lists of one or two, as the model reads them.",
                }
            ),
            raw_scores={**_FLAG, "description": "Logits instead of probabilities."},
            truncate=_TRUNCATE,
            parameters={
                "type": ["object", "null"],
                "properties": {
                    "top_k": {"anyOf": [NUMBER, {"type": "null"}]},
                    "function_to_apply": {"enum": ["softmax", "sigmoid", "none", None]},
                },
                "description": "What the hub's own clients send: the answer is a list of lists then.",
            },
        ),
        "examples": [{"inputs": [["where is my card?", "my card is lost"]]}],
    },
    "TeiPrediction": {
        **array(record(label=TEXT, score=_SCORE), minItems=1),
        "description": "Every label with its score, highest first.",
    },
    "TeiPredictions": {
        "anyOf": [ref("TeiPrediction"), array(ref("TeiPrediction"), minItems=1)],
        "description": "A list of them for a batch.",
    },
    "TeiRerank": _with(
        record(query=_SOME_TEXT, texts=array(_SOME_TEXT, **_MANY)),
        return_text=_FLAG,
        raw_scores=_FLAG,
        truncate=_TRUNCATE,
    ),
    "TeiRanks": {
        **array(_with(record(index=_COUNT, score=_SCORE), text=TEXT), minItems=1),
        "description": "Highest first: the cosine of embeddings, or the value that a model of pairs gives.",
    },
    "TeiSimilarity": _with(record(inputs=_SENTENCES), parameters={"type": ["object", "null"]}),
    "TeiScores": {**array(_SCORE, minItems=1), "description": "Of each sentence."},
    "TeiInfo": {
        **record(
            model_id=TEXT,
            model_sha={**TEXT, "description": "The digest of its backbone."},
            model_dtype={**TEXT, "description": "`unknown` until it was loaded once."},
            served_model_name=TEXT,
            model_type={
                "anyOf": [
                    record(embedding=record(pooling=TEXT)),
                    record(classifier=_LABELS),
                    record(reranker=_LABELS),
                ]
            },
            max_concurrent_requests={**_COUNT, "description": "Rows in flight."},
            max_input_length=_COUNT,
            max_batch_tokens=_COUNT,
            max_batch_requests=_COUNT,
            max_client_batch_size=_COUNT,
            auto_truncate={"type": "boolean"},
            tokenization_workers=_COUNT,
            version=TEXT,
            sha={"type": "null"},
            docker_label={"type": "null"},
        ),
    },
}


def tei_paths(ready: Json) -> Json:
    """The routes of TEI.

    Args:
        ready: what a server that is ready answers.
    """
    anything = {"anyOf": [ref(f"Tei{name}") for name in ("Embed", "Predict", "Rerank", "Similarity")]}
    answers = {"anyOf": [ref(f"Tei{name}") for name in ("Embeddings", "Predictions", "Ranks", "Scores")]}
    told: Json = {"errors": _error, "status_of": tei_status}
    return {
        EMBED: _post(
            *("tei_embed", "Embeddings", ref("TeiEmbed"), examples.EMBED),
            *(ref("TeiEmbeddings"), examples.EMBEDDINGS),
        ),
        PREDICT: _post(
            *("tei_predict", "Scores of labels", ref("TeiPredict"), examples.PREDICT),
            *(ref("TeiPredictions"), examples.PREDICTIONS),
        ),
        RERANK: _post(
            *("tei_rerank", "Texts by their nearness to a query", ref("TeiRerank"), examples.RERANK),
            *(ref("TeiRanks"), examples.RANKS),
        ),
        SIMILARITY: _post(
            *("tei_similarity", "The nearness of sentences to one", ref("TeiSimilarity"), examples.SIMILARITY),
            *(ref("TeiScores"), examples.SCORES),
        ),
        ROOT: _post(
            *("tei_root", "Any of these, by the form of the body or by the model,", anything, examples.ANYTHING),
            *(answers, examples.ANSWERS),
        ),
        INFO: get(
            "tei_info",
            "The model that these routes speak for, and limits",
            ref("TeiInfo"),
            scope=Scope.METADATA,
            refusals=_INFO,
            examples=examples.INFO,
            **told,
        ),
        HEALTH: get(
            "tei_health",
            "Whether models are loaded and checked",
            ready,
            scope=None,
            refusals=READY,
            examples=examples.READY,
            **told,
        ),
    }


def _post(name: str, summary: str, asked: Json, bodies: Json, answer: Json, answers: Json) -> Json:
    made = operation(
        name,
        f"{summary}, by the model of `--tei-model`, else the one language backbone",
        ("X-Request-Timeout",),
        answer,
        scope=Scope.PREDICT,
        refusals=_ASK,
        errors=_error,
        status_of=tei_status,
        examples=answers,
    )
    return {"post": {**made, "requestBody": {"required": True, "content": {"application/json": media(asked, bodies)}}}}


def _error(_status: int, codes: Sequence[str]) -> Json:
    types = list(dict.fromkeys(tei_error_type(from_code(code, "")) for code in codes))
    members = {"error_type": {"enum": types}, "code": {"enum": codes}}
    example = {"error": WHAT_IS_WRONG, "error_type": types[0], "code": codes[0]}
    schema = {"allOf": [ref("TeiError"), {"properties": members}]}
    return {"application/json": {"schema": schema, "example": example}}
