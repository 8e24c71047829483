"""Uncertainty of a measure: resamples of the pictures, and intervals of 95 % confidence.

The pictures are the sample, not the boxes, because the boxes of one picture resemble each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from prelabel.types import Floats

MIN_PICTURES: Final = 10  # with fewer, no interval is given
_RESAMPLES: Final = 1_000
_HALVES: Final = 200
_FEWEST_RESAMPLES: Final = 200
_WORK: Final = 50_000_000  # boxes times resamples; about half a minute
_SEED: Final = 20_000
_Z: Final = 1.959964  # of a normal distribution at 97.5 %
# Average precision is too high by an amount that shrinks as about n^-0.3 to n^-1 with the number n
# of pictures: its envelope takes maxima over chance. Half of the pictures are off by more, and the
# difference tells the amount up to a factor between these two.
_LEAST_BIAS, _MOST_BIAS = 1.0, 4.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measure with its interval of 95 % confidence.

    Attributes:
        value: None if it is not defined: there are no such boxes.
        low: Lower end; None if the pictures are too few for an interval.
        high: Upper end.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval's width; None without an interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Resamples:
    """Weights of the pictures in each resample; the same ones for the same number of pictures.

    Attributes:
        drawn: [B, I] as many pictures as there are, drawn with replacement; B is 1,000, and fewer
            for more than 50,000 boxes. Empty with fewer than MIN_PICTURES pictures.
        halves: [H, I] half of the pictures each, 0 or 1.
    """

    drawn: NDArray[np.uint8]
    halves: NDArray[np.uint8]

    @classmethod
    def of(cls, pictures: int, boxes: int) -> Self:
        """Draw the resamples of so many pictures, which have so many boxes."""
        if pictures < MIN_PICTURES:
            none = np.zeros((0, pictures), np.uint8)
            return cls(none, none)
        rng = np.random.default_rng(_SEED)
        count = max(_FEWEST_RESAMPLES, min(_RESAMPLES, _WORK // max(boxes, 1)))
        drawn = np.empty((count, pictures), np.uint8)
        for row in drawn:
            times = np.bincount(rng.integers(pictures, size=pictures), minlength=pictures)
            row[:] = np.minimum(times, 255)
        halves = np.zeros((_HALVES, pictures), np.uint8)
        for row in halves:
            row[rng.permutation(pictures)[: pictures // 2]] = 1
        return cls(drawn, halves)

    @property
    def pictures(self) -> int:
        """Number of pictures."""
        return self.drawn.shape[1]

    def average_precision(
        self, value: float, drawn: Floats, halves: Floats, boxes: float
    ) -> Estimate:
        """Return an average precision with its interval.

        Args:
            value: Of the pictures themselves; NaN if it is not defined.
            drawn: [B] of each resample; NaN where it is not defined.
            halves: [H] of each half.
            boxes: Number of boxes of people.
        """
        drawn, halves = drawn[~np.isnan(drawn)], halves[~np.isnan(halves)]
        if np.isnan(value) or not len(drawn) or not len(halves):
            return Estimate(None if np.isnan(value) else value)
        half_width = self._quantile * float(drawn.std())
        if not half_width:
            return Estimate(value, *_wilson(value, boxes, self._quantile))
        bias = max(0.0, float(halves.mean()) - value)
        low = value - _MOST_BIAS * bias - half_width
        high = max(value, value - _LEAST_BIAS * bias + half_width)
        return Estimate(value, max(0.0, low), min(1.0, high))

    def ratio(self, hits: float, of: float, drawn: Floats) -> Estimate:
        """Return a ratio of counts with its interval, such as a precision.

        It is Wilson's interval for as many independent boxes as have the variance of the
        resamples. A ratio of 0 or 1, which no resample can leave, gets that of `of` boxes.

        Args:
            hits: The numerator for the pictures themselves.
            of: The denominator; the ratio is not defined if it is 0.
            drawn: [B] the ratio of each resample; NaN where it is not defined.
        """
        if not of:
            return Estimate(None)
        value = hits / of
        drawn = drawn[~np.isnan(drawn)]
        if not len(drawn):
            return Estimate(value)
        variance = float(drawn.var())
        independent = value * (1 - value) / variance if variance else of
        return Estimate(value, *_wilson(value, independent, self._quantile))

    def difference(self, value: float, drawn: Floats) -> Estimate:
        """Return a difference of two measures with its interval; `drawn` [B]."""
        drawn = drawn[~np.isnan(drawn)]
        if np.isnan(value) or not len(drawn):
            return Estimate(None if np.isnan(value) else value)
        half_width = self._quantile * float(drawn.std())
        return Estimate(value, value - half_width, value + half_width)

    @property
    def _quantile(self) -> float:
        """Factor of the standard deviation: Student's t, and that of a sample's variance."""
        n = self.pictures
        nu = n - 1
        t = _Z + (_Z**3 + _Z) / (4 * nu) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * nu**2)
        return t * math.sqrt(n / nu)


def _wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count` independent cases."""
    if count <= 0:
        return 0.0, 1.0
    squared = quantile**2
    scale = 1 + squared / count
    centre = (share + squared / (2 * count)) / scale
    half = quantile * math.sqrt(share * (1 - share) / count + squared / (2 * count) ** 2) / scale
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
