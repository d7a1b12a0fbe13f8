"""Makes a model of a graph of NIR."""

import collections
import dataclasses
import os

import keras
import numpy as np

from keras_grapes.layers import learned
from keras_grapes.layers.conv_snu import ConvSNU2D
from keras_grapes.layers.neurons import LIF, LeakyIntegrator, Synaptic
from keras_grapes.layers.snu import SNU
from keras_grapes.layers.spiking import Spiking
from keras_grapes.nir import neurons
from keras_grapes.nir.package import nir_package
from keras_grapes.nir.writing import check_dt

__all__ = ["import_nir"]


def import_nir(path: str | os.PathLike, dt: float | None = None) -> keras.Model:
    """Makes a Keras model of a file of the Neuromorphic Intermediate Representation (NIR).

    A neuron `LIF` or `IF` becomes a `keras_grapes.SNU`, or a `keras_grapes.ConvSNU2D` where it
    follows a `Conv2d`, with the weights of the node before it as its kernel, and those of a
    recurrent edge as its recurrent kernel; `LI` and `I` become units that put out their potential.
    Time constants become decays by Euler's method, see `keras_grapes.export_nir`. What scales a
    neuron's input goes into its kernels. Where there is no kernel to take, or a bias in the way,
    the weights are layers of their own, and the neurons a `keras_grapes.Spiking`: of
    `keras_grapes.LIF`, of `keras_grapes.LeakyIntegrator`, or, for `CubaLIF`, of
    `keras_grapes.Synaptic`. `CubaLI` becomes two layers of integrators, the first of which,
    `..._synapse`, is its synaptic current. Decays and thresholds that differ between the units of a
    layer are trainable, one for each unit.

    `Affine`, `Linear`, `Scale`, `Conv2d`, `AvgPool2d`, `SumPool2d` and `Flatten` become layers of
    Keras, several edges into a node an `Add`, and graphs within the graph a part of it. Images have
    their channels last in the model.

    Args:
        path: String or path of the file, or a `nir.NIRGraph`.
        dt: Float above 0, the seconds of a time step. Defaults to `None`, what
            `keras_grapes.export_nir` has noted in the file, else 0.001.

    Returns:
        A Functional model from `(batch, time, ...)` to `(batch, time, ...)`, with the names of the
        nodes.

    Raises:
        ImportError: If the package `nir` is not installed: `pip install keras_grapes[nir]`.
        FileNotFoundError: If there is no such file.
        ValueError: If the graph has a node without equivalent, or `dt` is not above 0.

    References:
        - [Pedersen et al., 2024](https://doi.org/10.1038/s41467-024-52259-9), NIR.

    Example:

    >>> import nir
    >>> import numpy as np
    >>> import keras_grapes as kg
    >>> ones = np.ones(2, "float32")
    >>> graph = nir.NIRGraph.from_list(
    ...     nir.Linear(np.ones((2, 3), "float32")),
    ...     nir.LIF(tau=0.005 * ones, r=5 * ones, v_leak=0 * ones, v_threshold=ones),
    ... )
    >>> model = kg.import_nir(graph, dt=0.001)
    >>> model.output_shape, model.get_layer("lif").decay
    ((None, None, 2), 0.8)
    """
    nir = nir_package()
    if dt is not None:
        check_dt(dt)
    if isinstance(path, nir.NIRGraph):
        written = path
    elif isinstance(path, (str, os.PathLike)):
        if not os.path.exists(path):
            raise FileNotFoundError(f"There is no file to read. Received: path={str(path)!r}")
        written = nir.read(path)
    else:
        raise ValueError(
            f"`path` must be the path of a file or a `nir.NIRGraph`. Received: path={path!r}"
        )
    if dt is None:
        dt = float(written.metadata.get("dt", 1e-3))
    return _Reader(nir, written, dt).read()


