"""Checks of the values that are encoded, where they can be seen and in compiled code."""

import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_grapes import backend

__all__ = []


@dataclasses.dataclass(frozen=True)
class Values:
    """The values that an encoding takes.

    Args:
        expected: String, a sentence that says which they are.
        remedy: String, a sentence that says what to do about others.
        are_valid: Function of a float32 tensor that returns a bool tensor.
    """

    expected: str
    remedy: str
    are_valid: Callable

    def encode(self, x, function):
        """Returns what a function makes of a tensor `(batch, ...)`, if its values are valid.

        Raises:
            ValueError: If the values are there to be seen, and some are not valid. Code that is
                compiled raises an error when it runs; under XLA, which knows no errors, all that
                comes of such a sample is NaN.
        """
        # Half precision is too coarse for probabilities and times.
        x = ops.cast(x, "float32")
        valid = self.are_valid(x)
        if backend.has_values(x):
            if not bool(ops.all(valid)):
                found = ops.convert_to_numpy(x)
                raise ValueError(
                    f"{self.expected} Received: values from {found.min()} to {found.max()}. "
                    f"{self.remedy}"
                )
            return function(x)
        rank = len(x.shape)
        if rank > 1:
            valid = ops.all(valid, axis=tuple(range(1, rank)))
        encoded = backend.checked(
            function(x),
            ops.all(valid),
            [self.expected, "Received: values from", ops.min(x), "to", ops.max(x), self.remedy],
        )
        valid = ops.reshape(valid, (-1, *[1] * (len(encoded.shape) - 1)))
        return ops.where(valid, encoded, float("nan"))


def _from_0_to_1(x):
    # NaN is neither. Minimum and maximum may pass it over.
    return ops.logical_and(x >= 0, x <= 1)


def shares(encoding):
    """`Values` from 0 to 1, for an encoding of that name."""
    return Values(
        f"{encoding} takes values from 0 to 1.",
        "Divide pixels by 255, as in `images / 255.0`.",
        _from_0_to_1,
    )


def finite(encoding):
    """`Values` that are finite."""
    return Values(
        f"{encoding} takes finite values.",
        "Replace what is missing, as in `numpy.nan_to_num(x)`.",
        ops.isfinite,
    )


def refuse_integers(x, encoding):
    """Refuses integers where their values cannot be seen: they are hardly shares of 1."""
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "int" in dtype and not backend.has_values(x):
        raise ValueError(
            f"{encoding} takes floats from 0 to 1. Received: a tensor of dtype {dtype}. "
            f"{shares(encoding).remedy}"
        )
