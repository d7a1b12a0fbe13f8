"""Delta coding: spikes where a signal changes."""

import keras
from keras import ops

from keras_grapes import checks
from keras_grapes.layers.encodings import arguments, values
from keras_grapes.types import Array, Tensor

__all__ = ["DeltaCoding", "delta_code"]

POLARITIES = ("channels", "signed", "on")
REFERENCES = ("previous", "last_spike")


def delta_code(
    x: Array, threshold: float = 0.1, polarity: str = "channels", reference: str = "previous"
) -> Tensor:
    """Turns signals into spikes where they rise or fall by a threshold at least.

    A signal is compared with what it was one step before, or with what it was when it last spiked,
    so that slow changes add up, as in the pixels of event cameras. There is no spike at the first
    step.

    Args:
        x: Array or tensor `(batch, time, ...)`.
        threshold: Float above 0, the change that makes a spike. Defaults to 0.1.
        polarity: String, what becomes of falls. `"channels"`: spikes of their own, as many features
            again behind those of the rises, along the last axis. `"signed"`: spikes of -1. `"on"`:
            nothing. Defaults to `"channels"`.
        reference: String, what a signal is compared with, `"previous"` or `"last_spike"`. Defaults
            to `"previous"`.

    Returns:
        Tensor of 0 and 1 (and -1 if signed), `(batch, time, ..., 2 * features)` with channels, else
        shaped as `x`; of the dtype of `x` where that is a float, else of Keras's default float.

    Raises:
        TypeError: If `x` is not of numbers.
        ValueError: If an argument is not one of the values above; or if a value is infinite or not
            a number. See `keras_grapes.rate_code` for what happens in `fit`, under XLA and in
            TFLite.

    References:
        - [Corradi and Indiveri, 2015](https://doi.org/10.1109/TBCAS.2015.2479256), two channels.
        - [Miskowicz, 2006](https://doi.org/10.3390/s6010049), compared with the last spike.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> signal = [[[0.0], [0.5], [0.6], [0.2]]]
    >>> keras.ops.convert_to_numpy(kg.delta_code(signal, threshold=0.3))
    array([[[0., 0.],
            [1., 0.],
            [0., 0.],
            [0., 1.]]], dtype=float32)
    """
    threshold = checks.check_number("threshold", threshold, above=0.0)
    checks.check_choice("polarity", polarity, POLARITIES)
    checks.check_choice("reference", reference, REFERENCES)
    if polarity == "channels":
        x, dtype = arguments.numbers_of(x, 3, "(batch, time, ..., features)")
    else:
        x, dtype = arguments.numbers_of(x, 2, "(batch, time, ...)")

    def spikes(x):
        if reference == "previous":
            change = ops.concatenate([ops.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], axis=1)
        else:
            change = _change_since_last_spike(x, threshold)
        rises = ops.cast(change >= threshold, dtype)
        if polarity == "on":
            return rises
        falls = ops.cast(change <= -threshold, dtype)
        if polarity == "signed":
            return rises - falls
        return ops.concatenate([rises, falls], axis=-1)

    return values.finite("Delta coding").encode(x, spikes)


def _change_since_last_spike(x, threshold):
    def step(reference, now):
        change = now - reference
        return ops.where(ops.abs(change) >= threshold, now, reference), change

    over_time = ops.moveaxis(x, 1, 0)
    return ops.moveaxis(ops.scan(step, over_time[0], over_time)[1], 0, 1)


@keras.saving.register_keras_serializable(package="keras_grapes")
class DeltaCoding(keras.layers.Layer):
    """Layer that turns signals into spikes where they rise or fall by a threshold at least.

    See `keras_grapes.delta_code`. It draws nothing, has no weights, and no error passes through it.

    Args:
        threshold: Float above 0, the change that makes a spike. Defaults to 0.1.
        polarity: String, what becomes of falls: `"channels"`, features of their own; `"signed"`,
            spikes of -1; `"on"`, nothing. Defaults to `"channels"`.
        reference: String, what a signal is compared with: `"previous"`, the step before;
            `"last_spike"`, its value when it last spiked. Defaults to `"previous"`.

    Call arguments:
        inputs: Tensor `(batch, time, ...)`.

    Returns:
        Tensor `(batch, time, ..., 2 * features)` with channels, else shaped as the input.

    Raises:
        ValueError: If an argument is not one of the values above.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> tuple(kg.DeltaCoding(threshold=0.2)(keras.ops.ones((2, 100, 3))).shape)
    (2, 100, 6)
    """

    def __init__(
        self,
        threshold: float = 0.1,
        polarity: str = "channels",
        reference: str = "previous",
        **kwargs,
    ) -> None:
        threshold = checks.check_number("threshold", threshold, above=0.0)
        checks.check_choice("polarity", polarity, POLARITIES)
        checks.check_choice("reference", reference, REFERENCES)
        super().__init__(**kwargs)
        self.threshold = threshold
        self.polarity = polarity
        self.reference = reference
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        spikes = delta_code(inputs, self.threshold, self.polarity, self.reference)
        return ops.cast(spikes, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if self.polarity != "channels":
            return tuple(input_shape)
        return (*input_shape[:-1], None if input_shape[-1] is None else 2 * input_shape[-1])

    def get_config(self) -> dict:
        config = super().get_config()
        config.update(threshold=self.threshold, polarity=self.polarity, reference=self.reference)
        return config
