"""Checks of what the encodings take."""

import math
import numbers

import keras
from keras import ops

__all__ = []


def numbers_of(x, rank, axes):
    """Returns `x` as a tensor and the dtype of its encoding: its own if it is a float.

    Raises:
        TypeError: If it is not of numbers.
        ValueError: If it has fewer than `rank` axes; `axes` says which it must have.
    """
    try:
        tensor = ops.convert_to_tensor(x)
    except (TypeError, ValueError):
        tensor = None
    dtype = None if tensor is None else keras.backend.standardize_dtype(tensor.dtype)
    if dtype in (None, "string"):
        raise TypeError(f"`x` must be an array or tensor of numbers. Received: x={x!r}")
    if len(tensor.shape) < rank:
        raise ValueError(f"`x` must have the axes {axes}. Received: shape={tuple(tensor.shape)}")
    return tensor, dtype if "float" in dtype else keras.config.floatx()


def check_number(name, value, minimum=-math.inf, exclusive=True):
    """Returns a finite number above `minimum`, or at least that where it is not `exclusive`."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not (
        is_number
        and math.isfinite(value)
        and (value > minimum or (not exclusive and value == minimum))
    ):
        bound = f" {'above' if exclusive else 'of at least'} {minimum}"
        raise ValueError(
            f"`{name}` must be a finite number{'' if minimum == -math.inf else bound}. Received: "
            f"{name}={value!r}"
        )
    return float(value)


def check_count(name, value, minimum=1):
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (is_int and value >= minimum):
        raise ValueError(
            f"`{name}` must be an int of at least {minimum}. Received: {name}={value!r}"
        )
    return int(value)


def check_choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}")
    return value
