"""Writes a model as a graph of NIR."""

import dataclasses
import os

import keras
import numpy as np

from keras_grapes import graph
from keras_grapes.checks import check_number
from keras_grapes.layers.conv_snu import ConvSNU2DCell
from keras_grapes.layers.neurons import LIF, LeakyIntegrator, Synaptic
from keras_grapes.layers.snu import SNUCell, SSNUCell
from keras_grapes.layers.spiking import SpikingCell
from keras_grapes.models.propagation import strip
from keras_grapes.nir import neurons
from keras_grapes.nir.package import nir_package

__all__ = ["export_nir"]


def export_nir(model: keras.Model, path: str | os.PathLike, dt: float = 1e-3):
    """Writes a spiking model as a file of the Neuromorphic Intermediate Representation (NIR).

    Simulators and compilers for neuromorphic chips read such files. A unit with
    `input_activation="linear"` and `reset="gate"` is NIR's leaky integrate-and-fire neuron, taken
    in steps of `dt` by Euler's method:

    | `kg.SNU`               | node                                                        |
    |------------------------|-------------------------------------------------------------|
    | kernel                 | `Linear` (`Conv2d` for `kg.ConvSNU2D`)                      |
    | decay below 1, bias    | `LIF`: `tau = dt / (1 - decay)`, `r = 1 / (1 - decay)`,     |
    |                        | `v_threshold = -bias`, `v_leak = v_reset = 0`               |
    | decay 1                | `IF`: `r = 1 / dt`, `v_threshold = -bias`, `v_reset = 0`    |
    | `recurrent=True`       | edges from the neuron to a `Linear` and back                |
    | `activation="linear"`, | `LI`, or `I` for decay 1, the readout that puts out its     |
    | `reset="none"`         | potential                                                   |

    `kg.Spiking` is a neuron without weights: `kg.LIF(reset="zero")` becomes `LIF` or `IF`,
    `kg.LeakyIntegrator` `LI` or `I`, and `kg.Synaptic(reset="zero")` `CubaLIF`, with
    `tau_syn = dt / (1 - synaptic_decay)`, `w_in = 1 / (1 - synaptic_decay)`, and the rest as above.
    What its layer has learned goes into the node, and lateral inhibition is a recurrence.

    The nodes have the names of their layers. `Dense`, `Conv2D`, `AveragePooling2D` (these within
    `keras.layers.TimeDistributed`), `Flatten`, `Reshape`, `Permute`, `Add` and `Rescaling` have
    nodes or edges too, and layers that act in training alone are left out, as is the modulation of
    `keras_grapes.propagate`. Everything else is refused by the name of its layer.

    A graph stands for one step in time: of a layer with `return_sequences=False` it puts out what
    the layer gives at every step, the last of which the model returns. Images have their channels
    first in NIR, and kernels are turned accordingly, those behind a `Flatten` too.

    Args:
        model: A built Sequential or Functional model that takes sequences, `(batch, time, ...)`.
        path: String or path of the file. An existing one is replaced.
        dt: Float above 0, the seconds that a time step stands for. Defaults to 0.001. snnTorch
            reads files as if it were 0.0001.

    Raises:
        ImportError: If the package `nir` is not installed: `pip install keras_grapes[nir]`.
        TypeError: If `model` is not a Keras model.
        ValueError: If `model` has a layer without equivalent, or `dt` is not above 0.

    References:
        - [Pedersen et al., 2024](https://doi.org/10.1038/s41467-024-52259-9), NIR.

    Example:

    >>> import os, tempfile
    >>> import keras
    >>> import keras_grapes as kg
    >>> model = keras.Sequential([
    ...     keras.Input((None, 8)),
    ...     kg.SNU(16, input_activation="linear", return_sequences=True, name="hidden"),
    ...     kg.SNU(2, input_activation="linear", return_sequences=True, name="output"),
    ... ])
    >>> path = os.path.join(tempfile.mkdtemp(), "network.nir")
    >>> kg.export_nir(model, path)
    >>> kg.import_nir(path).output_shape
    (None, None, 2)
    """
    nir = nir_package()
    check_dt(dt)
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a Keras model. Received: an object of type {type(model).__name__}"
        )
    model = strip(model) if model.built else model
    if not graph.has_graph(model) or not model.built:
        raise ValueError(
            "`model` must be a built Sequential or Functional model: others do not record which "
            f"layer feeds which. Received: model '{model.name}' of type {type(model).__name__}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`model` must have one input and one output. Received: model "
            f"'{model.name}' with {len(model.inputs)} and {len(model.outputs)}"
        )
    written = nir.NIRGraph(*_Writer(nir, dt).write(model), metadata={"dt": float(dt)})
    nir.write(path, written)


