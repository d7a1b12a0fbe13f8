"""Counts the synaptic operations of a network, and estimates the energy that they take."""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from keras_grapes import graph
from keras_grapes.analysis import probing
from keras_grapes.checks import check_number
from keras_grapes.groups import weight_layers
from keras_grapes.layers.conv_snu import ConvSNU2DCell
from keras_grapes.types import Array

__all__ = ["LayerOperations", "SynapticOperations", "synaptic_operations"]

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclasses.dataclass(frozen=True)
class LayerOperations:
    """What a layer does for one sample, averaged over the samples.

    Attributes:
        name: The layer's name.
        input_rate: Share of its inputs that are not zero, over all time steps.
        synaptic_operations: Inputs that are not zero, each times the weights that it meets.
        multiply_accumulates: The same of all inputs, as a processor without events does them.
        updates: Updates of the potentials of spiking units, one a step and unit.
        is_spiking: Whether all inputs are spikes, that is 0, 1 or -1.
        energy: In joules.
    """

    name: str
    input_rate: float
    synaptic_operations: float
    multiply_accumulates: float
    updates: float
    is_spiking: bool
    energy: float


@dataclasses.dataclass(frozen=True)
class SynapticOperations:
    """The operations of a network for one sample, averaged over the samples.

    `print` shows them as a table.

    Attributes:
        layers: List of `LayerOperations`, in the order of the layers.
        dense_energy: Joules of the same network if all its operations were done, with
            multiplications, as a network without spikes does them at every time step.
    """

    layers: list
    dense_energy: float

    @property
    def total(self):
        """The synaptic operations of all layers."""
        return sum(layer.synaptic_operations for layer in self.layers)

    @property
    def energy(self):
        """Joules of all layers."""
        return sum(layer.energy for layer in self.layers)

    def table(self) -> str:
        """Returns the table as text."""
        rows = [("layer", "input rate", "syn. ops", "MACs if dense", "updates", "energy")]
        for layer in self.layers:
            kind = "AC" if layer.is_spiking else "MAC"
            rows.append(
                (
                    layer.name,
                    f"{layer.input_rate:.3f}",
                    f"{layer.synaptic_operations:,.0f}",
                    f"{layer.multiply_accumulates:,.0f}",
                    f"{layer.updates:,.0f}",
                    f"{_joules(layer.energy)} ({kind})",
                )
            )
        dense = sum(layer.multiply_accumulates for layer in self.layers)
        updates = sum(layer.updates for layer in self.layers)
        energy = _joules(self.energy)
        rows.append(("total", "", f"{self.total:,.0f}", f"{dense:,.0f}", f"{updates:,.0f}", energy))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if column == 0 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths))
            ).rstrip()
            for row in rows
        ]
        lines.append(f"dense, with multiplications: {_joules(self.dense_energy)}")
        return "\n".join(lines)

    def __str__(self):
        return self.table()


