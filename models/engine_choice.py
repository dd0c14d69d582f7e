"""Which engine runs a backbone here: the fastest one that gives what torch gives, found out once on each machine."""

from __future__ import annotations

import hashlib
import logging
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from models import storage
from models.batch import Batch, collate
from models.batch_cost import UNMEASURED, BatchCost
from models.batch_timing import measure_cost
from models.engine import Engine
from models.errors import InvalidParameter
from models.features import FeatureKind, Features
from models.graph_cache import GraphCache
from models.openvino_engine import OPENVINO, OpenVinoEngine
from models.options import EngineName, PrecisionName
from models.precision import Precision
from models.sample_batches import sample_rows
from models.torch_engine import TORCH, Arithmetic, TorchEngine

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone

logger = logging.getLogger(__name__)

BATCH_ROWS = 8  # that engines are compared with
ROUNDS = 3  # in which they take turns
ROUND_SECONDS = 0.3
WORTHWHILE = 1.1  # how many times as fast int8 is at least, to be preferred to fp32
FEATURE_TOLERANCE = 1e-3  # between fp32 engines, of the length of a feature vector
HALF_TOLERANCE = 5e-3  # half of what the golden check allows (`models.golden`)
HALVES: Sequence[Arithmetic] = ("float16", "bfloat16")  # on a GPU


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to run a backbone.

    Attributes:
        streams: batches that are computed at a time; each has its share of the threads.
        arithmetic: of torch; a graph has its own.
    """

    engine: str
    streams: int
    arithmetic: Arithmetic = "float32"

    @property
    def tolerance(self) -> float:
        return FEATURE_TOLERANCE if self.arithmetic == "float32" else HALF_TOLERANCE

    def __str__(self) -> str:
        name = self.engine if self.arithmetic == "float32" else f"{self.engine} in {self.arithmetic}"
        return f"{name}, {self.streams} at a time"


class EngineChoice(BaseModel):
    """What was chosen, and why; kept on disk for each machine and backbone.

    Attributes:
        rates: rows a second of every candidate that gives the right features.
        cost: of its batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["torch", "openvino"]
    streams: int
    arithmetic: Arithmetic = "float32"
    reason: str
    rates: dict[str, float] = {}
    cost: BatchCost


