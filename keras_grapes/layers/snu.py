"""Spiking neural units: recurrent cells and layers over `(batch, time, features)`."""

import inspect
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import activations, ops

from keras_grapes.checks import check_bool, check_positive_int, check_share
from keras_grapes.groups import Group, register_grouping
from keras_grapes.layers.neuron_layer import NeuronCell, NeuronLayer
from keras_grapes.layers.snu_dynamics import DERIVATIVES, DETACHED_RESETS, RESETS, SNUNeuron
from keras_grapes.layers.surrogate import get_surrogate, spike
from keras_grapes.types import Constraint, Initializer, Regularizer, Tensor

__all__ = ["SNU", "SNUCell", "SSNU", "SSNUCell"]

_TRAINABLE_DECAYS = (None, "scalar", "unit")


@keras.saving.register_keras_serializable(package="keras_grapes")
class SNUCell(NeuronCell, keras.layers.SimpleRNNCell):
    """Cell of a spiking neural unit: one time step of `keras_grapes.SNU`.

    A unit integrates its input into a potential that decays, spikes when the potential exceeds its
    threshold, and is then reset:

        s[t] = input_activation(x[t] W + y[t-1] H + decay * kept[t-1])
        y[t] = activation(s[t] + b)

    with the potential `s`, the output `y`, the bias `b` (minus the threshold) and, by `reset`,

    | `reset`      | `kept`                          | after a spike the unit keeps               |
    |--------------|---------------------------------|--------------------------------------------|
    | `"gate"`     | `s * (1 - y)`                   | nothing (the unit of the paper)            |
    | `"soft"`     | `s * (1 - sigmoid(s + b))`      | the less the higher its potential was      |
    | `"subtract"` | `s + b * y`                     | what exceeded the threshold                |
    | `"none"`     | `s`                             | all                                        |

    Errors flow through the reset too. The GRAPES papers train with "a soft-reset" that they do not
    define; `"soft"` is our reading of it.

    Use it in `keras.layers.RNN`, `keras.layers.StackedRNNCells` or `keras.layers.Bidirectional`;
    where one layer of units is all you need, `keras_grapes.SNU` is the same and faster. Its states
    are the output and the potential, both 0 at first.

    Args:
        units: Positive int, number of units.
        decay: Float from 0 to 1, the share of the potential that is left after a time step.
            Defaults to 0.8.
        activation: `"step"`, or a Keras activation or function for a soft unit. Defaults to
            `"step"`.
        input_activation: Keras activation or function. Defaults to `"relu"`.
        recurrent: Bool, whether the outputs feed back through a kernel `H`. Defaults to `False`.
        reset: String, one of the table. Defaults to `"gate"`.
        use_bias: Bool. Without a bias the threshold is 0. Defaults to `True`.
        surrogate: Name, `keras_grapes.Surrogate` or function, the pseudo-derivative of the step.
            Without effect for other activations. Defaults to `"tanh"`.
        trainable_decay: `None`, or `"scalar"` or `"unit"` to learn one decay for all units or one
            for each, from `decay` on. It stays between 0 and 1, since its logit is what is
            learned. Defaults to `None`.
        kernel_initializer: Initializer of `W`. Defaults to `"glorot_uniform"`.
        recurrent_initializer: Initializer of `H`. Defaults to `"glorot_uniform"`.
        bias_initializer: Initializer of `b`. Defaults to `None`, all -1: a threshold of 1.
        kernel_regularizer: Regularizer of `W`. Defaults to `None`.
        recurrent_regularizer: Regularizer of `H`. Defaults to `None`.
        bias_regularizer: Regularizer of `b`. Defaults to `None`.
        kernel_constraint: Constraint of `W`. Defaults to `None`.
        recurrent_constraint: Constraint of `H`. Defaults to `None`.
        bias_constraint: Constraint of `b`. Defaults to `None`.
        dropout: Float from 0 to 1, the share of the inputs to drop, the same ones at all time
            steps. Defaults to 0.
        seed: Int, the seed of `dropout`. Defaults to `None`.
        detach_reset: Bool, whether errors pass the reset by, as if what it takes away were a
            constant. Defaults to `False`.

    Call arguments:
        sequence: Tensor `(batch, features)`, the input of one time step.
        states: List of two tensors `(batch, units)`, the output and the potential of the time step
            before.
        training: Bool, whether to drop inputs.

    Raises:
        ValueError: If an argument is not one of the values above.
        TypeError: If `surrogate` is not a name or a function.

    References:
        - [Wozniak et al., 2020](https://doi.org/10.1038/s42256-020-0187-0), the units.
        - [Dellaferrera et al., 2022](https://doi.org/10.1038/s41467-022-29491-2), GRAPES on them.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> layer = keras.layers.RNN([kg.SNUCell(16), kg.SNUCell(3)], return_sequences=True)
    >>> layer(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 3])
    """

    # A `SimpleRNNCell`, because Keras prepares dropout masks only for its own classes of cells.

    def __init__(
        self,
        units: int,
        decay: float = 0.8,
        activation: str | Callable = "step",
        input_activation: str | Callable = "relu",
        recurrent: bool = False,
        reset: str = "gate",
        use_bias: bool = True,
        surrogate: str | Callable = "tanh",
        trainable_decay: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer | None = None,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        seed: int | None = None,
        detach_reset: bool = False,
        **kwargs,
    ) -> None:
        check_positive_int("units", units)
        _check_decay(decay, trainable_decay)
        flags = {"recurrent": recurrent, "use_bias": use_bias, "detach_reset": detach_reset}
        for name, value in flags.items():
            check_bool(name, value)
        if not isinstance(reset, str) or reset not in RESETS:
            raise ValueError(f"`reset` must be one of {list(RESETS)}. Received: reset={reset!r}")
        check_share("dropout", dropout)
        if bias_initializer is None:
            bias_initializer = keras.initializers.Constant(-1.0)
        super().__init__(
            int(units),
            activation=None,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            seed=seed,
            **_without_recurrent_dropout(kwargs),
        )
        # Both have a precision of their own.
        self.autocast = False
        self.state_size = [self.units, self.units]
        self.decay = float(decay)
        self.trainable_decay = trainable_decay
        self.recurrent = recurrent
        self.reset = reset
        self.detach_reset = detach_reset
        self.surrogate = get_surrogate(surrogate)
        self.input_activation = activations.get(input_activation)
        self.is_spiking = activation == "step"
        self.activation = activations.get(None if self.is_spiking else activation)
        self.neuron = self._make_neuron()

    def _make_neuron(self):
        activation, slope = self.activation, None
        derivative = DERIVATIVES.get(activation)
        if derivative is not None:

            def slope(x, y):
                return derivative(y)

        if self.is_spiking:

            def activation(x):
                return spike(x, self.surrogate)

            def slope(x, y):
                return self.surrogate(x)

        return SNUNeuron(
            input_activation=self.input_activation,
            activation=activation,
            reset=(DETACHED_RESETS if self.detach_reset else RESETS)[self.reset],
            input_slope=DERIVATIVES.get(self.input_activation),
            slope=slope,
        )

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=self._kernel_shape(input_shape),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.bias = self.decay_logit = None
        if self.recurrent:
            self.recurrent_kernel = self.add_weight(
                shape=(self.units, self.units),
                name="recurrent_kernel",
                initializer=self.recurrent_initializer,
                regularizer=self.recurrent_regularizer,
                constraint=self.recurrent_constraint,
                autocast=False,
            )
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(self.units,),
                name="bias",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                autocast=False,
            )
        if self.trainable_decay:
            self.decay_logit = self.add_weight(
                shape=() if self.trainable_decay == "scalar" else (self.units,),
                name="decay_logit",
                initializer=keras.initializers.Constant(math.log(self.decay / (1 - self.decay))),
                autocast=False,
            )
        self.built = True

    def _kernel_shape(self, input_shape):
        if input_shape[-1] is None:
            raise ValueError(
                "The number of features, the last axis of the input, must be known. Received: "
                f"input_shape={input_shape}"
            )
        return (input_shape[-1], self.units)

    @property
    def fires(self):
        """Whether the outputs are spikes, or between 0 and 1 as the rates of spikes are."""
        return self.is_spiking or self.activation in (
            activations.sigmoid,
            activations.hard_sigmoid,
        )

    def parameters(self):
        """Returns decay and bias, numbers where they are constant, else tensors."""
        decay = self.decay
        if self.decay_logit is not None:
            decay = ops.sigmoid(self._tensor(self.decay_logit))
        return decay, 0.0 if self.bias is None else self._tensor(self.bias)

    def firing_threshold(self, state):
        if not self.is_spiking:
            return None
        # Not `-bias`, which makes -0 of 0.
        return 0.0 - self.parameters()[1]

    def feedback_kernel(self):
        return None if self.recurrent_kernel is None else self._tensor(self.recurrent_kernel)

    def project(self, inputs):
        """Input current of the units: `inputs` over any leading axes, times the kernel."""
        dtype = self.kernel_dtype
        return ops.matmul(ops.cast(inputs, dtype), ops.cast(self.kernel, dtype))

    def call(self, sequence: Tensor, states: Sequence[Tensor], training: bool = False) -> Any:
        if training and self.dropout > 0:
            sequence = sequence * self.get_dropout_mask(sequence)
        return self.advance(sequence, states)

    def get_initial_state(self, batch_size=None):
        zeros = ops.zeros((batch_size, self.units), dtype=self.compute_dtype)
        return [zeros, zeros]

    def get_config(self) -> dict:
        config = super().get_config()
        config.pop("recurrent_dropout")
        config.update(
            activation="step" if self.is_spiking else activations.serialize(self.activation),
            input_activation=activations.serialize(self.input_activation),
            decay=self.decay,
            trainable_decay=self.trainable_decay,
            recurrent=self.recurrent,
            reset=self.reset,
            detach_reset=self.detach_reset,
            surrogate=keras.saving.serialize_keras_object(self.surrogate),
        )
        return config


