"""Golden inputs: a few raw inputs kept with a version, and the scores it must give for them, wherever it is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.backbone import Modality
from models.errors import VersionCorrupt
from models.precision import Precision

if TYPE_CHECKING:
    from models.predictor import Predictor
    from models.preprocessor import RawItem

TOLERANCE = 1e-3  # of a probability: engines and devices differ in the last bits, a wrong model by far more


@dataclass(frozen=True, kw_only=True)
class GoldenSet:
    """Raw inputs and their scores.

    Attributes:
        items: texts, or the bytes of image files.
        scores_NC: for each item the score of every label.
    """

    items: Sequence[RawItem]
    scores_NC: Sequence[Sequence[float]]

    def files(self, precision: Precision = Precision.FP32) -> dict[str, bytes]:
        """The files of a version that hold this set, by relative path; the images are those of every precision."""
        texts = [item for item in self.items if not isinstance(item, bytes)]
        expected = {"texts": texts, "scores": [[round(s, 6) for s in row] for row in self.scores_NC]}
        images = {f"golden/{i}.image": item for i, item in enumerate(self.items) if isinstance(item, bytes)}
        return {precision.file("golden/expected.json"): json.dumps(expected).encode(), **images}

    @classmethod
    def read(cls, directory: Path, modality: Modality, precision: Precision = Precision.FP32) -> GoldenSet:
        """Reads the set of a version's directory.

        Raises:
            VersionCorrupt: it is missing or damaged.
        """
        try:
            expected = json.loads((directory / precision.file("golden/expected.json")).read_text())
            count = len(expected["scores"])
            if count == 0:
                raise ValueError("no golden inputs")
            items: list[RawItem] = [
                (directory / "golden" / f"{i}.image").read_bytes()
                if modality is Modality.IMAGE
                else _as_item(expected["texts"][i])
                for i in range(count)
            ]
            return cls(items=items, scores_NC=expected["scores"])
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            raise VersionCorrupt("the golden inputs are missing or damaged; publish the model again") from None

    def check(self, predictor: Predictor) -> None:
        """Predicts the items again.

        Raises:
            VersionCorrupt: an answer is not what it was at publishing.
        """
        for found, wanted in zip(predictor.predict(self.items).tolist(), self.scores_NC, strict=True):
            # NaN is no match: it is not within any distance.
            if len(found) != len(wanted) or not all(
                abs(f - w) <= TOLERANCE for f, w in zip(found, wanted, strict=True)
            ):
                raise VersionCorrupt("the golden inputs get other answers than at publishing; it must not be served")


def _as_item(text: object) -> RawItem:
    return (str(text[0]), str(text[1])) if isinstance(text, list) else str(text)
