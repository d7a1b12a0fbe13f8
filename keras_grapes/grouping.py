"""Which weights feed which nodes: from a layer class, a model or a list of variables to groups.

A *group* is the set of nodes whose importances are compared with each other, together with the
kernels that feed them. A `Dense` layer has one group; a `SimpleRNN` has one group fed by two
kernels; a `SeparableConv2D` has two groups.
"""

import dataclasses
import weakref

import keras
from keras import layers

from keras_grapes import backend, graph
from keras_grapes.kernels import acting_kernel, current, stored_variable
from keras_grapes.modulation import normalize_axes

__all__ = ["Group", "register_grouping"]

_groupings = {}


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Nodes of a layer and the kernels that feed them.

    Args:
        kernels: A variable, or a list of variables that feed the same nodes. Their sums of
            absolute weights are added. Of a layer that is quantized or has LoRA adapters, the
            kernel that it computes.
        incoming_axes: Int or tuple of ints, the axes of each kernel to sum over; the remaining
            axes are the nodes. A list gives one entry per kernel. `None` stands for all axes but
            the last. Defaults to `None`.
        output_axis: Int or tuple of ints, the axis of the layer's output along which the nodes lie
            (a tuple when the nodes have several axes there); several node axes on one output axis
            are flattened. `None` when the nodes are not the channels of the output, as the gates
            of an LSTM. Defaults to `-1`.
        feeds_output: Bool, whether the error at the layer's output reaches these nodes without
            passing through another kernel of the layer. Defaults to `True`.
        guessed: Bool, whether the grouping is a guess from the shape. Defaults to `False`.

    Raises:
        ValueError: If there is no kernel, or `incoming_axes` does not fit the kernels.
    """

    kernels: tuple
    incoming_axes: int | tuple | list | None = None
    output_axis: int | tuple | None = -1
    feeds_output: bool = True
    guessed: bool = False

    def __post_init__(self):
        kernels = self.kernels if isinstance(self.kernels, (list, tuple)) else (self.kernels,)
        axes = self.incoming_axes
        axes = axes if isinstance(axes, list) else [axes] * len(kernels)
        if not kernels:
            raise ValueError(
                "A `Group` needs a kernel. Received: kernels=[]. A layer without nodes has no "
                "group: return an empty list from the function that you register."
            )
        if len(axes) != len(kernels):
            raise ValueError(
                "`incoming_axes` of a `Group` must have one entry per kernel. Received: "
                f"{len(axes)} entries for {len(kernels)} kernels"
            )
        axes = [normalize_axes(a, len(k.shape)) for a, k in zip(axes, kernels)]
        object.__setattr__(self, "kernels", tuple(kernels))
        object.__setattr__(self, "incoming_axes", axes)

    @property
    def node_shape(self):
        """Shape of the nodes, `(units,)` in the common case."""
        kernel, axes = self.kernels[0], self.incoming_axes[0]
        return tuple(size for axis, size in enumerate(kernel.shape) if axis not in axes)

    @property
    def variables(self):
        """Tuple of the variables that stand for the kernels, of a computed one that of its base."""
        return tuple(stored_variable(kernel) for kernel in self.kernels)

    @property
    def keys(self):
        """Tuple of the `backend.variable_key`s of the `variables`: what identifies the kernels."""
        return tuple(backend.variable_key(variable) for variable in self.variables)

    def inner(self):
        """Returns the same group as one whose nodes are not those of the layer's output."""
        return dataclasses.replace(self, output_axis=None, feeds_output=False)

    def factor(self, modulation):
        """Returns the factors of the nodes now, shaped as `node_shape`."""
        return modulation([current(kernel) for kernel in self.kernels], self.incoming_axes)

    def over_kernel(self, factor, index):
        """Reshapes `factor` so that it broadcasts over the kernel at `index`."""
        incoming = self.incoming_axes[index]
        if incoming == tuple(range(len(incoming))):
            return factor  # The nodes are the last axes.
        shape = [1 if a in incoming else n for a, n in enumerate(self.kernels[index].shape)]
        return keras.ops.reshape(factor, shape)

    def over_output(self, factor, output_shape):
        """Reshapes `factor` so that it broadcasts over the layer's output.

        Raises:
            ValueError: If the nodes do not lie along `output_axis` of an output of this shape.
        """
        rank = len(output_shape)
        axes = self.output_axis if isinstance(self.output_axis, tuple) else (self.output_axis,)
        node_shape = self.node_shape
        if len(axes) == 1 and len(node_shape) > 1:
            factor = keras.ops.reshape(factor, (-1,))
            node_shape = tuple(factor.shape)
        fits = len(axes) == len(node_shape) and all(
            -rank <= axis < rank and output_shape[axis] in (size, None)
            for axis, size in zip(axes, node_shape)
        )
        if not fits:
            raise ValueError(
                f"its nodes, of shape {node_shape}, are not axis {self.output_axis} of its "
                f"output, of shape {tuple(output_shape)}"
            )
        if tuple(axis % rank for axis in axes) == tuple(range(rank - len(axes), rank)):
            return factor  # The nodes are the last axes.
        size_of = dict(zip((axis % rank for axis in axes), node_shape))
        order = sorted(range(len(axes)), key=lambda i: axes[i] % rank)
        factor = keras.ops.transpose(factor, order)
        return keras.ops.reshape(factor, [size_of.get(axis, 1) for axis in range(rank)])