class _Reader:
    """Turns nodes and edges into layers, one method for a kind of node."""

    def __init__(self, nir, written, dt):
        self.nir = nir
        self.dt = dt
        self.nodes = {}
        edges = self._open(written, "")
        self.edges = _without_ports(edges, self.nodes, (nir.Input, nir.Output))
        self._split_integrators_of_second_order()
        self.recurrences = self._take_recurrences()
        self.weights = []

    def _open(self, written, prefix):
        """Collects the nodes of a graph and of those within it. Returns the edges.

        An input and an output of a graph within are nodes that are passed through.
        """
        edges = []
        inner = {}
        for name, node in written.nodes.items():
            if isinstance(node, self.nir.NIRGraph):
                edges += self._open(node, f"{prefix}{name}_")
                inner[name] = [
                    _only(f"{prefix}{name}_", node, kind)
                    for kind in (self.nir.Input, self.nir.Output)
                ]
            else:
                is_port = prefix and isinstance(node, (self.nir.Input, self.nir.Output))
                self.nodes[prefix + name] = _PORT if is_port else node
        for source, target in written.edges:
            source = inner[source][1] if source in inner else prefix + source
            target = inner[target][0] if target in inner else prefix + target
            edges.append((source, target))
        return edges

    def _split_integrators_of_second_order(self):
        """Makes two integrators of each `CubaLI`, which is a synaptic current and a potential."""
        for name, node in list(self.nodes.items()):
            if not isinstance(node, self.nir.CubaLI):
                continue
            synapse = f"{name}_synapse"
            while synapse in self.nodes:
                synapse += "_"
            self.nodes[synapse] = self.nir.LI(node.tau_syn, node.w_in, np.zeros_like(node.v_leak))
            self.nodes[name] = self.nir.LI(
                node.tau_mem, node.r, node.v_leak, metadata=node.metadata
            )
            self.edges = [(a, synapse if b == name else b) for a, b in self.edges]
            self.edges.append((synapse, name))

    def _sources(self, name):
        return [source for source, target in self.edges if target == name]

    def _targets(self, name):
        return [target for source, target in self.edges if source == name]

    def _is_neuron(self, name):
        kinds = (self.nir.LIF, self.nir.IF, self.nir.LI, self.nir.I, self.nir.CubaLIF)
        return isinstance(self.nodes[name], kinds)

    def _take_recurrences(self):
        """Removes the edges from neurons to themselves. Returns their weights, as Keras has them.

        They go through a node of weights or, one to one, through none.
        """
        recurrences = collections.defaultdict(list)
        for name in [name for name in self.nodes if self._is_neuron(name)]:
            size = np.size(self.nodes[name].r)
            for target in self._targets(name):
                if target == name:
                    recurrences[name].append(np.eye(size))
                    self.edges.remove((name, name))
                elif self._sources(target) == self._targets(target) == [name]:
                    recurrences[name].append(self._recurrent_weight(target))
                    self.edges.remove((name, target))
                    self.edges.remove((target, name))
                    del self.nodes[target]
        return recurrences

    def _recurrent_weight(self, name):
        node = self.nodes[name]
        if isinstance(node, self.nir.Scale) and np.ndim(node.scale) == 1:
            return np.diag(node.scale)
        has_bias = np.any(getattr(node, "bias", 0))
        if not isinstance(node, (self.nir.Linear, self.nir.Affine)) or has_bias:
            raise ValueError(
                _refusal(name, node, "a recurrence goes through weights without a bias, or none")
            )
        return np.transpose(node.weight)

    def read(self):
        """Returns the model."""
        first, last = (_only("", self, kind) for kind in (self.nir.Input, self.nir.Output))
        shape = [int(n) for n in np.ravel(self.nodes[first].input_type["input"])]
        if len(shape) not in (1, 3):
            raise ValueError(
                _refusal(first, self.nodes[first], f"inputs are vectors or images, not of {shape}")
            )
        inputs = keras.Input((None, *shape[1:], shape[0]), name=_layer_name(first))
        tensors = {first: inputs}
        for name in self._ordered(first):
            if name not in tensors and name != last:
                sources = [s for s in self._sources(name) if s in tensors]
                tensors[name] = self._read_node(name, sources, tensors)
        model = keras.Model(inputs, self._sum(last, self._sources(last), tensors))
        for weight, value in self.weights:
            weight.assign(value)
        return model

    def _ordered(self, first):
        """Names of the nodes in an order in which each comes after those it depends on."""
        waiting = {name: len(self._sources(name)) for name in self.nodes}
        unreached = [name for name, count in waiting.items() if not count and name != first]
        if unreached:
            raise ValueError(f"The graph has nodes that nothing leads to. Received: {unreached}")
        ready, order = [first], []
        while ready:
            name = ready.pop()
            order.append(name)
            for target in self._targets(name):
                waiting[target] -= 1
                if not waiting[target]:
                    ready.append(target)
        if len(order) < len(self.nodes):
            cycle = sorted(set(self.nodes) - set(order))
            raise ValueError(
                "The graph has a cycle through more than one neuron, or through what is no neuron; "
                f"a layer here feeds back to itself alone. Received: the nodes {cycle}"
            )
        return order

    def _sum(self, name, sources, tensors):
        values = [tensors[source] for source in sources]
        if len(values) == 1:
            return values[0]
        return keras.layers.Add(name=f"{_layer_name(name)}_sum")(values)

    def _read_node(self, name, sources, tensors):
        node = self.nodes[name]
        if self._is_neuron(name):
            return self._units(name, node, sources, tensors)
        if self._is_kernel_of_units(name):
            # The units take both.
            return None
        x = self._sum(name, sources, tensors)
        for kind, method in _METHODS.items():
            if type(node) is getattr(self.nir, kind, None):
                return method(self, _layer_name(name), node, x)
        raise ValueError(_refusal(name, node, "there is no layer for it here"))

    def _is_kernel_of_units(self, name):
        """Whether a node is nothing but the weights between one tensor and one layer of units."""
        node, targets = self.nodes[name], self._targets(name)
        if len(targets) != 1 or not self._is_neuron(targets[0]):
            return False
        if len(self._sources(targets[0])) != 1:
            return False
        is_kernel = type(node) in (self.nir.Linear, self.nir.Affine)
        is_kernel = is_kernel and np.ndim(node.weight) == 2
        if type(node) is self.nir.Conv2d:
            is_kernel = int(node.groups) == 1
        neuron = neurons_of(targets[0], self.nodes[targets[0]], self.dt)
        takes_kernel = neuron.synaptic_decay is None and not np.any(neuron.drive)
        return bool(is_kernel) and not np.any(getattr(node, "bias", 0)) and takes_kernel

    def _units(self, name, node, sources, tensors):
        neuron = neurons_of(name, node, self.dt)
        layer_name = _layer_name(name)
        kernel = None
        if len(sources) == 1 and self._is_kernel_of_units(sources[0]):
            kernel = self.nodes[sources[0]]
            x = self._sum(name, self._sources(sources[0]), tensors)
        else:
            x = self._sum(name, sources, tensors)
        if not _is_timed(x):
            raise ValueError(_refusal(name, node, "of what it takes there is the last step alone"))
        convolves = len(x.shape) == 5
        neuron = neurons.Neuron(
            *(
                None if value is None else self._per_unit(name, node, value, x, kernel)
                for value in dataclasses.astuple(neuron)
            )
        )
        decay, scale, drive, threshold = (
            neuron.decay, neuron.scale, neuron.drive, neuron.threshold
        )  # fmt: skip
        if kernel is None:
            inhibition = self._inhibition(name, scale)
            fits = inhibition is not None and (threshold is None or threshold.min() > 0)
            if fits and not (convolves and inhibition):
                return self._neurons(name, node, neuron, inhibition, x)
        if neuron.synaptic_decay is not None:
            raise ValueError(
                _refusal(
                    name,
                    node,
                    "units of second order here have a threshold above 0, and no other recurrence "
                    "than an inhibition that is the same between all units",
                )
            )
        units = decay.size
        arguments = {
            "input_activation": "linear",
            "return_sequences": bool(node.metadata.get("return_sequences", True)),
            "name": layer_name,
        }
        if threshold is None:
            arguments.update(activation="linear", reset="none", use_bias=False)
        if (decay == decay[0]).all():
            arguments["decay"] = float(decay[0])
        elif decay.min() > 0 and decay.max() < 1:
            arguments["trainable_decay"] = "unit"
        else:
            raise ValueError(
                _refusal(name, node, "some of its units keep all or nothing, and others do not")
            )
        identity = None
        if kernel is None:
            identity = np.diag(scale)
            if drive.any():
                x = self._drive(f"{layer_name}_drive", x, scale, drive, convolves)
                identity = np.eye(units)
            arguments["kernel_initializer"] = "zeros"
        if convolves:
            layer, x, weight = self._convolution_of_units(units, kernel, x, arguments)
            weight = np.reshape(identity, (1, 1, units, units)) if kernel is None else weight
        else:
            if name in self.recurrences:
                arguments["recurrent"] = True
            layer = SNU(units, **arguments)
            weight = identity if kernel is None else np.transpose(kernel.weight)
        output = layer(x)
        cell = layer.cell
        self.weights.append((cell.kernel, weight if kernel is None else weight * scale))
        if kernel is None:
            cell.kernel.trainable = False
        if name in self.recurrences:
            if convolves:
                raise ValueError(_refusal(name, node, "it feeds images back to itself"))
            self.weights.append((cell.recurrent_kernel, sum(self.recurrences[name]) * scale))
        if threshold is not None:
            self.weights.append((cell.bias, -threshold))
        if cell.decay_logit is not None:
            self.weights.append((cell.decay_logit, np.log(decay / (1 - decay))))
        return output

    def _inhibition(self, name, scale):
        """What each unit takes from all others, 0 for no recurrence; `None` for any other one."""
        if name not in self.recurrences:
            return 0.0
        recurrence = sum(self.recurrences[name]) * scale
        units = len(recurrence)
        value = float(-recurrence[0, -1])
        others = np.ones((units, units)) - np.eye(units)
        same = np.allclose(recurrence, -value * others, rtol=1e-6, atol=0)
        return value if units > 1 and value >= 0 and same else None

    def _neurons(self, name, node, neuron, inhibition, x):
        """Neurons without a kernel: what is not 1 in their scale is a layer before them."""
        layer_name = _layer_name(name)
        if neuron.drive.any():
            convolves = len(x.shape) == 5
            x = self._drive(f"{layer_name}_drive", x, neuron.scale, neuron.drive, convolves)
        elif np.any(neuron.scale != 1):
            x = keras.layers.Rescaling(neuron.scale.tolist(), name=f"{layer_name}_scale")(x)
        values = {"decay": neuron.decay}
        make = LeakyIntegrator
        if neuron.threshold is not None:
            values["threshold"] = neuron.threshold
            make = LIF
        if neuron.synaptic_decay is not None:
            values["synaptic_decay"] = neuron.synaptic_decay
            make = Synaptic
        arguments = {key: float(value[0]) for key, value in values.items()}
        if neuron.threshold is not None:
            arguments["reset"] = "zero"
        made = make(**arguments)
        differing = [key for key, value in values.items() if np.ptp(value) > 0]
        for key in differing:
            bounds = learned.bounds_of(made, key)
            if not all(value in bounds for value in values[key]):
                raise ValueError(
                    _refusal(name, node, "some of its units keep all or nothing, and others do not")
                )
        layer = Spiking(
            made,
            lateral_inhibition=inhibition,
            trainable_parameters=dict.fromkeys(differing, "unit"),
            return_sequences=bool(node.metadata.get("return_sequences", True)),
            name=layer_name,
        )
        output = layer(x)
        for key in differing:
            bounds = learned.bounds_of(made, key)
            weights = np.array([bounds.weight(value) for value in values[key]])
            self.weights.append((layer.cell.parameter_weights[key], weights))
        return output

    def _per_unit(self, name, node, value, x, kernel):
        """Values of the units, one for each unit or filter."""
        value = np.asarray(value, "float64")
        if len(x.shape) == 3:
            units = x.shape[-1] if kernel is None else kernel.weight.shape[0]
            return np.broadcast_to(value.ravel() if value.size == 1 else value, (units,))
        filters = x.shape[-1] if kernel is None else kernel.weight.shape[0]
        if value.size == 1:
            return np.broadcast_to(value.ravel(), (filters,))
        flat = value.reshape(value.shape[0], -1)
        if value.shape[0] != filters or np.any(flat != flat[:, :1]):
            raise ValueError(
                _refusal(name, node, "its parameters differ between the positions of a filter")
            )
        return flat[:, 0]

    def _drive(self, name, x, scale, drive, convolves):
        units = len(drive)
        if convolves:
            layer = keras.layers.Conv2D(units, 1, name=name)
            return self._timed(layer, x, np.reshape(np.diag(scale), (1, 1, units, units)), drive)
        layer = keras.layers.Dense(units, name=name)
        x = layer(x)
        self.weights += [(layer.kernel, np.diag(scale)), (layer.bias, drive)]
        return x

    def _convolution_of_units(self, filters, node, x, arguments):
        if node is None:
            return ConvSNU2D(filters, 1, **arguments), x, None
        weight, settings, x = self._convolution(arguments["name"], node, x)
        settings.pop("groups")
        return ConvSNU2D(filters, weight.shape[:2], **settings, **arguments), x, weight

    def _convolution(self, name, node, x):
        """Returns the kernel and the arguments of a convolution, and its input, padded."""
        weight = np.transpose(node.weight, (2, 3, 1, 0))
        dilation = _pair(node.dilation)
        settings = {
            "strides": _pair(node.stride),
            "dilation_rate": dilation,
            "groups": int(node.groups),
            "padding": "valid",
        }
        if isinstance(node.padding, str):
            settings["padding"] = node.padding
        else:
            x = self._padded(name, _pair(node.padding), x)
        return weight, settings, x

    def _padded(self, name, padding, x):
        if not any(padding):
            return x
        return self._timed(keras.layers.ZeroPadding2D(padding, name=f"{name}_padding"), x)

    def _timed(self, layer, x, *values):
        """Applies a layer for images to those of every step."""
        if _is_timed(x):
            x = keras.layers.TimeDistributed(layer, name=f"{layer.name}_in_time")(x)
        else:
            x = layer(x)
        self.weights += zip(layer.weights, values)
        return x

    def _linear(self, name, node, x):
        if np.ndim(node.weight) != 2 or len(x.shape) > 3:
            raise ValueError(_refusal(name, node, "it is not from a vector to a vector"))
        bias = getattr(node, "bias", None)
        layer = keras.layers.Dense(node.weight.shape[0], use_bias=bias is not None, name=name)
        x = layer(x)
        self.weights.append((layer.kernel, np.transpose(node.weight)))
        if bias is not None:
            self.weights.append((layer.bias, bias))
        return x

    def _conv(self, name, node, x):
        weight, settings, x = self._convolution(name, node, x)
        layer = keras.layers.Conv2D(weight.shape[-1], weight.shape[:2], name=name, **settings)
        return self._timed(layer, x, weight, node.bias)

    def _average(self, name, node, x):
        x = self._padded(name, _pair(node.padding), x)
        size, strides = _pair(node.kernel_size), _pair(node.stride)
        return self._timed(keras.layers.AveragePooling2D(size, strides, name=name), x)

    def _sum_pool(self, name, node, x):
        count = float(np.prod(_pair(node.kernel_size)))
        x = self._average(name, node, x)
        return keras.layers.Rescaling(count, name=f"{name}_count")(x)

    def _scale(self, name, node, x):
        scale = np.moveaxis(np.asarray(node.scale), 0, -1) if np.ndim(node.scale) else node.scale
        values = float(np.ravel(scale)[0]) if np.unique(scale).size == 1 else scale.tolist()
        return keras.layers.Rescaling(values, name=name)(x)

    def _flatten(self, name, node, x):
        rank = len(x.shape) - 1 - _is_timed(x)
        if int(node.start_dim) != 0 or int(node.end_dim) not in (-1, rank - 1):
            raise ValueError(
                _refusal(
                    name,
                    node,
                    "it does not flatten all axes. Received: "
                    f"start_dim={node.start_dim}, end_dim={node.end_dim}",
                )
            )
        if rank == 1:
            return x
        # NIR has the channels first.
        height, width, channels = x.shape[-3:]
        order, shape = (3, 1, 2), (height * width * channels,)
        if _is_timed(x):
            order, shape = (1, 4, 2, 3), (-1, *shape)
        x = keras.layers.Permute(order, name=f"{name}_channels_first")(x)
        return keras.layers.Reshape(shape, name=name)(x)

    def _identity(self, name, node, x):
        return x


