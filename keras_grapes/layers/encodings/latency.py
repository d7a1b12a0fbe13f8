"""Latency coding: the larger a value, the earlier its one spike."""

import keras
from keras import ops

from keras_grapes import checks
from keras_grapes.layers.encodings import arguments, values
from keras_grapes.types import Array, Tensor

__all__ = ["LatencyCoding", "latency_code"]


def latency_code(x: Array, steps: int, threshold: float = 0.0, tau: float | None = None) -> Tensor:
    """Turns values between 0 and 1 into one spike each, the earlier the larger the value.

    A value `x` above the threshold spikes once, at the step nearest to

        (steps - 1) * (1 - x) / (1 - threshold)

    so that 1 spikes at the first step and what is just above the threshold at the last one. With
    `tau` the time is that at which a leaky integrator with a constant input `x` and the time
    constant `tau` reaches the threshold,

        tau * log(x / (x - threshold))

    rounded down; a value that needs longer than there are steps does not spike. A value at or
    below the threshold never spikes.

    Args:
        x: Array or tensor `(batch, ...)` of values from 0 to 1, such as the pixels of images
            divided by 255.
        steps: Positive int, number of time steps.
        threshold: Float from 0 to below 1; above 0 with `tau`. Defaults to 0.
        tau: Float above 0, the time constant in steps. Defaults to `None`, linear in `x`.

    Returns:
        Tensor `(batch, steps, ...)` of 0 and 1, of the dtype of `x` where that is a float, else of
        Keras's default float.

    Raises:
        TypeError: If `x` is not of numbers.
        ValueError: If an argument is not one of the values above; or if values lie outside 0 to 1,
            NaN among them. See `keras_grapes.rate_code` for what happens in `fit`, under XLA and
            in TFLite.

    References:
        - [Thorpe et al., 2001](https://doi.org/10.1016/S0893-6080(01)00083-1), first spikes.
        - [Eshraghian et al., 2023](https://arxiv.org/abs/2109.12894), with `tau`.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> spikes = kg.latency_code([[1.0, 0.5, 0.1, 0.0]], steps=3)
    >>> keras.ops.convert_to_numpy(spikes[0])
    array([[1., 0., 0., 0.],
           [0., 1., 0., 0.],
           [0., 0., 1., 0.]], dtype=float32)
    """
    steps = checks.check_int("steps", steps, at_least=1)
    threshold, tau = _check(threshold, tau)
    x, dtype = arguments.numbers_of(x, 1, "(batch, ...)")
    values.refuse_integers(x, "Latency coding")

    def spikes(x):
        above = x > threshold
        if tau is None:
            time = ops.round((steps - 1) * (1 - x) / (1 - threshold))
        else:
            # The time of what never spikes is not asked for, but must not be infinite.
            excess = ops.where(above, x - threshold, 1.0)
            time = ops.floor(tau * ops.log(ops.where(above, x, 1.0) / excess))
        time = ops.where(above, time, -1.0)[:, None]
        count = ops.arange(steps, dtype="float32")
        count = ops.reshape(count, (1, steps, *[1] * (len(x.shape) - 1)))
        return ops.cast(ops.equal(count, time), dtype)

    return values.shares("Latency coding").encode(x, spikes)


@keras.saving.register_keras_serializable(package="keras_grapes")
class LatencyCoding(keras.layers.Layer):
    """Layer that turns values between 0 and 1 into one spike each, the earlier the larger.

    See `keras_grapes.latency_code`. It draws nothing, has no weights, and no error passes through
    it.

    Args:
        steps: Positive int, number of time steps.
        threshold: Float from 0 to below 1, the value up to which there is no spike; above 0 with
            `tau`. Defaults to 0.
        tau: Float above 0, the time constant in steps of a leaky integrator. Defaults to `None`,
            times linear in the value.

    Call arguments:
        inputs: Tensor `(batch, ...)` of values from 0 to 1.

    Returns:
        Tensor `(batch, steps, ...)` of 0 and 1.

    Raises:
        ValueError: If an argument is not one of the values above, or if values lie outside 0 to 1,
            as in `keras_grapes.latency_code`.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> coding = kg.LatencyCoding(steps=20, tau=5.0, threshold=0.1)
    >>> tuple(coding(keras.ops.ones((2, 28, 28))).shape)
    (2, 20, 28, 28)
    """

    def __init__(
        self, steps: int, threshold: float = 0.0, tau: float | None = None, **kwargs
    ) -> None:
        steps = checks.check_int("steps", steps, at_least=1)
        threshold, tau = _check(threshold, tau)
        super().__init__(**kwargs)
        self.steps = steps
        self.threshold = threshold
        self.tau = tau
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        spikes = latency_code(inputs, self.steps, self.threshold, self.tau)
        return ops.cast(spikes, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.steps, *input_shape[1:])

    def get_config(self) -> dict:
        config = super().get_config()
        config.update(steps=self.steps, threshold=self.threshold, tau=self.tau)
        return config


def _check(threshold, tau):
    threshold = checks.check_number("threshold", threshold, at_least=0.0)
    if threshold >= 1 or (tau is not None and threshold == 0):
        raise ValueError(
            "`threshold` must be below 1, and above 0 with `tau`. Received: "
            f"threshold={threshold}, tau={tau!r}"
        )
    return threshold, None if tau is None else checks.check_number("tau", tau, above=0.0)