def register_grouping(layer_class):
    """Tells which weights of a custom layer feed which nodes.

    The decorated function gets a built layer of the class, or of a subclass, and returns its
    `keras_grapes.grouping.Group`, or a list of them in the order of the forward pass. An empty list
    says that the layer has no nodes: its weights act on each value by itself, so that behind the
    logits the layer before it is the output layer. Registering a class again replaces its function.

    Args:
        layer_class: A subclass of `keras.layers.Layer`.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: If `layer_class` is not a layer class.

    Example:

    >>> import keras
    >>> import keras_grapes as kg
    >>> class Transposed(keras.layers.Layer):
    ...     def build(self, input_shape):
    ...         self.w = self.add_weight(shape=(8, input_shape[-1]))
    ...     def call(self, x):
    ...         return keras.ops.matmul(x, keras.ops.transpose(self.w))
    >>> @kg.register_grouping(Transposed)
    ... def transposed_grouping(layer):
    ...     return kg.grouping.Group(layer.w, incoming_axes=1)
    >>> kg.ErrorModulation(Transposed())(keras.ops.ones((2, 3))).shape
    TensorShape([2, 8])
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise TypeError(
            "`register_grouping` takes a subclass of `keras.layers.Layer`, as in "
            f"`@register_grouping(MyLayer)`. Received: {layer_class!r}"
        )

    def register(function):
        _groupings[layer_class] = function
        return function

    return register


def find_grouping(layer):
    """Returns the registered function of the layer's class or nearest base class, or `None`."""
    return _groupings.get(_registered_base(layer))


def _registered_base(layer):
    return next((base for base in type(layer).__mro__ if base in _groupings), None)


def layer_groups(layer):
    """Returns the groups of one layer, its sublayers left out unless its class registered them.

    A layer of an unknown class that owns a `kernel` is grouped by the kernel's last axis, and its
    group says that this is a guess.

    Args:
        layer: A built `keras.layers.Layer`.

    Returns:
        List of `Group`, empty for a layer without nodes.

    Raises:
        TypeError: If a registered function returns something else than groups.
    """
    grouping = find_grouping(layer)
    if grouping is not None:
        groups = grouping(layer)
        groups = [groups] if isinstance(groups, Group) else groups
        if not (isinstance(groups, (list, tuple)) and all(isinstance(g, Group) for g in groups)):
            raise TypeError(
                f"The grouping registered for `{type(layer).__name__}` must return a "
                f"`keras_grapes.grouping.Group` or a list of them. Received: {groups!r}"
            )
        return list(groups)
    kernels = [getattr(layer, name, None) for name in ("kernel", "recurrent_kernel")]
    kernels = [k for k in kernels if isinstance(k, keras.Variable) and len(k.shape) >= 2]
    kernels = [k for k in kernels if k.shape[-1] == kernels[0].shape[-1]]
    return [Group(kernels, guessed=True)] if kernels else []


