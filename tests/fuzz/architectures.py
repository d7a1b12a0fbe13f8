"""Random architectures, and what GRAPES has to do with each of their layers.

An architecture is drawn as a description: plain tuples, which hypothesis can print and make
smaller. `Builder` makes a Keras model of it, and notes for every layer with weights, independently
of the package, which of its kernels feed which nodes and whether it is an output layer.
"""

import dataclasses
import math

import keras
import numpy as np
from hypothesis import strategies as st
from keras import layers

import keras_grapes as kg
from tests import reference

# The data between two layers, by its axes without the batch. Sizes are small, and with
# padding="same" no axis vanishes.
VECTOR, SEQUENCE, IMAGE, VOLUME = range(1, 5)
INPUT_SHAPES = {VECTOR: (5,), SEQUENCE: (4, 3), IMAGE: (4, 5, 2), VOLUME: (3, 4, 3, 2)}
TOKENS = "tokens"
VOCABULARY = 7

ACTIVATIONS = st.sampled_from([None, "relu", "tanh", "gelu", "softmax"])
UNITS = st.integers(1, 4)


@dataclasses.dataclass(eq=False)
class Nodes:
    """What one layer's kernels feed.

    Attributes:
        layer: The layer.
        groups: List of lists of `(variable, incoming axes)`: kernels of one list feed the same
            nodes.
        output_group: Index of the group whose nodes are the channels of the layer's output; `None`
            where there is none.
        feeds_output: List of bools, whether the nodes of a group reach the layer's output through
            no further kernel of it.
    """

    layer: keras.layers.Layer
    groups: list
    output_group: int | None
    feeds_output: list


def last_axis(kernel):
    return kernel, tuple(range(len(kernel.shape) - 1))


def einsum_axes(dense):
    operands, output = dense.equation.split("->")
    letters = operands.split(",")[1]
    return dense.kernel, tuple(i for i, c in enumerate(letters) if c not in output)


def nodes_of(layer):
    """Tells by hand, class by class, what each kernel of a built layer feeds."""
    if isinstance(layer, layers.EinsumDense):
        return Nodes(layer, [[einsum_axes(layer)]], 0, [True])
    if isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        rank = len(layer.kernel.shape)
        axes = (*range(rank - 2), rank - 1)
        return Nodes(layer, [[(layer.kernel, axes)]], 0, [True])
    if isinstance(layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)):
        axes = tuple(range(len(layer.kernel.shape) - 2))
        return Nodes(layer, [[(layer.kernel, axes)]], 0, [True])
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):
        depthwise = layer.depthwise_kernel
        axes = tuple(range(len(depthwise.shape) - 2))
        groups = [[(depthwise, axes)], [last_axis(layer.pointwise_kernel)]]
        return Nodes(layer, groups, 1, [False, True])
    if isinstance(layer, (layers.MultiHeadAttention, layers.GroupQueryAttention)):
        dense = [part for part in layer._flatten_layers() if isinstance(part, layers.EinsumDense)]
        return Nodes(layer, [[einsum_axes(d)] for d in dense], 3, [False] * 3 + [True])
    if isinstance(layer, layers.Bidirectional):
        both = [nodes_of(part) for part in (layer.forward_layer, layer.backward_layer)]
        groups = [group for nodes in both for group in nodes.groups]
        return Nodes(layer, groups, None, [True] * len(groups))
    if isinstance(layer, layers.TimeDistributed):
        inner = nodes_of(layer.layer)
        return inner and dataclasses.replace(inner, layer=layer)
    if isinstance(layer, (layers.ConvLSTM1D, layers.ConvLSTM2D)):
        return dataclasses.replace(nodes_of(layer.cell), layer=layer)
    if isinstance(layer, layers.StackedRNNCells):
        cells = [nodes_of(cell) for cell in layer.cells]
        groups = [group for nodes in cells for group in nodes.groups]
        last = cells[-1].output_group
        feeds = [False] * (len(groups) - 1) + [True]
        return Nodes(layer, groups, None if last is None else len(groups) - 1, feeds)
    if isinstance(layer, (layers.RNN, kg.SNU)):
        return dataclasses.replace(nodes_of(layer.cell), layer=layer)
    if hasattr(layer, "recurrent_kernel"):
        kernels = [layer.kernel, layer.recurrent_kernel]
        group = [last_axis(kernel) for kernel in kernels if kernel is not None]
        gated = isinstance(layer, (layers.LSTMCell, layers.GRUCell)) or "lstm" in layer.name
        return Nodes(layer, [group], None if gated else 0, [True])
    if isinstance(layer, (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)):
        return Nodes(layer, [[last_axis(layer.kernel)]], 0, [True])
    return None


