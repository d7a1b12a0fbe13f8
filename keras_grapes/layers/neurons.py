"""Neurons of the field, for `keras_grapes.Spiking`."""

import dataclasses
import math
from typing import ClassVar

import keras
from keras import ops

from keras_grapes.checks import check_number, check_share
from keras_grapes.layers.neuron import Neuron
from keras_grapes.layers.surrogate import get_surrogate, spike

__all__ = ["ALIF", "LIF", "LeakyIntegrator", "Synaptic"]

_RESETS = ("subtract", "zero", "none")
_SHARE = (0.0, 1.0)
_POSITIVE = (0.0, math.inf)


class _Firing(Neuron):
    """What neurons share that have `threshold`, `reset`, `surrogate` and `detach_reset`."""

    bounds: ClassVar = {"decay": _SHARE, "threshold": _POSITIVE}

    def __post_init__(self):
        for field in dataclasses.fields(self):
            if "decay" in field.name:
                check_share(field.name, getattr(self, field.name))
        check_number("threshold", self.threshold, above=0)
        if self.reset not in _RESETS:
            raise ValueError(f"`reset` must be one of {_RESETS}. Received: reset={self.reset!r}")
        object.__setattr__(self, "surrogate", get_surrogate(self.surrogate))

    def _kept(self, potential, output):
        if self.detach_reset:
            output = ops.stop_gradient(output)
        if self.reset == "subtract":
            return potential - self.threshold * output
        return potential * (1 - output) if self.reset == "zero" else potential

    def firing_threshold(self, state, parameters):
        return self.threshold


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class LIF(_Firing):
    """Leaky integrate-and-fire neuron.

        v[t] = decay * kept[t-1] + I[t]
        y[t] = step(v[t] - threshold)

    with the input current `I`, the potential `v`, the spike `y`, and `kept` by `reset`:
    `"subtract"` `v - threshold * y`, `"zero"` `v * (1 - y)`, `"none"` `v`.

    Args:
        decay: Float from 0 to 1. Defaults to 0.9.
        threshold: Float above 0. Defaults to 1.
        reset: `"subtract"`, `"zero"` or `"none"`. Defaults to `"subtract"`.
        surrogate: As in `keras_grapes.SNU`. Defaults to `"tanh"`.
        detach_reset: Bool, whether errors pass the reset by. Defaults to `False`.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Eshraghian et al., 2023](https://arxiv.org/abs/2109.12894), Eq. 4 and 5.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> kg.Spiking(kg.LIF(decay=0.5))(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 8])
    """

    decay: float = 0.9
    threshold: float = 1.0
    reset: str = "subtract"
    surrogate: object = "tanh"
    detach_reset: bool = False

    def step(self, current, output, state, parameters):
        (potential,) = state
        return (self.decay * self._kept(potential, output) + current,)

    def emit(self, state, parameters):
        (potential,) = state
        return spike(potential - self.threshold, self.surrogate)


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class LeakyIntegrator(Neuron):
    """Leaky integrator, which does not spike: the usual readout of a spiking network.

        v[t] = decay * v[t-1] + I[t],  y[t] = v[t]

    Args:
        decay: Float from 0 to 1. Defaults to 0.9.

    Raises:
        ValueError: If `decay` is not a number from 0 to 1.

    References:
        - [Bellec et al., 2018](https://arxiv.org/abs/1803.09574), the readout.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> readout = kg.Spiking(kg.LeakyIntegrator(0.5), return_sequences=False)
    >>> readout(keras.ops.ones((1, 3, 1))).numpy()
    array([[1.75]], dtype=float32)
    """

    decay: float = 0.9

    fires = False
    bounds: ClassVar = {"decay": _SHARE}

    def __post_init__(self):
        check_share("decay", self.decay)

    def step(self, current, output, state, parameters):
        (potential,) = state
        return (self.decay * potential + current,)

    def emit(self, state, parameters):
        return state[0]


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class ALIF(_Firing):
    """Adaptive leaky integrate-and-fire neuron: every spike raises its threshold for a while.

        a[t] = adaptation_decay * a[t-1] + y[t-1]
        v[t] = decay * kept[t-1] + I[t]
        y[t] = step(v[t] - threshold - adaptation * a[t])

    `kept` is as in `keras_grapes.LIF`; `"subtract"` subtracts `threshold`.

    Args:
        decay: Float from 0 to 1. Defaults to 0.9.
        threshold: Float above 0. Defaults to 1.
        adaptation: Float, what a spike adds to the threshold. Defaults to 0.5.
        adaptation_decay: Float from 0 to 1. Defaults to 0.98.
        reset: As in `keras_grapes.LIF`. Defaults to `"subtract"`.
        surrogate: As in `keras_grapes.SNU`. Defaults to `"tanh"`.
        detach_reset: Bool, whether errors pass the reset by. Defaults to `False`.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Bellec et al., 2018](https://arxiv.org/abs/1803.09574), adaptive neurons (LSNN).

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> kg.Spiking(kg.ALIF())(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 8])
    """

    decay: float = 0.9
    threshold: float = 1.0
    adaptation: float = 0.5
    adaptation_decay: float = 0.98
    reset: str = "subtract"
    surrogate: object = "tanh"
    detach_reset: bool = False

    states = ("potential", "adaptation")
    bounds: ClassVar = {**_Firing.bounds, "adaptation_decay": _SHARE}

    def step(self, current, output, state, parameters):
        potential, adaptation = state
        return (
            self.decay * self._kept(potential, output) + current,
            self.adaptation_decay * adaptation + output,
        )

    def emit(self, state, parameters):
        return spike(state[0] - self.firing_threshold(state, parameters), self.surrogate)

    def firing_threshold(self, state, parameters):
        _, adaptation = state
        return self.threshold + self.adaptation * adaptation


@keras.saving.register_keras_serializable(package="keras_grapes")
@dataclasses.dataclass(frozen=True)
class Synaptic(_Firing):
    """Leaky integrate-and-fire neuron of second order, whose synaptic current leaks too.

        i[t] = synaptic_decay * i[t-1] + I[t]
        v[t] = decay * kept[t-1] + i[t]
        y[t] = step(v[t] - threshold)

    `kept` is as in `keras_grapes.LIF`.

    Args:
        decay: Float from 0 to 1, of the potential. Defaults to 0.9.
        synaptic_decay: Float from 0 to 1, of the synaptic current. Defaults to 0.8.
        threshold: Float above 0. Defaults to 1.
        reset: As in `keras_grapes.LIF`. Defaults to `"subtract"`.
        surrogate: As in `keras_grapes.SNU`. Defaults to `"tanh"`.
        detach_reset: Bool, whether errors pass the reset by. Defaults to `False`.

    Raises:
        ValueError: If an argument is not one of the values above.

    References:
        - [Eshraghian et al., 2023](https://arxiv.org/abs/2109.12894), the synaptic model.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> kg.Spiking(kg.Synaptic())(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 20, 8])
    """

    decay: float = 0.9
    synaptic_decay: float = 0.8
    threshold: float = 1.0
    reset: str = "subtract"
    surrogate: object = "tanh"
    detach_reset: bool = False

    states = ("potential", "synaptic_current")
    bounds: ClassVar = {**_Firing.bounds, "synaptic_decay": _SHARE}

    def step(self, current, output, state, parameters):
        potential, synaptic_current = state
        synaptic_current = self.synaptic_decay * synaptic_current + current
        return self.decay * self._kept(potential, output) + synaptic_current, synaptic_current

    def emit(self, state, parameters):
        return spike(state[0] - self.threshold, self.surrogate)
