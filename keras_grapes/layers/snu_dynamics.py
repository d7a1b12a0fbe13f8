"""The spiking neural unit as a neuron: its equations and their derivatives, written down."""

import dataclasses
from collections.abc import Callable

from keras import activations, ops

from keras_grapes.layers.neuron import Linearization, Neuron, is_tensor, total

__all__ = []


@dataclasses.dataclass(frozen=True)
class Reset:
    """What is kept of a unit's potential, before decay, and the partial derivatives of that.

    Args:
        kept: Function of (potential, output, bias).
        partials: Function of the same that returns the derivatives of `kept` by each of them;
            `None` stands for 0.
    """

    kept: Callable
    partials: Callable


def _soft_gate(potential, bias):
    return ops.sigmoid(-(potential + bias))


def _soft_partials(s, y, b):
    gate = _soft_gate(s, b)
    slope = -s * gate * (1 - gate)
    return gate + slope, None, slope


RESETS = {
    "gate": Reset(lambda s, y, b: s * (1 - y), lambda s, y, b: (1 - y, -s, None)),
    "soft": Reset(lambda s, y, b: s * _soft_gate(s, b), _soft_partials),
    "subtract": Reset(lambda s, y, b: s + b * y, lambda s, y, b: (1.0, b, y)),
    "none": Reset(lambda s, y, b: s, lambda s, y, b: (1.0, None, None)),
}

# What is taken away is a constant to differentiation: that by the potential alone is left.
DETACHED_RESETS = {
    "gate": Reset(
        lambda s, y, b: s * (1 - ops.stop_gradient(y)), lambda s, y, b: (1 - y, None, None)
    ),
    "soft": Reset(
        lambda s, y, b: s * ops.stop_gradient(_soft_gate(s, b)),
        lambda s, y, b: (_soft_gate(s, b), None, None),
    ),
    "subtract": Reset(
        lambda s, y, b: s + ops.stop_gradient(b * y), lambda s, y, b: (1.0, None, None)
    ),
    "none": RESETS["none"],
}

# Derivatives of activations, from their values.
DERIVATIVES = {
    activations.linear: lambda a: 1.0,
    # The value is not negative. A comparison takes much longer.
    activations.relu: lambda a: ops.sign(a),
    activations.leaky_relu: lambda a: ops.where(a > 0, ops.ones_like(a), 0.2),
    activations.elu: lambda a: ops.where(a > 0, ops.ones_like(a), a + 1),
    activations.sigmoid: lambda a: a * (1 - a),
    activations.tanh: lambda a: 1 - ops.square(a),
}


@dataclasses.dataclass(frozen=True)
class SNUNeuron(Neuron):
    """The equations of a spiking neural unit.

    `s_t = g(u_t + d * kept(s_{t-1}, y_{t-1}, b))`, `y_t = h(s_t + b)`, with the input current `u`,
    the decay `d` and the bias `b`, its parameters.

    Args:
        input_activation: Function `g`.
        activation: Function `h`.
        reset: The `Reset`.
        input_slope: Function of `s_t` that returns the derivative of `g`; `None` if unknown.
        slope: Function of `(s_t + b, y_t)` that returns the derivative of `h`; `None` if unknown.
    """

    input_activation: Callable
    activation: Callable
    reset: Reset
    input_slope: Callable | None
    slope: Callable | None

    @property
    def goes_unit_by_unit(self):
        # An activation that is not known may be a softmax.
        return self.input_slope is not None and self.slope is not None

    def step(self, current, output, state, parameters):
        (potential,), (decay, bias) = state, parameters
        return (self.input_activation(current + decay * self.reset.kept(potential, output, bias)),)

    def emit(self, state, parameters):
        (potential,), (_, bias) = state, parameters
        return self.activation(potential + bias)

    def linearize(self, moment, parameters):
        decay, bias = parameters
        output, (potential,), (new_potential,) = moment.output, moment.state, moment.new_state
        by_potential, by_output, by_bias = self.reset.partials(potential, output, bias)
        slope = self.slope(new_potential + bias, moment.new_output)

        def parameter_errors(drive_errors, output_error):
            errors, (drive_error,) = [None, None], drive_errors
            if is_tensor(decay):
                errors[0] = total(self.reset.kept(potential, output, bias) * drive_error, decay)
            if is_tensor(bias):
                errors[1] = total(slope * output_error, bias)
                if by_bias is not None:
                    errors[1] = errors[1] + total(decay * by_bias * drive_error, bias)
            return tuple(errors)

        return Linearization(
            outer=(self.input_slope(new_potential),),
            by_current=(1.0,),
            by_output=(None if by_output is None else decay * by_output,),
            by_state=((decay * by_potential,),),
            emission=(slope,),
            parameter_errors=parameter_errors,
        )
