"""Callback that watches how much the units of spiking layers fire."""

import warnings

import keras
import numpy as np

from keras_grapes import graph
from keras_grapes.callbacks.observation import unchanged
from keras_grapes.layers.snu import SNU


class FiringRate(keras.callbacks.Callback):
    """Records the firing rate of every spiking layer, and warns of silent and saturated layers.

    After every epoch the model runs on `x`, and the outputs of each layer of spiking neural units
    are averaged over samples, time steps and units. A layer that hardly ever fires passes nothing
    on, and one that always fires passes nothing on that depends on its input; the callback warns of
    each such layer once. The rates are in `rates`, and in the logs as `firing_rate/<layer name>`.

    Args:
        x: Array or tensor, inputs of the model to run it on; some hundreds of samples are enough.
        silent: Float, the mean rate below which a layer is silent. Defaults to 0.001.
        saturated: Float, the mean rate above which a layer is saturated. Defaults to 0.95.
        batch_size: Int. Defaults to `None`, Keras's 32.

    Attributes:
        rates: Dict of lists, for every layer its mean rate after each epoch.
        unit_rates: Dict of arrays, for every layer the rate of each unit after the last epoch.

    Raises:
        ValueError: If `silent` and `saturated` are not `0 <= silent < saturated <= 1`; or when
            training starts, if the model has no spiking layer or is a subclassed one.

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

    def __init__(self, x, silent=0.001, saturated=0.95, batch_size=None):
        super().__init__()
        if not 0 <= silent < saturated <= 1:
            raise ValueError(
                "`silent` and `saturated` must fulfil 0 <= silent < saturated <= 1. Received: "
                f"silent={silent}, saturated={saturated}"
            )
        self.x = x
        self.silent = silent
        self.saturated = saturated
        self.batch_size = batch_size
        self.rates = {}
        self.unit_rates = {}
        self._probe = None
        self._names = []
        self._warned = set()

    def on_train_begin(self, logs=None):
        if not graph.has_graph(self.model):
            raise ValueError(
                "`FiringRate` reads the outputs of the layers of Sequential and Functional models. "
                f"Received: the subclassed model '{self.model.name}'"
            )
        spiking = [layer for layer in self.model.layers if _is_spiking(layer)]
        if not spiking:
            raise ValueError(
                f"`FiringRate` found no spiking layer in model '{self.model.name}', such as "
                "`keras_grapes.SNU`."
            )
        self._names = [layer.name for layer in spiking]
        inputs = self.model.inputs
        inputs = inputs[0] if len(inputs) == 1 else inputs
        self._probe = keras.Model(inputs, [_sequence(layer) for layer in spiking])
        self.rates = {name: [] for name in self._names}
        self._warned = set()

    def on_epoch_end(self, epoch, logs=None):
        with unchanged(self.model):
            outputs = self._probe.predict(self.x, batch_size=self.batch_size, verbose=0)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        for name, output in zip(self._names, outputs, strict=True):
            self.unit_rates[name] = np.mean(output, axis=tuple(range(output.ndim - 1)))
            mean = float(np.mean(output))
            self.rates[name].append(mean)
            if logs is not None:
                logs[f"firing_rate/{name}"] = mean
            self._warn(name, mean)

    def _warn(self, name, mean):
        if name in self._warned or self.silent <= mean <= self.saturated:
            return
        self._warned.add(name)
        kind, advice = "saturated", "lower its weights or decay, or make its bias more negative"
        if mean < self.silent:
            kind, advice = "silent", "raise its weights, its input's rate or its bias"
        warnings.warn(
            f"Layer '{name}' is {kind}: its mean firing rate is {mean:.2g}. To change that, "
            f"{advice}.",
            stacklevel=2,
        )


def _is_spiking(layer):
    while isinstance(layer, keras.layers.Wrapper):
        layer = layer.layer
    return isinstance(layer, SNU)


def _sequence(layer):
    return layer.output[0] if isinstance(layer.output, (list, tuple)) else layer.output
