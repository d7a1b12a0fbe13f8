"""The linear map within a layer: what it does with its input and its kernel, ahead of all else."""

import dataclasses
import functools
import typing
from collections.abc import Callable

import keras
from keras import layers, ops

from keras_grapes import keras_hooks
from keras_grapes.groups.einsum import Equation
from keras_grapes.layer_registry import LayerRegistry

__all__ = ["LinearMap", "linear_map", "register_linear_map"]

_linear_maps = LayerRegistry("register_linear_map")


@dataclasses.dataclass(frozen=True, eq=False)
class LinearMap:
    """A layer as a linear map of its input and what follows it within the layer.

    The layer computes `finish(apply(prepare(inputs), *kernels))`.

    Args:
        kernels: The variable, or list of variables, that `apply` takes.
        apply: Function `(inputs, *kernels)`, linear in `inputs` for fixed kernels. It must not read
            the layer's own kernels: other tensors take their place on the way of the error.
        finish: Function of what `apply` returns, and of the keyword arguments of the layer's call
            by name, that returns the layer's output: bias, activation, dynamics over time. With
            `None` it adds the layer's `bias`, if it has one, and runs its `activation`. Defaults to
            `None`.
        prepare: Function `(inputs, training)` of what the layer does to its inputs first, as
            dropout does. Defaults to `None`, nothing.
        over_time: Bool, whether axis 1 of the inputs is time. Defaults to `False`.
        input_axes: Tuple of ints, the axes of the inputs along which the nodes below lie. Defaults
            to `(-1,)`.
        kernel_axes: Tuple of ints, the axes of the first kernel that belong to `input_axes`.
            Defaults to `(-2,)`.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> layer = keras.layers.Dense(3)
    >>> layer.build((None, 2))
    >>> tuple(kg.LinearMap(layer.kernel, keras.ops.matmul).kernels[0].shape)
    (2, 3)
    """

    kernels: tuple
    apply: typing.Callable
    finish: typing.Callable | None = None
    prepare: typing.Callable | None = None
    over_time: bool = False
    input_axes: tuple = (-1,)
    kernel_axes: tuple = (-2,)

    def __post_init__(self):
        kernels = self.kernels if isinstance(self.kernels, (list, tuple)) else (self.kernels,)
        object.__setattr__(self, "kernels", tuple(kernels))


def register_linear_map(layer_class: type) -> Callable:
    """Tells the linear map of a custom layer, so that the feedback models can train it.

    The decorated function gets a built layer of the class, or of a subclass without a `call` of its
    own, and returns its `keras_grapes.linear.LinearMap`, or `None` where it has none. Registering a
    class again replaces its function. With a modulation the feedback models ask
    `keras_grapes.register_grouping` for the nodes of the layer.

    Args:
        layer_class: A subclass of `keras.layers.Layer`.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: If `layer_class` is not a layer class.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> class Transposed(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight(shape=(8, input_shape[-1]))
    ...     def call(self, x):
    ...         return keras.ops.matmul(x, keras.ops.transpose(self.w))
    >>> @kg.register_linear_map(Transposed)
    ... def transposed_map(layer):
    ...     return kg.linear.LinearMap(
    ...         layer.w, lambda x, w: keras.ops.matmul(x, keras.ops.transpose(w)), kernel_axes=(-1,)
    ...     )
    >>> model = keras.Sequential([keras.Input((4,)), Transposed(), Transposed()])
    >>> [tuple(kernel.shape) for kernel in kg.FeedbackAlignment(model).feedback_kernels]
    [(8, 8)]
    """
    return _linear_maps.register(layer_class)


def linear_map(layer: keras.layers.Layer) -> LinearMap | None:
    """Returns the `LinearMap` of a layer, or `None` for a layer that has none.

    Raises:
        ValueError: If its class changes what a registered class does. The message goes on after the
            layer's name.
        TypeError: If a registered function returns something else.
    """
    registered = _linear_maps.base(layer)
    if registered is None or not layer.built:
        return None
    found = _linear_maps.find(layer)(layer)
    if found is None:
        return None
    if not isinstance(found, LinearMap):
        raise TypeError(
            f"The linear map registered for `{registered.__name__}` must be a "
            f"`keras_grapes.linear.LinearMap` or None. Received: {found!r}"
        )
    called_by = next(base for base in type(layer).__mro__ if "call" in vars(base))
    if not issubclass(registered, called_by) or "call" in vars(layer):
        raise ValueError(
            "its class has a `call` of its own. Use Keras's own layer, or tell its linear map by "
            "`keras_grapes.register_linear_map`"
        )
    if getattr(layer, "quantization_mode", None) is not None:
        raise ValueError("it is quantized. Quantize after the training")
    if found.finish is None:
        return dataclasses.replace(found, finish=functools.partial(_bias_and_activation, layer))
    return found


def _bias_and_activation(layer, outputs, **kwargs):
    bias = getattr(layer, "bias", None)
    if bias is not None:
        bias = ops.cast(bias, outputs.dtype)
        if getattr(layer, "data_format", None) == "channels_first":
            bias = ops.reshape(bias, (-1, *[1] * (len(outputs.shape) - 2)))
        outputs = ops.add(outputs, bias)
    activation = getattr(layer, "activation", None)
    return outputs if activation is None else activation(outputs)


