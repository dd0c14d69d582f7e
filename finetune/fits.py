"""A head for every precision that a backbone can be computed in; fp32 has one in any case."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from rich.console import Console

from finetune.findings import Finding
from finetune.fit import Fit
from finetune.material import Material
from models.engine import Engine, EngineSource
from models.errors import GraftworkError
from models.precision import Precision

logger = logging.getLogger(__name__)

FitOne: TypeAlias = Callable[[Material, Engine, Precision], Fit]


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The heads of a job.

    Attributes:
        material: what they were fitted on; of pairs its preprocessor says how they are read.
        failed: precisions without a head, and why.
    """

    material: Material
    by_precision: Mapping[Precision, Fit]
    failed: Mapping[Precision, str]

    @property
    def reference(self) -> Fit:
        """The one in fp32, which the others are compared with."""
        return self.by_precision[Precision.FP32]

    def findings(self) -> tuple[Finding, ...]:
        """What a user should know of them."""
        found = []
        fp32 = self.reference
        if fp32.truncated:
            limit = getattr(self.material.preprocessor, "max_tokens", None)
            message = f"texts are longer than the {limit} tokens that the backbone reads; what follows was cut off"
            found.append(Finding(severity="info", code="long_text", message=message, count=fp32.truncated))
        if fp32.cache_error is not None:
            message = f"features could not be kept for the next run: {fp32.cache_error}; choose another --cache-dir"
            found.append(Finding(severity="warning", code="cache_failed", message=message, count=1))
        if not fp32.converged:
            message = "the head's optimiser was stopped at its limit of iterations; it may do better on cleaner data"
            found.append(Finding(severity="warning", code="not_converged", message=message, count=1))
        refused = {precision: fit.refusal(fp32) for precision, fit in self.by_precision.items()}
        for precision, why in {**self.failed, **refused}.items():
            if why is not None:
                message = f"it will not be served in {precision}: {why}"
                found.append(Finding(severity="info", code="precision_refused", message=message, count=0))
        return tuple(found)


def fit_every_precision(material: Material, engines: EngineSource, fit: FitOne, console: Console) -> Fits:
    """Fits a head for each precision that is worth it here.

    Args:
        material: what on.
        engines: make engines, and say in which precisions.
        fit: one head.
        console: for progress.

    Raises:
        GraftworkError: there is none for fp32.
    """
    kind = material.task.traits.features
    with console.status("choosing an engine"):
        wanted = engines.precisions(material.backbone, kind)
    fits: dict[Precision, Fit] = {}
    failed: dict[Precision, str] = {}
    for precision in filter(wanted.__contains__, Precision):  # fp32, with which others are compared, comes first
        try:
            with console.status("preparing the engine"):
                engine = engines.build(material.backbone, precision, kind)
            fits[precision] = fit(material, engine, precision)
            material = replace(
                material, preprocessor=fits[precision].preprocessor
            )  # pairs are read alike in all of them
        except Exception as error:  # such as features that are all the same, or a disk without room for a graph
            if precision is Precision.FP32:
                raise
            failed[precision] = error.message if isinstance(error, GraftworkError) else "it does not run here"
            logger.warning("%s is left out: %s", precision, error)
    return Fits(material=material, by_precision=fits, failed=failed)
