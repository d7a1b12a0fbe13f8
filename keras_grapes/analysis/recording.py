"""Records what the units of spiking layers do, step by step."""

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from keras_grapes.analysis import probing
from keras_grapes.checks import check_model
from keras_grapes.types import Array

__all__ = ["Recording", "record"]


@dataclasses.dataclass(frozen=True)
class Recording:
    """What a layer of spiking units did.

    Attributes:
        spikes: Array `(batch, time, ..., units)`, the outputs of the units at all time steps.
        potentials: Array of the same shape, their potentials as they were compared with the
            threshold, before the reset; of a neuron of your own its first state.
        mask: Bool array `(batch, time)`, `False` where a step was masked.
        threshold: Array `(units,)`; or shaped as `potentials`, where it moves with the state, as
            that of `keras_grapes.ALIF`. `None` for units that do not spike, or do not tell it.
        states: Dict of the names of the states to arrays of the same shape, the potential first.
    """

    spikes: np.ndarray
    potentials: np.ndarray
    mask: np.ndarray
    threshold: np.ndarray | None
    states: dict = dataclasses.field(default_factory=dict)

    @property
    def rates(self):
        """Array `(units,)`, the mean outputs over the samples, time steps and positions.

        Masked steps do not count.
        """
        spikes = self.spikes[self.mask]
        return spikes.mean(axis=tuple(range(spikes.ndim - 1)))


def record(
    model: keras.Model, x: Array, layers: Sequence[str] | None = None, batch_size: int | None = None
) -> dict[str, Recording]:
    """Runs a model and records the spikes and the potentials of its spiking layers.

    The model runs in inference mode. All time steps are recorded, whether or not a layer returns
    them, and nested layers too. All of them are kept in memory, so pass only a few samples.

    Args:
        model: A built `keras.Model`.
        x: Array or tensor, inputs of the model, as `predict` takes them.
        layers: List of names of layers, of `keras_grapes.SNU`, `keras_grapes.Spiking` and their
            kind. Defaults to `None`, all.
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
    check_model("model", model)
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
    # A further call of a layer has its name and a number.
    return {
        name: _recording(found.get(name, found.get(name.rpartition("_")[0])).cell, result)
        for name, result in results.items()
    }


def _recording(cell, result):
    names = cell.neuron.states
    states = {name: result[f"state_{index}"] for index, name in enumerate(names)}
    return Recording(
        spikes=result["outputs"],
        potentials=states[names[0]],
        mask=result["mask"] > 0,
        threshold=_threshold(cell, states),
        states=states,
    )


def _threshold(cell, states):
    """An array `(units,)` or, where it moves with them, shaped as the states."""
    tensors = tuple(keras.ops.convert_to_tensor(state) for state in states.values())
    threshold = cell.firing_threshold(tensors)
    if threshold is None:
        return None
    values = keras.ops.convert_to_numpy(threshold).astype("float32")
    return values if values.ndim > 1 else np.broadcast_to(values, (tensors[0].shape[-1],))