@keras.saving.register_keras_serializable(package="keras_grapes")
class SSNUCell(SNUCell):
    """Cell of a soft spiking neural unit: one time step of `keras_grapes.SSNU`.

    It is `keras_grapes.SNUCell` with a sigmoid in place of the step: its output is graded, and so
    is its reset.

    Args:
        units: Positive int, number of units.
        decay: Float from 0 to 1. Defaults to 0.8.
        activation: Keras activation or function. Defaults to `"sigmoid"`.
        **kwargs: `name`, `dtype` and `trainable`. All other arguments are those of
            `keras_grapes.SNUCell`.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> keras.layers.RNN(kg.SSNUCell(16))(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 16])
    """

    def __init__(
        self,
        units: int,
        decay: float = 0.8,
        activation: str | Callable = "sigmoid",
        input_activation: str | Callable = "relu",
        recurrent: bool = False,
        reset: str = "gate",
        use_bias: bool = True,
        surrogate: str | Callable = "tanh",
        trainable_decay: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer | None = None,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        seed: int | None = None,
        detach_reset: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**given(locals()))


@register_grouping(SNUCell)
def _snu_cell(cell):
    kernels = [cell.kernel, cell.recurrent_kernel]
    return Group([kernel for kernel in kernels if kernel is not None])


