"""Layer wrapper that modulates the error that arrives at a layer's output."""

import contextlib
import contextvars
import functools
import inspect
from typing import Any

import keras
from keras import layers, ops

from keras_grapes import graph, keras_hooks
from keras_grapes.groups import (
    error_modulated,
    is_registered,
    is_wrapper,
    nested_groups,
    remember_wrapper,
)
from keras_grapes.modulation import Modulation

__all__ = ["ErrorModulation", "plain_gradients"]

_CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell, layers.StackedRNNCells)
_GATED = (
    layers.LSTMCell,
    layers.GRUCell,
    layers.ConvLSTM1D,
    layers.ConvLSTM2D,
    layers.ConvLSTM3D,
    layers.Bidirectional,
)
# Of their outputs only the first has nodes; attention scores may have as many places as it.
_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
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
    "it is made of several layers with kernels. Wrap the layers in it where it creates them, "
    "register it with `keras_grapes.register_grouping`, or modulate its weights with "
    "`keras_grapes.Grapes(optimizer, model=model)`"
)
_IS_CELL = (
    "it is the cell of a recurrent layer, and its factor would be computed at every time step. "
    "Wrap the recurrent layer: `ErrorModulation(keras.layers.RNN(cell))`"
)
# Whether errors are modulated whatever `training` says; `None` leaves it to that.
_modulates = contextvars.ContextVar("keras_grapes_modulates", default=None)


@contextlib.contextmanager
def _modulating(value):
    token = _modulates.set(value)
    try:
        yield
    finally:
        _modulates.reset(token)


def modulated_gradients():
    """A context in which every `keras_grapes.ErrorModulation` acts, at inference too."""
    return _modulating(True)


