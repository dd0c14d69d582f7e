"""The versions that a worker holds in memory. (What lies on disk is the repository.)"""

from __future__ import annotations

import threading
from collections.abc import Callable

from models.backbone_store import StoredBackbone
from models.engine import Engine
from models.errors import VersionCorrupt, VersionNotFound
from models.golden import GoldenSet
from models.manifest import Manifest
from models.predictor import Predictor, read_head
from models.preprocessor import Preprocessor, build_preprocessor
from models.repository import ModelRepository
from models.task import Task
from service.worker.loaded_version import LoadedVersion


class Registry:
    """Loads versions beside the others; versions on one backbone share one engine.

    Safe to use from several threads: one loads, others look up.

    Args:
        repository: where versions lie.
        build_engine: makes the engine of a backbone.
    """

    def __init__(self, repository: ModelRepository, build_engine: Callable[[StoredBackbone], Engine]) -> None:
        self._repository = repository
        self._build_engine = build_engine
        self._versions: dict[tuple[str, int], LoadedVersion] = {}
        self._engines: dict[str, Engine] = {}
        self._preprocessors: dict[tuple[str, str], Preprocessor] = {}
        self._proven: set[tuple[str, ...]] = set()
        self._loading = threading.Lock()

    def load(self, name: str, number: int) -> LoadedVersion:
        """Verifies, loads and warms up a version, and checks its golden outputs, before it can be looked up.

        Of those that share all but the head, only the first runs the backbone for that: see `models.golden`.

        Raises:
            GraftworkError: it must not be served; whatever was loaded before still is.
        """
        with self._loading:
            version = self._repository.read(name, number)
            self._repository.verify(version)
            manifest = version.manifest
            if manifest.task is not Task.SINGLE_LABEL:
                raise VersionCorrupt(
                    f"{version} is for {manifest.task}, which this graftwork does not serve; upgrade it"
                )
            digest = manifest.backbone.digest
            predictor = Predictor(
                preprocessor=self._preprocessor(manifest),
                engine=self._engine(digest),
                head=read_head(version.directory, manifest),
                labels=manifest.labels,
                temperature=manifest.calibration.temperature,
            )
            self._check(predictor, GoldenSet.read(version.directory, manifest.modality), manifest)
            loaded = LoadedVersion(manifest=manifest, backbone=digest, predictor=predictor)
            self._versions[name, number] = loaded
            return loaded

    def _check(self, predictor: Predictor, golden: GoldenSet, manifest: Manifest) -> None:
        way = (*_preprocessing(manifest), predictor.engine.identity, manifest.engine.identity)
        if golden.features_ND is not None and way in self._proven:
            golden.check_head(predictor)
        else:
            golden.check(predictor)
            self._proven.add(way)

    def _engine(self, digest: str) -> Engine:
        if digest not in self._engines:
            engine = self._build_engine(self._repository.backbones.verify(digest))
            engine.warm_up()
            self._engines[digest] = engine
        return self._engines[digest]

    def _preprocessor(self, manifest: Manifest) -> Preprocessor:
        key = _preprocessing(manifest)
        if key not in self._preprocessors:
            directory = self._repository.backbones.get(manifest.backbone.digest).directory
            self._preprocessors[key] = build_preprocessor(manifest.preprocessor, directory)
        return self._preprocessors[key]

    def unload(self, name: str, number: int) -> None:
        """Forgets a version, and its backbone with the last version on it."""
        with self._loading:
            self._versions.pop((name, number), None)
            used = {loaded.backbone for loaded in self._versions.values()}
            for digest in set(self._engines) - used:
                del self._engines[digest]
            for key in [key for key in self._preprocessors if key[0] not in used]:
                del self._preprocessors[key]
            self._proven = {way for way in self._proven if way[0] in used}  # the next engine has to prove itself

    def get(self, name: str, number: int) -> LoadedVersion:
        """A loaded version.

        Raises:
            VersionNotFound: it is not loaded.
        """
        try:
            return self._versions[name, number]
        except KeyError:
            raise VersionNotFound(f"version {number} of '{name}' is not loaded") from None


def _preprocessing(manifest: Manifest) -> tuple[str, str]:
    """What makes features of an input, but for the engine."""
    return manifest.backbone.digest, manifest.preprocessor.model_dump_json()
