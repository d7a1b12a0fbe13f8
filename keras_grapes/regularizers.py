"""Regularizers of how much spiking units fire."""

import functools

import keras
from keras import ops

from keras_grapes.checks import check_number
from keras_grapes.types import Tensor

__all__ = ["FiringRateRegularizer"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class FiringRateRegularizer(keras.regularizers.Regularizer):
    """Keeps the firing rates of units within a band.

    The rate of a unit is the mean of its outputs over the batch, over time, and over the positions
    of a convolution. With the distance `d` of a rate from the band, 0 within, the penalty is the
    sum over the units of

        l1 * d + l2 * d^2

    so that what fires too much is held back, what is silent is drawn towards firing, and what is
    within the band is left alone. Use it as the `activity_regularizer` of a spiking layer with
    `return_sequences=True`. Masked steps count as what the layer puts out there.

    Args:
        low: Float, the lowest rate of the band, in spikes per step.
        high: Float from `low` to 1, the highest one.
        l1: Float of at least 0, the weight of the distance. Defaults to 0.
        l2: Float of at least 0, the weight of its square. Defaults to 0.01.

    Call arguments:
        outputs: Tensor `(batch, time, units)` or `(batch, time, height, width, filters)`.

    Returns:
        The penalty, times the size of the batch where Keras divides by that what an
        `activity_regularizer` returns, as its newer versions do: the loss of a layer does not
        depend on it.

    Raises:
        ValueError: If an argument is not one of the values above, or outputs are not over time.

    References:
        - [Zenke and Vogels, 2021](https://doi.org/10.1162/neco_a_01367), bounds from below and
          from above.

    Example:

    >>> import keras_grapes as kg
    >>> keep = kg.regularizers.FiringRateRegularizer(low=0.25, high=0.5, l2=1.0)
    >>> spikes = [[[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]]
    >>> round(float(keep(spikes)), 4)
    0.3125
    >>> layer = kg.SNU(16, return_sequences=True, activity_regularizer=keep)
    """

    def __init__(self, low: float, high: float, l1: float = 0.0, l2: float = 0.01) -> None:
        for name, value in (("low", low), ("high", high), ("l1", l1), ("l2", l2)):
            check_number(name, value, at_least=0)
        if not low <= high <= 1:
            raise ValueError(
                "`low` and `high` must fulfil 0 <= low <= high <= 1. Received: "
                f"low={low!r}, high={high!r}"
            )
        self.low = float(low)
        self.high = float(high)
        self.l1 = float(l1)
        self.l2 = float(l2)
        self._is_divided = _is_divided_by_batch()

    def __call__(self, outputs: Tensor) -> Tensor:
        outputs = ops.convert_to_tensor(outputs)
        rank = len(outputs.shape)
        if rank not in (3, 5):
            raise ValueError(
                "`FiringRateRegularizer` takes the outputs of all time steps, (batch, time, units) "
                "or (batch, time, height, width, filters): `return_sequences=True`. Received: "
                f"outputs of shape {tuple(outputs.shape)}"
            )
        rate = ops.mean(ops.cast(outputs, "float32"), axis=tuple(range(rank - 1)))
        distance = ops.relu(self.low - rate) + ops.relu(rate - self.high)
        penalty = ops.sum(self.l1 * distance + self.l2 * ops.square(distance))
        return penalty * ops.cast(ops.shape(outputs)[0], "float32") if self._is_divided else penalty

    def get_config(self) -> dict:
        return {"low": self.low, "high": self.high, "l1": self.l1, "l2": self.l2}


@functools.cache
def _is_divided_by_batch():
    """Whether this version of Keras divides penalties on activities by the size of the batch."""
    layer = keras.layers.Identity(activity_regularizer=ops.sum)
    layer(ops.ones((2, 1)))
    return float(layer.losses[0]) < 1.5
