"""Losses on what spiking units put out over time: their counts, rates, first spikes and potentials.

They take the outputs of all time steps, `(batch, time, units)` with one unit per class, and the
classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`. If the outputs have a mask over
time, masked steps do not count.
"""

import keras
from keras import ops

from keras_grapes.checks import check_number
from keras_grapes.types import Array, Tensor

__all__ = [
    "FirstSpikeCrossentropy",
    "FirstSpikeMeanSquaredError",
    "MembraneCrossentropy",
    "MembraneMeanSquaredError",
    "SpikeCountCrossentropy",
    "SpikeRateCrossentropy",
    "SpikeRateMeanSquaredError",
    "first_spike_time",
]


class _SpikeLoss(keras.losses.Loss):
    """A loss for each sample from its class, one-hot, its outputs and the steps that count."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras would take the mask for one over losses, of which there is one for each sample.
        mask = getattr(y_pred, "_keras_mask", None)
        # Keras would take lists for structures of tensors.
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if mask is not None:
            y_pred = (y_pred, ops.cast(mask, "float32"))
        return super().__call__(y_true, y_pred, sample_weight)

    def call(self, y_true, y_pred):
        y_pred, mask = y_pred if isinstance(y_pred, (tuple, list)) else (y_pred, None)
        y_pred = ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 3:
            raise ValueError(
                f"`{type(self).__name__}` takes the outputs of all time steps, (batch, time, "
                f"units): `return_sequences=True`. Received: y_pred of shape {tuple(y_pred.shape)}"
            )
        targets = one_hot(y_true, y_pred)
        if mask is None:
            mask = ops.ones_like(y_pred[..., 0])
        return self._for_samples(targets, y_pred, ops.cast(mask, y_pred.dtype)[..., None])

    def _for_samples(self, targets, outputs, mask):
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), **{name: getattr(self, name) for name in self._own}}

    # Names of the arguments that Keras's losses do not have.
    _own: tuple[str, ...] = ()


def one_hot(y_true, y_pred):
    """Returns the classes `y_true` one-hot, `(batch, units)`, in the precision of `y_pred`.

    Raises:
        ValueError: If they are neither classes nor one-hot.
    """
    units = y_pred.shape[-1]
    y_true = ops.convert_to_tensor(y_true)
    shape = tuple(y_true.shape)
    if len(shape) == 2 and shape[1] == units:
        return ops.cast(y_true, y_pred.dtype)
    if len(shape) == 1 or (len(shape) == 2 and shape[1] == 1):
        return ops.one_hot(ops.cast(ops.reshape(y_true, (-1,)), "int32"), units, dtype=y_pred.dtype)
    raise ValueError(
        f"`y_true` must be classes, (batch,) or (batch, 1), or one-hot, (batch, {units}). "
        f"Received: y_true of shape {shape}"
    )


def first_spike_time(spikes: Array, mask: Tensor | None = None) -> Tensor:
    """Number of time steps before the first spike of each unit; all of them of a silent one.

    With the spikes `y`, the remaining time is, from the last step `t` backward,

        T[t] = (1 - y[t]) * (1 + T[t + 1])

    For spikes of 0 and 1 this is the time of the first spike, and for spike probabilities its mean.
    Its derivative with respect to a spike is the number of steps by which this spike makes the
    first spike earlier, also for spikes that a silent unit did not emit.

    Args:
        spikes: Tensor `(batch, time, units)`.
        mask: Tensor `(batch, time, 1)` of 0 and 1; steps of 0 do not count. Defaults to `None`.

    Returns:
        Tensor `(batch, units)`, in steps, the first one being 0.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]]
    >>> [float(time) for time in kg.losses.first_spike_time(spikes)[0]]
    [1.0, 3.0]
    """
    spikes = ops.convert_to_tensor(spikes)
    mask = ops.ones_like(spikes[..., :1]) if mask is None else mask
    over_time = [ops.moveaxis(x, 1, 0) for x in (spikes, mask * ops.ones_like(spikes))]

    def step(left, now):
        y, counts = now
        left = counts * (1 - y) * (1 + left) + (1 - counts) * left
        return left, left

    silent = ops.zeros_like(over_time[0][0])
    return ops.scan(step, silent, tuple(over_time), reverse=True)[0]


@keras.saving.register_keras_serializable(package="keras_grapes")
class SpikeCountCrossentropy(_SpikeLoss):
    """Cross-entropy between the classes and the spike counts of the output units.

    The counts over time are the logits of a softmax: the unit of the class should spike more often
    than the others, at any time.

    Args:
        scale: Float above 0 by which the counts are multiplied. Counts of long sequences make a
            softmax of 0 and 1; a scale below 1 softens it. Defaults to 1.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"spike_count_crossentropy"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Eshraghian et al., 2023](https://arxiv.org/abs/2109.12894), the losses on counts, rates,
          first spikes and potentials.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]]
    >>> round(float(kg.losses.SpikeCountCrossentropy()([0], spikes)), 4)
    0.3133
    """

    _own = ("scale",)

    def __init__(
        self,
        scale: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "spike_count_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale = check_number("scale", scale, above=0)

    def _for_samples(self, targets, outputs, mask):
        return _crossentropy(targets, self.scale * ops.sum(mask * outputs, axis=1))


@keras.saving.register_keras_serializable(package="keras_grapes")
class SpikeRateCrossentropy(_SpikeLoss):
    """Cross-entropy between the classes and the outputs at every step, averaged over time.

    The outputs of each step are the logits of a softmax: the unit of the class should spike at
    every step, and the others never.

    Args:
        scale: Float above 0 by which the outputs are multiplied. Defaults to 1.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"spike_rate_crossentropy"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[1.0, 0.0], [0.0, 0.0]]]
    >>> round(float(kg.losses.SpikeRateCrossentropy()([0], spikes)), 4)
    0.5032
    """

    _own = ("scale",)

    def __init__(
        self,
        scale: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "spike_rate_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale = check_number("scale", scale, above=0)

    def _for_samples(self, targets, outputs, mask):
        steps = _crossentropy(targets[:, None] * ops.ones_like(outputs), self.scale * outputs)
        return _mean_over_time(steps[..., None], mask)[:, 0]


@keras.saving.register_keras_serializable(package="keras_grapes")
class SpikeRateMeanSquaredError(_SpikeLoss):
    """Mean squared error between the spike rates of the output units and their target rates.

    The rate of a unit is its mean output over time. The unit of the class should fire at one rate
    and the others at another. With the rates 1 and 0 this is Keras's mean squared error between the
    one-hot classes and the outputs after a `GlobalAveragePooling1D`.

    Args:
        correct_rate: Float, the rate of the unit of the class, in spikes per step. Defaults to 1.
        incorrect_rate: Float, that of the others. Defaults to 0.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"spike_rate_mean_squared_error"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[1.0, 0.0], [0.0, 0.0]]]
    >>> float(kg.losses.SpikeRateMeanSquaredError(correct_rate=1.0)([0], spikes))
    0.125
    """

    _own = ("correct_rate", "incorrect_rate")

    def __init__(
        self,
        correct_rate: float = 1.0,
        incorrect_rate: float = 0.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "spike_rate_mean_squared_error",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.correct_rate = check_number("correct_rate", correct_rate)
        self.incorrect_rate = check_number("incorrect_rate", incorrect_rate)

    def _for_samples(self, targets, outputs, mask):
        wanted = _between(targets, self.correct_rate, self.incorrect_rate)
        return ops.mean(ops.square(_mean_over_time(outputs, mask) - wanted), axis=-1)


@keras.saving.register_keras_serializable(package="keras_grapes")
class FirstSpikeCrossentropy(_SpikeLoss):
    """Cross-entropy between the classes and the times of the first spikes of the output units.

    The negative times, in steps, are the logits of a softmax: the unit of the class should spike
    before the others. A silent unit counts as spiking after the last step. If it is the unit of the
    class, the loss drives it towards spiking: see `keras_grapes.losses.first_spike_time`.

    Args:
        scale: Float above 0 by which the times are multiplied. Defaults to 1.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"first_spike_crossentropy"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[0.0, 0.0], [1.0, 0.0]]]
    >>> round(float(kg.losses.FirstSpikeCrossentropy()([0], spikes)), 4)
    0.3133
    """

    _own = ("scale",)

    def __init__(
        self,
        scale: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "first_spike_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale = check_number("scale", scale, above=0)

    def _for_samples(self, targets, outputs, mask):
        return _crossentropy(targets, -self.scale * first_spike_time(outputs, mask))


@keras.saving.register_keras_serializable(package="keras_grapes")
class FirstSpikeMeanSquaredError(_SpikeLoss):
    """Mean squared error between the times of the first spikes and their target times.

    Times are fractions of the sequence, from 0, the first step, to 1. A silent unit has the time 1;
    if it should spike, the loss drives it towards spiking: see
    `keras_grapes.losses.first_spike_time`.

    Args:
        correct_time: Float from 0 to 1, when the unit of the class should spike. Defaults to 0.
        incorrect_time: Float from 0 to 1, when the others should spike. Defaults to 1, never.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"first_spike_mean_squared_error"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, spikes.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> spikes = [[[0.0, 0.0], [1.0, 0.0]]]
    >>> float(kg.losses.FirstSpikeMeanSquaredError()([0], spikes))
    0.125
    """

    _own = ("correct_time", "incorrect_time")

    def __init__(
        self,
        correct_time: float = 0.0,
        incorrect_time: float = 1.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "first_spike_mean_squared_error",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.correct_time = _share("correct_time", correct_time)
        self.incorrect_time = _share("incorrect_time", incorrect_time)

    def _for_samples(self, targets, outputs, mask):
        wanted = _between(targets, self.correct_time, self.incorrect_time)
        time = first_spike_time(outputs, mask) / ops.maximum(ops.sum(mask, axis=1), 1)
        return ops.mean(ops.square(time - wanted), axis=-1)


@keras.saving.register_keras_serializable(package="keras_grapes")
class MembraneCrossentropy(_SpikeLoss):
    """Cross-entropy between the classes and the potentials of the output units.

    The logits of the softmax are the largest potentials over time, their means, or the last ones.
    Units that put out their potential, the usual readout of a spiking network, are
    `kg.SNU(classes, activation="linear", input_activation="linear", reset="none", use_bias=False,
    return_sequences=True)`.

    Args:
        over: String, `"max"`, `"mean"` or `"last"`. Defaults to `"max"`.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"membrane_crossentropy"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, potentials.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> potentials = [[[0.0, 0.5], [1.0, 0.0]]]
    >>> round(float(kg.losses.MembraneCrossentropy()([0], potentials)), 4)
    0.4741
    """

    _own = ("over",)

    def __init__(
        self,
        over: str = "max",
        reduction: str = "sum_over_batch_size",
        name: str | None = "membrane_crossentropy",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        if over not in ("max", "mean", "last"):
            raise ValueError(f'`over` must be "max", "mean" or "last". Received: over={over!r}')
        self.over = over

    def _for_samples(self, targets, outputs, mask):
        if self.over == "mean":
            logits = _mean_over_time(outputs, mask)
        elif self.over == "max":
            # What a sample without a step has does not matter, but must be finite.
            lowest = ops.min(outputs, axis=1, keepdims=True)
            logits = ops.max(ops.where(mask > 0, outputs, lowest), axis=1)
        else:
            counted = ops.cumsum(mask, axis=1)
            is_last = mask * ops.cast(ops.equal(counted, counted[:, -1:]), mask.dtype)
            logits = ops.sum(is_last * outputs, axis=1)
        return _crossentropy(targets, logits)


@keras.saving.register_keras_serializable(package="keras_grapes")
class MembraneMeanSquaredError(_SpikeLoss):
    """Mean squared error between the potentials of the output units and their target potentials.

    The unit of the class should have one potential at every step, and the others another.

    Args:
        correct: Float, the potential of the unit of the class. Defaults to 1.
        incorrect: Float, that of the others. Defaults to 0.
        reduction: String, as in `keras.losses.Loss`. Defaults to `"sum_over_batch_size"`.
        name: String. Defaults to `"membrane_mean_squared_error"`.
        dtype: String, the precision of the loss. Defaults to `None`, Keras's default float.

    Call arguments:
        y_true: Classes, `(batch,)` or `(batch, 1)`, or one-hot, `(batch, units)`.
        y_pred: Tensor `(batch, time, units)`, potentials.
        sample_weight: Tensor `(batch,)`. Defaults to `None`.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras_grapes as kg
    >>> potentials = [[[0.5, 0.0], [1.0, 0.5]]]
    >>> float(kg.losses.MembraneMeanSquaredError()([0], potentials))
    0.125
    """

    _own = ("correct", "incorrect")

    def __init__(
        self,
        correct: float = 1.0,
        incorrect: float = 0.0,
        reduction: str = "sum_over_batch_size",
        name: str | None = "membrane_mean_squared_error",
        dtype: str | None = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.correct = check_number("correct", correct)
        self.incorrect = check_number("incorrect", incorrect)

    def _for_samples(self, targets, outputs, mask):
        wanted = _between(targets, self.correct, self.incorrect)[:, None]
        return ops.mean(_mean_over_time(ops.square(outputs - wanted), mask), axis=-1)


def _crossentropy(targets, logits):
    return ops.categorical_crossentropy(targets, logits, from_logits=True)


def _between(targets, correct, incorrect):
    return targets * correct + (1 - targets) * incorrect


def _mean_over_time(x, mask):
    return ops.sum(mask * x, axis=1) / ops.maximum(ops.sum(mask, axis=1), 1)


def _share(name, value):
    if not 0 <= check_number(name, value) <= 1:
        raise ValueError(
            f"`{name}` must be from 0, the first step, to 1. Received: {name}={value!r}"
        )
    return float(value)
