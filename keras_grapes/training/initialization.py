"""The feedback kernels of a rule: how they are drawn, and what of that a config can hold."""

import inspect
import random

import keras
import numpy as np
from keras import ops

__all__ = []


@keras.saving.register_keras_serializable(package="keras_grapes")
class KernelsFromFile(keras.initializers.Initializer):
    """Stands in a config for a function that no config can hold: the kernels are in the file."""

    def __call__(self, shape, dtype=None):
        return ops.zeros(shape, dtype)

    def get_config(self):
        return {}


def get_initializer(identifier):
    """Returns the initializer that an argument `feedback_initializer=` stands for."""
    problem = None
    try:
        initializer = keras.initializers.get(identifier)
    except (TypeError, ValueError) as error:
        initializer, problem = None, error
    if initializer is None:
        raise ValueError(
            "`feedback_initializer` must be a Keras initializer, its name or its config. Received: "
            f"feedback_initializer={identifier!r}"
        ) from problem
    return initializer


def serialize(initializer):
    """Returns the config of an initializer; of a function without a name, that there was one."""
    if getattr(initializer, "__name__", None) == "<lambda>":
        initializer = KernelsFromFile()
    try:
        return keras.saving.serialize_keras_object(initializer)
    except (TypeError, ValueError):
        return keras.saving.serialize_keras_object(KernelsFromFile())


def deserialize(config, custom_objects=None):
    """Returns the initializer of a config; of a function that is not known here, that it was one.

    The feedback kernels are in the file that the config came with.
    """
    if isinstance(config, str):
        return config
    try:
        return keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
    except (TypeError, ValueError, ImportError, AttributeError, KeyError):
        return KernelsFromFile()


def with_seed(initializer, seed):
    """Returns an initializer that draws from a seed, an int or a `SeedGenerator`.

    Raises:
        ValueError: If the initializer takes none.
    """
    config = {}
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
    if "seed" not in config:
        raise ValueError("it takes no seed")
    return type(initializer).from_config({**config, "seed": seed})


def draw(initializer, shapes, seed):
    """Draws an array of each shape, each from a seed of its own."""
    if isinstance(initializer, KernelsFromFile):
        return [np.zeros(shape, "float32") for shape in shapes]
    seeded = []
    config = {}
    if isinstance(initializer, keras.initializers.Initializer):
        config = initializer.get_config()
    if "seed" in config:
        if seed is None:
            seed = config["seed"] if isinstance(config["seed"], int) else random.getrandbits(31)
        for child in np.random.SeedSequence(int(seed)).generate_state(len(shapes)):
            seeded.append(with_seed(initializer, int(child) >> 1))
    return [_draw(one, shape) for one, shape in zip(seeded or [initializer] * len(shapes), shapes)]


def _draw(initializer, shape):
    takes_dtype = "dtype" in inspect.signature(initializer).parameters
    try:
        value = initializer(shape, dtype="float32") if takes_dtype else initializer(shape)
        value = ops.convert_to_numpy(value)
    except Exception as error:
        raise ValueError(
            f"`feedback_initializer` makes no feedback kernel of the shape {tuple(shape)}: {error}"
        ) from error
    if value.shape != tuple(shape):
        raise ValueError(
            "`feedback_initializer` must return an array of the shape that it is asked for. "
            f"Received: a feedback kernel of shape {value.shape} where {tuple(shape)} is needed"
        )
    return value
