"""``GET /info``: TEI's description of its model and of its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response

from models.cores import available_cores
from models.manifest import Manifest
from models.precision import Precision
from models.preprocessor import TextPreprocessorConfig
from models.repository import ModelRepository
from service.api.catalog import Catalog
from service.api.declaration import route
from service.api.embedding_request import MOST_INPUTS
from service.api.tei.errors import INFO
from service.api.tei.model import ModelKind, TeiModel, model_kind
from service.auth.key import Scope as KeyScope
from service.messages import Serving
from service.settings import ServerSettings

_POOLING: Mapping[str, str] = {"first": "cls", "last": "lasttoken"}  # TEI's words, where they are others
_DTYPES: Mapping[str, str] = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", Precision.INT8: "int8"}
UNKNOWN = "unknown"  # until it was loaded once


class InfoRoute:
    """The handler.

    Args:
        settings: limits.
        model: that is described.
        catalog: the models.
        repository: has its backbone.
        version: of Graftwork.
        workers: how many there are.
        max_rows: that may be in flight.
    """

    def __init__(
        self,
        settings: ServerSettings,
        model: TeiModel,
        catalog: Catalog,
        repository: ModelRepository,
        version: str,
        *,
        workers: int,
        max_rows: int,
    ) -> None:
        self._settings = settings
        self._model = model
        self._catalog = catalog
        self._repository = repository
        self._version = version
        self._max_rows = max_rows
        self._tokenizers = workers * max(1, available_cores() // settings.workers)

    @route("GET", INFO, scope=KeyScope.METADATA)
    async def info(self, request: Request) -> Response:
        """``GET /info``."""
        addressee = self._model.find()
        entry = self._catalog.entry(addressee.reference)
        assert entry.version is not None
        manifest, rows = entry.version.manifest, self._settings.max_batch_rows
        kind = model_kind(manifest, addressee.backbone)
        name, preprocessor = addressee.backbone or str(entry), manifest.preprocessor
        assert isinstance(preprocessor, TextPreprocessorConfig)
        document = {
            "model_id": name if addressee.backbone is None else manifest.backbone.public_source.partition(":")[2],
            "model_sha": manifest.backbone.digest,
            "model_dtype": _dtype(entry.serving),
            "served_model_name": name,
            "model_type": {
                kind.value: await self._pooling(manifest) if kind is ModelKind.EMBEDDING else _labels(manifest)
            },
            "max_concurrent_requests": self._max_rows,
            "max_input_length": preprocessor.max_tokens,
            "max_batch_tokens": rows * preprocessor.max_tokens,
            "max_batch_requests": rows,
            "max_client_batch_size": MOST_INPUTS,
            "auto_truncate": False,
            "tokenization_workers": self._tokenizers,
            "version": self._version,
            "sha": None,
            "docker_label": None,
        }
        return Response(orjson.dumps(document), media_type="application/json")

    async def _pooling(self, manifest: Manifest) -> Mapping[str, str]:
        stored = await asyncio.to_thread(self._repository.backbones.get, manifest.backbone.digest)
        return {"pooling": _POOLING.get(stored.config.pooling, stored.config.pooling)}


def _labels(manifest: Manifest) -> Mapping[str, object]:
    return {
        "id2label": {str(index): label for index, label in enumerate(manifest.labels)},
        "label2id": {label: index for index, label in enumerate(manifest.labels)},
    }


def _dtype(serving: Serving | None) -> str:
    """What is computed with: the engine's identity tells halves of floats from whole ones."""
    if serving is None:
        return UNKNOWN
    words = serving.engine.split("/")
    return next((_DTYPES[word] for word in words if word in _DTYPES), _DTYPES[serving.precision])