def _arguments(cls):
    return set(inspect.signature(cls.__init__).parameters) - {"self", "cell", "args", "kwargs"}


# What goes to the layer, not to its cell; the last two Keras takes without naming them.
_LAYER_ARGUMENTS = {
    *_arguments(keras.layers.RNN),
    *_arguments(keras.layers.Layer),
    "input_shape",
    "input_dim",
}


def given(names):
    """The arguments of a constructor, by name, from its `locals()`."""
    # `__class__` is there where the constructor says `super()`.
    others = {"self", "kwargs", "__class__"}
    return {name: names[name] for name in names if name not in others} | names["kwargs"]


def with_arguments_of_cell(layer_class):
    """Gives a class of layers the arguments of its cells as properties, as Keras's layers have."""
    for name in _arguments(layer_class.cell_class):
        if not hasattr(layer_class, name):
            setattr(layer_class, name, property(operator.attrgetter(f"cell.{name}")))
    return layer_class


@keras.saving.register_keras_serializable(package="keras_grapes")
@with_arguments_of_cell
class SNU(NeuronLayer):
    """Layer of spiking neural units over a sequence.

    `SNU(units)` computes what `keras.layers.RNN(SNUCell(units))` computes, and faster: the inputs
    of all time steps go through the kernel as one matrix product, only the dynamics of the units
    run over time, and so do their errors backward. See `keras_grapes.SNUCell` for the equations
    and the kinds of reset. Activations other than Keras's `linear`, `relu`, `leaky_relu`, `elu`,
    `sigmoid` and `tanh`, and `unroll=True`, run step by step as in `keras.layers.RNN`.

    The states are in float32 at least, whatever the precision of the model: in half precision a
    slow leak would be none.

    In training on TensorFlow, XLA compiles the loops over time where the number of steps is known
    and steps times units are 4096 or more: some tenths of a second, once for each batch size.
    Second derivatives need `unroll=True` on JAX, which takes surrogate gradients as constants.

    Args:
        units: Positive int, number of units.
        decay: Float from 0 to 1, the share of the potential that is left after a time step.
            Defaults to 0.8.
        return_sequences: Bool, whether to return the outputs of all time steps, not only the last.
            Defaults to `False`.
        return_state: Bool, whether to return the last output and potential too. Defaults to
            `False`.
        go_backwards: Bool, whether to run from the last time step to the first. Defaults to
            `False`.
        stateful: Bool, whether a batch starts with the states in which the one before ended; see
            `reset_state`. Needs a fixed batch size. Defaults to `False`.
        unroll: Bool, whether to unroll the loop over time. Defaults to `False`.
        zero_output_for_mask: Bool, whether the output of masked time steps is 0 rather than that of
            the step before. Defaults to `False`.
        activation: `"step"`, or a Keras activation or function for a soft unit. Defaults to
            `"step"`.
        input_activation: Keras activation or function. Defaults to `"relu"`.
        recurrent: Bool, whether the outputs feed back through a kernel `H`. Defaults to `False`.
        reset: String, one of the table of `keras_grapes.SNUCell`. Defaults to `"gate"`.
        use_bias: Bool. Without a bias the threshold is 0. Defaults to `True`.
        surrogate: Name, `keras_grapes.Surrogate` or function, the pseudo-derivative of the step.
            Without effect for other activations. Defaults to `"tanh"`.
        trainable_decay: `None`, or `"scalar"` or `"unit"` to learn one decay for all units or one
            for each, from `decay` on. It stays between 0 and 1, since its logit is what is
            learned. Defaults to `None`.
        kernel_initializer: Initializer of `W`. Defaults to `"glorot_uniform"`.
        recurrent_initializer: Initializer of `H`. Defaults to `"glorot_uniform"`.
        bias_initializer: Initializer of `b`. Defaults to `None`, all -1: a threshold of 1.
        kernel_regularizer: Regularizer of `W`. Defaults to `None`.
        recurrent_regularizer: Regularizer of `H`. Defaults to `None`.
        bias_regularizer: Regularizer of `b`. Defaults to `None`.
        kernel_constraint: Constraint of `W`. Defaults to `None`.
        recurrent_constraint: Constraint of `H`. Defaults to `None`.
        bias_constraint: Constraint of `b`. Defaults to `None`.
        dropout: Float from 0 to 1, the share of the inputs to drop, the same ones at all time
            steps. Defaults to 0.
        seed: Int, the seed of `dropout`. Defaults to `None`.
        detach_reset: Bool, whether errors pass the reset by, as if what it takes away were a
            constant. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        sequences: Tensor `(batch, time, features)`.
        initial_state: List of two tensors `(batch, units)`: output and potential.
        mask: Bool tensor `(batch, time)`, `False` for time steps to skip.
        training: Bool, whether to drop inputs.

    Returns:
        Tensor `(batch, time, units)` with `return_sequences`, else `(batch, units)`; with
        `return_state` followed by output and potential of the last step, `(batch, units)` each.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Wozniak et al., 2020](https://doi.org/10.1038/s42256-020-0187-0).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((784,)),
    ...     kg.RateCoding(steps=20, rate=0.3),
    ...     kg.SNU(256, return_sequences=True),
    ...     kg.SNU(10, return_sequences=True),
    ...     keras.layers.GlobalAveragePooling1D(),
    ... ])
    >>> model.compile("sgd", "mse")
    """

    cell_class: type = SNUCell
    input_rank = 3

    def __init__(
        self,
        units: int,
        decay: float = 0.8,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        activation: str | Callable = "step",
        input_activation: str | Callable = "relu",
        recurrent: bool = False,
        reset: str = "gate",
        use_bias: bool = True,
        surrogate: str | Callable = "tanh",
        trainable_decay: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer | None = None,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        seed: int | None = None,
        detach_reset: bool = False,
        **kwargs,
    ) -> None:
        self._initialize(given(locals()))

    def _initialize(self, arguments):
        of_layer = {name: arguments.pop(name) for name in _LAYER_ARGUMENTS & set(arguments)}
        shared = {name: of_layer[name] for name in ("dtype", "trainable") if name in of_layer}
        super().__init__(self.cell_class(**arguments, **shared), **of_layer)
        self.input_spec = keras.layers.InputSpec(ndim=self.input_rank)

    @property
    def activation(self):
        return "step" if self.cell.is_spiking else self.cell.activation

    def get_config(self) -> dict:
        config = super().get_config()
        cell = config.pop("cell")["config"]
        for name in ("name", "trainable", "dtype"):
            cell.pop(name)
        return {**config, **cell}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="keras_grapes")