def nested_groups(layer):
    """Returns the groups of a layer and of all its sublayers.

    Groups from which the layer's output is reached only through another kernel have
    `feeds_output=False`.
    """
    if find_grouping(layer) is not None:
        return layer_groups(layer)
    return [
        group if entry.is_output_group(group) else group.inner()
        for entry in weight_layers(layer)
        for group in entry.groups
    ]


@dataclasses.dataclass(eq=False)
class WeightLayer:
    """A layer that owns weights, with its groups and its place in a model.

    Attributes:
        layer: The layer.
        groups: List of its `Group`s; empty when nothing in it can be modulated.
        is_output: Bool, whether the output is reached from it through no further kernel.
        output_guessed: Bool, whether `is_output` was told from the order of the layers alone.
    """

    layer: keras.layers.Layer
    groups: list
    is_output: bool = False
    output_guessed: bool = False

    def is_output_group(self, group):
        return self.is_output and group.feeds_output


def weight_layers(root, output_layers=None):
    """Lists the layers of a model, or of a composite layer, that own weights.

    Output layers are those from which the output is reached through no further layer whose weights
    mix nodes. Where there is a graph they are known from it. Of subclassed models and composite
    layers the last part is taken, of several models in one the last that is trained; then
    `output_guessed` says so.

    Args:
        root: A built `keras.Model` or layer.
        output_layers: List of layers of `root`, or of their names or paths, that compute its
            outputs; an empty one where `root` is a part and its outputs are hidden nodes of the
            whole. Defaults to `None`, to find them.

    Returns:
        List of `WeightLayer`, in the order of the graph.

    Raises:
        TypeError: If `output_layers` holds something else than layers and strings.
        ValueError: If one of `output_layers` is not in `root`, is one of several of that name, or
            has no weights.
    """
    leaves = graph.leaf_layers(root) if graph.has_graph(root) else [root]
    owners = {id(owner): owner for leaf in leaves for owner in _owners(leaf)}
    found = {key: WeightLayer(owner, layer_groups(owner)) for key, owner in owners.items()}
    search = _OutputSearch()
    if output_layers is None:
        search.add_outputs_of(root)
    else:
        for layer in _resolve(root, output_layers):
            search.add_outputs_of(layer)
    for key, entry in found.items():
        entry.is_output = key in search.outputs
        entry.output_guessed = key in search.guessed
    return list(found.values())


class _OutputSearch:
    """Looks for the owners of weights that compute a layer's output.

    Attributes:
        outputs: Set of the ids of those found.
        guessed: Set of the ids of all owners among which the order alone decided.
    """

    def __init__(self):
        self.outputs = set()
        self.guessed = set()

    def add_outputs_of(self, layer):
        if graph.has_graph(layer):
            calls = graph.output_calls(layer)
            reached = graph.reached_first(calls, _mixing)
            for one in reached:
                self.add_outputs_of(one)
            # A layer of an unknown class may act on each node by itself: then the one behind it is.
            if any(is_unknown(owner) for one in reached for owner in _owners(one)):
                for one in graph.reached_first(calls, _mixing_by_class):
                    self.guessed.update(id(owner) for owner in _mixing(one) if one not in reached)
                self.guessed.update(id(o) for one in reached for o in _owners(one) if is_unknown(o))
            return
        candidates = _mixing(layer) or list(_owners(layer))
        if not candidates:
            return
        parts = [part for part in _parts(layer) if _mixing(part)]
        if len(parts) == 1 and layer not in candidates:
            self.add_outputs_of(parts[0])
            return
        if len(candidates) > 1:
            self.guessed.update(id(owner) for owner in candidates)
        table = _output_table(layer, candidates)
        if table is not None or not parts:
            self.outputs.add(id(table or candidates[-1]))
        else:
            self.add_outputs_of(_last_trained(parts))


