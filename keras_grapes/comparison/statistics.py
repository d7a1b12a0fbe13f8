"""Differences of paired runs, with the interval that decides what is said of them."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from keras_grapes.checks import check_share

__all__ = ["Difference", "paired_difference"]

VERDICTS = ("holds", "does not hold", "not decided")


@dataclasses.dataclass(frozen=True)
class Difference:
    """The mean difference of paired runs and its confidence interval.

    Args:
        mean: Float, the mean of the differences.
        low: Float, the lower end of the interval; minus infinity for a single pair.
        high: Float, the upper end.
        n: Int, the number of pairs.

    Example:

    >>> import keras_grapes as kg
    >>> kg.comparison.Difference(mean=0.4, low=0.1, high=0.7, n=5).verdict
    'holds'
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def verdict(self) -> str:
        """Whether the first is larger, decided by the interval alone.

        `"holds"` if the whole interval is above 0, `"does not hold"` if it is below, and `"not
        decided"` if 0 is within.
        """
        if self.low > 0:
            return VERDICTS[0]
        return VERDICTS[1] if self.high < 0 else VERDICTS[2]

    def __str__(self):
        if self.n < 2:
            return f"{self.mean:+.2f} (1)"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}] ({self.n})"


def paired_difference(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Difference:
    """Mean of the differences `first - second` of paired runs, with its confidence interval.

    Two runs are a pair if they differ only in what is compared: they share the seed, and with it
    the initial weights and the batches. Variation that both runs of a pair share cancels. The
    interval (Student's t with `n - 1` degrees of freedom) is therefore narrower than one from the
    two standard deviations. It covers other seeds on the same data, not other data.

    Args:
        first: Array of shape `(runs,)`.
        second: Array of the same shape, in the same order of the seeds.
        confidence: Float between 0 and 1. Defaults to 0.95.

    Returns:
        A `Difference`.

    Raises:
        ValueError: If the arrays are not of finite numbers, or not of one shape `(runs,)`, or if
            `confidence` is not between 0 and 1.

    Example:

    >>> import keras_grapes as kg
    >>> print(kg.comparison.paired_difference([97.5, 97.9, 97.6], [97.1, 97.4, 97.3]))
    +0.40 [+0.15, +0.65] (3)
    """
    check_share("confidence", confidence, ends=False)
    values = []
    for name, given in (("first", first), ("second", second)):
        try:
            array = np.asarray(given, "float64")
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be of numbers. Received: {name}={given!r}") from error
        if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
            raise ValueError(
                f"`{name}` must have a finite number a run, at least one. Received: {given!r}"
            )
        values.append(array)
    if len(values[0]) != len(values[1]):
        raise ValueError(
            "`first` and `second` must have the same runs. Received: "
            f"{len(values[0])} and {len(values[1])} of them"
        )
    differences = values[0] - values[1]
    mean, n = float(differences.mean()), len(differences)
    if n == 1:
        return Difference(mean, -math.inf, math.inf, n)
    # Here, as it takes a second to import.
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, n - 1) * differences.std(ddof=1) / math.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)
