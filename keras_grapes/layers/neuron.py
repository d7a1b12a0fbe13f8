"""A spiking neuron as a value: what one step of time does to it, and the derivatives of that.

Nothing here knows of layers, loops or masks. A tensor of states has any leading axes, among them
time, and the units in the last one.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_grapes import backend
from keras_grapes.layers.surrogate import values_alone

__all__ = ["Neuron"]


@dataclasses.dataclass(frozen=True)
class Moment:
    """One step of time, or many at once: what went into a neuron and what came out.

    Args:
        drive: Function without arguments that returns the input current, feedback included.
        output: Tensor, the output before the step.
        state: Tuple of tensors, the state before the step.
        new_output: Tensor, the output after the step.
        new_state: Tuple of tensors, the state after the step.
    """

    drive: Callable
    output: object
    state: tuple
    new_output: object
    new_state: tuple


@dataclasses.dataclass(frozen=True)
class Linearization:
    """The derivatives of a step, unit by unit: tensors or numbers; `None` stands for 0.

    A new state is taken as a function `g` of an inner value, so that what its derivatives have in
    common is written once. Where there is no such function, the inner value is the state.

    Args:
        outer: Tuple, of each new state by its inner value.
        by_current: Tuple, of each inner value by the input current.
        by_output: Tuple, of each inner value by the output before.
        by_state: Tuple of tuples, of each inner value by each state before.
        emission: Tuple, of the new output by each new state.
        parameter_errors: Function of the errors of the inner values, a tuple, and of the error of
            the new output that returns a tuple with the error of each parameter; `None` for one
            that is a number rather than a tensor.
    """

    outer: tuple
    by_current: tuple
    by_output: tuple
    by_state: tuple
    emission: tuple
    parameter_errors: Callable


class Neuron:
    """A spiking neuron as a value: its state, one step of time, and what it puts out.

    `keras_grapes.Spiking` makes a layer of it. A neuron of your own is a frozen dataclass with the
    methods `step` and `emit`, written with `keras.ops` and `keras_grapes.layers.spike`. Their
    derivatives are found for all time steps at once, so that it is as fast as the units of the
    package.

    A unit must see its own states alone: `step` and `emit` go element by element, over any shape.

    Attributes:
        states: Tuple of strings, the names of the states, which are 0 at first. Defaults to
            `("potential",)`.
        fires: Bool, whether the outputs are spikes or their rates. Defaults to `True`.
        bounds: Dict of names of fields to the lowest and the highest value, exclusive, that
            training may give them, where `keras_grapes.Spiking` learns them. A field that is not
            in it may have any value. Defaults to `{}`.
        compiles: Bool, whether XLA may compile `step` and `emit` in training. Set it to `False`
            where they use an operation that XLA does not have, as `tf.print`. Defaults to `True`.

    Args:
        **fields: The fields of the dataclass, its configuration.

    Example:

    >>> import dataclasses
    >>> import keras
    >>> import keras_grapes as kg
    >>> @keras.saving.register_keras_serializable()
    ... @dataclasses.dataclass(frozen=True)
    ... class Quadratic(kg.Neuron):
    ...     decay: float = 0.9
    ...
    ...     def step(self, current, output, state, parameters):
    ...         (v,) = state
    ...         return (self.decay * v * (1 + 0.1 * v) * (1 - output) + current,)
    ...
    ...     def emit(self, state, parameters):
    ...         (v,) = state
    ...         return kg.layers.spike(v - 1.0)
    >>> layer = kg.Spiking(Quadratic(decay=0.8))
    >>> layer(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 8])
    """

    states: ClassVar[tuple[str, ...]] = ("potential",)
    fires = True
    bounds: ClassVar[dict] = {}
    compiles: ClassVar[bool] = True
    goes_unit_by_unit = True

    def step(self, current, output, state, parameters):
        """Returns the new state, a tuple.

        Args:
            current: Tensor, the input current, feedback included.
            output: Tensor, the output before.
            state: Tuple of tensors, the state before.
            parameters: Tuple of numbers and tensors that broadcast over `current`; empty in
                `keras_grapes.Spiking`.
        """
        raise NotImplementedError

    def emit(self, state, parameters):
        """Returns the output of a state."""
        raise NotImplementedError

    def firing_threshold(self, state, parameters):
        """Returns what the first state is compared with, for plots; `None` if it is not known."""

    def linearize(self, moment, parameters):
        """Returns the `Linearization` of a step, by differentiating `step` and `emit`."""
        return derived_linearization(self, moment, parameters)

    def get_config(self) -> dict:
        return {
            field.name: keras.saving.serialize_keras_object(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config):
        return cls(
            **{name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}
        )


def check_unit_by_unit(neuron):
    """Raises a `ValueError` if the step of a neuron lets its units see each other.

    It moves one unit of some random states far up or down, and looks whether others follow.
    """
    count = len(neuron.states)
    rng = np.random.default_rng(0)
    values = rng.uniform(-2, 2, (count + 2, 16, 3)).astype("float32")

    def others(values):
        current, output, *state = (ops.convert_to_tensor(value) for value in values)
        new = neuron.step(current, output, tuple(state), ())
        if not isinstance(new, tuple) or len(new) != count:
            raise ValueError(
                f"`step` of a neuron must return a tuple of its {count} states, {neuron.states}. "
                f"Received from {type(neuron).__name__}: {new}"
            )
        results = (*new, neuron.emit(new, ()))
        return [np.broadcast_to(ops.convert_to_numpy(r), (16, 3))[:, 1:] for r in results]

    # Also where a layer is made while a graph is.
    with backend.eagerly(), values_alone():
        before = others(values)
        for moved, shift in itertools.product(range(count + 2), (-5, 5)):
            changed = values.copy()
            changed[moved, :, 0] += shift
            if not all(np.array_equal(b, a) for b, a in zip(before, others(changed))):
                raise ValueError(
                    "A unit of a neuron must see its own states alone. Received: "
                    f"{type(neuron).__name__}, in which one unit depends on another. Connect "
                    "units by `lateral_inhibition`, or by the `recurrent` kernel of an `SNU`."
                )


def derived_linearization(neuron, moment, parameters):
    """Differentiates the step of a neuron.

    Since units do not see each other, the derivatives of all of them by one state are one backward
    pass from an error of 1 everywhere.
    """
    count = len(moment.state)
    places = [i for i, p in enumerate(parameters) if is_tensor(p)]
    learned = [parameters[i] for i in places]

    def with_learned(values):
        given = list(parameters)
        for place, value in zip(places, values):
            given[place] = value
        return tuple(given)

    def stepped(index):
        def function(current, output, *rest):
            state, learned = rest[:count], rest[count:]
            return neuron.step(current, output, state, with_learned(learned))[index]

        return backend.vjp(function, moment.drive(), moment.output, *moment.state, *learned)[1]

    def emitted(*rest):
        return neuron.emit(rest[:count], with_learned(rest[count:]))

    steps = [stepped(index) for index in range(count)]
    emit = backend.vjp(emitted, *moment.new_state, *learned)[1]
    partials = [step(ops.ones_like(new)) for step, new in zip(steps, moment.new_state)]

    def parameter_errors(state_errors, output_error):
        found = [step(error)[2 + count :] for step, error in zip(steps, state_errors)]
        found.append(emit(output_error)[count:])
        errors = [None] * len(parameters)
        for place, parts in zip(places, zip(*found)):
            errors[place] = sum(parts)
        return tuple(errors)

    return Linearization(
        outer=(1.0,) * count,
        by_current=tuple(p[0] for p in partials),
        by_output=tuple(p[1] for p in partials),
        by_state=tuple(tuple(p[2 : 2 + count]) for p in partials),
        emission=tuple(emit(ops.ones_like(moment.new_output))[:count]),
        parameter_errors=parameter_errors,
    )


def is_tensor(parameter):
    """Whether a parameter is a tensor, whose error is wanted, rather than a number."""
    return not isinstance(parameter, (int, float))


def total(errors, parameter):
    """Sums the errors of all uses of a parameter, a scalar or one value per unit."""
    return ops.sum(errors, axis=tuple(range(len(errors.shape) - len(parameter.shape))))