class SSNU(SNU):
    """Layer of soft spiking neural units over a sequence.

    It is `keras_grapes.SNU` with a sigmoid in place of the step: the outputs, between 0 and 1, are
    graded, and so is the reset.

    Args:
        units: Positive int, number of units.
        decay: Float from 0 to 1. Defaults to 0.8.
        activation: Keras activation or function. Defaults to `"sigmoid"`.
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`. All other arguments
            are those of `keras_grapes.SNU`.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> kg.SSNU(16, return_sequences=True)(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 16])
    """

    cell_class = SSNUCell

    def __init__(
        self,
        units: int,
        decay: float = 0.8,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        activation: str | Callable = "sigmoid",
        input_activation: str | Callable = "relu",
        recurrent: bool = False,
        reset: str = "gate",
        use_bias: bool = True,
        surrogate: str | Callable = "tanh",
        trainable_decay: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer | None = None,
        kernel_regularizer: Regularizer = None,
        recurrent_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        kernel_constraint: Constraint = None,
        recurrent_constraint: Constraint = None,
        bias_constraint: Constraint = None,
        dropout: float = 0.0,
        seed: int | None = None,
        detach_reset: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(**given(locals()))


def _check_decay(decay, trainable_decay):
    if trainable_decay not in _TRAINABLE_DECAYS:
        raise ValueError(
            f"`trainable_decay` must be one of {_TRAINABLE_DECAYS}. Received: "
            f"trainable_decay={trainable_decay!r}"
        )
    check_share("decay", decay)
    if trainable_decay and decay in (0, 1):
        raise ValueError(
            "A trainable `decay` must start above 0 and below 1, since its logit is what is "
            f"learned. Received: decay={decay!r}"
        )


def _without_recurrent_dropout(kwargs):
    if "recurrent_dropout" in kwargs:
        raise ValueError("Spiking neural units have no `recurrent_dropout`. Use `dropout`.")
    return kwargs
