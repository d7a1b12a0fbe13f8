"""Random numbers that are as fast compiled by XLA as they are without it.

`keras.random` leaves the generator to TensorFlow, and the one that XLA takes on a CPU then needs a
hundred times as long. Philox is fast in both. A seed gives other numbers under XLA than without.
"""

import keras
import numpy as np

from keras_grapes import backend
from keras_grapes.checks import is_int

__all__ = []


def uniform(shape, seed=None, changing=None):
    """Draws float32 numbers from 0 to below 1, of a shape.

    Args:
        shape: Tuple of ints and scalar tensors.
        seed: Int, the same numbers for every call; or a `keras.random.SeedGenerator`. Defaults to
            `None`, other numbers for every call.
        changing: Tensor that is another at every step of training, for draws in a constraint, where
            not every backend keeps the state of a seed generator. Defaults to `None`.
    """
    return backend.random_uniform(shape, _key(seed, changing))


def normal(shape, stddev, seed=None, changing=None):
    """Draws float32 numbers of mean 0, normally distributed.

    Args:
        shape: As in `uniform`.
        stddev: Float.
        seed: As in `uniform`.
        changing: As in `uniform`.
    """
    return backend.random_normal(shape, stddev, _key(seed, changing))


def _key(seed, changing):
    key = _key_of(seed)
    return key if changing is None else backend.key_of_step(key, changing)


def _key_of(seed):
    if seed is None:
        return keras.random.randint((2,), 0, 2**31 - 1, dtype="int32")
    if isinstance(seed, keras.random.SeedGenerator):
        return seed.next()
    if not is_int(seed):
        raise ValueError(
            "`seed` must be an int, a `keras.random.SeedGenerator` or None. Received: "
            f"seed={seed!r}"
        )
    return np.array([seed, 0], "int64")
