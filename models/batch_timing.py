"""Measures what batches cost on an engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from models.backbone import BackboneConfig, Modality
from models.batch import Batch, ImageRow, TextRow, collate
from models.batch_cost import BatchCost, cost_of
from models.engine import Engine
from models.features import FeatureKind

ROWS = (1, 2, 4, 8, 16, 32)
LENGTHS = (8, 32, 128, 512)  # tokens
SECONDS = 1.5  # that measuring may take: a slow engine is measured on small batches only
ROUNDS = 5  # at most; the least time counts, because whatever else a machine does only adds to it


def measure_cost(engine: Engine, config: BackboneConfig) -> BatchCost:
    """Times batches on a warm engine, as many beside each other as it computes at a time, small ones first.

    Args:
        config: of its backbone.
    """
    lengths = _lengths(config)
    cells = sorted(
        (rows * length, index, column) for index, length in enumerate(lengths) for column, rows in enumerate(ROWS)
    )
    seconds: list[list[float | None]] = [[None] * len(ROWS) for _ in lengths]
    started = time.perf_counter()
    with ThreadPoolExecutor(engine.streams) as pool:

        def run(batch: Batch) -> float:
            begun = time.perf_counter()
            list(pool.map(lambda _: engine.features(batch, FeatureKind.POOLED), range(engine.streams)))
            return time.perf_counter() - begun

        for end in (started + SECONDS / 2, *[started + SECONDS] * (ROUNDS - 1)):
            rate = 0.0  # tokens a second, in the cell before
            for size, index, column in cells:
                known = seconds[index][column]
                expected = known or (size / rate if rate else 0.0)
                if time.perf_counter() + 2 * expected > end:
                    break
                batch = _batch(config, ROWS[column], lengths[index])
                try:
                    if known is None:
                        run(batch)  # a shape's first batch takes longer
                    time_now = run(batch)
                except MemoryError:
                    break
                seconds[index][column] = min(time_now, known or time_now)
                rate = size / time_now
    return cost_of(ROWS, lengths, seconds)


def _lengths(config: BackboneConfig) -> Sequence[int]:
    if config.modality is Modality.IMAGE:
        return (1,)
    positions = config.options.get("max_position_embeddings", 512)
    longest = max(LENGTHS[0], min(LENGTHS[-1], positions - 2))  # two of which some keep for themselves
    return (*[length for length in LENGTHS if length < longest], longest)


def _batch(config: BackboneConfig, rows: int, length: int) -> Batch:
    if config.modality is Modality.IMAGE:
        pixels_CHW = torch.zeros(*config.options["input_size"], dtype=torch.uint8)
        return collate([ImageRow(pixels_CHW=pixels_CHW)] * rows)
    return collate([TextRow(ids=[0] * length, segments=[0] * length)] * rows)
