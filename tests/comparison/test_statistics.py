import math

import pytest

from keras_grapes.comparison import Difference, paired_difference


def test_interval_by_hand():
    # Differences 1, 2, 3: mean 2, deviation 1; Student's t of 2 degrees of freedom at 97.5 %.
    found = paired_difference([11, 22, 33], [10, 20, 30])
    half = 4.302652729911275 / math.sqrt(3)
    assert found.mean == 2 and found.n == 3
    assert found.low == pytest.approx(2 - half) and found.high == pytest.approx(2 + half)


def test_pairs_cancel_what_both_share():
    shared = [50.0, 70.0, 90.0, 60.0]
    first = [value + 1 + wiggle for value, wiggle in zip(shared, (0.1, -0.1, 0.0, 0.1))]
    found = paired_difference(first, shared)
    assert found.verdict == "holds" and found.high - found.low < 0.5


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (0.1, 0.7, "holds"),
        (-0.7, -0.1, "does not hold"),
        (-0.1, 0.7, "not decided"),
        (0.0, 0.7, "not decided"),
        (-math.inf, math.inf, "not decided"),
    ],
)
def test_the_interval_alone_decides(low, high, verdict):
    assert Difference(0.3, low, high, 5).verdict == verdict


def test_one_pair_decides_nothing():
    found = paired_difference([9.0], [1.0])
    assert found.mean == 8 and found.verdict == "not decided" and str(found) == "+8.00 (1)"


def test_a_wider_confidence_gives_a_wider_interval():
    narrow, wide = (paired_difference([1, 2, 4], [0, 0, 0], c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@pytest.mark.parametrize(
    "first, second, confidence, message",
    [
        ([1, 2], [1], 0.95, "must have the same runs"),
        ([], [], 0.95, "`first` must have a finite number a run"),
        ([1, math.nan], [1, 2], 0.95, "`first` must have a finite"),
        ([1, 2], [[1, 2]], 0.95, "`second` must have a finite"),
        ([1, "two"], [1, 2], 0.95, "`first` must be of numbers"),
        ([1, 2], [1, 3], 1.0, "`confidence` must be between 0 and 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, confidence, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(first, second, confidence)