def check_dt(dt):
    check_number("dt", dt, above=0, meaning=" of seconds")


@dataclasses.dataclass(frozen=True)
class _Signal:
    """What a layer of Keras hands on, in terms of NIR.

    Attributes:
        sources: Tuple of the names of the nodes whose sum it is.
        shape: Tuple of ints, the shape that NIR sees.
        places: Int array, shaped as Keras's tensor without batch and time: where in NIR's signal,
            flat, each of its values stands.
        steps: The length of time, `None` if it is not known.
        is_timed: Whether Keras's tensor has the axis of time.
        padding: Zeros around the height and the width of images, which NIR has as a part of what
            comes next.
    """

    sources: tuple
    shape: tuple
    places: np.ndarray
    steps: int | None
    is_timed: bool = True
    padding: tuple = (0, 0)

    @property
    def is_image(self):
        """Whether it is `(height, width, channels)` here and `(channels, height, width)` there."""
        return len(self.shape) == 3 and np.array_equal(self.places, _places(self.shape))


def _places(shape):
    """Places of a tensor whose channels are last in Keras and first in NIR."""
    return np.moveaxis(np.arange(np.prod(shape)).reshape(shape), 0, -1)


class _Writer:
    """Turns the calls of a model's layers into nodes and edges, one method for a kind of layer."""

    def __init__(self, nir, dt):
        self.nir = nir
        self.dt = dt
        self.nodes = {}
        self.edges = []

    def write(self, model):
        """Returns the nodes and the edges."""
        shape = model.inputs[0].shape
        if len(shape) < 3 or None in shape[2:]:
            raise ValueError(
                "`model` must take sequences, (batch, time, ...), whose further axes are known. "
                f"Received: model '{model.name}' with the input {tuple(shape)}. If it encodes its "
                "inputs as spikes itself, export the layers behind the encoding, as in "
                "`keras.Sequential([keras.Input((None, features)), *model.layers[1:]])`."
            )
        shape = (shape[-1], *shape[2:-1])
        self.nodes["input"] = self.nir.Input(np.array(shape))
        first = _Signal(("input",), shape, _places(shape), model.inputs[0].shape[1])
        signals = {}
        outputs = graph.output_calls(model)
        for call in reversed(graph.all_calls(outputs)):
            inputs = [signals[id(source)] for source in call.inputs]
            inputs += [first] * (call.input_count - len(inputs))
            signals[id(call)] = self._write_call(call.layer, inputs)
        (last,) = [signals[id(call)] for call in outputs] or [first]
        if any(last.padding) or not np.array_equal(last.places, _places(last.shape)):
            raise ValueError(
                "`model` must not end with flat or padded images, whose order differs in NIR. "
                f"Received: model '{model.name}'. Leave its last layer out."
            )
        self._add_node("output", self.nir.Output(np.array(last.shape)), last.sources)
        return self.nodes, self.edges

    def _write_call(self, layer, inputs):
        if _is_sum(layer):
            return self._sum(layer, inputs)
        if len(inputs) != 1:
            raise ValueError(_refusal(layer, "it takes several tensors"))
        (signal,) = inputs
        if isinstance(layer, keras.layers.TimeDistributed) and signal.is_timed:
            inner = dataclasses.replace(signal, is_timed=False)
            return dataclasses.replace(self._write_call(layer.layer, [inner]), is_timed=True)
        if any(signal.padding) and not _takes_padding(layer):
            raise ValueError(
                _refusal(layer, "zeros around images are a part of convolutions and pools in NIR")
            )
        if isinstance(layer, keras.layers.RNN):
            return self._units(layer, signal)
        if type(layer) in _IN_TRAINING_ALONE:
            return signal
        if type(layer) not in _METHODS:
            way_out = _WAYS_OUT.get(type(layer).__name__, "leave it out, or replace it")
            raise ValueError(_refusal(layer, "NIR has no equivalent", way_out))
        return _METHODS[type(layer)](self, layer, signal)

    def _add_node(self, name, node, sources):
        """Adds a node under a name made unique, which is returned, with edges from `sources`."""
        name = name.replace("/", "_").replace(".", "_")
        unique, number = name, 1
        while unique in self.nodes:
            number += 1
            unique = f"{name}_{number}"
        self.nodes[unique] = node
        self.edges.extend((source, unique) for source in sources)
        return unique

    def _next(self, signal, name, node, shape):
        sources = (self._add_node(name, node, signal.sources),)
        return _Signal(sources, shape, _places(shape), signal.steps, signal.is_timed)

    def _sum(self, layer, inputs):
        first, *others = inputs
        sources = [source for signal in inputs for source in signal.sources]
        if len(inputs) < 2 or len(set(sources)) < len(sources):
            raise ValueError(_refusal(layer, "it adds a constant, or a tensor to itself"))
        for other in others:
            same = other.shape == first.shape and other.is_timed == first.is_timed
            same = same and not any(first.padding + other.padding)
            if not (same and np.array_equal(other.places, first.places)):
                raise ValueError(_refusal(layer, "it adds tensors of different shapes or order"))
        return dataclasses.replace(first, sources=tuple(sources))

    def _units(self, layer, signal):
        cell = layer.cell
        if type(cell) is SpikingCell:
            return self._neurons(layer, signal)
        if type(cell) not in (SNUCell, SSNUCell, ConvSNU2DCell):
            raise ValueError(
                _refusal(layer, f"NIR has no equivalent of the cell {type(cell).__name__}")
            )
        config = cell.get_config()
        is_spiking = config["activation"] == "step"
        reset = "gate" if is_spiking else "none"
        if not is_spiking and config["activation"] != "linear":
            raise ValueError(
                _refusal(
                    layer,
                    f"its activation is {config['activation']!r}, and NIR's neurons spike",
                    'train it with activation="step", or "linear" and reset="none" for a readout',
                )
            )
        for argument, needed in (("input_activation", "linear"), ("reset", reset)):
            if config[argument] != needed:
                raise ValueError(
                    _refusal(
                        layer,
                        f"NIR has no {argument}={config[argument]!r}",
                        f"train it with {argument}={needed!r}",
                    )
                )
        self._check_loop(layer, signal)
        threshold = None
        bias = np.zeros(1) if cell.bias is None else _values(cell.bias)
        if is_spiking:
            # Not `-bias`, which makes -0 of 0.
            threshold = 0.0 - bias
        elif bias.any():
            raise ValueError(
                _refusal(layer, "NIR's readout has no bias", "train it with use_bias=False")
            )
        leak = _leak(cell)
        if type(cell) is ConvSNU2DCell:
            current = self._convolution(layer, signal, cell.kernel, None, config, "_kernel")
            leak = np.reshape(leak, (-1, 1, 1))
            threshold = None if threshold is None else np.reshape(threshold, (-1, 1, 1))
        else:
            current = self._linear(layer, signal, cell.kernel, None, "_kernel")
        node = self._node_of_units(layer, leak, threshold, current.shape)
        result = self._next(current, layer.name, node, current.shape)
        if cell.recurrent_kernel is not None:
            self._feed_back(f"{layer.name}_recurrent_kernel", result, cell.recurrent_kernel)
        return dataclasses.replace(result, is_timed=layer.return_sequences)

    def _neurons(self, layer, signal):
        cell, neuron = layer.cell, layer.cell.given_neuron
        if type(neuron) not in (LIF, LeakyIntegrator, Synaptic):
            raise ValueError(
                _refusal(layer, f"NIR has no equivalent of the neuron {type(neuron).__name__}")
            )
        if neuron.fires and neuron.reset != "zero":
            raise ValueError(
                _refusal(layer, f"NIR has no reset={neuron.reset!r}", 'train it with reset="zero"')
            )
        self._check_loop(layer, signal)

        def values(name, of=_field):
            """Those of the units, in NIR's order."""
            if not hasattr(neuron, name):
                return None
            placed = np.empty(signal.places.size)
            placed[signal.places.ravel()] = np.broadcast_to(
                of(cell, name), signal.places.shape
            ).ravel()
            return placed.reshape(signal.shape)

        node = self._node_of_units(
            layer,
            values("decay", _leak_of_field),
            values("threshold"),
            signal.shape,
            values("synaptic_decay", _leak_of_field),
        )
        name = self._add_node(layer.name, node, signal.sources)
        result = dataclasses.replace(signal, sources=(name,))
        if cell.lateral_inhibition:
            if len(signal.shape) != 1:
                raise ValueError(
                    _refusal(layer, "it inhibits images", "train it with lateral_inhibition=0")
                )
            self._feed_back(f"{layer.name}_inhibition", result, cell.feedback_kernel())
        return dataclasses.replace(result, is_timed=layer.return_sequences)

    def _check_loop(self, layer, signal):
        for argument in ("go_backwards", "return_state"):
            if getattr(layer, argument):
                raise ValueError(
                    _refusal(layer, f"NIR has no {argument}=True", f"make it with {argument}=False")
                )
        if not signal.is_timed:
            raise ValueError(_refusal(layer, "what it takes has no axis of time"))

    def _node_of_units(self, layer, leak, threshold, shape, synaptic_leak=None):
        try:
            node = neurons.to_node(leak, threshold, shape, self.dt, synaptic_leak)
        except ValueError as error:
            raise ValueError(_refusal(layer, str(error))) from error
        if not layer.return_sequences:
            node.metadata = {"return_sequences": False}
        return node

    def _feed_back(self, name, signal, kernel):
        """Adds edges from units through weights back to them."""
        node = self.nir.Linear(np.ascontiguousarray(_values(kernel).T))
        name = self._add_node(name, node, signal.sources)
        self.edges.append((name, signal.sources[0]))

    def _dense(self, layer, signal):
        self._check_activation(layer)
        return self._linear(layer, signal, layer.kernel, layer.bias)

    def _linear(self, layer, signal, kernel, bias, suffix=""):
        if len(signal.places.shape) != 1:
            raise ValueError(
                _refusal(
                    layer,
                    f"it takes tensors of the shape {signal.places.shape} at each step",
                    "flatten them before it, or use a convolution",
                )
            )
        signal = self._flat(layer, signal)
        weight = np.empty(kernel.shape[::-1], "float32")
        weight[:, signal.places] = _values(kernel).T
        if bias is None:
            node = self.nir.Linear(weight)
        else:
            node = self.nir.Affine(weight, _values(bias))
        return self._next(signal, layer.name + suffix, node, (kernel.shape[1],))

    def _flat(self, layer, signal):
        if len(signal.shape) == 1:
            return signal
        node = self.nir.Flatten(np.array(signal.shape), 0, -1)
        name = self._add_node(f"{layer.name}_flatten", node, signal.sources)
        size = int(np.prod(signal.shape))
        return dataclasses.replace(signal, sources=(name,), shape=(size,))

    def _conv(self, layer, signal):
        self._check_activation(layer)
        config = layer.get_config()
        if config["groups"] != 1 or config["data_format"] != "channels_last":
            raise ValueError(
                _refusal(
                    layer,
                    "it has groups, or its channels are not the last axis",
                    'make it with groups=1 and data_format="channels_last"',
                )
            )
        self._check_untimed(layer, signal)
        return self._convolution(layer, signal, layer.kernel, layer.bias, config)

    def _convolution(self, layer, signal, kernel, bias, config, suffix=""):
        if not signal.is_image:
            raise ValueError(_refusal(layer, "it takes other tensors than the images of NIR"))
        weight = np.transpose(_values(kernel), (3, 2, 0, 1))
        size, stride = weight.shape[2:], tuple(config["strides"])
        dilation = tuple(config["dilation_rate"])
        padding = signal.padding
        if config["padding"] == "same":
            if any(padding):
                raise ValueError(_refusal(layer, "what it takes is padded already"))
            weight, padding = _same_padding(weight, signal.shape[1:], stride)
        if padding != "same" and weight.shape[2] != weight.shape[3]:
            raise ValueError(
                _refusal(
                    layer,
                    f"the package `nir` infers the shapes of square kernels alone, not of {size}",
                    'train it with a square kernel, or with padding="same" and strides=1',
                )
            )
        node = self.nir.Conv2d(
            input_shape=tuple(signal.shape[1:]),
            weight=np.ascontiguousarray(weight),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=1,
            bias=np.zeros(weight.shape[0], "float32") if bias is None else _values(bias),
        )
        shape = tuple(int(n) for n in node.output_type["output"])
        return self._next(signal, layer.name + suffix, node, shape)

    def _pool(self, layer, signal):
        config = layer.get_config()
        size, stride = tuple(config["pool_size"]), tuple(config["strides"])
        if not signal.is_image or config["data_format"] != "channels_last":
            raise ValueError(_refusal(layer, "it takes other tensors than the images of NIR"))
        self._check_untimed(layer, signal)
        images = signal.shape[1:]
        if config["padding"] != "valid" and (
            size != stride or any(n % k for n, k in zip(images, size)) or any(signal.padding)
        ):
            raise ValueError(
                _refusal(layer, "NIR counts padding in the mean", 'train it with padding="valid"')
            )
        return self._pooled(layer, signal, size, stride)

    def _global_pool(self, layer, signal):
        if not signal.is_image or layer.get_config()["data_format"] != "channels_last":
            raise ValueError(_refusal(layer, "it takes other tensors than the images of NIR"))
        self._check_untimed(layer, signal)
        signal = self._pooled(layer, signal, signal.shape[1:], signal.shape[1:])
        shape = (1, 1, signal.shape[0]) if layer.keepdims else (signal.shape[0],)
        return dataclasses.replace(signal, places=np.arange(signal.shape[0]).reshape(shape))

    def _pooled(self, layer, signal, size, stride):
        channels, *images = signal.shape
        images = [n + 2 * p for n, p in zip(images, signal.padding)]
        shape = (channels, *((n - k) // s + 1 for n, k, s in zip(images, size, stride)))
        node = self.nir.AvgPool2d(np.array(size), np.array(stride), np.array(signal.padding))
        return self._next(signal, layer.name, node, shape)

    def _zero_pad(self, layer, signal):
        self._check_untimed(layer, signal)
        (top, bottom), (left, right) = layer.padding
        if top != bottom or left != right or layer.data_format != "channels_last":
            raise ValueError(_refusal(layer, "NIR pads both sides of images alike"))
        if not signal.is_image:
            raise ValueError(_refusal(layer, "it takes other tensors than the images of NIR"))
        padding = (signal.padding[0] + top, signal.padding[1] + left)
        return dataclasses.replace(signal, padding=padding)

    def _rescale(self, layer, signal):
        if np.any(layer.offset):
            raise ValueError(_refusal(layer, "NIR has no offset", "train it with offset=0"))
        scale = np.empty(np.prod(signal.shape), "float32")
        scale[signal.places.ravel()] = np.broadcast_to(layer.scale, signal.places.shape).ravel()
        name = self._add_node(
            layer.name, self.nir.Scale(scale.reshape(signal.shape)), signal.sources
        )
        return dataclasses.replace(signal, sources=(name,))

    def _flatten(self, layer, signal):
        self._check_untimed(layer, signal)
        return dataclasses.replace(signal, places=signal.places.ravel())

    def _reshape(self, layer, signal):
        target = list(layer.target_shape)
        if signal.is_timed:
            steps = target.pop(0)
            if steps != signal.steps and (steps != -1 or -1 in target):
                raise ValueError(_refusal(layer, "it reshapes time"))
        try:
            places = signal.places.reshape(target)
        except ValueError as error:
            raise ValueError(_refusal(layer, "it reshapes time")) from error
        return dataclasses.replace(signal, places=places)

    def _permute(self, layer, signal):
        axes = [axis - 1 for axis in layer.dims]
        if signal.is_timed:
            if axes.pop(0) != 0:
                raise ValueError(_refusal(layer, "it moves time"))
            axes = [axis - 1 for axis in axes]
        return dataclasses.replace(signal, places=signal.places.transpose(axes))

    def _activate(self, layer, signal):
        self._check_activation(layer)
        return signal

    def _check_activation(self, layer):
        if layer.activation is not None and layer.activation is not keras.activations.linear:
            name = getattr(layer.activation, "__name__", layer.activation)
            raise ValueError(
                _refusal(
                    layer,
                    f"NIR has no activation {name!r}",
                    "train it without, and let spiking units follow",
                )
            )

    def _check_untimed(self, layer, signal):
        if signal.is_timed:
            raise ValueError(
                _refusal(
                    layer,
                    "it does not act on each step of time",
                    "put it into `keras.layers.TimeDistributed`",
                )
            )


_IN_TRAINING_ALONE = {
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
}

_METHODS = {
    keras.layers.Activation: _Writer._activate,
    keras.layers.AveragePooling2D: _Writer._pool,
    keras.layers.Conv2D: _Writer._conv,
    keras.layers.Dense: _Writer._dense,
    keras.layers.Flatten: _Writer._flatten,
    keras.layers.GlobalAveragePooling2D: _Writer._global_pool,
    keras.layers.Permute: _Writer._permute,
    keras.layers.Rescaling: _Writer._rescale,
    keras.layers.Reshape: _Writer._reshape,
    keras.layers.ZeroPadding2D: _Writer._zero_pad,
}

_TAKE_PADDING = {
    keras.layers.AveragePooling2D,
    keras.layers.Conv2D,
    keras.layers.TimeDistributed,
    keras.layers.ZeroPadding2D,
}

_WITHOUT_LAST = (
    "export the layers before it, as in `keras.Model(model.inputs, "
    "model.get_layer(name).input)`, and count the spikes where they are read"
)
_WITHOUT_FIRST = (
    "export the layers behind it, as in "
    "`keras.Sequential([keras.Input((None, features)), *model.layers[1:]])`, and feed spikes"
)
_WAYS_OUT = {
    "BatchNormalization": "multiply it into the kernel before it, or train without it",
    "DeltaCoding": _WITHOUT_FIRST,
    "GlobalAveragePooling1D": _WITHOUT_LAST,
    "LatencyCoding": _WITHOUT_FIRST,
    "MaxPooling2D": "train with `AveragePooling2D`",
    "PopulationCoding": _WITHOUT_FIRST,
    "RateCoding": _WITHOUT_FIRST,
    "ReLU": "train without it, and let spiking units follow",
}


def _refusal(layer, reason, way_out=None):
    text = (
        f"Layer '{layer.name}' of type {type(layer).__name__} cannot be written as NIR: "
        f"{reason.rstrip('.')}."
    )
    return text if way_out is None else f"{text} Way out: {way_out}."


def _takes_padding(layer):
    if isinstance(layer, keras.layers.RNN):
        return type(layer.cell) is ConvSNU2DCell
    return type(layer) in _TAKE_PADDING or type(layer) in _IN_TRAINING_ALONE


def _is_sum(layer):
    # `x + y` is an operation of that name.
    is_operation = not isinstance(layer, keras.layers.Layer)
    return type(layer) is keras.layers.Add or (is_operation and type(layer).__name__ == "Add")


def _values(weight):
    return keras.ops.convert_to_numpy(weight).astype("float32")


def _leak(cell):
    """1 less the decay of an SNU."""
    if cell.decay_logit is None:
        return np.array(1.0 - cell.decay)
    return _leak_of_logit(cell.decay_logit)


def _leak_of_logit(logit):
    """1 less a learned decay, from its logit, so that it is exact near 1."""
    return 1.0 / (1.0 + np.exp(keras.ops.convert_to_numpy(logit).astype("float64")))


def _field(cell, name):
    """The value of a field of a neuron, learned or given."""
    if name not in cell.trainable_parameters:
        return np.array(getattr(cell.given_neuron, name))
    return _values(dict(zip(cell.trainable_parameters, cell.parameters()))[name])


def _leak_of_field(cell, name):
    """1 less the value of a field."""
    if name not in cell.trainable_parameters:
        return 1.0 - _field(cell, name)
    return _leak_of_logit(cell.parameter_weights[name])


def _same_padding(weight, images, stride):
    """Returns a kernel and the padding that make Keras's `"same"`.

    With strides Keras may pad the end more than the beginning. A padding of both by the larger
    number comes to the same if the kernel begins with a row of zeros. Where that is so of the
    height or the width, both get one, since kernels must stay square.
    """
    if stride == (1, 1):
        return weight, "same"
    totals = [
        max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(images, weight.shape[2:], stride)
    ]
    extra = [int(any(total % 2 for total in totals) and s > 1) for s in stride]
    weight = np.pad(weight, [(0, 0), (0, 0), *((more, 0) for more in extra)])
    return weight, tuple(total // 2 + more for total, more in zip(totals, extra))