def _output_table(layer, candidates):
    """The owner of the table of an embedding that a head multiplies by, if it is one.

    The output then has a value for each row, and not one for each node of the last kernel.
    """
    widths = graph.output_widths(layer)
    if any(widths & set(group.node_shape) for group in layer_groups(candidates[-1])):
        return None
    tables = [
        owner
        for owner in candidates
        if not layer_groups(owner)
        and any(len(w.shape) == 2 and w.shape[0] in widths for w in owner.weights)
    ]
    return tables[-1] if tables else None


def _parts(layer):
    return [] if find_grouping(layer) else graph.sublayers(layer)


def _last_trained(parts):
    """The last part; of parts that are models the last one that is trained."""
    if isinstance(parts[-1], keras.Model) and not parts[-1].trainable_weights:
        trained = [p for p in parts if isinstance(p, keras.Model) and p.trainable_weights]
        return (trained or parts)[-1]
    return parts[-1]


def _resolve(root, output_layers):
    """The layers of `root` that `output_layers` names."""
    if isinstance(output_layers, (str, keras.layers.Layer)):
        output_layers = [output_layers]
    if not isinstance(output_layers, (list, tuple)):
        raise TypeError(
            "`output_layers` must be a list of layers or of their names. Received: "
            f"output_layers={output_layers!r} of type {type(output_layers).__name__}"
        )
    known = [root, *graph.all_layers(root)]
    return [_resolve_one(root, known, one) for one in output_layers]


def _resolve_one(root, known, one):
    if isinstance(one, keras.layers.Layer):
        named = [layer for layer in known if layer is one]
        title = f"'{one.name}'"
    elif isinstance(one, str):
        named = [layer for layer in known if one in (layer.name, layer.path)]
        # A wrapper may have the name of the layer in it.
        within = {id(inner) for layer in named for inner in graph.all_layers(layer)}
        named = [layer for layer in named if id(layer) not in within]
        title = repr(one)
    else:
        raise TypeError(
            "`output_layers` must hold layers or names of layers. Received: "
            f"{one!r} of type {type(one).__name__}"
        )
    if not named:
        owners = [owner.name for owner in known if _has_own_weights(owner)]
        raise ValueError(
            f"`output_layers` names {title}, and '{root.name}' has no such layer. Its layers with "
            f"weights are {owners}."
        )
    if len(named) > 1:
        raise ValueError(
            f"`output_layers` names {title}, and '{root.name}' has {len(named)} layers of that "
            f"name. Pass the layer itself or its path: {[layer.path for layer in named]}."
        )
    if not named[0].weights:
        raise ValueError(
            f"`output_layers` names {title}, which has no weights. Name the layer ahead of it "
            "whose kernel computes the output."
        )
    return named[0]


# Their weights act on each node by itself, whatever axes they have.
_ELEMENTWISE = tuple(
    getattr(layers, name)
    for name in (
        "BatchNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "Normalization",
        "PReLU",
        "RMSNormalization",
    )
    if hasattr(layers, name)
)


def _mixing(layer):
    """The layer and its sublayers whose own weights mix nodes, as far as can be told."""
    return [owner for owner in _owners(layer) if layer_groups(owner) or _mixes_nodes(owner)]


def _mixing_by_class(layer):
    return [owner for owner in _mixing(layer) if not is_unknown(owner)]


def is_unknown(layer):
    """Whether it is not known which nodes a layer's matrices of weights feed, or whether any."""
    return has_unknown_weights(layer) and not layer_groups(layer)