def factor(group, modulation):
    """Factors of the nodes of one group, in float64."""
    importance = sum(reference.importance(kernel, axes) for kernel, axes in group)
    factors = reference.factor(importance, *modulation["bounds"])
    if modulation["unit_mean"]:
        factors = factors / factors.mean()
    if modulation["granularity"] == "layer":
        factors = np.full_like(factors, factors.mean())
    return factors


def over_kernel(factors, kernel, axes):
    """The factors with the axes that were summed over as axes of size 1."""
    shape = [1 if axis in axes else size for axis, size in enumerate(kernel.shape)]
    return np.reshape(factors, shape)


def layer(name, **arguments):
    """A layer of which only the class and the arguments count."""
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


def dense():
    return layer("Dense", units=UNITS, activation=ACTIVATIONS, use_bias=st.booleans())


def convolution(name, **more):
    arguments = {
        "filters": UNITS,
        "kernel_size": st.integers(1, 3),
        "strides": st.integers(1, 2),
        "padding": st.just("same"),
        "activation": ACTIVATIONS,
        "use_bias": st.booleans(),
    }
    return layer(name, **arguments, **more)


def depthwise(name):
    return layer(
        name,
        kernel_size=st.integers(1, 3),
        depth_multiplier=st.integers(1, 2),
        padding=st.just("same"),
        activation=ACTIVATIONS,
    )


def recurrent(name, sequences, **more):
    return layer(name, units=UNITS, return_sequences=st.just(sequences), **more)


def recurrences(sequences):
    back = {"go_backwards": st.booleans()}
    return [
        recurrent("SimpleRNN", sequences, **back),
        recurrent("LSTM", sequences, **back),
        recurrent("GRU", sequences, reset_after=st.booleans()),
        recurrent("SNU", sequences, recurrent=st.booleans()),
        recurrent("SSNU", sequences, recurrent=st.booleans()),
        st.tuples(
            st.just("Bidirectional"),
            st.one_of(
                recurrent("SimpleRNN", sequences),
                recurrent("LSTM", sequences),
                recurrent("GRU", sequences),
            ),
            st.sampled_from(["concat", "sum"]),
        ),
        st.tuples(
            st.just("StackedRNNCells"),
            st.lists(
                st.tuples(
                    st.sampled_from(["SimpleRNNCell", "LSTMCell", "GRUCell"]),
                    st.fixed_dictionaries({"units": UNITS}),
                ),
                min_size=2,  # Keras fails at one under a mask.
                max_size=3,
            ),
            st.just(sequences),
        ),
    ]


def pooling(name):
    return layer(name, pool_size=st.just(2), padding=st.just("same"))


def anywhere():
    """Layers without kernels for data of any kind."""
    return [
        layer("BatchNormalization"),
        layer("LayerNormalization", rms_scaling=st.just(False)),
        layer("GroupNormalization", groups=st.just(1)),
        layer("UnitNormalization"),
        layer("Activation", activation=ACTIVATIONS),
        layer("LeakyReLU"),
        layer("PReLU"),
        layer("Dropout", rate=st.just(0.0)),
        layer("Rescaling", scale=st.just(0.5)),
        layer("GaussianNoise", stddev=st.just(0.0)),
    ]


MODULATIONS = st.fixed_dictionaries(
    {
        "bounds": st.sampled_from([(1.0, 2.0), (1.0, 2.0), (0.0, 2.0), (0.5, 1.5)]),
        "granularity": st.sampled_from(["node", "node", "layer"]),
        "unit_mean": st.booleans(),
    }
)

