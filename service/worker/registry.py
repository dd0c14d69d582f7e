"""The versions that a worker holds in memory. (What lies on disk is the repository.)"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from models.backbone_store import StoredBackbone
from models.engine import Engine, EngineSource
from models.errors import DeviceFailed, EngineMismatch, GraftworkError, VersionNotFound
from models.features import FeatureKind
from models.golden import GoldenSet
from models.manifest import Manifest
from models.precision import Precision
from models.predictor import Predictor, check_reads, read_head
from models.preprocessor import ImagePreprocessorConfig, Preprocessor, TextPreprocessorConfig, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from models.version import ModelVersion
from service.messages import Serving
from service.worker.loaded_version import LoadedVersion
from service.worker.pixels import PixelReader
from service.worker.servable import Fleet

logger = logging.getLogger(__name__)


class Registry:
    """Loads versions beside the others; versions that read one kind of features of a backbone share one engine in each
    precision.

    Safe to use from several threads: one loads, others look up.

    Args:
        repository: where versions lie.
        engines: makes the engines of backbones.
        on_engine: called when one was made.
        fleet: where the engines compute, if not here.
    """

    def __init__(
        self,
        repository: ModelRepository,
        engines: EngineSource,
        on_engine: Callable[[], None] = lambda: None,
        *,
        fleet: Fleet | None = None,
    ) -> None:
        self.fleet = fleet
        self._repository = repository
        self._source = engines
        self._on_engine = on_engine
        self._versions: dict[tuple[str, int], LoadedVersion] = {}
        self._backbones: dict[tuple[str, FeatureKind], _Backbone] = {}
        self._loading = threading.Lock()

    def load(self, name: str, number: int) -> LoadedVersion:
        """Verifies, loads and warms up a version, and checks its golden outputs, before it can be looked up.

        It is served in the fastest precision that it has a head for, and gives its golden answers in; where no faster engine
        does, by torch. Of versions that share all but the head, only the first runs the backbone for that, and each embedding:
        see `models.golden`.

        Raises:
            EngineUnavailable: whoever computes it does not answer now.
            GraftworkError: it must not be served; whatever was loaded before still is.
        """
        with self._loading:
            version = self._repository.read(name, number)
            self._repository.verify(version)
            loaded = self._load(version)
            self._versions[name, number] = loaded
            return loaded

    def _load(self, version: ModelVersion) -> LoadedVersion:
        backbone = self._backbone(version.manifest)
        heads, instead = version.manifest.heads, ""
        for precision in backbone.precisions:
            if precision not in heads:
                continue
            if (refused := heads[precision].refused) is not None:
                instead = f"; not in {precision}: {refused}"
                continue
            if precision is Precision.FP32:
                break
            try:
                engine = self._engine(backbone, precision)
                return self._load_on(engine, precision, version, backbone, instead)
            except DeviceFailed:
                raise
            except Exception as error:  # a graph that cannot be read, say: fp32 needs none
                why = error.message if isinstance(error, GraftworkError) else "it does not run here"
                logger.warning("%s is not served in %s: %s", version, precision, error)
                instead = f"; not in {precision}: {why}"
        engine = self._engine(backbone, Precision.FP32)
        try:
            return self._load_on(engine, Precision.FP32, version, backbone, instead)
        except EngineMismatch as error:
            exact = self._exact_engine(backbone)
            if exact is None or exact.identity == engine.identity:
                raise
            logger.warning("%s is not served by %s: %s", version, engine.identity, error.message)
            instead += f"; not by {engine.identity}: {error.message}"
            return self._load_on(exact, Precision.FP32, version, backbone, instead)

    def _load_on(
        self, engine: Engine, precision: Precision, version: ModelVersion, backbone: _Backbone, instead: str
    ) -> LoadedVersion:
        manifest = version.manifest
        predictor = Predictor(
            preprocessor=backbone.preprocessor(manifest.preprocessor),
            engine=engine,
            head=read_head(version.directory, manifest, precision),
            labels=manifest.labels,
            task=manifest.task,
            calibration=manifest.heads[precision].calibration,
        )
        golden = GoldenSet.read(version.directory, manifest.modality, precision)
        way = (manifest.preprocessor.model_dump_json(), engine.identity, manifest.heads[precision].engine.identity)
        if way in backbone.proven and manifest.task is not Task.EMBEDDING:
            golden.check_head(predictor)
        else:
            golden.check(predictor)
            backbone.proven.add(way)
        return LoadedVersion(
            manifest=manifest,
            backbone=backbone.stored.digest,
            predictor=predictor,
            pixels=_pixels(manifest, backbone),
            serving=Serving(
                engine=engine.identity,
                precision=precision,
                reason=self._source.reason(backbone.stored, precision, backbone.kind) + instead,
            ),
        )

    def _backbone(self, manifest: Manifest) -> _Backbone:
        digest, kind = manifest.backbone.digest, manifest.kind
        known = self._backbones.get((digest, kind))
        stored = self._repository.backbones.verify(digest) if known is None else known.stored
        check_reads(manifest, stored.config)
        if known is None:
            precisions = self._source.precisions(stored, kind)
            known = self._backbones[digest, kind] = _Backbone(stored=stored, kind=kind, precisions=precisions)
        return known

    def _engine(self, backbone: _Backbone, precision: Precision) -> Engine:
        if precision not in backbone.engines:
            engine = self._source.build(backbone.stored, precision, backbone.kind)
            engine.warm_up()
            backbone.engines[precision] = engine
            self._on_engine()
        return backbone.engines[precision]

    def _exact_engine(self, backbone: _Backbone) -> Engine | None:
        if backbone.exact is None:
            backbone.exact = self._source.exact(backbone.stored)
            if backbone.exact is not None:
                backbone.exact.warm_up()
                self._on_engine()
        return backbone.exact

    def unload(self, name: str, number: int) -> None:
        """Forgets a version, and its backbone with the last version on it."""
        with self._loading:
            self._versions.pop((name, number), None)
            used = {(loaded.backbone, loaded.manifest.kind) for loaded in self._versions.values()}
            for unused in set(self._backbones) - used:
                del self._backbones[unused]

    def get(self, name: str, number: int) -> LoadedVersion:
        """A loaded version.

        Raises:
            VersionNotFound: it is not loaded.
        """
        try:
            return self._versions[name, number]
        except KeyError:
            raise VersionNotFound(f"version {number} of '{name}' is not loaded") from None


def _pixels(manifest: Manifest, backbone: _Backbone) -> PixelReader | None:
    config = manifest.preprocessor
    if not isinstance(config, ImagePreprocessorConfig):
        return None
    return PixelReader(config.input_size, backbone.stored.config.options)


@dataclass(kw_only=True, eq=False)
class _Backbone:
    """What versions share that read the same kind of features of one backbone.

    Attributes:
        precisions: the preferred one first.
        exact: torch, for versions that no faster engine answers as it should.
        proven: ways from an input to features that gave golden answers: preprocessor, engine here, engine at publishing.
    """

    stored: StoredBackbone
    kind: FeatureKind
    precisions: Sequence[Precision]
    engines: dict[Precision, Engine] = field(default_factory=dict)
    exact: Engine | None = None
    preprocessors: dict[str, Preprocessor] = field(default_factory=dict)
    proven: set[tuple[str, str, str]] = field(default_factory=set)

    def preprocessor(self, config: ImagePreprocessorConfig | TextPreprocessorConfig) -> Preprocessor:
        key = config.model_dump_json()
        if key not in self.preprocessors:
            self.preprocessors[key] = build_preprocessor(config, self.stored.directory, self.kind)
        return self.preprocessors[key]
