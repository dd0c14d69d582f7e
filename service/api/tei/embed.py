"""``POST /embed``."""

from __future__ import annotations

from models.backbone import Modality
from models.errors import UnsuitableModel
from service.api.backbones import embeds
from service.api.embedding_request import check_dimensions, read_inputs
from service.api.part_rows import rows_of
from service.api.tei.model import NAME_IT
from service.api.tei.request import TeiRequest, check_count, flag, member, read_truncate
from service.messages import Embedding, Wish


async def embed(request: TeiRequest) -> bytes:
    """The embedding of each text, also of a single one: ``[[...], ...]``."""
    document, version = request.document, request.question.version
    if not embeds(version.manifest):
        raise UnsuitableModel(f"{version} has no vector of a whole text; name another model: {NAME_IT}")
    value = member(document, "inputs")
    if isinstance(value, list) and not (value and type(value[0]) is int):  # that is one text, by its tokens
        check_count(value, "inputs")
    inputs = read_inputs(value, Modality.TEXT, "inputs")
    wanted = Embedding(
        dimensions=check_dimensions(document.get("dimensions"), version.manifest.backbone.feature_dim, version),
        normalize=flag(document, "normalize", default=True),
        as_json=True,
    )
    wish = Wish(form=inputs.form, embedding=wanted, truncate=read_truncate(document))
    parts = await request.question.ask_in_parts(inputs.items, wish)
    return b"[%s]" % b",".join(rows_of(parts, len(inputs.items), as_json=True))
