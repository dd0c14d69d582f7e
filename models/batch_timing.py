"""Measures what batches cost on an engine."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from models.backbone import BackboneConfig, Modality
from models.batch import Batch, ImageRow, TextRow, collate
from models.batch_cost import BatchCost
from models.engine import Engine
from models.features import FeatureKind

ROWS = (1, 2, 4, 8, 16, 32)
LENGTHS = (8, 32, 128, 512)  # tokens
SECONDS = 2.0  # that measuring may take: a slow engine is measured on small batches only
# Two numbers of rows, and for texts two lengths: of one alone nobody knows what of it is the batch's, the row's or the token's.
FEWEST_SHAPES = {Modality.IMAGE: 2, Modality.TEXT: 3}
ROUNDS = 5  # at most; the least time counts, because whatever else a machine does only adds to it
FITS = 20  # rounds of iteratively reweighted least squares
NEAR = 0.01  # relative distances below it count as one


def measure_cost(engine: Engine, config: BackboneConfig, kind: FeatureKind = FeatureKind.POOLED) -> BatchCost:
    """Times batches on a warm engine, as many beside each other as it computes at a time, small ones first.

    Args:
        config: of its backbone.
        kind: of the features that it is asked for.
    """
    shapes = sorted(itertools.product(ROWS, _lengths(config)), key=math.prod)
    seconds: dict[tuple[int, int], float] = {}
    started = time.perf_counter()
    with ThreadPoolExecutor(engine.streams) as pool:

        def run(batch: Batch) -> float:
            begun = time.perf_counter()
            list(pool.map(lambda _: engine.features(batch, kind), range(engine.streams)))
            return time.perf_counter() - begun

        for until in (started + SECONDS / 2, *[started + SECONDS] * (ROUNDS - 1)):
            rate = math.inf  # tokens a second, of the batch before
            for shape in shapes:
                known = seconds.get(shape)
                expected = 2 * (known or math.prod(shape) / rate)
                if len(seconds) >= FEWEST_SHAPES[config.modality] and time.perf_counter() + expected > until:
                    break
                batch = _batch(config, *shape)
                if known is None:
                    run(batch)  # the first batch of a shape takes longer
                seconds[shape] = min(run(batch), known or math.inf)
                rate = math.prod(shape) / seconds[shape]
    return fit_cost(seconds)


def fit_cost(seconds: Mapping[tuple[int, int], float]) -> BatchCost:
    """The cost that is nearest to what was measured, by the sum of relative distances: a few bad measurements change little.

    Args:
        seconds: by rows and length.
    """
    from scipy.optimize import nnls

    is_text = any(length > 1 for _, length in seconds)
    terms_MK = np.array(
        [[1, n, n * length, n * length * length][: 4 if is_text else 2] for n, length in seconds], dtype=float
    )
    terms_MK /= np.array(list(seconds.values()))[:, None]
    weights_M = np.ones(len(seconds))
    for _ in range(FITS):
        found_K, _ = nnls(terms_MK * weights_M[:, None], weights_M)
        weights_M = 1 / np.sqrt(np.maximum(abs(terms_MK @ found_K - 1), NEAR))
    return BatchCost(**dict(zip(("per_batch", "per_row", "per_token", "per_pair"), found_K.tolist(), strict=False)))


def _lengths(config: BackboneConfig) -> Sequence[int]:
    if config.modality is Modality.IMAGE:
        return (1,)
    longest = max(LENGTHS[0], min(LENGTHS[-1], config.max_tokens or LENGTHS[-1]))
    return (*[length for length in LENGTHS if length < longest], longest)


def _batch(config: BackboneConfig, rows: int, length: int) -> Batch:
    if config.modality is Modality.IMAGE:
        pixels_CHW = torch.zeros(*config.options["input_size"], dtype=torch.uint8)
        return collate([ImageRow(pixels_CHW=pixels_CHW)] * rows)
    return collate([TextRow(ids=[0] * length, segments=[0] * length)] * rows)
