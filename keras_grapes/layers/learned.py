"""Neurons whose fields are learned: what is a number in a neuron becomes a weight of its layer."""

import copy
import dataclasses
import math

import keras
from keras import ops

from keras_grapes.checks import is_number
from keras_grapes.layers.neuron import Neuron

__all__ = []

SHARINGS = ("scalar", "unit")


@dataclasses.dataclass(frozen=True)
class Learned(Neuron):
    """A neuron that takes some of its fields from the parameters of its layer.

    Args:
        neuron: The `Neuron`, whose other fields stay as they are.
        names: Tuple of the names of these fields, in the order of the parameters.
    """

    neuron: Neuron
    names: tuple

    @property
    def states(self):
        return self.neuron.states

    @property
    def fires(self):
        return self.neuron.fires

    @property
    def compiles(self):
        return self.neuron.compiles

    def step(self, current, output, state, parameters):
        return self._filled(parameters).step(current, output, state, ())

    def emit(self, state, parameters):
        return self._filled(parameters).emit(state, ())

    def firing_threshold(self, state, parameters):
        return self._filled(parameters).firing_threshold(state, ())

    def _filled(self, parameters):
        filled = copy.copy(self.neuron)
        for name, value in zip(self.names, parameters, strict=True):
            # The dataclass is frozen, and would check that the value is a number.
            object.__setattr__(filled, name, value)
        return filled


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Open interval of the values of a parameter, and the real weight that each stands for.

    The weight is the logit between two bounds, the logarithm of the distance from one, and without
    bounds the value itself. So no step of an optimizer leads out of the interval.

    Args:
        low: Float, `-math.inf` for none.
        high: Float above `low`, `math.inf` for none.
    """

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value):
        return self.low < value < self.high

    @property
    def suffix(self):
        """What the name of the weight has behind that of the parameter."""
        finite = math.isfinite(self.low) + math.isfinite(self.high)
        return ("", "_log", "_logit")[finite]

    def weight(self, value):
        """The weight of a value, a float."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            return math.log(value - self.low) - math.log(self.high - value)
        if math.isfinite(self.low):
            return math.log(value - self.low)
        if math.isfinite(self.high):
            return math.log(self.high - value)
        return value

    def value(self, weight):
        """The value of a weight, a tensor."""
        if math.isfinite(self.low) and math.isfinite(self.high):
            share = ops.sigmoid(weight)
            return (
                share
                if (self.low, self.high) == (0, 1)
                else (self.low + (self.high - self.low) * share)
            )
        if math.isfinite(self.low):
            return self.low + ops.exp(weight)
        if math.isfinite(self.high):
            return self.high - ops.exp(weight)
        return weight


def check_trainable(neuron, trainable_parameters):
    """Returns the parameters to learn as a dict of names to `"scalar"` or `"unit"`.

    Raises:
        ValueError: If it is no such dict, or a value of the neuron is not within its bounds.
    """
    if trainable_parameters is None:
        return {}
    fields = dataclasses.fields(neuron) if dataclasses.is_dataclass(neuron) else ()
    values = {field.name: getattr(neuron, field.name) for field in fields}
    names = [name for name, value in values.items() if is_number(value)]
    is_dict = isinstance(trainable_parameters, dict)
    if not is_dict or not all(
        name in names and sharing in SHARINGS for name, sharing in trainable_parameters.items()
    ):
        raise ValueError(
            "`trainable_parameters` must be a dict of names of parameters to 'scalar', one value "
            f"for all units, or 'unit', one for each. {type(neuron).__name__} has the parameters "
            f"{names}. Received: trainable_parameters={trainable_parameters!r}"
        )
    for name in trainable_parameters:
        bounds = bounds_of(neuron, name)
        if values[name] not in bounds:
            raise ValueError(
                f"A trainable `{name}` must start above {bounds.low} and below {bounds.high}, the "
                f"bounds that it is to stay within. Received: {name}={values[name]!r}"
            )
    return dict(trainable_parameters)


def bounds_of(neuron, name):
    """The `Bounds` of a field of a neuron."""
    return Bounds(*neuron.bounds.get(name, ()))


def add_weight(cell, neuron, name, sharing, units):
    """Adds the weight of a parameter to a cell, at the value that the neuron has."""
    bounds = bounds_of(neuron, name)
    return cell.add_weight(
        shape=() if sharing == "scalar" else (units,),
        name=name + bounds.suffix,
        initializer=keras.initializers.Constant(bounds.weight(float(getattr(neuron, name)))),
        # As the states, in single precision at least.
        autocast=False,
    )