# Kind of the data before and after a layer: the layers between them.
LAYERS = {
    (VECTOR, VECTOR): [dense(), layer("EinsumDense")],
    (VECTOR, SEQUENCE): [layer("RepeatVector", n=st.just(3))],
    (SEQUENCE, SEQUENCE): [
        dense(),
        convolution("Conv1D", dilation_rate=st.just(1)),
        layer("CausalConv1D", filters=UNITS, dilation_rate=st.integers(1, 2)),
        convolution("Conv1DTranspose"),
        depthwise("DepthwiseConv1D"),
        convolution("SeparableConv1D"),
        layer("EinsumDense"),
        layer("HeadsEinsumDense"),
        layer("SwappingEinsumDense"),
        layer("MultiHeadAttention", num_heads=st.integers(1, 2), key_dim=UNITS),
        layer("GroupQueryAttention", head_dim=st.just(2)),
        st.tuples(st.just("TimeDistributed"), dense()),
        pooling("MaxPooling1D"),
        pooling("AveragePooling1D"),
        layer("SpatialDropout1D", rate=st.just(0.0)),
        layer("ZeroPadding1D"),
        layer("UpSampling1D"),
        layer("Permute", dims=st.just((2, 1))),
        layer("Masking"),
        *recurrences(True),
    ],
    (SEQUENCE, VECTOR): [
        layer("GlobalAveragePooling1D"),
        layer("GlobalMaxPooling1D"),
        layer("Flatten"),
        *recurrences(False),
    ],
    (IMAGE, IMAGE): [
        dense(),
        convolution("Conv2D"),
        convolution("Conv2DTranspose"),
        depthwise("DepthwiseConv2D"),
        convolution("SeparableConv2D", depth_multiplier=st.integers(1, 2)),
        layer("EinsumDense"),
        st.tuples(st.just("TimeDistributed"), dense()),
        st.tuples(st.just("TimeDistributed"), convolution("Conv1D")),
        pooling("MaxPooling2D"),
        pooling("AveragePooling2D"),
        layer("UpSampling2D"),
        layer("Permute", dims=st.just((3, 1, 2))),
    ],
    (IMAGE, SEQUENCE): [
        layer("Reshape", target_shape=st.just((4, -1))),
        st.tuples(st.just("TimeDistributed"), layer("Flatten")),
        layer("ConvLSTM1D", filters=UNITS, kernel_size=st.just(2), padding=st.just("same")),
    ],
    (IMAGE, VECTOR): [
        layer("GlobalAveragePooling2D"),
        layer("GlobalMaxPooling2D"),
        layer("Flatten"),
    ],
    (VOLUME, VOLUME): [
        convolution("Conv3D"),
        convolution("Conv3DTranspose"),
        st.tuples(st.just("TimeDistributed"), convolution("Conv2D")),
        st.tuples(st.just("TimeDistributed"), depthwise("DepthwiseConv2D")),
        layer("ZeroPadding3D"),
        layer("UpSampling3D"),
    ],
    (VOLUME, IMAGE): [
        layer("ConvLSTM2D", filters=UNITS, kernel_size=st.just(2), padding=st.just("same")),
    ],
    (VOLUME, SEQUENCE): [st.tuples(st.just("TimeDistributed"), layer("GlobalAveragePooling2D"))],
    (VOLUME, VECTOR): [layer("GlobalAveragePooling3D"), layer("Flatten")],
}