# Keras's own layers.


@register_linear_map(layers.Dense)
def _dense(layer):
    return LinearMap(layer.kernel, ops.matmul)


@register_linear_map(layers.EinsumDense)
def _einsum_dense(layer):
    inputs, kernel, output = Equation.of(layer)
    shared = [letter for letter in kernel if letter in inputs and letter not in output]
    after = inputs.partition("...")[2] or inputs
    return LinearMap(
        layer.kernel,
        functools.partial(ops.einsum, layer.equation),
        # Counted from the end: an ellipsis stands ahead.
        input_axes=tuple(after.index(letter) - len(after) for letter in shared if letter in after),
        kernel_axes=tuple(kernel.index(letter) for letter in shared if letter in after),
    )


@register_linear_map(layers.Conv1D)
@register_linear_map(layers.Conv2D)
@register_linear_map(layers.Conv3D)
def _conv(layer):
    def convolve(inputs, kernel):
        padding = layer.padding
        if padding == "causal":
            past = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            time_axis = 2 if layer.data_format == "channels_first" else 1
            inputs = ops.pad(inputs, [(past if a == time_axis else 0, 0) for a in range(3)])
            padding = "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return LinearMap(layer.kernel, convolve, input_axes=_channels(layer))


@register_linear_map(layers.Conv1DTranspose)
@register_linear_map(layers.Conv2DTranspose)
@register_linear_map(layers.Conv3DTranspose)
def _conv_transpose(layer):
    def convolve(inputs, kernel):
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=list(layer.strides),
            padding=layer.padding,
            output_padding=layer.output_padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    return LinearMap(layer.kernel, convolve, input_axes=_channels(layer), kernel_axes=(-1,))


@register_linear_map(layers.DepthwiseConv1D)
@register_linear_map(layers.DepthwiseConv2D)
def _depthwise_conv(layer):
    return LinearMap(
        layer.kernel,
        functools.partial(ops.depthwise_conv, **_convolution_arguments(layer)),
        input_axes=_channels(layer),
    )


@register_linear_map(layers.SeparableConv1D)
@register_linear_map(layers.SeparableConv2D)
def _separable_conv(layer):
    return LinearMap(
        [layer.depthwise_kernel, layer.pointwise_kernel],
        functools.partial(ops.separable_conv, **_convolution_arguments(layer)),
        input_axes=_channels(layer),
    )


def _convolution_arguments(layer):
    return {
        "strides": layer.strides,
        "padding": layer.padding,
        "dilation_rate": layer.dilation_rate,
        "data_format": layer.data_format,
    }


def _channels(layer):
    return (1,) if layer.data_format == "channels_first" else (-1,)


@register_linear_map(layers.RNN)
@register_linear_map(layers.SimpleRNN)
def recurrent_map(layer):
    """The input current of its units; what they do with it over time is the layer's own.

    Register it for recurrent layers of your own, if their cells have `project` as
    `keras_grapes.SNUCell` has it.
    """
    cell = layer.cell
    if hasattr(cell, "project"):
        if getattr(cell, "kernel", None) is None:
            return None

        # As `keras_grapes.SNUCell`: `project(inputs)` times `kernel` is the input current.
        def apply(inputs, kernel):
            with keras_hooks.replaced(cell, kernel=kernel):
                return cell.project(inputs)

        within = {"project": lambda current: current}
    elif type(cell).call is layers.SimpleRNNCell.call:
        apply = ops.matmul
        within = {"call": functools.partial(_simple_rnn_step, cell)}
    else:
        return None

    def prepare(inputs, training):
        if training and cell.dropout > 0:
            mask = cell.get_dropout_mask(inputs[:, 0])
            return inputs * ops.expand_dims(mask, 1)
        return inputs

    def finish(current, **kwargs):
        with keras_hooks.replaced(cell, dropout=0.0, **within):
            return layer.call(current, **kwargs)

    return LinearMap(cell.kernel, apply, finish, prepare, over_time=True)


def _simple_rnn_step(cell, current, states, training=False):
    """A step of Keras's `SimpleRNNCell` from the product of its input and its kernel on."""
    (previous,) = states
    if cell.bias is not None:
        current = ops.add(current, cell.bias)
    if training and cell.recurrent_dropout > 0:
        previous = previous * cell.get_recurrent_dropout_mask(previous)
    output = ops.add(current, ops.matmul(previous, cell.recurrent_kernel))
    if cell.activation is not None:
        output = cell.activation(output)
    return output, [output]


@register_linear_map(layers.TimeDistributed)
def _time_distributed(layer):
    inner = linear_map(layer.layer)
    if inner is None or inner.over_time or inner.prepare is not None:
        return None

    def at_each_step(function):
        def over_steps(inputs, *kernels, **kwargs):
            batch, steps = ops.shape(inputs)[:2]
            merged = ops.reshape(inputs, (-1, *inputs.shape[2:]))
            outputs = function(merged, *kernels)
            return ops.reshape(outputs, (batch, steps, *outputs.shape[1:]))

        return over_steps

    return LinearMap(
        inner.kernels,
        at_each_step(inner.apply),
        at_each_step(inner.finish),
        over_time=True,
        input_axes=tuple(axis + 1 if axis >= 0 else axis for axis in inner.input_axes),
        kernel_axes=inner.kernel_axes,
    )
