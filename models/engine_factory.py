"""The engines of one device: which one runs a backbone is found out once on each machine, and kept."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import TypeAdapter, ValidationError

from models import storage
from models.batch_cost import UNMEASURED, BatchCost
from models.engine import Engine
from models.engine_choice import Candidate, EngineChoice, EngineRefusal, Verdict, compare
from models.errors import InvalidParameter
from models.features import FeatureKind
from models.graph_cache import GraphCache
from models.openvino_engine import OPENVINO, OpenVinoEngine
from models.options import EngineName, PrecisionName, check_engine
from models.precision import Precision
from models.processor import int8_instructions, processor
from models.torch_engine import TORCH, Arithmetic, TorchEngine

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone

logger = logging.getLogger(__name__)

WORTHWHILE = 1.1  # how many times as fast int8 is at least, to be preferred to fp32
HALVES: Sequence[Arithmetic] = ("float16", "bfloat16")  # on a GPU

_VERDICT: TypeAdapter[Verdict] = TypeAdapter(Verdict)


class EngineFactory:
    """Makes the engines of one device. Safe to use from several threads.

    Args:
        device: ``cpu``, ``cuda:0``, ...
        threads: that an engine may use on a CPU.
        cache_dir: where graphs and choices are kept.
        wanted: ``auto`` chooses.
        precision: ``auto`` prefers the fastest.

    Raises:
        InvalidParameter: engine, precision and device do not go together.
    """

    def __init__(
        self,
        device: str,
        *,
        threads: int,
        cache_dir: Path,
        wanted: EngineName = "auto",
        precision: PrecisionName = "auto",
    ) -> None:
        check_engine(wanted, precision, device)
        self._device = device
        self._threads = threads
        self._wanted = wanted
        self._precision = precision
        self._cache_dir = cache_dir
        self._graphs = GraphCache(cache_dir)
        self._found: dict[tuple[str, Precision, FeatureKind], Verdict] = {}
        self._finding = threading.RLock()

    def build(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> Engine:
        """The engine of a backbone, for one kind of features.

        Raises:
            InvalidParameter: no engine that may be taken computes it in this precision.
            StorageFailed: the cache cannot be written, and only a graph would do.
        """
        choice = self.choice(stored, precision, kind)
        candidate = Candidate(engine=choice.engine, streams=choice.streams, arithmetic=choice.arithmetic)
        return self._engine(stored, precision, kind, candidate, choice.cost)

    def exact(self, stored: StoredBackbone) -> Engine:
        """Torch in float32: for versions that a faster engine does not answer as it should."""
        return TorchEngine(stored.load(), self._device)

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        """The precisions to serve a backbone in, the preferred one first; fp32, which suits every version, is the last.

        Raises as `build` does for fp32.
        """
        if self._precision == "fp32" or self._device != "cpu" or self._wanted == TORCH:
            return (Precision.FP32,)
        fp32 = self.choice(stored, Precision.FP32, kind)
        try:
            int8 = self.choice(stored, Precision.INT8, kind)
        except Exception as error:  # a library that cannot quantize this architecture is no reason to have nothing
            logger.warning("%s is not computed in int8: %s", stored.config.source, error)
            return (Precision.FP32,)
        is_faster = max(int8.rates.values(), default=0.0) > WORTHWHILE * max(fp32.rates.values(), default=0.0)
        return (Precision.INT8, Precision.FP32) if is_faster or self._precision == "int8" else (Precision.FP32,)

    def reason(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> str:
        """Why `build` makes the engine that it makes; and why not one in another precision, where that was measured."""
        reason = self.choice(stored, precision, kind).reason
        for other in Precision:
            found = self._found.get((stored.digest, other, kind))
            if other is not precision and isinstance(found, EngineChoice):
                reason += f"; in {other} {max(found.rates.values(), default=0.0):.0f} rows/s"
        return reason

    def choice(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> EngineChoice:
        """Which engine that is, and why; measured where that was not done yet on this machine. Raises as `build`."""
        key = (stored.digest, precision, kind)
        with self._finding:
            if key not in self._found:
                self._found[key] = self._find(stored, precision, kind)
            verdict = self._found[key]
        if isinstance(verdict, EngineRefusal):
            cure = "--engine torch" if precision is Precision.FP32 else "--precision fp32"
            raise InvalidParameter(
                f"no engine computes {stored.config.source} in {precision} here ({verdict.refused}); use {cure}"
            )
        return verdict

    def _find(self, stored: StoredBackbone, precision: Precision, kind: FeatureKind) -> Verdict:
        candidates = self._candidates(precision)
        directory = self._cache_dir / "engines" / _machine(self._device)
        file = directory / f"{stored.digest}-{precision}-{kind}-{self._wanted}-{self._threads}.json"
        kept = _read(file)
        if kept is not None:
            return kept
        found = compare(stored, precision, kind, candidates, lambda each: self._engine(stored, precision, kind, each))
        verdict = _keep(file, found.verdict) if found.lasting else found.verdict
        if isinstance(verdict, EngineChoice):
            source = stored.config.source
            logger.info("%s (%s features, %s) runs on %s: %s", source, kind, precision, verdict.engine, verdict.reason)
        return verdict

    def _candidates(self, precision: Precision) -> Sequence[Candidate]:
        found = [Candidate(engine=TORCH, streams=1)] if precision is Precision.FP32 else []
        if self._device != "cpu":
            found += [Candidate(engine=TORCH, streams=1, arithmetic=half) for half in HALVES if found]
        else:
            found += [Candidate(engine=OPENVINO, streams=count) for count in sorted({1, self._threads})]
        found = [each for each in found if self._wanted in ("auto", each.engine)]
        if not found:
            raise InvalidParameter(f"--engine {self._wanted} does not compute in {precision}; use --engine auto")
        return found

    def _engine(
        self,
        stored: StoredBackbone,
        precision: Precision,
        kind: FeatureKind,
        candidate: Candidate,
        cost: BatchCost = UNMEASURED,
    ) -> Engine:
        if candidate.engine == TORCH:
            return TorchEngine(stored.load(), self._device, arithmetic=candidate.arithmetic, cost=cost)
        graph = self._graphs.graph(stored, precision, kind)
        return OpenVinoEngine(
            graph, stored.config, precision, kind, streams=candidate.streams, threads=self._threads, cost=cost
        )


def _read(file: Path) -> Verdict | None:
    with suppress(OSError, ValidationError):
        verdict = _VERDICT.validate_json(file.read_bytes())
        with suppress(OSError):  # of a cache that cannot be written
            storage.touch(file)
        return verdict
    return None


def _keep(file: Path, verdict: Verdict) -> Verdict:
    """What is kept: that of another process, if it was quicker, so that all workers agree."""
    try:
        storage.make_directory(file.parent)
        with storage.locked(file.parent):
            kept = _read(file)
            if kept is not None:
                return kept
            storage.replace_file(file, verdict.model_dump_json(indent=1).encode())
    except OSError as error:
        logger.warning("the choice of an engine cannot be kept: %s; it is made again next time", error.strerror)
    return verdict


def _machine(device: str) -> str:
    """What a choice depends on beside the backbone: the processor, the GPU where it is one that computes, and the libraries."""
    libraries = [f"{name}-{version(name)}" for name in ("torch", "openvino", "nncf")]
    accelerator = [] if device == "cpu" else [torch.cuda.get_device_name(device)]
    facts = [processor(), int8_instructions(), *libraries, *accelerator]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
