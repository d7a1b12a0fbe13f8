"""Callback that watches how much the units of spiking layers fire."""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_grapes import graph, keras_hooks
from keras_grapes.analysis.probing import by_name
from keras_grapes.callbacks.observation import log_name, unchanged
from keras_grapes.checks import is_number
from keras_grapes.layers.neuron_layer import NeuronCell
from keras_grapes.types import Array

__all__ = ["FiringRate"]


class FiringRate(keras.callbacks.Callback):
    """Records the firing rate of every spiking layer, and warns of silent and saturated layers.

    After every epoch the model runs on `x`. For each spiking layer, nested ones too, the callback
    averages the outputs over samples, time steps and units. All time steps count, whether or not
    the layer returns them, except masked ones. Layers whose outputs are neither spikes nor rates,
    such as a leaky integrator at the end, are left out. A layer that hardly ever fires passes
    nothing on. A layer that always fires passes nothing on that depends on its input. The callback
    warns of each such layer once. The rates are in `rates`, and in the logs as
    `firing_rate/{layer}`, with the layer's path if several layers have that name.

    A further call of `fit` continues the rates of the same model; another model starts new ones.

    Args:
        x: Array or tensor, inputs of the model to run it on; some hundreds of samples are enough.
        silent: Float, the mean rate below which a layer is silent. Defaults to 0.001.
        saturated: Float, the mean rate above which a layer is saturated. Defaults to 0.95.
        batch_size: Int. Defaults to `None`, Keras's 32.

    Attributes:
        rates: Dict of lists, for every layer its mean rate after each epoch.
        unit_rates: Dict of arrays, for every layer the rate of each unit after the last epoch.

    Raises:
        ValueError: If `silent` and `saturated` are not `0 <= silent < saturated <= 1`; or by `fit`,
            if the model has no spiking layer, or none whose outputs can be seen.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((20, 8)), kg.SSNU(16, return_sequences=True, name="hidden"), kg.SSNU(2),
    ... ])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((4, 20, 8), "float32"), np.zeros((4, 2), "float32")
    >>> watch = kg.callbacks.FiringRate(x)
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[watch])
    >>> len(watch.rates["hidden"])
    2
    """

    def __init__(
        self,
        x: Array,
        silent: float = 0.001,
        saturated: float = 0.95,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        are_numbers = all(map(is_number, (silent, saturated)))
        if not (are_numbers and 0 <= silent < saturated <= 1):
            raise ValueError(
                "`silent` and `saturated` must fulfil 0 <= silent < saturated <= 1. Received: "
                f"silent={silent!r}, saturated={saturated!r}"
            )
        self.x = x
        self.silent = silent
        self.saturated = saturated
        self.batch_size = batch_size
        self._observed = None
        self._probe = None
        self._begin()

    def _begin(self):
        self.rates = {}
        self.unit_rates = {}
        self._warned = set()

    def on_train_begin(self, logs=None):
        if self._observed is not self.model:
            self._observed = self.model
            self._begin()
        self._probe = _Probe(self.model)

    def on_epoch_end(self, epoch, logs=None):
        with unchanged(self.model):
            outputs = self._probe.predict(self.x, batch_size=self.batch_size, verbose=0)
        for name in self._probe.unseen:
            self._warn(
                name,
                f"`FiringRate` cannot see the outputs of '{name}': it is an inner cell of a stack, "
                "is called within a loop, or is not called. Make it a `keras_grapes.SNU` that the "
                "model calls.",
            )
        for name, (spikes, steps) in outputs.items():
            # Not a number where the mask leaves no step at all.
            with np.errstate(invalid="ignore"):
                self.unit_rates[name] = np.sum(spikes, axis=0) / np.sum(steps)
            mean = float(np.mean(self.unit_rates[name]))
            self.rates.setdefault(name, []).append(mean)
            if logs is not None:
                logs[log_name("firing_rate", name)] = mean
            self._judge(name, mean)

    def _judge(self, name, mean):
        if mean < self.silent:
            kind, advice = "silent", "raise its weights, its input's rate or its bias"
        elif mean > self.saturated:
            kind, advice = "saturated", "lower its weights or decay, or make its bias more negative"
        else:
            return
        self._warn(
            name,
            f"Layer '{name}' is {kind}: its mean firing rate is {mean:.2g}. To change that, "
            f"{advice}.",
        )

    def _warn(self, name, message):
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(message, stacklevel=2)


class _Probe(keras.Model):
    """Maps inputs of a model to the spikes of its spiking layers and their time steps, by sample.

    It runs the model itself, so that it holds for every kind of model, and looks at the loops over
    time of its layers, where all steps are, whatever a layer returns.
    """

    def __init__(self, model):
        super().__init__(name="firing_rate")
        self.model = model
        self.unseen = []
        layers = graph.all_layers(model)
        loops = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
        # Of a stack of cells the last one makes the outputs.
        last = [getattr(loop.cell, "cells", [loop.cell])[-1] for loop in loops]
        self._loops = by_name([loop for loop, cell in zip(loops, last) if _fires(cell)])
        inner = [c for c in layers if _fires(c) and all(c is not x for x in last)]
        self._inner = list(by_name(inner))
        if not self._loops:
            raise ValueError(
                f"`FiringRate` found no spiking layer in model '{model.name}', such as "
                "`keras_grapes.SNU`, whose outputs it can see."
            )

    def call(self, inputs):
        seen = {name: [] for name in self._loops}
        with contextlib.ExitStack() as watches:
            for name, loop in self._loops.items():
                watches.enter_context(_watch(loop, seen[name]))
            self.model(inputs, training=False)
        # What comes from a graph within this one, such as the body of a loop, cannot leave it.
        here = _graph(keras.tree.flatten(inputs)[0])
        seen = {name: [call for call in calls if call.is_in(here)] for name, calls in seen.items()}
        self.unseen = [name for name, outputs in seen.items() if not outputs] + self._inner
        if len(self.unseen) == len(self._loops) + len(self._inner):
            raise ValueError(f"`FiringRate` cannot see the outputs of the layers {self.unseen}.")
        counts = {name: [call.counts() for call in calls] for name, calls in seen.items() if calls}
        return {name: tuple(map(sum, zip(*calls))) for name, calls in counts.items()}


def _fires(layer):
    """Whether it is a cell whose outputs are spikes, or their rates."""
    return isinstance(layer, NeuronCell) and layer.fires


class _Call:
    """The outputs of all time steps of one call of a layer, and the mask, in the same order."""

    def __init__(self, outputs, mask):
        self.outputs = outputs
        self.mask = mask

    def is_in(self, graph):
        return _graph(self.outputs) is graph

    def counts(self):
        """Spikes of each unit, the mean over positions, and time steps: `(batch, units or 1)`."""
        outputs = ops.cast(self.outputs, "float32")
        outputs = ops.mean(outputs, axis=tuple(range(2, len(outputs.shape) - 1)), keepdims=True)
        outputs = ops.reshape(outputs, (*ops.shape(outputs)[:2], outputs.shape[-1]))
        counted = ops.ones_like(outputs[:, :, :1])
        if self.mask is not None:
            mask = ops.reshape(ops.cast(self.mask, "bool"), ops.shape(counted))
            outputs = ops.where(mask, outputs, 0.0)
            counted = ops.cast(mask, "float32")
        return ops.sum(outputs, axis=1), ops.sum(counted, axis=1)


@contextlib.contextmanager
def _watch(layer, seen):
    """Appends every call of a recurrent layer to `seen`."""
    loop = layer.inner_loop

    def inner_loop(sequences, initial_state, mask, training=False):
        returned = layer.return_sequences
        layer.return_sequences = True
        try:
            last, outputs, states = loop(sequences, initial_state, mask, training=training)
        finally:
            layer.return_sequences = returned
        if mask is not None and layer.go_backwards:
            mask = ops.flip(mask, axis=1)
        seen.append(_Call(outputs, mask))
        return last, outputs, states

    with keras_hooks.replaced(layer, inner_loop=inner_loop):
        yield


def _graph(tensor):
    return getattr(tensor, "graph", None)