def _mixes_nodes(layer):
    if isinstance(layer, layers.EinsumDense):
        return bool(_einsum_axes(layer)[1])
    if not _has_matrices(layer) or isinstance(layer, _ELEMENTWISE):
        return False
    # Who registers a class of his own without nodes says that it does not. Of Keras's classes
    # without nodes an `Embedding` is looked up in, or multiplied by where the output is tied to it.
    registered = _registered_base(layer)
    return registered is None or registered.__module__.split(".")[0] == "keras"


def _has_matrices(layer):
    return any(len(weight.shape) >= 2 for weight in layer.weights)


def has_unknown_weights(layer):
    """Whether a layer has matrices of weights and its class is neither Keras's nor registered."""
    is_known = type(layer).__module__.split(".")[0] == "keras" or find_grouping(layer)
    return _has_matrices(layer) and not is_known


def _owners(layer):
    """Yields the layer and its sublayers that own weights.

    A class with a registered grouping speaks for its sublayers too.
    """
    if not isinstance(layer, keras.layers.Layer):
        return
    if _has_own_weights(layer):
        yield layer
    for part in _parts(layer):
        yield from _owners(part)


def _has_own_weights(layer):
    nested = {id(weight) for part in _parts(layer) for weight in part.weights}
    return any(id(weight) not in nested for weight in layer.weights)


# `ErrorModulation`s that are alive, for optimizers that know no model.
_wrappers = weakref.WeakSet()


def remember_wrapper(wrapper):
    """Notes a layer that modulates the error of the layer in it, as `ErrorModulation` does."""
    _wrappers.add(wrapper)


def is_wrapper(layer):
    """Whether a layer modulates the error of the layer in it."""
    return layer in _wrappers


def error_modulated(layers=None):
    """Returns the `backend.variable_key`s of the weights whose error a wrapper modulates.

    Args:
        layers: List of layers, to look for wrappers among. Defaults to `None`, all that are alive.
    """
    wrappers = list(_wrappers) if layers is None else [w for w in layers if is_wrapper(w)]
    return {backend.variable_key(weight) for w in wrappers for weight in w.weights}


def group_by_name(variables):
    """Groups variables by their names alone, where no model is known.

    Every variable named `kernel` or `*_kernel` with two axes or more is a group, its last axis the
    nodes, except the last of them, which is taken for the output layer.

    Args:
        variables: List of `keras.Variable` or `tf.Variable` in the order of the layers.

    Returns:
        List of `Group`.
    """
    kernels = [v for v in variables if is_kernel_name(v) and len(v.shape) >= 2]
    return [Group(kernel, guessed=True) for kernel in kernels[:-1]]


def is_kernel_name(variable):
    """Whether a variable is named as Keras names the kernels of its layers."""
    name = variable.name.split("/")[-1].split(":")[0]
    return name == "kernel" or name.endswith("_kernel")


def path_of(variable):
    """The path of a Keras variable; the name of the backend's, which has no path."""
    return getattr(variable, "path", variable.name)


# Keras's own layers.


@register_grouping(layers.Dense)
def _dense(layer):
    return Group(acting_kernel(layer))


@register_grouping(layers.EinsumDense)
def _einsum_dense(layer):
    letters, incoming, output = _einsum_axes(layer)
    nodes = [c for c in letters if c in output]
    # A kernel that is summed away, or that is a scale of each value, or whose diagonal alone acts.
    if not nodes or not incoming or len(set(letters)) < len(letters):
        return []
    before, ellipsis, after = output.partition("...")
    if ellipsis:
        axis_of = {c: i for i, c in enumerate(before)}
        axis_of.update({c: i - len(after) for i, c in enumerate(after)})
    else:
        axis_of = {c: i - len(output) for i, c in enumerate(output)}
    return Group(acting_kernel(layer), incoming, output_axis=tuple(axis_of[c] for c in nodes))


