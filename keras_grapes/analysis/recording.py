"""Records what the units of spiking layers do, step by step."""

import dataclasses

import keras
import numpy as np

from keras_grapes.analysis import probing

__all__ = ["Recording", "record"]


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a layer of spiking units did.

    Attributes:
        spikes: Array `(batch, time, ..., units)`, the outputs of the units at all time steps.
        potentials: Array of the same shape, their potentials as they were compared with the
            threshold, before the reset.
        mask: Bool array `(batch, time)`, `False` where a step was masked.
        threshold: Array `(units,)`, minus the bias; `None` for units that do not spike.
    """

    spikes: np.ndarray
    potentials: np.ndarray
    mask: np.ndarray
    threshold: np.ndarray | None

    @property
    def rates(self):
        """Array `(units,)`, the mean outputs over the samples, time steps and positions.

        Masked steps do not count.
        """
        spikes = self.spikes[self.mask]
        return spikes.mean(axis=tuple(range(spikes.ndim - 1)))


def record(model, x, layers=None, batch_size=None):
    """Runs a model and records the spikes and the potentials of its spiking layers.

    The model runs in inference mode. All time steps are recorded, whether or not a layer returns
    them, and nested layers too. All of them are kept in memory, so pass only a few samples.

    Args:
        model: A built `keras.Model`.
        x: Array or tensor, inputs of the model, as `predict` takes them.
        layers: List of names of layers of `keras_grapes.SNU` and its kind. Defaults to `None`, all.
        batch_size: Int. Defaults to `None`, Keras's 32.

    Returns:
        Dict of the name of each layer, or its path if several layers have this name, to its
        `keras_grapes.analysis.Recording`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it has no spiking layer, or none of a name that is asked for, or one that
            cannot be looked at: an inner cell of a stack, or a layer that is called within a loop.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((20, 8)), kg.SNU(16, return_sequences=True, name="hidden"), kg.SNU(2),
    ... ])
    >>> recordings = kg.analysis.record(model, keras.ops.ones((4, 20, 8)))
    >>> recordings["hidden"].spikes.shape
    (4, 20, 16)
    >>> recordings["hidden"].rates.shape
    (16,)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a `keras.Model`. Received: an object of type {type(model).__name__}"
        )
    found = probing.spiking_layers(model)
    if not found:
        raise ValueError(
            f"Model '{model.name}' has no spiking layer to record, such as `keras_grapes.SNU`."
        )
    if layers is not None:
        unknown = [name for name in layers if name not in found]
        if isinstance(layers, str) or unknown:
            raise ValueError(
                f"`layers` must be a list of names among {list(found)}. Received: layers={layers!r}"
            )
        found = {name: found[name] for name in layers}
    probe = probing.Probe(
        model, {name: (layer, probing.EveryStep(layer)) for name, layer in found.items()}
    )
    results = probe.predict(x, batch_size=batch_size, verbose=0)
    thresholds = {name: _threshold(layer.cell) for name, layer in found.items()}
    return {
        name: Recording(
            spikes=result["outputs"],
            potentials=result["potentials"],
            mask=result["mask"] > 0,
            # A further call of a layer has its name and a number.
            threshold=thresholds.get(name, thresholds.get(name.rpartition("_")[0])),
        )
        for name, result in results.items()
    }


def _threshold(cell):
    if not cell.is_spiking:
        return None
    if cell.bias is None:
        return np.zeros(cell.units, "float32")
    return 0.0 - keras.ops.convert_to_numpy(cell.bias).astype("float32")
