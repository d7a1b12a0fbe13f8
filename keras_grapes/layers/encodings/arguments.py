"""Checks of what the encodings take."""

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
