"""Layer wrapper that modulates the error that arrives at a layer's output."""

import functools
import inspect

import keras
from keras import layers, ops

from keras_grapes import graph, grouping
from keras_grapes.modulation import Modulation

_CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell, layers.StackedRNNCells)
_GATED = (
    layers.LSTMCell,
    layers.GRUCell,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
)
# Layers of a block after which an axis of the output need not hold the nodes any more.
_MOVES_AXES = (layers.Permute, layers.Reshape)

_NO_KERNEL = (
    "it has no kernel. Wrap a layer with weights, or a `keras.Sequential` block that holds one. "
    "Register a layer of your own with `keras_grapes.register_grouping`"
)
_NOT_CHANNELS = (
    "its nodes are not the channels of its output. Leave it unwrapped and modulate its weights "
    "with `keras_grapes.Grapes(optimizer, model=model)`"
)
_SEVERAL_KERNELS = (
    "it is made of several layers with kernels. Wrap the layers in it where it creates them, or "
    "register it with `keras_grapes.register_grouping`"
)
_IS_CELL = (
    "it is the cell of a recurrent layer, and its factor would be computed at every time step. "
    "Wrap the recurrent layer: `ErrorModulation(keras.layers.RNN(cell))`"
)


@keras.saving.register_keras_serializable(package="keras_grapes")
class ErrorModulation(keras.layers.Wrapper):
    """Multiplies the error that arrives at a layer's output by the layer's modulation factors.

    This is the propagating version of GRAPES. The forward pass is that of the wrapped layer, bit
    for bit. In the backward pass the error of node `n` is multiplied by `m[n]`, a factor computed
    from the weights that enter the node, before it reaches the layer's weights and the layers
    below: `delta[l] = m[l] * (delta[l+1] W[l+1]^T) * f'(a[l])`. The factors of stacked layers
    multiply, so that deep networks need a smaller learning rate; `keras_grapes.summary` shows by
    how much.

    Wrap hidden layers only, with their activation, or a block of one layer with weights and the
    normalization and activation after it. `keras_grapes.propagate` wraps all hidden layers of a
    model. An optimizer `keras_grapes.Grapes` leaves weights in this wrapper alone.

    The wrapper has the name of the wrapped layer, its call arguments, its masks and its weights,
    and adds none of its own. For a recurrent layer the error of every time step is multiplied by
    the same factor, computed once. Wrap `TimeDistributed(layer)`, not the layer within.

    Args:
        layer: A `keras.layers.Layer` with a kernel whose nodes are the channels of the layer's
            output, or a `keras.Sequential` that holds exactly one such layer. A layer of several
            kernels, such as `MultiHeadAttention`, is modulated at the nodes of its output.
        modulation: A `keras_grapes.Modulation`. Defaults to `None`, GRAPES with its defaults.
        **kwargs: `name` and `trainable` of the wrapper, by default those of `layer`.

    Raises:
        TypeError: If `layer` is not a layer or `modulation` not a `Modulation`.
        ValueError: If the layer has no weights, or if its nodes are not the channels of its
            output.

    References:
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), Eq. 1 to 4.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((4,)),
    ...     kg.ErrorModulation(keras.layers.Dense(8, activation="relu", name="hidden")),
    ...     keras.layers.Dense(3, activation="softmax"),
    ... ])
    >>> model.layers[0].name
    'hidden'
    """

    def __init__(self, layer, modulation=None, **kwargs):
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                "`layer` must be a `keras.layers.Layer`. Received: "
                f"layer={layer!r} of type {type(layer).__name__}"
            )

        # Keras reads the signature of `call` to pass masks, `training` and further inputs: give it
        # that of the wrapped layer.
        @functools.wraps(layer.call)
        def call(*args, **kwargs):
            return self._call(*args, **kwargs)

        object.__setattr__(self, "call", call)
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("trainable", layer.trainable)
        # No autocast: in mixed precision the wrapped layer casts its own weights, and the factor
        # is computed from the uncast ones.
        kwargs["dtype"] = layer.variable_dtype
        super().__init__(layer, autocast=False, **kwargs)
        self.modulation = Modulation.get(modulation)
        self.supports_masking = layer.supports_masking
        check_wrappable(layer)
        grouping.remember_wrapper(self)

    def build(self, input_shape=None):
        # A layer that takes several inputs is built by its own first call.
        if not self.layer.built and _takes_one_shape(self.layer.build):
            self.layer.build(input_shape)
        if self.layer.built:
            check_wrappable(self.layer)

    def _call(self, *args, **kwargs):
        outputs = self.layer(*args, **kwargs)
        group = output_group(self.layer)
        factor = group.factor(self.modulation)

        def modulate(output):
            try:
                aligned = group.over_output(factor, output.shape)
            except ValueError as error:
                raise ValueError(_refusal(self.layer, str(error))) from error
            return modulate_error(output, aligned)

        if isinstance(outputs, (list, tuple)):
            # Of a recurrent layer the states are the nodes too; of others only the first output.
            states = isinstance(self.layer, layers.RNN)
            first, *rest = outputs
            rest = keras.tree.map_structure(modulate, rest) if states else rest
            return type(outputs)([modulate(first), *rest])
        return modulate(outputs)

    def compute_output_spec(self, *args, **kwargs):
        # Traces `call`, so that the dtype is the wrapped layer's and the axes are checked.
        return keras.Operation.compute_output_spec(self, *args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self):
        config = super().get_config()
        # Taken from the wrapped layer.
        config.pop("dtype", None)
        config["modulation"] = keras.saving.serialize_keras_object(self.modulation)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return super().from_config(dict(config), custom_objects=custom_objects)


