"""Golden inputs: a few raw inputs kept with a version, and the scores it must give for them, wherever it is loaded.

The features that the backbone made of them are kept beside the scores, so that a worker with a thousand versions need not run
the backbone a thousand times. What a version answers is its head applied to what preprocessor and engine make of an input.
The first version of those that share preprocessor, backbone and engine is checked from the raw inputs to the scores, which
proves all three in this process, on this machine. The next one shares the first two thirds of that way as objects in
memory; only its head is new, and the kept features prove that: they, too, must lead to the golden scores. A version whose
features came from another engine than those that were proven here is checked from its raw inputs.

The features of an embedding are its answers: nothing but the whole way proves those, and it has no scores.

Features are compared as well as scores: a score near 0 or 1 hides much. In 8 bits they also depend on how a processor multiplies
(sums of products saturate with AVX2, and do not with VNNI), and a little on the size of the batch.

Shapes: V vectors that the head reads: one an item, or one a word where the task is about words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from models import storage
from models.backbone import Modality
from models.errors import EngineMismatch, VersionCorrupt
from models.precision import Precision
from models.task import Task
from models.weights import parse_weights

if TYPE_CHECKING:
    from models.head import Head
    from models.predictor import Predictor
    from models.preprocessor import RawItem

EXPECTED = "golden/expected.json"
FEATURES = "golden/features.safetensors"
# Engines differ in the last bits, a wrong model by far more.
SCORE_TOLERANCE = {Precision.FP32: 1e-3, Precision.INT8: 0.05}
FEATURE_TOLERANCE = {Precision.FP32: 0.01, Precision.INT8: 0.05}  # of the length of a feature vector


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """Raw inputs, their features and their scores in one precision.

    Attributes:
        items: texts, pairs of them, or the bytes of image files.
        scores_VC: the score of every label; of an embedding, none.
        features_VD: fp32; what the engine made of the items at publishing.
    """

    items: Sequence[RawItem]
    scores_VC: Sequence[Sequence[float]]
    features_VD: torch.Tensor
    precision: Precision = Precision.FP32

    @classmethod
    def of(cls, predictor: Predictor, items: Sequence[RawItem], precision: Precision = Precision.FP32) -> GoldenSet:
        """What a predictor makes of some items. Raises `InputError` where one cannot be answered."""
        features_VD = predictor.features(items)
        scores_VC = predictor.scores(features_VD).tolist()
        return cls(items=items, scores_VC=scores_VC, features_VD=features_VD, precision=precision)

    def files(self) -> dict[str, bytes]:
        """The files of a version that hold this set, by relative path; images are shared by all precisions."""
        texts = [item for item in self.items if not isinstance(item, bytes)]
        expected = {"texts": texts, "scores": [[float(f"{s:.9g}") for s in row] for row in self.scores_VC]}
        images = {f"golden/{i}.image": item for i, item in enumerate(self.items) if isinstance(item, bytes)}
        return {
            self.precision.file(EXPECTED): json.dumps(expected).encode(),
            self.precision.file(FEATURES): save({"features": self.features_VD.contiguous()}),
            **images,
        }

    @classmethod
    def read(cls, directory: Path, modality: Modality, precision: Precision = Precision.FP32) -> GoldenSet:
        """Reads the set of a version's directory.

        Raises:
            VersionCorrupt: it is missing or damaged.
        """
        try:
            expected = json.loads(storage.read_file(directory / precision.file(EXPECTED)))
            count = len(expected["scores"])
            if count == 0:
                raise ValueError("no golden inputs")
            items: list[RawItem] = (
                [storage.read_file(directory / "golden" / f"{i}.image") for i in range(count)]
                if modality is Modality.IMAGE
                else [_as_item(text) for text in expected["texts"]]
            )
            features_VD = parse_weights(storage.read_file(directory / precision.file(FEATURES)), most=1)["features"]
            scores_VC = [[float(score) for score in row] for row in expected["scores"]]
            if features_VD.ndim != 2 or len(features_VD) != count or features_VD.dtype != torch.float32:
                raise ValueError("not the features of these items")
            return cls(items=items, scores_VC=scores_VC, features_VD=features_VD, precision=precision)
        except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError):
            raise VersionCorrupt("the golden inputs are missing or damaged; publish the model again") from None

    def check(self, predictor: Predictor) -> None:
        """Predicts the items again, from raw inputs, and checks the head as well.

        Raises:
            VersionCorrupt: an answer is not what it was at publishing.
            EngineMismatch: and it is not the head that is to blame.
        """
        self.check_head(predictor)
        found_VD = predictor.features(self.items)
        if found_VD.shape != self.features_VD.shape:
            raise VersionCorrupt("the golden inputs are read in another way than at publishing; it must not be served")
        off_V = (found_VD - self.features_VD).norm(dim=1) / self.features_VD.norm(dim=1)
        # Not NaN either: it is not within any distance.
        if not bool((off_V <= FEATURE_TOLERANCE[self.precision]).all()):
            raise EngineMismatch(
                f"the golden inputs get other features than at publishing (off by {float(off_V.max()):.1%}); "
                "it must not be served"
            )
        try:
            self._compare(predictor, found_VD)
        except VersionCorrupt as error:
            raise EngineMismatch(error.message) from None

    def check_head(self, predictor: Predictor) -> None:
        """Applies the head to the features that were kept.

        Raises:
            VersionCorrupt: an answer is not what it was at publishing.
        """
        if self.features_VD.shape[1] != predictor.head.feature_dim:
            raise VersionCorrupt("the golden features do not fit the head; publish the model again")
        if predictor.task is not Task.TOKEN_CLASSIFICATION and len(self.items) != len(self.scores_VC):
            raise VersionCorrupt("there are not as many golden inputs as answers; publish the model again")
        self._compare(predictor, self.features_VD)

    def _compare(self, predictor: Predictor, features_VD: torch.Tensor) -> None:
        tolerances = [SCORE_TOLERANCE[self.precision] * reach for reach in _reaches(predictor.head, features_VD)]
        scores_VC = predictor.scores(features_VD).tolist()
        for found, wanted, tolerance in zip(scores_VC, self.scores_VC, tolerances, strict=True):
            if len(found) != len(wanted) or not all(
                abs(f - w) <= tolerance for f, w in zip(found, wanted, strict=True)
            ):
                raise VersionCorrupt("the golden inputs get other answers than at publishing; it must not be served")


def _reaches(head: Head, features_VD: torch.Tensor) -> Sequence[float]:
    """How far scores can be apart: probabilities by 1; values by the weights' length times the features' (Cauchy-Schwarz)."""
    if head.activation != "identity":
        return [1.0] * len(features_VD)
    reaches: list[float] = (features_VD.norm(dim=1) * head.weight_CD.norm()).tolist()
    return reaches


def _as_item(text: object) -> RawItem:
    return (str(text[0]), str(text[1])) if isinstance(text, list) else str(text)
