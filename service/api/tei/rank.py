"""``POST /rerank`` and ``POST /similarity``: how near texts are to one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from operator import mul

import orjson

from models.errors import BodyTooLarge, GraftworkError, InvalidDocument, UnsuitableModel
from models.signature import VALUE
from service.api.backbones import embeds
from service.api.part_rows import rows_of
from service.api.tei.model import NAME_IT, ModelKind
from service.api.tei.request import (
    TeiRequest,
    flag,
    member,
    parameters,
    read_text,
    read_texts,
    read_truncate,
)
from service.api.turns import in_turns
from service.messages import Embedding, Wish, pack_pair

MOST_PAIR_BYTES = 16 << 20  # of the query in all pairs of one request: a body of 2 MiB could stand for 2 GiB


async def rerank(request: TeiRequest) -> bytes:
    """``[{"index", "score"}, ...]``, highest first, and the texts where they are asked for."""
    document = request.document
    texts = read_texts(document, "texts")
    has_text = flag(document, "return_text")
    flag(document, "raw_scores")  # scores are what they are: a cosine, or the value that the model gives
    found = await _scores(request, read_text(document, "query"), texts, truncate=read_truncate(document))
    order = sorted(range(len(found)), key=lambda index: -found[index])
    return orjson.dumps([{"index": i, **({"text": texts[i]} if has_text else {}), "score": found[i]} for i in order])


async def similarity(request: TeiRequest) -> bytes:
    """The score of each sentence, in their order."""
    inputs = member(request.document, "inputs")
    if not isinstance(inputs, dict):
        raise InvalidDocument('\'inputs\' must be {"source_sentence": ..., "sentences": [...]}', parameter="inputs")
    truncate = read_truncate(parameters(request.document))
    sentences = read_texts(inputs, "sentences")
    return orjson.dumps(await _scores(request, read_text(inputs, "source_sentence"), sentences, truncate=truncate))


def _name_text(error: GraftworkError) -> None:
    """The query is the first row, and no text."""
    if error.row is not None:
        which = "the query" if error.row == 0 else f"instance {error.row - 1}"
        error.message = f"{which}: {error.message.partition(': ')[2]}"


async def _scores(request: TeiRequest, query: str, texts: Sequence[str], *, truncate: bool) -> list[float]:
    """What a model gives each pair of the query and a text, where it gives pairs a value; else the cosine of their embeddings."""
    question, manifest = request.question, request.manifest
    if request.kind is ModelKind.RERANKER:
        start = query.encode()
        if (size := len(start) * len(texts)) > MOST_PAIR_BYTES:
            raise BodyTooLarge(
                f"the query has {size:,} bytes in all, once for each text; send fewer texts in one request"
            )
        question.ticket.take_bytes(size)
        pairs = [pack_pair(start, text.encode()) for text in texts]
        parts = await question.ask_in_parts(pairs, Wish(outputs=(VALUE,), truncate=truncate))
        return [array("f", row)[0] for row in rows_of(parts, len(texts), as_json=False)]
    if not embeds(manifest) or (request.kind is not ModelKind.EMBEDDING and manifest.pair is not None):
        raise UnsuitableModel(
            f"{question.version} gives pairs labels, and no score; name a model that reads single texts, or one that gives "
            f"pairs a value: {NAME_IT}"
        )
    wish = Wish(form="text", embedding=Embedding(), truncate=truncate)
    items = [query.encode(), *(text.encode() for text in texts)]
    try:
        parts = await question.ask_in_parts(items, wish)
    except GraftworkError as error:
        _name_text(error)
        raise
    first, *others = rows_of(parts, len(items), as_json=False)
    wanted = array("f", first)
    return [max(-1.0, min(1.0, sum(map(mul, wanted, array("f", row))))) async for row in in_turns(others, len(wanted))]