@ops.custom_gradient
def modulate_error(x, factor):
    """Returns `x` unchanged; its gradient is multiplied by `factor`.

    Args:
        x: Tensor.
        factor: Tensor that broadcasts over `x`, constant to differentiation.

    Returns:
        Tensor, equal to `x`.
    """

    def grad(*args, upstream=None):
        if upstream is None:
            (upstream,) = args
        upstream = ops.convert_to_tensor(upstream)
        # The product is rounded once, to the precision of the error.
        product = ops.cast(upstream, factor.dtype) * factor
        return ops.cast(product, upstream.dtype), ops.zeros_like(factor)

    return x, grad


def check_wrappable(layer):
    """Raises a `ValueError` that says why, if `ErrorModulation` cannot wrap a layer.

    Of a layer that is not built yet only the class is known; the rest is checked when it is built.
    """
    if layer.built:
        output_group(layer)
    elif isinstance(layer, _CELLS):
        raise ValueError(_refusal(layer, _IS_CELL))
    elif isinstance(layer, _GATED) or isinstance(getattr(layer, "cell", None), _GATED):
        raise ValueError(_refusal(layer, _NOT_CHANNELS))
    elif isinstance(layer, layers.Embedding) or _is_plain_keras_layer(layer):
        raise ValueError(_refusal(layer, _NO_KERNEL))


def output_group(layer):
    """Returns the one `Group` of a built layer whose nodes are the channels of its output.

    Raises:
        ValueError: If there is none, or more than one.
    """
    if isinstance(layer, keras.Sequential):
        return _block_group(layer)
    if isinstance(layer, _CELLS):
        raise ValueError(_refusal(layer, _IS_CELL))
    groups = grouping.nested_groups(layer)
    if len(groups) > 1 and grouping.find_grouping(layer) is None:
        raise ValueError(_refusal(layer, _SEVERAL_KERNELS))
    groups = [group for group in groups if group.feeds_output]
    if not groups:
        raise ValueError(_refusal(layer, _NO_KERNEL))
    if len(groups) > 1 or groups[0].output_axis is None:
        raise ValueError(_refusal(layer, _NOT_CHANNELS))
    return groups[0]


def _block_group(block):
    weighted = [leaf for leaf in graph.leaf_layers(block) if grouping.nested_groups(leaf)]
    if len(weighted) != 1:
        raise ValueError(
            _refusal(
                block,
                f"the block holds {len(weighted)} layers with kernels. A block must hold exactly "
                "one: wrap each layer by itself, or `keras_grapes.propagate` the model",
            )
        )
    moving = [leaf.name for leaf in graph.leaf_layers(block) if isinstance(leaf, _MOVES_AXES)]
    if moving:
        raise ValueError(
            _refusal(
                block,
                f"`{moving[0]}` moves the nodes away from the channel axis. End the block before "
                "it",
            )
        )
    return output_group(weighted[0])


def _is_plain_keras_layer(layer):
    """Whether Keras's own class tells, before it is built, that a layer has no kernel."""
    own = type(layer).__module__.split(".")[0] == "keras"
    return own and not graph.sublayers(layer) and grouping.find_grouping(layer) is None


def _takes_one_shape(build):
    required = [
        parameter
        for parameter in inspect.signature(build).parameters.values()
        if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
    ]
    return len(required) <= 1


def _refusal(layer, reason):
    return (
        f"`ErrorModulation` cannot wrap layer '{layer.name}' of type {type(layer).__name__}: "
        f"{reason}."
    )