def plain_gradients() -> contextlib.AbstractContextManager:
    """A context in which no `keras_grapes.ErrorModulation` acts: gradients are those of the model.

    For derivatives that are not there to train by: gradient penalties, physics-informed losses,
    saliency maps, adversarial examples, style losses. A model that is called in the context has
    plain gradients of every order; so has a gradient that is taken in it.

    In a compiled function, such as a `train_step`, or a function that a strategy runs, it stands
    within that function: there it acts while the function is traced.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> import numpy as np
    >>> import tensorflow as tf
    >>> layer = kg.ErrorModulation(keras.layers.Dense(2, use_bias=False))
    >>> layer.build((None, 1))
    >>> layer.set_weights([np.array([[1.0, 2.0]])])
    >>> x = tf.constant([[1.0]])
    >>> with tf.GradientTape() as tape, kg.plain_gradients():
    ...     tape.watch(x)
    ...     y = layer(x)
    >>> float(tape.gradient(y, x)[0, 0])
    3.0
    """
    return _modulating(False)


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

    The error is modulated in training alone: with `training=False`, as in `predict` and
    `evaluate`, gradients are those of the wrapped layer. So are they in
    `with keras_grapes.plain_gradients():`, for derivatives that are taken in training for another
    purpose, such as a gradient penalty. Where nothing says `training`, as in a bare `model(x)`, the
    error is modulated. Of a part of a model that is called with `training=False` to keep its
    statistics, no error is modulated either.

    The wrapper has the name of the wrapped layer, its call arguments, its masks and its weights,
    and adds none of its own. Attributes and methods that it does not have are those of the wrapped
    layer (`reset_state`, `units`, `activation`, `enable_lora`), also where they are set. For a
    recurrent layer the error of every time step is multiplied by the same factor, computed once.
    Wrap `TimeDistributed(layer)`, not the layer within. A layer that holds an `ErrorModulation`
    already is refused, as its error would be modulated twice.

    Of a layer with several outputs, in a tuple, list or dict, the error is modulated at each output
    whose axis has as many places as there are nodes; of an attention layer at the first alone, and
    not at its scores.

    Args:
        layer: A `keras.layers.Layer` with a kernel whose nodes are the channels of the layer's
            output, or a `keras.Sequential` that holds exactly one such layer. A layer of several
            kernels, such as `MultiHeadAttention`, is modulated at the nodes of its output.
        modulation: A `keras_grapes.Modulation`. Defaults to `Modulation()`, GRAPES.
        **kwargs: `name` and `trainable` of the wrapper, by default those of `layer`.

    Raises:
        TypeError: If `layer` is not a layer or `modulation` not a `Modulation`.
        ValueError: If the layer has no weights, if its nodes are not the channels of its
            output, or if it holds an `ErrorModulation` already.

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

    # One of the wrapper, whatever attributes the wrapped layer has.
    modulation = None

    def __init__(
        self, layer: keras.layers.Layer, modulation: Modulation = Modulation(), **kwargs
    ) -> None:
        if not isinstance(layer, keras.layers.Layer):
            raise TypeError(
                "`layer` must be a `keras.layers.Layer`. Received: "
                f"layer={layer!r} of type {type(layer).__name__}{graph.keras_2_hint(layer)}"
            )
        if type(self).call is ErrorModulation.call:
            keras_hooks.replace(self, call=_as_call_of(layer, self.call))
        kwargs.setdefault("name", layer.name)
        kwargs.setdefault("trainable", layer.trainable)
        # No autocast: in mixed precision the wrapped layer casts its own weights, and the factor
        # is computed from the uncast ones.
        kwargs["dtype"] = layer.variable_dtype
        super().__init__(layer, autocast=False, **kwargs)
        self.modulation = Modulation.get(modulation)
        self.supports_masking = layer.supports_masking
        self._passes_training = "training" in inspect.signature(layer.call).parameters
        check_wrappable(layer)
        remember_wrapper(self)

    def build(self, input_shape=None, **shapes):
        if not self.layer.built:
            if shapes:
                self.layer.build(**shapes)
            elif _can_be_built(self.layer):
                self.layer.build(input_shape)
        if self.layer.built:
            check_wrappable(self.layer)

    def get_build_config(self):
        return self.layer.get_build_config()

    def build_from_config(self, config):
        if not self.layer.built:
            self.layer.build_from_config(config)
        self.build()

    def call(self, *args, training: bool | None = None, **kwargs) -> Any:
        if training is not None and self._passes_training:
            kwargs["training"] = training
        outputs = self.layer(*args, **kwargs)
        acts = _modulates.get()
        acts = training if acts is None else acts
        if isinstance(acts, (bool, int)) and not acts:
            return outputs
        group = output_group(self.layer)
        factor = group.factor(self.modulation)
        if acts is not None and not isinstance(acts, (bool, int)):
            factor = ops.where(acts, factor, ops.ones_like(factor))
        factors = _over_outputs(self.layer, group, factor, outputs)
        flat = keras.tree.flatten(outputs)
        flat = [x if f is None else modulate_error(x, f) for x, f in zip(flat, factors)]
        return keras.tree.pack_sequence_as(outputs, flat)

    def quantize(self, mode=None, **kwargs):
        self.layer.quantize(mode, **kwargs)

    # `dir` stays as it is: Keras saves what it lists, and would find the layer's weights twice.

    def __getattr__(self, name):
        if hasattr(super(), "__getattr__"):
            # On PyTorch a layer's layers are among what that finds.
            with contextlib.suppress(AttributeError):
                return super().__getattr__(name)
        layer = _within(self)
        if name.startswith("_") or layer is None or hasattr(type(self), name):
            return object.__getattribute__(self, name)  # With the message of a property.
        try:
            return getattr(layer, name)
        except AttributeError:
            raise AttributeError(
                f"Neither '{type(self).__name__}' nor the {type(layer).__name__} '{layer.name}' in "
                f"it has an attribute '{name}'"
            ) from None

    def __setattr__(self, name, value):
        layer = _within(self)
        is_own = name.startswith("_") or name in vars(self) or hasattr(type(self), name)
        if not is_own and layer is not None and hasattr(layer, name):
            setattr(layer, name, value)
        else:
            super().__setattr__(name, value)

    def compute_output_spec(self, *args, **kwargs):
        # Traces `call`, so that the dtype is the wrapped layer's and the axes are checked.
        return keras_hooks.spec_by_call(self, *args, **kwargs)

    def compute_output_shape(self, *args, **kwargs):
        return self.layer.compute_output_shape(*args, **kwargs)

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict:
        config = super().get_config()
        # Taken from the wrapped layer.
        config.pop("dtype", None)
        config["modulation"] = keras.saving.serialize_keras_object(self.modulation)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return super().from_config(dict(config), custom_objects=custom_objects)


def _within(wrapper):
    """The wrapped layer, or `None` as long as there is none."""
    own = vars(wrapper)
    # PyTorch's modules keep the modules that they hold in a dict of its own.
    return own.get("layer", own.get("_modules", {}).get("layer"))


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
        if _modulates.get() is False:
            return upstream, ops.zeros_like(factor)
        # The product is rounded once, to the precision of the error.
        product = ops.cast(upstream, factor.dtype) * factor
        return ops.cast(product, upstream.dtype), ops.zeros_like(factor)

    return x, grad


