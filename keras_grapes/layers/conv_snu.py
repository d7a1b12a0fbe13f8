"""Convolutional spiking neural units over `(batch, time, height, width, channels)`."""

from collections.abc import Callable, Sequence

import keras
from keras import ops

from keras_grapes.checks import is_int
from keras_grapes.layers.snu import SNU, SNUCell, given, with_arguments_of_cell
from keras_grapes.types import Constraint, Initializer, Regularizer

__all__ = ["ConvSNU2D"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class ConvSNU2DCell(SNUCell):
    """Cell of a convolutional spiking neural unit: one time step of `keras_grapes.ConvSNU2D`.

    The equations are those of `keras_grapes.SNUCell` with a 2D convolution in place of the product
    with the kernel. Every position of a filter is a unit of its own; the units of a filter share
    kernel, bias and decay.

    Args:
        filters: Positive int, number of filters.
        kernel_size: Int or tuple of 2 ints, height and width of the convolution window.
        strides: Int or tuple of 2 ints. Defaults to 1.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        dilation_rate: Int or tuple of 2 ints. Defaults to 1.
        **kwargs: Further arguments of `keras_grapes.SNUCell`, except `recurrent`.

    Raises:
        ValueError: If an argument is not one of the values above.
    """

    def __init__(self, filters, kernel_size, strides=1, padding="valid", dilation_rate=1, **kwargs):
        if "recurrent" in kwargs:
            raise ValueError("Convolutional units have no `recurrent` connections.")
        super().__init__(_check_ints("filters", filters, 1)[0], **kwargs)
        self.filters = self.units
        self.kernel_size = _check_ints("kernel_size", kernel_size, 2)
        self.strides = _check_ints("strides", strides, 2)
        self.dilation_rate = _check_ints("dilation_rate", dilation_rate, 2)
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(
                "One of `strides` and `dilation_rate` must be 1. Received: "
                f"strides={strides!r}, dilation_rate={dilation_rate!r}"
            )
        if padding not in ("valid", "same"):
            raise ValueError(f'`padding` must be "valid" or "same". Received: padding={padding!r}')
        self.padding = padding

    def build(self, input_shape):
        super().build(input_shape)
        self.state_shape = self._convolved_shape(input_shape)[1:]

    def _kernel_shape(self, input_shape):
        if len(input_shape) != 4 or None in input_shape[1:]:
            raise ValueError(
                "`ConvSNU2D` takes inputs (batch, time, height, width, channels) whose height, "
                f"width and channels are known. Received for each time step: {tuple(input_shape)}"
            )
        return (*self.kernel_size, input_shape[-1], self.filters)

    def _convolved_shape(self, input_shape):
        convolution = keras.layers.Conv2D(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        return convolution.compute_output_shape(input_shape)

    def project(self, inputs):
        # A convolution takes one leading axis: batch and time together.
        leading = ops.shape(inputs)[:-3]
        dtype = self.kernel_dtype
        images = ops.reshape(ops.cast(inputs, dtype), (-1, *inputs.shape[-3:]))
        current = ops.conv(
            images,
            ops.cast(self.kernel, dtype),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format="channels_last",
        )
        return ops.reshape(current, (*leading, *current.shape[1:]))

    def get_initial_state(self, batch_size=None):
        zeros = ops.zeros((batch_size, *self.state_shape), dtype=self.compute_dtype)
        return [zeros, zeros]

    def get_config(self):
        config = super().get_config()
        for name in [name for name in config if name.startswith("recurrent")] + ["units"]:
            config.pop(name)
        config.update(
            filters=self.filters,
            kernel_size=self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
        )
        return config


@keras.saving.register_keras_serializable(package="keras_grapes")
@with_arguments_of_cell
class ConvSNU2D(SNU):
    """Convolutional layer of spiking neural units over a sequence of images.

    Every image of the sequence is convolved, all time steps at once, and the result is the input
    current of units with the dynamics of `keras_grapes.SNU`. Every position of a filter is a unit
    with a state of its own.

    Args:
        filters: Positive int, number of filters.
        kernel_size: Int or tuple of 2 ints, height and width of the convolution window.
        strides: Int or tuple of 2 ints. Defaults to 1.
        padding: `"valid"` or `"same"`. Defaults to `"valid"`.
        dilation_rate: Int or tuple of 2 ints. Defaults to 1.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`. All other arguments
            are those of `keras_grapes.SNU`.

    Call arguments:
        sequences: Tensor `(batch, time, height, width, channels)`.
        initial_state: List of two tensors `(batch, new height, new width, filters)`.
        mask: Bool tensor `(batch, time)`, `False` for time steps to skip.
        training: Bool, whether to drop inputs.

    Returns:
        Tensor `(batch, time, new height, new width, filters)` with `return_sequences`, else without
        the time axis; with `return_state` followed by output and potential of the last step.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Wozniak et al., 2020](https://doi.org/10.1038/s42256-020-0187-0).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> layer = kg.ConvSNU2D(8, 3, padding="same", return_sequences=True)
    >>> layer(keras.ops.ones((2, 20, 14, 14, 1))).shape
    TensorShape([2, 20, 14, 14, 8])
    """

    cell_class = ConvSNU2DCell
    input_rank = 5

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        dilation_rate: int | Sequence[int] = 1,
        decay: float = 0.8,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        activation: str | Callable = "step",
        input_activation: str | Callable = "relu",
        reset: str = "gate",
        use_bias: bool = True,
        surrogate: str | Callable = "tanh",
        trainable_decay: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer | None = None,
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        seed: int | None = None,
        detach_reset: bool = False,
        **kwargs,
    ) -> None:
        self._initialize(given(locals()))

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, time, *image = sequences_shape
        state = self.cell._convolved_shape((batch, *image))
        output = (batch, time, *state[1:]) if self.return_sequences else state
        return (output, state, state) if self.return_state else output


def _check_ints(name, value, count):
    values = (value,) * count if is_int(value) else value
    fits = isinstance(values, (tuple, list)) and len(values) == count
    if not (fits and all(is_int(v) and v > 0 for v in values)):
        allowed = "a positive int" if count == 1 else f"a positive int or {count} of them"
        raise ValueError(f"`{name}` must be {allowed}. Received: {name}={value!r}")
    return tuple(int(v) for v in values)
