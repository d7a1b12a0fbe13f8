"""Population coding: a value as the activities of several units, each with a value it prefers."""

import keras
from keras import ops

from keras_grapes import checks
from keras_grapes.layers.encodings import arguments, values
from keras_grapes.types import Array, Tensor

__all__ = ["PopulationCoding", "population_code"]


def population_code(
    x: Array, units: int, low: float = 0.0, high: float = 1.0, width: float | None = None
) -> Tensor:
    """Turns each value into the activities of a population of units with overlapping fields.

    The values that the units prefer lie evenly from `low` to `high`, and the activity of a unit
    that prefers `c` is

        exp(-(x - c)^2 / (2 width^2))

    between 0 and 1. They are currents for spiking units as they are; `keras_grapes.RateCoding` or
    `keras_grapes.LatencyCoding` makes spikes of them.

    Args:
        x: Array or tensor `(batch, ..., features)`, or `(batch,)`.
        units: Int of at least 2, the units for each feature.
        low: Float, the value that the first one prefers. Defaults to 0.
        high: Float above `low`, the value that the last one prefers. Defaults to 1.
        width: Float above 0. Defaults to `None`, the distance between neighbours.

    Returns:
        Tensor `(batch, ..., features * units)`, the units of the first feature first, or
        `(batch, units)`; of the dtype of `x` where that is a float, else of Keras's default float.

    Raises:
        TypeError: If `x` is not of numbers.
        ValueError: If an argument is not one of the values above; or if a value is infinite or not
            a number. See `keras_grapes.rate_code` for what happens in `fit`, under XLA and in
            TFLite.

    References:
        - [Bohte et al., 2002](https://doi.org/10.1016/S0925-2312(01)00658-0).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> activities = kg.population_code([[0.5]], units=3, width=0.25)
    >>> keras.ops.convert_to_numpy(activities).round(3)
    array([[0.135, 1.   , 0.135]], dtype=float32)
    """
    units, low, high, width = _check(units, low, high, width)
    x, dtype = arguments.numbers_of(x, 1, "(batch, ..., features)")

    def activities(x):
        shape = ops.shape(x)
        centers = ops.linspace(low, high, units)
        found = ops.exp(-0.5 * ops.square((x[..., None] - centers) / width))
        if len(shape) > 1:
            found = ops.reshape(found, (*shape[:-1], shape[-1] * units))
        return ops.cast(found, dtype)

    return values.finite("Population coding").encode(x, activities)


@keras.saving.register_keras_serializable(package="keras_grapes")
class PopulationCoding(keras.layers.Layer):
    """Layer that turns each value into the activities of units with overlapping fields.

    See `keras_grapes.population_code`. It has no weights; errors pass through it.

    Args:
        units: Int of at least 2, the units for each feature.
        low: Float, the value that the first unit prefers. Defaults to 0.
        high: Float above `low`, the value that the last one prefers. Defaults to 1.
        width: Float above 0, of the field of a unit. Defaults to `None`, the distance between
            neighbours.

    Call arguments:
        inputs: Tensor `(batch, ..., features)`, or `(batch,)`.

    Returns:
        Tensor `(batch, ..., features * units)`, or `(batch, units)`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     kg.PopulationCoding(units=10, low=-1.0, high=1.0),
    ...     kg.RateCoding(steps=20),
    ... ])
    >>> model.output_shape
    (None, 20, 40)
    """

    def __init__(
        self, units: int, low: float = 0.0, high: float = 1.0, width: float | None = None, **kwargs
    ) -> None:
        _check(units, low, high, width)
        super().__init__(**kwargs)
        self.units = int(units)
        self.low = float(low)
        self.high = float(high)
        self.width = None if width is None else float(width)
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        activities = population_code(inputs, self.units, self.low, self.high, self.width)
        return ops.cast(activities, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if len(input_shape) == 1:
            return (*input_shape, self.units)
        features = input_shape[-1]
        return (*input_shape[:-1], None if features is None else features * self.units)

    def get_config(self) -> dict:
        config = super().get_config()
        config.update(units=self.units, low=self.low, high=self.high, width=self.width)
        return config


def _check(units, low, high, width):
    units = checks.check_int("units", units, at_least=2)
    low = checks.check_number("low", low)
    high = checks.check_number("high", high)
    if high <= low:
        raise ValueError(f"`high` must be above `low`. Received: low={low}, high={high}")
    width = (high - low) / (units - 1) if width is None else width
    return units, low, high, checks.check_number("width", width, above=0.0)
