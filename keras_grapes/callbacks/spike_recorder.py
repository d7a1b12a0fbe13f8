"""Callback that records spikes and potentials of spiking layers while a model is trained."""

from collections.abc import Sequence

import keras

from keras_grapes import analysis
from keras_grapes.callbacks.observation import unchanged
from keras_grapes.checks import check_positive_int
from keras_grapes.types import Array, Figure

__all__ = ["SpikeRecorder"]


class SpikeRecorder(keras.callbacks.Callback):
    """Records what the units of spiking layers do, at the start of training and after epochs.

    The model runs on `x` in inference mode, as in `keras_grapes.analysis.record`. Each record keeps
    all time steps of all samples, so pass only a few samples. A further call of `fit` continues the
    record of the same model; another model starts a new record.

    Args:
        x: Array or tensor, inputs of the model to run it on.
        layers: List of names of spiking layers. Defaults to `None`, all.
        every: Positive int, after how many epochs to record. Defaults to 1.
        batch_size: Int. Defaults to `None`, Keras's 32.

    Attributes:
        epochs: List of the epochs recorded, counted from the first training that this callback saw;
            0 is its start.
        recordings: List of dicts, for each of them the `keras_grapes.analysis.Recording` of each
            layer.

    Raises:
        TypeError: If `layers` is no list.
        ValueError: If `every` or `batch_size` is not a positive int; or by `fit`, if the
            model has no spiking layer, or none of a name in `layers`.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((20, 8)), kg.SNU(16, return_sequences=True, name="hidden"), kg.SNU(2),
    ... ])
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((4, 20, 8), "float32"), np.zeros((4, 2), "float32")
    >>> recorder = kg.callbacks.SpikeRecorder(x[:1], layers=["hidden"])
    >>> history = model.fit(x, y, epochs=2, verbose=0, callbacks=[recorder])
    >>> recorder.epochs, recorder.recordings[-1]["hidden"].potentials.shape
    ([0, 1, 2], (1, 20, 16))
    """

    def __init__(
        self,
        x: Array,
        layers: Sequence[str] | None = None,
        every: int = 1,
        batch_size: int | None = None,
    ) -> None:
        super().__init__()
        self.x = x
        if not (layers is None or isinstance(layers, (list, tuple))):
            raise TypeError(
                f"`layers` must be a list of names of layers, or None. Received: layers={layers!r}"
            )
        self.layers = layers
        self.every = check_positive_int("every", every)
        self.batch_size = check_positive_int("batch_size", batch_size, or_none=True)
        self._observed = None
        self._begin()

    def _begin(self):
        self.epochs = []
        self.recordings = []
        self._count = 0

    def on_train_begin(self, logs=None):
        if self._observed is not self.model:
            self._observed = self.model
            self._begin()
            self._record()

    def on_epoch_end(self, epoch, logs=None):
        self._count += 1
        if self._count % self.every == 0:
            self._record()

    def _record(self):
        with unchanged(self.model):
            recorded = analysis.record(
                self.model, self.x, layers=self.layers, batch_size=self.batch_size
            )
        self.epochs.append(self._count)
        self.recordings.append(recorded)

    def plot(self, layer: str | None = None, sample: int = 0) -> Figure:
        """Draws the spikes of a layer at each time that was recorded, a panel for each.

        Args:
            layer: String, the name of the layer. Defaults to `None`, the first one.
            sample: Int, which sample to draw. Defaults to 0.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ValueError: If nothing was recorded, or no layer of that name.
        """
        if not self.recordings:
            raise ValueError("Nothing was recorded: pass the callback to `fit` first.")
        names = list(self.recordings[0])
        layer = names[0] if layer is None else layer
        if layer not in names:
            raise ValueError(f"`layer` must be one of {names}. Received: layer={layer!r}")
        return analysis.raster(
            {
                f"{layer}, epoch {epoch}": recorded[layer]
                for epoch, recorded in zip(self.epochs, self.recordings)
            },
            sample=sample,
        )