def synaptic_operations(
    model: keras.Model,
    x: Array,
    accumulate_energy: float = 0.9e-12,
    multiply_accumulate_energy: float = 4.6e-12,
    update_energy: float = 0.0,
    batch_size: int | None = None,
) -> SynapticOperations:
    """Counts the synaptic operations of a model's layers, and estimates their energy.

    A synaptic operation adds a weight to a potential because the input of this weight spiked. The
    model runs on `x`. Each nonzero input of a layer counts once for every weight that it is
    multiplied by: `units` in a `Dense` layer; in a convolution the number of weights that reach it,
    which is smaller at the edges. Recurrent spikes count with the recurrent weights at the next
    step, and inhibiting spikes with the other units of their layer. Masked steps and biases do not
    count.

    The energy of a layer is

        accumulate_energy * synaptic operations           if its inputs are spikes
        multiply_accumulate_energy * all its operations   if they are graded, as pixels are

    and `update_energy` for each unit at each time step. Moving data is not included.

    Args:
        model: A built `keras.Model`.
        x: Array or tensor, inputs of the model, as `predict` takes them, that are typical of its
            use.
        accumulate_energy: Float, the joules of an addition. Defaults to 0.9e-12, of 32-bit floats
            in 45 nm.
        multiply_accumulate_energy: Float, the joules of a multiplication and an addition. Defaults
            to 4.6e-12, likewise.
        update_energy: Float, the joules of the update of a unit's potential. Defaults to 0.
        batch_size: Int. Defaults to `None`, Keras's 32.

    Returns:
        A `keras_grapes.analysis.SynapticOperations`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If it is not built, has no weights to count, or has a layer whose operations
            are not known here, such as an `LSTM`; or if an energy is not a number of at least 0.

    References:
        - [Horowitz, 2014](https://doi.org/10.1109/ISSCC.2014.6757323), the energies: 0.9 pJ to add,
          3.7 pJ to multiply.
        - [Merolla et al., 2014](https://doi.org/10.1126/science.1254642), synaptic operations.

    Example:

    >>> import numpy as np
    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([keras.Input((2, 3)), kg.SNU(10, name="units")])
    >>> spikes = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    >>> counted = kg.analysis.synaptic_operations(model, spikes)
    >>> counted.total, counted.energy
    (30.0, 2.7e-11)
    >>> print(counted)
    layer  input rate  syn. ops  MACs if dense  updates      energy
    units       0.500        30             60       20  27 pJ (AC)
    total                    30             60       20       27 pJ
    dense, with multiplications: 276 pJ
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a `keras.Model`. Received: an object of type {type(model).__name__}"
        )
    energies = {
        "accumulate_energy": accumulate_energy,
        "multiply_accumulate_energy": multiply_accumulate_energy,
        "update_energy": update_energy,
    }
    for name, value in energies.items():
        check_number(name, value, at_least=0, meaning=" of joules")
    if not model.built:
        raise ValueError(f"`model` must be built. Received: model '{model.name}', which is not.")
    measures = _measures(model)
    if not measures:
        raise ValueError(f"Model '{model.name}' has no layer whose operations can be counted.")
    results = probing.Probe(model, measures).predict(x, batch_size=batch_size, verbose=0)
    layers, dense_energy = [], 0.0
    # `predict` returns a dict in the order of its names.
    for name in sorted(results, key=lambda name: _place(name, list(measures))):
        result = {key: np.asarray(value, "float64") for key, value in results[name].items()}
        operations, dense = result["operations"].mean(), result["dense"].mean()
        updates = result["updates"].mean()
        is_spiking = bool(result["are_spikes"].min() > 0)
        energy = (
            accumulate_energy * operations if is_spiking else multiply_accumulate_energy * dense
        )
        layers.append(
            LayerOperations(
                name=name,
                input_rate=float(result["events"].sum() / max(result["inputs"].sum(), 1)),
                synaptic_operations=float(operations),
                multiply_accumulates=float(dense),
                updates=float(updates),
                is_spiking=is_spiking,
                energy=float(energy + update_energy * updates),
            )
        )
        dense_energy += multiply_accumulate_energy * dense + update_energy * updates
    return SynapticOperations(layers, float(dense_energy))


def _place(name, names):
    """Where a name stands among those of the layers; a further call of a layer has a number."""
    base, _, number = name.rpartition("_")
    return (names.index(name), 1) if name in names else (names.index(base), int(number))


def _measures(model):
    """Dict of names to the layers to look at and what to measure, for `probing.Probe`."""
    found, counted = [], set()
    for layer in _outermost(model):
        is_in_time = isinstance(layer, keras.layers.TimeDistributed)
        inner = layer.layer if is_in_time else layer
        measure = _measure_of(inner)
        if is_in_time and isinstance(measure, _OfUnits):
            measure = None
        if measure is not None:
            if is_in_time:
                measure = _OfWeights(_step_by_step(measure.count))
            found.append((inner, layer, measure))
            counted.update(id(part) for part in [inner, *graph.all_layers(inner)])
    unknown = [
        entry.layer
        for entry in weight_layers(model)
        if any(len(kernel.shape) > 1 for group in entry.groups for kernel in group.kernels)
        and id(entry.layer) not in counted
        and not counted.intersection(id(part) for part in graph.all_layers(entry.layer))
    ]
    if unknown:
        kinds = ", ".join(f"'{layer.name}' of type {type(layer).__name__}" for layer in unknown)
        raise ValueError(
            "Operations are counted of `Dense` layers, convolutions and spiking layers. Received: "
            f"a model with {kinds}. Count the part without."
        )
    names = probing.by_name([inner for inner, _, _ in found])
    return {name: (layer, measure) for name, (_, layer, measure) in zip(names, found)}


def _outermost(layer):
    """The layers to look at, in order: those within a `TimeDistributed` cannot be looked at."""
    for sublayer in graph.sublayers(layer):
        if isinstance(sublayer, keras.layers.TimeDistributed) or _measure_of(sublayer) is not None:
            yield sublayer
        else:
            yield from _outermost(sublayer)


def _measure_of(layer):
    if probing.has_units(layer):
        return _OfUnits(layer)
    if isinstance(layer, keras.layers.Dense):
        return _OfWeights(lambda x: ops.sum(x, axis=-1) * layer.units)
    if type(layer) in _CONVOLUTIONS:
        return _OfWeights(lambda x: _reached(x, layer, layer.kernel.shape, layer.data_format))
    return None


def _reached(x, layer, kernel_shape, data_format):
    """Sums up how many weights of a convolution each value of `x` meets, times the value."""
    padding = layer.padding
    if padding == "causal":
        before = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        axis = 1 if data_format == "channels_last" else 2
        x = ops.pad(x, [(before, 0) if i == axis else (0, 0) for i in range(3)])
        padding = "valid"
    # The filters of a group meet the same values: one stands for all.
    filters = kernel_shape[-1]
    groups = getattr(layer, "groups", 1)
    kernel = ops.ones((*kernel_shape[:-1], groups), dtype=x.dtype)
    reached = ops.conv(
        x,
        kernel,
        strides=layer.strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=layer.dilation_rate,
    )
    return ops.sum(reached, axis=tuple(range(1, len(reached.shape)))) * (filters // groups)


def _sum(x):
    """Sums over all axes but the batch."""
    return ops.sum(x, axis=tuple(range(1, len(x.shape)))) if len(x.shape) > 1 else x


def _counts(x, count, weights=None):
    """What is counted of inputs `x` of any kind, by `count` of an array of 0 and 1.

    `weights`, 0 or 1, says which of them there are; all by default.
    """
    x = ops.cast(x, "float32")
    weights = ops.ones_like(x) if weights is None else weights * ops.ones_like(x)
    events = ops.cast(ops.not_equal(x, 0), "float32") * weights
    spikes = events * ops.cast(ops.equal(ops.abs(x), 1), "float32")
    return {
        "operations": _sum(count(events)),
        "dense": _sum(count(weights)),
        "events": _sum(events),
        "inputs": _sum(weights),
        "are_spikes": ops.cast(ops.equal(_sum(events), _sum(spikes)), "float32"),
        "updates": ops.zeros_like(_sum(x)),
    }


class _OfWeights:
    """Counts of a layer that multiplies its inputs by weights."""

    def __init__(self, count):
        self.count = count

    def __call__(self, arguments):
        (inputs, *_) = arguments.values()
        mask = getattr(inputs, "_keras_mask", None)
        if mask is not None:
            rank = len(inputs.shape)
            mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (rank - len(mask.shape))))
            mask = ops.cast(mask, "float32")
        return _counts(inputs, self.count, mask)


def _step_by_step(count):
    """Counts of inputs with an axis of time behind the batch, which the layer does not see."""

    def counted(x):
        shape = ops.shape(x)
        steps = count(ops.reshape(x, (-1, *shape[2:])))
        return ops.sum(ops.reshape(steps, (shape[0], shape[1], -1)), axis=(1, 2))

    return counted


class _OfUnits:
    """Counts of a layer of spiking units: its kernel, what its spikes come back by, its updates."""

    def __init__(self, layer):
        self.layer = layer
        self.every_step = probing.EveryStep(layer)

    def __call__(self, arguments):
        cell = self.layer.cell
        sequences = arguments["sequences"]
        steps = self.every_step(arguments)
        outputs, mask = steps["outputs"], steps["mask"]
        given = ops.flip(mask, axis=1) if self.layer.go_backwards else mask
        rank = len(sequences.shape)
        given = ops.reshape(given, (*ops.shape(given), *[1] * (rank - 2)))
        if getattr(cell, "kernel", None) is None:
            # What comes in is the input current, and meets no weight.
            counts = _counts(sequences, lambda x: x, 0.0)
        else:
            counts = _counts(sequences, self._count, given)
        units = math.prod(outputs.shape[2:])
        counts["updates"] = ops.sum(mask, axis=1) * units
        others = self._reached_by_a_spike(outputs.shape[-1])
        if others:
            # The spikes of a step arrive at the next one that is not masked.
            arriving = ops.cumsum(mask, axis=1) < ops.sum(mask, axis=1, keepdims=True)
            arriving = mask * ops.cast(arriving, "float32")
            arriving = ops.reshape(arriving, (*ops.shape(mask), *[1] * (len(outputs.shape) - 2)))
            recurrent = _counts(outputs, lambda x: _sum(x) * others, arriving)
            for name in ("operations", "dense", "events", "inputs"):
                counts[name] = counts[name] + recurrent[name]
            counts["are_spikes"] = counts["are_spikes"] * recurrent["are_spikes"]
        return counts

    def _reached_by_a_spike(self, units):
        """How many units of its own layer a spike comes to."""
        cell = self.layer.cell
        if getattr(cell, "recurrent_kernel", None) is not None:
            return units
        return units - 1 if getattr(cell, "lateral_inhibition", 0) else 0

    def _count(self, x):
        cell = self.layer.cell
        if not isinstance(cell, ConvSNU2DCell):
            return ops.sum(x, axis=-1) * cell.units
        images = ops.reshape(x, (-1, *x.shape[2:]))
        reached = _reached(images, cell, cell.kernel.shape, "channels_last")
        return ops.reshape(reached, ops.shape(x)[:2])


def _joules(energy):
    """A number of joules with a prefix."""
    for prefix, size in (("", 1.0), ("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12)):
        if energy >= size or prefix == "p":
            return f"{energy / size:.3g} {prefix}J" if energy else "0 J"