_METHODS = {
    "Affine": _Reader._linear,
    "AvgPool2d": _Reader._average,
    "Conv2d": _Reader._conv,
    "Flatten": _Reader._flatten,
    "Identity": _Reader._identity,
    "Linear": _Reader._linear,
    "Scale": _Reader._scale,
    "SumPool2d": _Reader._sum_pool,
}

# Stands for an input or output of a graph within another.
_PORT = object()


def neurons_of(name, node, dt):
    """Returns the parameters of a node in steps of time. An error names the node."""
    try:
        return neurons.from_node(node, dt)
    except ValueError as error:
        raise ValueError(_refusal(name, node, str(error))) from error


def _without_ports(edges, nodes, kinds):
    """Joins the edges through inputs and outputs of graphs within, which are removed."""
    for port in [name for name, node in nodes.items() if node is _PORT]:
        sources = [source for source, target in edges if target == port]
        targets = [target for source, target in edges if source == port]
        edges = [edge for edge in edges if port not in edge]
        edges += [(source, target) for source in sources for target in targets]
        del nodes[port]
    return edges


def _only(prefix, written, kind):
    names = [name for name, node in written.nodes.items() if isinstance(node, kind)]
    if len(names) != 1:
        raise ValueError(
            f"A graph must have one node of type {kind.__name__}. Received: {len(names)}"
            + (f", in the graph '{prefix[:-1]}'" if prefix else "")
        )
    return prefix + names[0]


def _is_timed(x):
    """Whether a tensor has an axis of time, which vectors and images lose at the last step."""
    return len(x.shape) in (3, 5)


def _layer_name(name):
    return name.replace("/", "_").replace(".", "_")


def _pair(value):
    values = [int(v) for v in np.ravel(value)]
    return tuple(values * 2) if len(values) == 1 else tuple(values)


def _refusal(name, node, reason):
    return f"Node '{name}' of type {type(node).__name__} cannot be read: {reason.rstrip('.')}."