def _einsum_axes(layer):
    """Letters of the kernel, those of its axes that are summed over, and letters of the output."""
    operands, output = layer.equation.replace(" ", "").split("->")
    letters = operands.split(",")[1]
    return letters, tuple(i for i, c in enumerate(letters) if c not in output), output


def _channel_axis(layer):
    return 1 if layer.data_format == "channels_first" else -1


@register_grouping(layers.Conv1D)
@register_grouping(layers.Conv2D)
@register_grouping(layers.Conv3D)
def _conv(layer):
    return Group(acting_kernel(layer), output_axis=_channel_axis(layer))


@register_grouping(layers.Conv1DTranspose)
@register_grouping(layers.Conv2DTranspose)
@register_grouping(layers.Conv3DTranspose)
def _conv_transpose(layer):
    rank = len(layer.kernel.shape)
    incoming = (*range(rank - 2), rank - 1)
    return Group(layer.kernel, incoming, output_axis=_channel_axis(layer))


@register_grouping(layers.DepthwiseConv1D)
@register_grouping(layers.DepthwiseConv2D)
def _depthwise_conv(layer):
    incoming = tuple(range(len(layer.kernel.shape) - 2))
    return Group(layer.kernel, incoming, output_axis=_channel_axis(layer))


@register_grouping(layers.SeparableConv1D)
@register_grouping(layers.SeparableConv2D)
def _separable_conv(layer):
    spatial = tuple(range(len(layer.depthwise_kernel.shape) - 2))
    return [
        Group(layer.depthwise_kernel, spatial).inner(),
        Group(layer.pointwise_kernel, output_axis=_channel_axis(layer)),
    ]


@register_grouping(layers.MultiHeadAttention)
@register_grouping(layers.GroupQueryAttention)
def _attention(layer):
    dense = [sub for sub in graph.sublayers(layer) if isinstance(sub, layers.EinsumDense)]
    output = layer._output_dense
    hidden = [_einsum_dense(sub).inner() for sub in dense if sub is not output]
    return [*hidden, _einsum_dense(output)]


@register_grouping(layers.SimpleRNNCell)
def _simple_rnn_cell(cell):
    return Group([cell.kernel, cell.recurrent_kernel])


# One node per gate and unit, so the nodes are not the channels of the output.
@register_grouping(layers.LSTMCell)
@register_grouping(layers.GRUCell)
def _gated_cell(cell):
    return Group([cell.kernel, cell.recurrent_kernel], output_axis=None)


@register_grouping(layers.ConvLSTM1D)
@register_grouping(layers.ConvLSTM2D)
@register_grouping(layers.ConvLSTM3D)
def _conv_lstm(layer):
    return _gated_cell(layer.cell)


@register_grouping(layers.StackedRNNCells)
def _stacked_cells(stack):
    *hidden, last = [nested_groups(cell) for cell in stack.cells]
    return [*(group.inner() for groups in hidden for group in groups), *last]


@register_grouping(layers.RNN)
def _rnn(layer):
    return nested_groups(layer.cell)


@register_grouping(layers.Bidirectional)
def _bidirectional(layer):
    return [
        dataclasses.replace(g, output_axis=None)
        for direction in (layer.forward_layer, layer.backward_layer)
        for g in nested_groups(direction)
    ]


@register_grouping(layers.TimeDistributed)
def _time_distributed(layer):
    def shift(axis):
        if isinstance(axis, tuple):
            return tuple(shift(a) for a in axis)
        return axis + 1 if axis is not None and axis >= 0 else axis

    return [
        dataclasses.replace(g, output_axis=shift(g.output_axis)) for g in nested_groups(layer.layer)
    ]


@register_grouping(layers.SpectralNormalization)
def _spectral_normalization(layer):
    return nested_groups(layer.layer)


# A row of an embedding is looked up, not summed into a node.
@register_grouping(layers.Embedding)
def _embedding(layer):
    return []
