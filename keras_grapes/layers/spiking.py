"""Spiking layer without a kernel, to follow any layer that has one."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_grapes.checks import check_number
from keras_grapes.layers import learned
from keras_grapes.layers.neuron import Neuron, check_unit_by_unit
from keras_grapes.layers.neuron_layer import NeuronCell, NeuronLayer
from keras_grapes.types import Tensor

__all__ = ["Spiking", "SpikingCell"]


@keras.saving.register_keras_serializable(package="keras_grapes")
class SpikingCell(NeuronCell, keras.layers.Layer):
    """Cell of `keras_grapes.Spiking`: one time step of a neuron, without a kernel.

    Args:
        neuron: A `keras_grapes.Neuron`.
        lateral_inhibition: Float from 0 on. Defaults to 0.
        trainable_parameters: Dict, as in `keras_grapes.Spiking`. Defaults to `None`.

    Raises:
        TypeError: If `neuron` is no `keras_grapes.Neuron`.
        ValueError: If an argument is not one of the values above, or a unit of the neuron depends
            on another.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> cells = [kg.SNUCell(16), kg.SpikingCell(kg.LeakyIntegrator())]
    >>> cells[1].build((2, 16))
    >>> keras.layers.RNN(cells)(keras.ops.ones((2, 20, 8))).shape
    TensorShape([2, 16])
    """

    def __init__(
        self,
        neuron: Neuron,
        lateral_inhibition: float = 0.0,
        trainable_parameters: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(neuron, dict):
            neuron = keras.saving.deserialize_keras_object(neuron)
        if not isinstance(neuron, Neuron):
            raise TypeError(
                "`neuron` must be a `keras_grapes.Neuron`, such as `keras_grapes.LIF()`. Received: "
                f"neuron={neuron!r} of type {type(neuron).__name__}"
            )
        lateral_inhibition = check_number("lateral_inhibition", lateral_inhibition, at_least=0)
        check_unit_by_unit(neuron)
        self.autocast = False
        self.given_neuron = neuron
        self.trainable_parameters = learned.check_trainable(neuron, trainable_parameters)
        self.neuron = neuron
        if self.trainable_parameters:
            self.neuron = learned.Learned(neuron, tuple(self.trainable_parameters))
        self.lateral_inhibition = lateral_inhibition
        self.state_shape = None
        self._parameter_weights = []

    @property
    def state_size(self):
        units = None if self.state_shape is None else self.state_shape[-1]
        return [units] * (1 + len(self.neuron.states))

    @property
    def fires(self):
        """Whether the outputs are spikes, or their rates."""
        return self.neuron.fires

    def build(self, input_shape):
        if None in input_shape[1:]:
            raise ValueError(
                "The shape of the input of a time step must be known. Received for each time "
                f"step: {tuple(input_shape)}"
            )
        self.state_shape = tuple(input_shape[1:])
        self._parameter_weights = [
            learned.add_weight(self, self.given_neuron, name, sharing, self.state_shape[-1])
            for name, sharing in self.trainable_parameters.items()
        ]
        self.built = True

    @property
    def parameter_weights(self):
        """Dict of the names of the trainable parameters to the weights that stand for them."""
        return dict(zip(self.trainable_parameters, self._parameter_weights))

    def parameters(self):
        return tuple(
            learned.bounds_of(self.given_neuron, name).value(self._tensor(weight))
            for name, weight in self.parameter_weights.items()
        )

    def feedback_kernel(self):
        if not self.lateral_inhibition:
            return None
        units = self.state_shape[-1]
        others = ops.ones((units, units), self.compute_dtype) - ops.eye(
            units, dtype=self.compute_dtype
        )
        return -self.lateral_inhibition * others

    def project(self, inputs):
        return inputs

    def call(self, inputs: Tensor, states: Sequence[Tensor]) -> Any:
        return self.advance(inputs, states)

    def get_initial_state(self, batch_size=None):
        zeros = ops.zeros((batch_size, *self.state_shape), dtype=self.compute_dtype)
        return [zeros] * len(self.state_size)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "neuron": keras.saving.serialize_keras_object(self.given_neuron),
            "lateral_inhibition": self.lateral_inhibition,
            "trainable_parameters": dict(self.trainable_parameters) or None,
        }


@keras.saving.register_keras_serializable(package="keras_grapes")
class Spiking(NeuronLayer):
    """Layer of neurons without a kernel: its input is their input current.

    It follows a layer with weights, or its normalization, and takes any shape: every value of a
    time step drives a unit of its own. What is a number in the neuron, such as a decay or a
    threshold, can be learned. It stays within the bounds of the neuron, since what is learned is
    its logit or its logarithm.

    Args:
        neuron: A `keras_grapes.Neuron`: `keras_grapes.LIF`, `keras_grapes.ALIF`,
            `keras_grapes.Synaptic`, `keras_grapes.LeakyIntegrator` or one of your own.
        lateral_inhibition: Float from 0 on: what each spike takes at the next step from the input
            current of all other units in the last axis. Defaults to 0.
        trainable_parameters: Dict of names of the neuron's parameters to `"scalar"` or `"unit"`,
            to learn one value for all units or one for each in the last axis, from the neuron's
            own on. Defaults to `None`, no parameters.
        return_sequences: Bool, whether to return the outputs of all time steps, not only the last.
            Defaults to `True`, unlike in recurrent layers, since other layers follow.
        return_state: Bool, whether to return the last states too. Defaults to `False`.
        go_backwards: Bool, whether to run from the last time step to the first. Defaults to
            `False`.
        stateful: Bool, whether a batch starts with the states in which the one before ended.
            Defaults to `False`.
        unroll: Bool, whether to unroll the loop over time. Defaults to `False`.
        zero_output_for_mask: Bool, whether the output of masked time steps is 0 rather than that of
            the step before. Defaults to `False`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        sequences: Tensor `(batch, time, ...)`.
        initial_state: List of tensors `(batch, ...)`, the output and the states of the neuron.
        mask: Bool tensor `(batch, time)`, `False` for time steps to skip.

    Returns:
        Tensor like `sequences`; without `return_sequences`, without the time axis; with
        `return_state` followed by the last output and states.

    Raises:
        TypeError: If `neuron` is no `keras_grapes.Neuron`.
        ValueError: If an argument is not one of the values above, or a unit of the neuron depends
            on another.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((20, 28, 28, 1)),
    ...     keras.layers.TimeDistributed(keras.layers.Conv2D(8, 3)),
    ...     keras.layers.BatchNormalization(),
    ...     kg.Spiking(kg.LIF()),
    ... ])
    >>> model.output_shape
    (None, 20, 26, 26, 8)
    >>> layer = kg.Spiking(kg.LIF(0.9), trainable_parameters={"decay": "unit"})
    >>> layer.build((None, 20, 8))
    >>> layer.learned_parameters["decay"].shape
    TensorShape([8])
    """

    def __init__(
        self,
        neuron: Neuron,
        lateral_inhibition: float = 0.0,
        trainable_parameters: dict | None = None,
        return_sequences: bool = True,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs,
    ) -> None:
        shared = {name: kwargs[name] for name in ("dtype", "trainable") if name in kwargs}
        super().__init__(
            SpikingCell(neuron, lateral_inhibition, trainable_parameters, **shared),
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )

    @property
    def neuron(self):
        return self.cell.given_neuron

    @property
    def lateral_inhibition(self):
        return self.cell.lateral_inhibition

    @property
    def trainable_parameters(self):
        return self.cell.trainable_parameters

    @property
    def learned_parameters(self):
        """Dict of the names of the trainable parameters to their values now, tensors."""
        return dict(zip(self.trainable_parameters, self.cell.parameters()))

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        state = (sequences_shape[0], *sequences_shape[2:])
        output = tuple(sequences_shape) if self.return_sequences else state
        return (output, *[state] * len(self.cell.state_size)) if self.return_state else output

    def get_config(self) -> dict:
        config = super().get_config()
        cell = config.pop("cell")["config"]
        return {
            **config,
            **{
                name: cell[name]
                for name in ("neuron", "lateral_inhibition", "trainable_parameters")
            },
        }

    @classmethod
    def from_config(cls, config):
        return cls(**config)
