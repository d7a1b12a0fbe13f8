"""The step of a spiking unit and the pseudo-derivatives that let an error pass through it."""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable

import keras
from keras import ops

from keras_grapes import backend
from keras_grapes.checks import check_number
from keras_grapes.types import Array, Tensor

__all__ = ["Surrogate", "spike"]


def _tanh(x):
    # TensorFlow would take a square together with what comes before, element by element.
    y = ops.tanh(x)
    return (1.0 - y) * (1.0 + y)


def _sigmoid(x):
    y = ops.sigmoid(x)
    return y * (1.0 - y)


# Name: (default slope k, pseudo-derivative at step argument x).
_SHAPES = {
    "tanh": (1.0, lambda x, k: _tanh(x if k == 1 else k * x)),
    "sigmoid": (4.0, lambda x, k: k * _sigmoid(k * x)),
    "atan": (2.0, lambda x, k: 0.5 * k / (1.0 + ops.square(0.5 * math.pi * k * x))),
    "fast_sigmoid": (25.0, lambda x, k: 1.0 / ops.square(1.0 + k * ops.abs(x))),
    "triangular": (1.0, lambda x, k: ops.relu(1.0 - k * ops.abs(x))),
    "straight_through": (1.0, lambda x, k: k * ops.ones_like(x)),
}


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class Surrogate:
    """Pseudo-derivative of the step function, by name.

    Forward every spiking unit computes `y = 1 if x > 0 else 0`, `x` its potential above threshold.
    That has no useful derivative, so backward one of these takes its place, with slope `k`:

    | `name`               | forward | backward, `dy/dx`                  | default `k` | peak    |
    |----------------------|---------|------------------------------------|-------------|---------|
    | `"tanh"`             | step    | `1 - tanh(k x)^2`                  | 1           | 1       |
    | `"sigmoid"`          | step    | `k sigmoid(k x) (1 - sigmoid(k x))`| 4           | `k / 4` |
    | `"atan"`             | step    | `(k / 2) / (1 + (pi k x / 2)^2)`   | 2           | `k / 2` |
    | `"fast_sigmoid"`     | step    | `1 / (1 + k abs(x))^2`             | 25          | 1       |
    | `"triangular"`       | step    | `max(0, 1 - k abs(x))`             | 1           | 1       |
    | `"straight_through"` | step    | `k`                                | 1           | `k`     |

    `"tanh"` with slope 1 is that of the spiking neural unit. A larger slope lets fewer units learn,
    those near their threshold. A layer's argument `surrogate` takes a name, a `Surrogate`, or any
    function of `x` that returns `dy/dx`.

    Args:
        name: String, one of the names above. Defaults to `"tanh"`.
        slope: Float above 0. Defaults to `None`, the default of the table.

    Call arguments:
        x: Tensor, the argument of the step.

    Raises:
        ValueError: If `name` is not in the table or `slope` is not a number above 0.

    References:
        - [Wozniak et al., 2020](https://doi.org/10.1038/s42256-020-0187-0), the spiking neural
          unit (`"tanh"`).
        - [Zenke and Ganguli, 2018](https://doi.org/10.1162/neco_a_01086) (`"fast_sigmoid"`).
        - [Fang et al., 2021](https://arxiv.org/abs/2007.05785) (`"atan"`).
        - [Bengio et al., 2013](https://arxiv.org/abs/1308.3432) (`"straight_through"`).

    Example:

    >>> import keras_grapes as kg
    >>> kg.Surrogate("triangular", slope=2.0)([-1.0, 0.0, 0.25]).numpy()
    array([0. , 1. , 0.5], dtype=float32)
    """

    name: str = "tanh"
    slope: float | None = None

    def __post_init__(self):
        if not isinstance(self.name, str) or self.name not in _SHAPES:
            raise ValueError(
                f"`surrogate` must be one of {sorted(_SHAPES)}, a `keras_grapes.Surrogate` or a "
                f"function. Received: {self.name!r}"
            )
        slope = _SHAPES[self.name][0] if self.slope is None else self.slope
        object.__setattr__(self, "slope", check_number("slope", slope, above=0))

    def __call__(self, x: Array) -> Tensor:
        return _SHAPES[self.name][1](ops.convert_to_tensor(x), self.slope)

    def get_config(self) -> dict:
        return {"name": self.name, "slope": self.slope}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def get_surrogate(identifier):
    """Returns the pseudo-derivative that an argument `surrogate=` stands for.

    Args:
        identifier: A name, a `Surrogate`, a function of a tensor, or the serialized form of the
            latter two.

    Raises:
        TypeError: If `identifier` is none of these.
        ValueError: If it is a name that is not known.
    """
    if isinstance(identifier, str):
        return Surrogate(identifier)
    if isinstance(identifier, dict):
        identifier = keras.saving.deserialize_keras_object(identifier)
    if not callable(identifier):
        raise TypeError(
            f"`surrogate` must be one of {sorted(_SHAPES)}, a `keras_grapes.Surrogate` or a "
            f"function that returns the derivative of the step at `x`. Received: {identifier!r} "
            f"of type {type(identifier).__name__}"
        )
    return identifier


_values_alone = contextvars.ContextVar("values_alone", default=False)


@contextlib.contextmanager
def values_alone():
    """A context in which `spike` has no gradient, which takes much longer to trace than its value.

    It is for a forward pass that has a backward pass of its own.
    """
    token = _values_alone.set(True)
    try:
        yield
    finally:
        _values_alone.reset(token)


def spike(x: Tensor, surrogate: str | Callable = "tanh") -> Tensor:
    """Returns 1 where `x` is above 0, else 0, NaN where it is NaN; its gradient is a surrogate's.

    Args:
        x: Tensor.
        surrogate: Function of `x` that returns the pseudo-derivative, or its name. Defaults to
            `"tanh"`.

    Returns:
        Tensor shaped as `x` and of its dtype.
    """
    surrogate = get_surrogate(surrogate)
    x = ops.convert_to_tensor(x)
    # Unlike a comparison it passes NaN on.
    if _values_alone.get():
        return ops.relu(ops.sign(x))

    @backend.custom_gradient
    def step(x):
        return ops.relu(ops.sign(x)), lambda error: (error * surrogate(x),)

    return step(x)
