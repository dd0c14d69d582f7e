"""Features in directions that vary little within a class, made as long as the others.

Whitening by the covariance within classes is what linear discriminant analysis does before it compares distances. With
few rows the covariance is badly known, so it is shrunk towards a multiple of the identity (Friedman 1989, "Regularized
discriminant analysis").

Shapes: N rows, D feature dimensions, K directions (D, or N where there are fewer rows than dimensions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Targets: TypeAlias = npt.NDArray[np.integer[Any]]

# A share of the mean variance, added to that within classes: only felt where every class is a single point.
_FLOOR = 1e-6


@dataclass(frozen=True, kw_only=True)
class ClassCovariance:
    """The covariance within classes by its eigenvectors, along which any shrinkage is one factor each.

    Where labels are no classes, it is the covariance of what they leave unexplained of the features.

    Attributes:
        mean_D: of all rows.
        directions_DK: orthonormal columns that span the centred rows.
        within_K: variance within classes along each direction.
        total_K: variance of all rows along each direction.
    """

    mean_D: Floats
    directions_DK: Floats
    within_K: Floats
    total_K: Floats

    @classmethod
    def around(cls, features_ND: Floats, labels_NL: Floats) -> ClassCovariance:
        """Estimates it from rows and numbers that explain a part of them, by least squares.

        Of one-hot classes it is what `of` gives.
        """
        centred_ND = _centred(features_ND)
        design_NL = labels_NL - labels_NL.mean(axis=0)
        slopes_LD = np.linalg.pinv(design_NL.T @ design_NL, hermitian=True) @ (design_NL.T @ centred_ND)
        return cls._of(features_ND, (centred_ND - design_NL @ slopes_LD).astype(features_ND.dtype))

    @classmethod
    def of(cls, features_ND: Floats, targets_N: Targets) -> ClassCovariance:
        """Estimates it from rows and the indices of their classes, in the precision of the rows."""
        within_ND = _centred(features_ND)
        for target in np.unique(targets_N):
            members = targets_N == target
            within_ND[members] -= within_ND[members].mean(axis=0)
        return cls._of(features_ND, within_ND)

    @classmethod
    def _of(cls, features_ND: Floats, within_ND: Floats) -> ClassCovariance:
        rows, dimensions = features_ND.shape
        mean_D = _mean(features_ND)
        centred_ND = features_ND - mean_D
        if rows >= dimensions:
            within_K, directions_DK = _eigenvectors(within_ND)
        else:  # the same in the space that the rows span: there is nothing outside of it
            span_DK = np.linalg.qr(centred_ND.T).Q
            within_K, rotation_KK = _eigenvectors(within_ND @ span_DK)
            directions_DK = span_DK @ rotation_KK
        directions_DK = directions_DK.astype(features_ND.dtype)
        total_K = np.square(centred_ND @ directions_DK).mean(axis=0, dtype=np.float64)
        return cls(mean_D=mean_D, directions_DK=directions_DK, within_K=within_K, total_K=total_K)

    def whitening(self, shrinkage: float) -> Floats:
        """The linear map that whitens centred rows: ``(features_ND - mean_D) @ map_DK``.

        Args:
            shrinkage: from nearly 0, the covariance as it was estimated, to 1, which leaves one common factor.

        Returns:
            ``(D, K)``; the rows that the covariance comes from get a mean squared length of 1.
        """
        map_DK: Floats = (self.directions_DK / self.lengths(shrinkage)).astype(self.directions_DK.dtype)
        return map_DK

    def lengths(self, shrinkage: float) -> Floats:
        """What each direction is divided by in `whitening`: ``(K,)``."""
        dimensions = len(self.mean_D)
        average = self.within_K.sum() / dimensions
        floor = _FLOOR * self.total_K.sum() / dimensions or 1.0
        shrunk_K = (1 - shrinkage) * self.within_K + shrinkage * average + floor
        length = np.sqrt((self.total_K / shrunk_K).sum()) or 1.0  # 0 where all rows are equal
        lengths_K: Floats = np.sqrt(shrunk_K) * length
        return lengths_K


def _mean(features_ND: Floats) -> Floats:
    mean_D: Floats = features_ND.mean(axis=0, dtype=np.float64).astype(features_ND.dtype)
    return mean_D


def _centred(features_ND: Floats) -> Floats:
    centred_ND: Floats = features_ND - _mean(features_ND)
    return centred_ND


def _eigenvectors(rows_ND: Floats) -> tuple[Floats, Floats]:
    values_D, vectors_DD = np.linalg.eigh((rows_ND.T @ rows_ND).astype(np.float64) / len(rows_ND))
    return values_D.clip(min=0), vectors_DD.astype(rows_ND.dtype)
