"""How the potential of a spiking neural unit evolves, and the error of it backward in time.

Nothing here knows of layers: tensors with time as the first axis and the units as the last.
"""

import dataclasses
from collections.abc import Callable

import keras
from keras import activations, ops

from keras_grapes.backend import compiled, loop_over_time


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
    "subtract": Reset(lambda s, y, b: s + b * y, lambda s, y, b: (ops.ones_like(s), b, y)),
    "none": Reset(lambda s, y, b: s, lambda s, y, b: (ops.ones_like(s), None, None)),
}

# Derivatives of activations, from their values.
DERIVATIVES = {
    activations.linear: ops.ones_like,
    activations.relu: lambda a: ops.cast(a > 0, a.dtype),
    activations.leaky_relu: lambda a: ops.where(a > 0, ops.ones_like(a), 0.2),
    activations.elu: lambda a: ops.where(a > 0, ops.ones_like(a), a + 1),
    activations.sigmoid: lambda a: a * (1 - a),
    activations.tanh: lambda a: 1 - ops.square(a),
}


@dataclasses.dataclass(frozen=True)
class Dynamics:
    """The equations of a unit, forward and backward.

    Forward, `s_t = g(u_t + y_{t-1} H + d * kept(s_{t-1}, y_{t-1}, b))`, `y_t = h(s_t + b)`, with
    the input current `u`, the recurrent kernel `H` (or none), the decay `d` and the bias `b`.

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
    def has_adjoint(self):
        """Whether `integrate` can be used."""
        return self.input_slope is not None and self.slope is not None

    def step(self, current, output, potential, decay, bias, recurrent_kernel=None):
        """One time step. Returns the output and the potential."""
        potential = self._next_potential(current, output, potential, decay, bias, recurrent_kernel)
        return self.activation(potential + bias), potential

    def _next_potential(self, current, output, potential, decay, bias, recurrent_kernel):
        drive = current + decay * self.reset.kept(potential, output, bias)
        if recurrent_kernel is not None:
            drive = drive + ops.matmul(output, recurrent_kernel)
        return self.input_activation(drive)

    def integrate(
        self,
        current,
        output,
        potential,
        decay,
        bias,
        recurrent_kernel=None,
        mask=None,
        compile=False,
    ):
        """All time steps, with a backward pass that goes through time once.

        Memory traffic is what costs here: the loops keep and read the potentials alone, from which
        the outputs follow. The backward pass is written down rather than derived step by step; with
        the error `e_t` of the argument of `g`, and all derivatives taken at step `t`,

            e_t = g' * (h' * (error of y_t + d * kept_y * e_{t+1} + e_{t+1} H^T)
                        + d * kept_s * e_{t+1})

        A masked step keeps output and potential as they are.

        Args:
            current: Tensor `(batch, time, ..., units)`, the input current.
            output: Tensor `(batch, ..., units)`, the output before the first step.
            potential: Tensor like `output`, the potential before the first step.
            decay: Tensor that broadcasts over `output`.
            bias: Tensor that broadcasts over `output`.
            recurrent_kernel: Tensor `(units, units)`. Defaults to `None`.
            mask: Bool tensor `(batch, time, ...)` that broadcasts over `current`; `False` stands
                for a masked step. Defaults to `None`.
            compile: Bool, whether XLA compiles the loops. Defaults to `False`.

        Returns:
            Tuple of the outputs of all steps, shaped as `current`, and the last potential.
        """
        recurrent = [] if recurrent_kernel is None else [recurrent_kernel]
        mask = None if mask is None else _swap_time(mask)
        # Whether a step that is not masked has been, at each time.
        live = None if mask is None else ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
        prepare = compiled if compile else lambda function: function

        @ops.custom_gradient
        def run(current, output, potential, decay, bias, *recurrent):
            kernel = recurrent[0] if recurrent else None
            length = ops.shape(current)[1]

            def emitted(potential, live):
                """Output at a potential; the first one until a step has been."""
                emitted = self.activation(potential + bias)
                return emitted if live is None else ops.where(live, emitted, output)

            def forward():
                def advance(time, state):
                    (s,) = state
                    moved = time > 0
                    if live is not None:
                        moved = ops.logical_and(moved, live[ops.maximum(time - 1, 0)])
                    y = emitted(s, moved)
                    new = self._next_potential(current[:, time], y, s, decay, bias, kernel)
                    if mask is not None:
                        new = ops.where(mask[time], new, s)
                    return [new], new

                (last,), potentials = loop_over_time(
                    advance, [potential], range_=(0, length, 1), record=potential
                )
                return _swap_time(emitted(potentials, live)), potentials, last

            outputs, potentials, last = prepare(forward)()

            def reach_back(error, output, potential):
                """Error that the step after sends to the output and potential before it."""
                by_potential, by_output, _ = self.reset.partials(potential, output, bias)
                output_error = 0.0 if by_output is None else decay * by_output * error
                if kernel is not None:
                    output_error = output_error + ops.matmul(error, ops.transpose(kernel))
                return output_error, decay * by_potential * error

            def grad(*args, upstream=None):
                errors, last_error = args if upstream is None else upstream
                none = ops.zeros_like(output)

                def backward():
                    def retreat(time, state):
                        later, bias_error, *held = state
                        s = potentials[time]
                        y = emitted(s, None if live is None else live[time])
                        output_error, potential_error = reach_back(later, y, s)
                        output_error = output_error + errors[:, time]
                        potential_error = potential_error + ops.where(
                            time == length - 1, last_error, none
                        )
                        if held:
                            output_error = output_error + held[0]
                            potential_error = potential_error + held[1]
                        spike_error = self.slope(s + bias, y) * output_error
                        drive_error = self.input_slope(s) * (potential_error + spike_error)
                        if held:
                            # What a masked step holds goes to the step before it as it is.
                            counts = mask[time]
                            drive_error = ops.where(counts, drive_error, none)
                            spike_error = ops.where(counts, spike_error, none)
                            held = [
                                ops.where(counts, none, e) for e in (output_error, potential_error)
                            ]
                        bias_error = bias_error + _total(spike_error, bias)
                        return [drive_error, bias_error, *held], drive_error

                    state, drive_errors = loop_over_time(
                        retreat,
                        [none, _total(none, bias)] + [none, none] * (mask is not None),
                        range_=(length - 1, length, -1),
                        record=none,
                    )
                    return *state, _swap_time(drive_errors)

                first, bias_error, *held, drive_errors = prepare(backward)()
                output_errors = reach_back(first, output, potential)
                state_errors = [sum(e) for e in zip(output_errors, held or [none, none])]

                y, s = (
                    ops.concatenate([start[:, None], trajectory[:, :-1]], axis=1)
                    for start, trajectory in (
                        (output, outputs),
                        (potential, _swap_time(potentials)),
                    )
                )
                by_bias = self.reset.partials(s, y, bias)[2]
                if by_bias is not None:
                    bias_error = bias_error + _total(decay * by_bias * drive_errors, bias)
                decay_error = _total(self.reset.kept(s, y, bias) * drive_errors, decay)
                return (
                    drive_errors,
                    *state_errors,
                    ops.cast(decay_error, decay.dtype),
                    ops.cast(bias_error, bias.dtype),
                    *(_outer(y, drive_errors) for _ in recurrent),
                )

            return (outputs, last), grad

        return run(current, output, potential, decay, bias, *recurrent)


def _swap_time(tensor):
    """From time as the first axis to the batch as the first."""
    return ops.transpose(tensor, (1, 0, *range(2, len(tensor.shape))))


def _total(errors, parameter):
    """Sums the errors of all uses of a parameter, a scalar or one value per unit."""
    axes = tuple(range(len(errors.shape) - len(parameter.shape)))
    # In half precision a sum over batch and time would overflow or stall.
    dtype = keras.backend.result_type(errors.dtype, "float32")
    return ops.sum(ops.cast(errors, dtype), axis=axes)


def _outer(before, errors):
    units = errors.shape[-1]
    before, errors = (ops.reshape(tensor, (-1, units)) for tensor in (before, errors))
    return ops.matmul(ops.transpose(before), errors)