class EngineFactory:
    """Makes the engines of one device.

    Args:
        device: ``cpu``, ``cuda:0``, ...
        threads: that an engine may use on a CPU.
        cache_dir: where graphs and choices are kept.
        wanted: ``auto`` chooses.
        precision: ``auto`` prefers the fastest.
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
        if wanted == OPENVINO and device != "cpu":
            raise InvalidParameter(f"openvino runs on the CPU, and the device is {device}; use --engine auto")
        if precision == "int8" and device != "cpu":
            raise InvalidParameter(f"int8 is computed on the CPU, and the device is {device}; use --precision auto")
        if precision == "int8" and wanted == TORCH:
            raise InvalidParameter("torch does not compute in int8; use --engine auto")
        self._device = device
        self._threads = threads
        self._wanted = wanted
        self._precision = precision
        self._cache_dir = cache_dir
        self._graphs = GraphCache(cache_dir)

    def build(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> Engine:
        """The engine of a backbone, for one kind of features.

        Raises:
            InvalidParameter: the engine that was asked for cannot compute in this precision.
            StorageFailed: the cache cannot be written, and only a graph would do.
        """
        choice = self.choice(stored, precision, kind)
        candidate = Candidate(engine=choice.engine, streams=choice.streams, arithmetic=choice.arithmetic)
        return self._engine(stored, precision, kind, candidate, choice.cost)

    def precisions(self, stored: StoredBackbone, kind: FeatureKind = FeatureKind.POOLED) -> Sequence[Precision]:
        """The precisions to serve a backbone in, the preferred one first; fp32, which suits every version, is the last."""
        if self._precision == "fp32" or self._device != "cpu" or self._wanted == TORCH:
            return (Precision.FP32,)
        try:
            fastest = {p: max(self.choice(stored, p, kind).rates.values(), default=0.0) for p in Precision}
        except Exception as error:  # a library that cannot quantize this architecture is no reason to have nothing
            logger.warning("%s is not computed in int8: %s", stored.config.source, error)
            return (Precision.FP32,)
        is_preferred = self._precision == "int8" or fastest[Precision.INT8] > WORTHWHILE * fastest[Precision.FP32]
        return (Precision.INT8, Precision.FP32) if is_preferred else (Precision.FP32,)

    def reason(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> str:
        """Why `build` makes the engine that it makes."""
        return self.choice(stored, precision, kind).reason

    def choice(
        self,
        stored: StoredBackbone,
        precision: Precision = Precision.FP32,
        kind: FeatureKind = FeatureKind.POOLED,
    ) -> EngineChoice:
        """Which engine that is, and why; measured where that was not done yet on this machine. Raises as `build`."""
        candidates = self._candidates(precision)
        file = (
            self._cache_dir
            / "engines"
            / _machine(self._device)
            / f"{stored.digest}-{precision}-{kind}-{self._wanted}-{self._threads}.json"
        )
        with suppress(OSError, ValidationError):
            return EngineChoice.model_validate_json(file.read_bytes())
        choice = self._compare(stored, precision, kind, candidates)
        source = stored.config.source
        logger.info("%s (%s features, %s) runs on %s: %s", source, kind, precision, choice.engine, choice.reason)
        _keep(file, choice)
        return choice

    def _candidates(self, precision: Precision) -> Sequence[Candidate]:
        streams = sorted({1, self._threads})
        found = [Candidate(engine=TORCH, streams=1)] if precision is Precision.FP32 else []
        if self._device != "cpu":
            found += [Candidate(engine=TORCH, streams=1, arithmetic=half) for half in HALVES if found]
        else:
            found += [Candidate(engine=OPENVINO, streams=count) for count in streams]
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

    def _compare(
        self, stored: StoredBackbone, precision: Precision, kind: FeatureKind, candidates: Sequence[Candidate]
    ) -> EngineChoice:
        rows = sorted(sample_rows(stored, 4 * BATCH_ROWS), key=_length)
        batches = [collate(rows[start : start + BATCH_ROWS]) for start in range(0, len(rows), BATCH_ROWS)]
        engines: dict[Candidate, Engine] = {}
        refused: dict[Candidate, str] = {}
        reference = None
        if precision is Precision.FP32 and len(candidates) > 1:
            reference = [TorchEngine(stored.load(), "cpu").features(batch, kind) for batch in batches]
        for candidate in candidates:
            try:
                engine = self._engine(stored, precision, kind, candidate)
                distance = 0.0 if reference is None else _distance(engine, batches, reference)
            except Exception as error:  # a library that cannot export or run this architecture is no reason to stop
                if len(candidates) == 1:
                    raise
                logger.warning("%s does not run on %s: %s", stored.config.source, candidate, error)
                refused[candidate] = "it does not run there"
                continue
            if not distance <= candidate.tolerance:  # NaN is not within any
                refused[candidate] = f"its features are off by {distance:.1g}"
            else:
                engines[candidate] = engine
        if not engines:
            raise InvalidParameter(
                f"no engine computes {stored.config.source} in {precision} here; use --precision fp32"
            )
        rates = _rates(engines, batches, kind)
        best = max(rates, key=rates.__getitem__)
        parts = [f"{each} {rate:.0f} rows/s" for each, rate in rates.items()]
        parts += [f"{each}: {why}" for each, why in refused.items()]
        return EngineChoice(
            engine=best.engine,
            streams=best.streams,
            arithmetic=best.arithmetic,
            reason="; ".join(parts),
            rates={str(each): round(rate, 1) for each, rate in rates.items()},
            cost=measure_cost(engines[best], stored.config, kind),
        )


def _keep(file: Path, choice: EngineChoice) -> None:
    try:
        storage.make_directory(file.parent)
        with storage.locked(file.parent):
            storage.replace_file(file, choice.model_dump_json(indent=1).encode())
    except OSError as error:
        logger.warning("the choice of an engine cannot be kept: %s; it is made again next time", error.strerror)


def _rates(
    engines: Mapping[Candidate, Engine], batches: Sequence[Batch], kind: FeatureKind
) -> Mapping[Candidate, float]:
    """Rows a second; they take turns, so that what else happens here meets all of them."""
    rates: dict[Candidate, list[float]] = {candidate: [] for candidate in engines}
    for engine in engines.values():
        engine.warm_up()
    for _ in range(ROUNDS):
        for candidate, engine in engines.items():
            rates[candidate].append(_rate(engine, batches, kind))
    return {candidate: statistics.median(each) for candidate, each in rates.items()}


def _rate(engine: Engine, batches: Sequence[Batch], kind: FeatureKind) -> float:
    started = time.perf_counter()

    def run(start: int) -> int:
        rows = 0
        while time.perf_counter() - started < ROUND_SECONDS:
            engine.features(batches[start % len(batches)], kind)
            rows += BATCH_ROWS
            start += 1
        return rows

    with ThreadPoolExecutor(engine.streams) as pool:
        rows = sum(pool.map(run, range(engine.streams)))
    return rows / (time.perf_counter() - started)


def _distance(engine: Engine, batches: Sequence[Batch], reference: Sequence[Features]) -> float:
    """The largest distance of a feature vector from what it should be, by the length of the latter."""
    off = []
    for batch, wanted in zip(batches, reference, strict=True):
        found = engine.features(batch, wanted.kind)
        off_B = (found.values - wanted.values).norm(dim=-1) / wanted.values.norm(dim=-1)  # or (B, T)
        off.append(off_B.flatten() if wanted.mask_BT is None else off_B[wanted.mask_BT.bool()])
    return float(torch.cat(off).max())  # NaN if one of them is


def _length(row: object) -> int:
    return len(getattr(row, "ids", ()))


def _machine(device: str) -> str:
    """What a choice depends on beside the backbone: the processor, the GPU where it is one that computes, and the libraries."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))
    libraries = [f"{name}-{version(name)}" for name in ("torch", "openvino")]
    accelerator = [] if device == "cpu" else [torch.cuda.get_device_name(device)]
    return hashlib.sha256("\n".join([processor, *libraries, *accelerator]).encode()).hexdigest()[:16]