def check_wrappable(layer):
    """Raises a `ValueError` that says why, if `ErrorModulation` cannot wrap a layer.

    Of a layer that is not built yet only the class is known; the rest is checked when it is built.
    """
    _check_modulated_once(layer)
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
    groups = nested_groups(layer)
    if len(groups) > 1 and not is_registered(layer):
        raise ValueError(_refusal(layer, _SEVERAL_KERNELS))
    groups = [group for group in groups if group.feeds_output]
    if not groups:
        raise ValueError(_refusal(layer, _NO_KERNEL))
    if len(groups) > 1 or groups[0].output_axis is None:
        raise ValueError(_refusal(layer, _NOT_CHANNELS))
    return groups[0]


def _block_group(block):
    weighted = [leaf for leaf in graph.leaf_layers(block) if nested_groups(leaf)]
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
    return own and not graph.sublayers(layer) and not is_registered(layer)


def check_output(layer, outputs):
    """Raises a `ValueError` if no output of a layer that can be wrapped has the nodes on its axis.

    Args:
        layer: A built layer.
        outputs: The structure of its outputs, symbolic ones for example.
    """
    group = output_group(layer)
    _over_outputs(layer, group, ops.ones(group.node_shape), outputs)


def _over_outputs(layer, group, factor, outputs):
    """Lists for each output of a layer the factor that broadcasts over it, `None` without nodes."""
    factors, problems = [], []
    for place, output in enumerate(keras.tree.flatten(outputs)):
        factors.append(None)
        if not _is_float(output) or (place and isinstance(layer, _ATTENTION)):
            continue
        try:
            factors[-1] = group.over_output(factor, output.shape)
        except ValueError as error:
            problems.append(error)
    if all(one is None for one in factors):
        reason = str(problems[0]) if problems else "none of its outputs is a tensor of floats"
        raise ValueError(_refusal(layer, reason))
    return factors


def _check_modulated_once(layer):
    within = [layer, *graph.all_layers(layer)]
    wrappers = [inner for inner in within if is_wrapper(inner)]
    if not wrappers:
        return
    if is_registered(layer):
        # Its output may have nodes of its own; they are known once it is built.
        groups = nested_groups(layer) if layer.built else []
        modulated = error_modulated(within)
        if not any(modulated & set(group.keys) for group in groups if group.feeds_output):
            return
    raise ValueError(
        _refusal(
            layer,
            f"'{wrappers[0].name}' in it is in an `ErrorModulation` already, and the error would "
            "be modulated twice. Leave one of the two out",
        )
    )


def _as_call_of(layer, call):
    """Gives `call` the signature of a layer's, by which Keras passes masks and further inputs.

    `training` is added, as the wrapper itself needs it, and without a default: what nobody says is
    left to the layer.
    """
    signature = inspect.signature(layer.call)
    training = inspect.Parameter("training", inspect.Parameter.KEYWORD_ONLY, default=None)
    parameters = list(signature.parameters.values())
    if "training" in signature.parameters:
        parameters = [p.replace(default=None) if p.name == "training" else p for p in parameters]
    elif parameters and parameters[-1].kind == inspect.Parameter.VAR_KEYWORD:
        parameters.insert(-1, training)
    else:
        parameters.append(training)

    @functools.wraps(layer.call)
    def call_as(*args, **kwargs):
        return call(*args, **kwargs)

    call_as.__signature__ = signature.replace(parameters=parameters)
    return call_as


def _is_float(output):
    dtype = getattr(output, "dtype", None)
    return dtype is not None and "float" in keras.backend.standardize_dtype(dtype)


def _can_be_built(layer):
    """Whether `build` makes the weights of a layer, and takes a single shape.

    Others are built by their first call.
    """
    if type(layer).build is keras.layers.Layer.build:
        return False
    required = [
        parameter
        for parameter in inspect.signature(layer.build).parameters.values()
        if parameter.default is parameter.empty and parameter.kind != parameter.VAR_KEYWORD
    ]
    return len(required) <= 1


def _refusal(layer, reason):
    return (
        f"`ErrorModulation` cannot wrap layer '{layer.name}' of type {type(layer).__name__}: "
        f"{reason}."
    )