@st.composite
def steps(draw, kind, depth, longest=3):
    """A list of steps from data of `kind`; returns it with the kind of data behind it."""
    drawn = []
    for _ in range(draw(st.integers((longest + 1) // 2, longest))):
        choices = ["layer"] * 4 + ["anywhere"]
        if depth:
            choices += ["nested", "residual", "concatenate", "shared"]
        choice = draw(st.sampled_from(choices))
        if choice == "layer":
            before = kind
            kind = draw(st.sampled_from([b for a, b in LAYERS if a == before]))
            name, *arguments = draw(st.one_of(LAYERS[before, kind]))
            drawn.append((name, *arguments))
        elif choice == "anywhere":
            drawn.append(draw(st.one_of(anywhere())))
        elif choice == "nested":
            style = draw(st.sampled_from(["chain", "nested"]))
            inner, kind = draw(steps(kind, depth - 1 if style == "nested" else 0))
            drawn.append((style, inner))
        elif choice == "residual":
            drawn.append(("residual", draw(dense()), draw(dense())))
        elif choice == "concatenate":
            ways = [draw(steps(kind, 0, longest=2)) for _ in range(2)]
            drawn.append(("concatenate", [way for way, _ in ways]))
            kind = VECTOR
        else:
            drawn.append(("shared", draw(dense())))
    return drawn, kind


@st.composite
def architectures(draw):
    """A whole network: what comes in, the steps, the heads, the modulation.

    `scale` is that of the weights of every second layer, `frozen` the place of the layer with
    weights that is not trained.
    """
    source = draw(st.sampled_from([TOKENS, VECTOR, SEQUENCE, IMAGE, VOLUME]))
    kind = SEQUENCE if source == TOKENS else source
    trunk, kind = draw(steps(kind, depth=2, longest=5))
    heads = draw(st.sampled_from(["none", "one", "two", "tap"]))
    return {
        "source": source,
        "trunk": trunk,
        "heads": heads,
        "modulation": draw(MODULATIONS),
        "scale": draw(st.sampled_from([1.0, 1.0, 1e-20, 0.0])),
        "frozen": draw(st.sampled_from([None, None, 0, 1, 2])),
    }


# From data of a kind to a vector.
_TO_VECTOR = {VECTOR: [], SEQUENCE: ["GlobalAveragePooling1D"], IMAGE: ["GlobalAveragePooling2D"]}
_TO_VECTOR[VOLUME] = ["GlobalAveragePooling3D"]
PLACES = [(*kinds, place) for kinds, entries in LAYERS.items() for place in range(len(entries))]


@st.composite
def around(draw, before, after, place):
    """An architecture with one entry of `LAYERS` as a hidden layer, below another one."""
    return {
        "source": before,
        "trunk": [
            draw(LAYERS[before, after][place]),
            draw(dense()),
            *((name, {}) for name in _TO_VECTOR[after]),
        ],
        "heads": "one",
        "modulation": draw(MODULATIONS),
        "scale": 1.0,
        "frozen": None,
    }


class Builder:
    """Makes a model of a description.

    Args:
        description: What `architectures` draws.
        after: Function from a layer and its output to the output to use, called behind every
            layer. Defaults to `None`.

    Attributes:
        model: The model.
        made: List of its layers in the order of their creation.
        output_layers: Set of ids of the layers with kernels from which an output of the model is
            reached through no further kernel.
    """

    def __init__(self, description, after=None):
        self.after = after
        self.made = []
        # Ids of the layers with kernels that reach a tensor through no further kernel.
        self.sources = {}
        source = description["source"]
        tokens = source == TOKENS
        shape = (4,) if tokens else INPUT_SHAPES[source]
        inputs = x = keras.Input(shape, dtype="int32" if tokens else None)
        self.sources[id(x)] = set()
        self.keep = [x]
        if tokens:
            x = self.call(self.layer("Embedding", input_dim=VOCABULARY, output_dim=3), x)
        taps = []
        for step in description["trunk"]:
            x = self.run(step, x)
            taps.append(x)
        outputs = [x]
        if description["heads"] == "two":
            outputs = [self.head(x), self.head(x)]
        elif description["heads"] == "one":
            outputs = [self.head(x)]
        elif description["heads"] == "tap":
            outputs = [self.head(x), taps[len(taps) // 2]]
        self.model = keras.Model(inputs, outputs)
        self.output_layers = self.sources_of(outputs)
        frozen = description["frozen"]
        # Not those that Keras, which loads a model, does not freeze again.
        thawed = ("convlstm", "attention")
        weighted = [
            made
            for made in self.made
            if made.weights and not any(kind in made.name for kind in thawed)
        ]
        if frozen is not None and frozen < len(weighted):
            weighted[frozen].trainable = False

    def head(self, x):
        return self.call(self.layer("Dense", units=2), x)

    def layer(self, name, *arguments, **named):
        """Makes a layer by the name of its class, or by one of the names that stand for more."""
        for argument in arguments:
            named = {**named, **argument}
        if name == "CausalConv1D":
            name, named = "Conv1D", {**named, "kernel_size": 2, "padding": "causal"}
        number = len(self.made)
        maker = getattr(kg if name in ("SNU", "SSNU") else layers, name)
        layer = maker(name=f"{name.lower()}_{number}", **named)
        self.made.append(layer)
        return layer

    def call(self, layer, *inputs, **named):
        x = layer(*inputs, **named)
        nodes = nodes_of(layer)
        self.remember(x, self.sources_of(inputs) if nodes is None else {id(layer)})
        if self.after is not None and nodes is not None:
            changed = self.after(layer, x)
            self.remember(changed, self.sources[id(x)])
            x = changed
        return x

    def sources_of(self, tensors):
        return set().union(*(self.sources[id(tensor)] for tensor in tensors))

    def remember(self, tensor, sources):
        self.sources[id(tensor)] = sources
        self.keep.append(tensor)  # So that no other tensor gets its id.

    def make(self, step):
        """Makes the layer of a step that is one layer."""
        name, *arguments = step
        if name in ("Bidirectional", "TimeDistributed"):
            inner = self.make(arguments[0])
            self.made.remove(inner)
            named = {"merge_mode": arguments[1]} if name == "Bidirectional" else {}
            return self.layer(name, layer=inner, **named)
        if name == "StackedRNNCells":
            cells, sequences = arguments
            cells = [getattr(layers, cell)(**named) for cell, named in cells]
            return self.layer("RNN", cell=layers.StackedRNNCells(cells), return_sequences=sequences)
        return self.layer(name, *arguments)

    def run(self, step, x):
        name, *arguments = step
        special = getattr(self, f"run_{name.lower()}", None)
        return special(x, *arguments) if special else self.call(self.make(step), x)

    # Steps that are more than one call of a layer with one input, or need the shape of it.

    def run_reshape(self, x, arguments):
        rows = 4 if math.prod(x.shape[1:]) % 4 == 0 else 1
        return self.call(self.layer("Reshape", target_shape=(rows, -1)), x)

    def run_einsumdense(self, x, arguments):
        letters = "abcde"[: len(x.shape)]
        equation = f"{letters},{letters[-1]}z->{letters[:-1]}z"
        shape = (*x.shape[1:-1], 3)
        return self.call(self.layer("EinsumDense", equation=equation, output_shape=shape), x)

    def run_headseinsumdense(self, x, arguments):
        shape = (x.shape[1], 2, 3)
        heads = self.layer("EinsumDense", equation="abc,cde->abde", output_shape=shape)
        return self.call(self.layer("Reshape", target_shape=(-1, 6)), self.call(heads, x))

    def run_swappingeinsumdense(self, x, arguments):
        shape = (3, x.shape[1])
        swap = self.layer("EinsumDense", equation="abc,cd->adb", output_shape=shape)
        return self.call(swap, x)

    def run_multiheadattention(self, x, arguments):
        return self.call(self.layer("MultiHeadAttention", arguments), x, x)

    def run_groupqueryattention(self, x, arguments):
        heads = {"num_query_heads": 2, "num_key_value_heads": 1}
        return self.call(self.layer("GroupQueryAttention", arguments, heads), x, x)

    def run_residual(self, x, first, second):
        way = x
        for name, arguments in (first, second):
            way = self.call(self.layer(name, {**arguments, "units": x.shape[-1]}), way)
        return self.merge("Add", x, way)

    def run_concatenate(self, x, ways):
        ends = []
        for way in ways:
            end = x
            for step in way:
                end = self.run(step, end)
            ends.append(self.call(self.layer("Flatten"), end))
        return self.merge("Concatenate", *ends)

    def merge(self, name, *tensors):
        merged = self.layer(name)(list(tensors))
        self.remember(merged, self.sources_of(tensors))
        return merged

    def run_shared(self, x, inner):
        name, arguments = inner
        layer = self.layer(name, {**arguments, "units": x.shape[-1]})
        return self.call(layer, self.call(layer, x))

    def run_nested(self, x, inner):
        """A nested Functional model."""
        start = end = keras.Input(x.shape[1:], dtype=x.dtype)
        self.remember(start, self.sources[id(x)])
        for step in inner:
            end = self.run(step, end)
        y = keras.Model(start, end)(x)
        self.remember(y, self.sources[id(end)])
        return y

    def run_chain(self, x, inner):
        """A nested Sequential model, of the steps that are one layer."""
        plain = [step for step in inner if not hasattr(self, f"run_{step[0].lower()}")]
        if self.after is not None or not plain:
            return self.run_nested(x, plain) if plain else x
        made = [self.make(step) for step in plain]
        chain = keras.Sequential(made)
        y = chain(x)
        weighted = [layer for layer in made if nodes_of(layer)]
        self.remember(y, {id(weighted[-1])} if weighted else self.sources[id(x)])
        return y
