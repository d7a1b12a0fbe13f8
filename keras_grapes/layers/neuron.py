"""A spiking neuron as a value: what one step of time does to it, and the derivatives of that.

Nothing here knows of layers, loops or masks. A tensor of states has any leading axes, among them
time, and the units in the last one.
"""

import dataclasses
from collections.abc import Callable

from keras import ops

from keras_grapes import backend


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
    """The derivatives of a step, unit by unit; `None` stands for 0.

    Args:
        by_current: Tuple, of each new state by the input current.
        by_output: Tuple, of each new state by the output before.
        by_state: Tuple of tuples, of each new state by each state before.
        emission: Tuple, of the new output by each new state.
        parameter_errors: Function of the errors of the new states, a tuple, and of the error of the
            new output that returns a tuple with the error of each parameter; `None` for one that is
            a number rather than a tensor.
    """

    by_current: tuple
    by_output: tuple
    by_state: tuple
    emission: tuple
    parameter_errors: Callable


class Neuron:
    """A neuron: its state, one step of time, and what it puts out.

    A unit sees its own state alone, so that `step` and `emit` go element by element.
    """

    # Names of the states.
    states = ("potential",)

    def step(self, current, output, state, parameters):
        """Returns the new state, a tuple.

        Args:
            current: Tensor, the input current, feedback included.
            output: Tensor, the output before.
            state: Tuple of tensors, the state before.
            parameters: Tuple of numbers and tensors that broadcast over `current`.
        """
        raise NotImplementedError

    def emit(self, state, parameters):
        """Returns the output of a state."""
        raise NotImplementedError

    def linearize(self, moment, parameters):
        """Returns the `Linearization` of a step, by differentiating `step` and `emit`."""
        return derived_linearization(self, moment, parameters)


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
