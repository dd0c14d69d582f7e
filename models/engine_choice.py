"""Engines beside each other: the fastest one that gives what torch gives, measured here."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict

from models.batch import Batch, collate
from models.batch_cost import BatchCost
from models.batch_timing import measure_cost
from models.engine import Engine
from models.errors import StorageFailed, VersionCorrupt
from models.features import FeatureKind, Features
from models.precision import Precision
from models.sample_batches import sample_rows
from models.torch_engine import TORCH, Arithmetic, TorchEngine

if TYPE_CHECKING:
    from models.backbone_store import StoredBackbone

logger = logging.getLogger(__name__)

BATCH_ROWS = 8  # that engines are compared with
ROUNDS = 3  # in which they take turns
ROUND_SECONDS = 0.3
# Of features from those of torch in float32, by the length of a vector. A head is fitted on those of 8 bits, which may differ much:
# beyond this they have nothing in common.
FLOAT_TOLERANCE, HALF_TOLERANCE, INT8_TOLERANCE = 1e-3, 5e-3, 0.7


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
    def is_reference(self) -> bool:
        """Whether it is what others are compared with."""
        return self.engine == TORCH and self.arithmetic == "float32"

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


class EngineRefusal(BaseModel):
    """Why no engine computes a backbone in a precision; kept likewise, because to find it out may take minutes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refused: str


Verdict: TypeAlias = EngineChoice | EngineRefusal


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        lasting: whether it would be the same tomorrow; not where an engine failed because a disk was full, say.
    """

    verdict: Verdict
    lasting: bool


def compare(
    stored: StoredBackbone,
    precision: Precision,
    kind: FeatureKind,
    candidates: Sequence[Candidate],
    build: Callable[[Candidate], Engine],
) -> Comparison:
    """Runs candidates on the same batches and takes the fastest of those whose features are right.

    Args:
        stored: the backbone.
        precision: to compute it in.
        kind: of the features that are asked for.
        candidates: at least one.
        build: makes an engine.

    Raises:
        Exception: none could be built, for a reason that may pass.
    """
    rows = sorted(sample_rows(stored, 4 * BATCH_ROWS), key=_length)
    batches = [collate(rows[start : start + BATCH_ROWS]) for start in range(0, len(rows), BATCH_ROWS)]
    wanted = None
    if not all(candidate.is_reference for candidate in candidates):
        reference = TorchEngine(stored.load(), "cpu")
        wanted = [reference.features(batch, kind) for batch in batches]
    engines: dict[Candidate, Engine] = {}
    refused: dict[Candidate, str] = {}
    passing: Exception | None = None
    for candidate in candidates:
        try:
            engine = build(candidate)
            distance = 0.0 if wanted is None else _distance(engine, batches, wanted)
        except VersionCorrupt:  # no engine will run it
            raise
        except Exception as error:  # a library that cannot export or run this architecture is no reason to stop
            logger.warning("%s does not run on %s: %s", stored.config.source, candidate, error)
            refused[candidate] = "it does not run there"
            passing = error if _may_pass(error) else passing
            continue
        if distance <= _tolerance(candidate, precision):  # NaN is not within any
            engines[candidate] = engine
        else:
            refused[candidate] = f"its features are off by {distance:.1g}"
    if not engines and passing is not None:
        raise passing
    parts = [f"{each}: {why}" for each, why in refused.items()]
    if not engines:
        return Comparison(verdict=EngineRefusal(refused="; ".join(parts)), lasting=True)
    rates = _rates(engines, batches, kind)
    best = max(rates, key=rates.__getitem__)
    choice = EngineChoice(
        engine=best.engine,
        streams=best.streams,
        arithmetic=best.arithmetic,
        reason="; ".join([*(f"{each} {rate:.0f} rows/s" for each, rate in rates.items()), *parts]),
        rates={str(each): round(rate, 1) for each, rate in rates.items()},
        cost=measure_cost(engines[best], stored.config, kind),
    )
    return Comparison(verdict=choice, lasting=passing is None)


def _tolerance(candidate: Candidate, precision: Precision) -> float:
    if precision is Precision.INT8:
        return INT8_TOLERANCE
    return FLOAT_TOLERANCE if candidate.arithmetic == "float32" else HALF_TOLERANCE


def _may_pass(error: Exception) -> bool:
    """Whether it is the machine's state that is to blame: its disk or its memory is full."""
    return isinstance(error, OSError | StorageFailed | MemoryError) or "alloc" in str(error)


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
    """The largest distance of a feature vector from what it should be, by the length of the latter; padding has none."""
    off = []
    for batch, wanted in zip(batches, reference, strict=True):
        found = engine.features(batch, wanted.kind)
        off_B = (found.values - wanted.values).norm(dim=-1) / wanted.values.norm(dim=-1)  # or (B, T)
        off.append(off_B if wanted.mask_BT is None else off_B[wanted.mask_BT.bool()])
    return float(torch.cat(off).max())  # NaN if one of them is


def _length(row: object) -> int:
    return len(getattr(row, "ids", ()))
