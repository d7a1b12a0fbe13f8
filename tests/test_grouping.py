import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes import grouping
from tests import reference

IMAGE = (8, 8, 3)
SEQUENCE = (5, 3)


def abs_sum(variable, axes):
    return reference.importance(variable.numpy(), axes)


def built(layer, input_shape):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layer(inputs)).layers[-1]


def importances(layer):
    """Importances of the groups of a layer, as the package groups them."""
    return [
        np.asarray(kg.node_importance(list(g.kernels), g.incoming_axes))
        for g in grouping.layer_groups(layer)
    ]


# One row per layer class: the layer, its input, and each group's sum written out by hand.
SINGLE_KERNEL = [
    (layers.Dense(4), (3,), (0,)),
    (layers.Conv1D(4, 2), SEQUENCE, (0, 1)),
    (layers.Conv2D(4, 3), IMAGE, (0, 1, 2)),
    (layers.Conv2D(6, 3, groups=3), IMAGE, (0, 1, 2)),
    (layers.Conv3D(4, 2), (4, 4, 4, 2), (0, 1, 2, 3)),
    (layers.Conv1DTranspose(4, 2), SEQUENCE, (0, 2)),
    (layers.Conv2DTranspose(4, 3), IMAGE, (0, 1, 3)),
    (layers.Conv3DTranspose(4, 2), (4, 4, 4, 2), (0, 1, 2, 4)),
    (layers.DepthwiseConv1D(2, depth_multiplier=2), SEQUENCE, (0,)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGE, (0, 1)),
    (layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4)), SEQUENCE, (0,)),
    (layers.EinsumDense("abc,bcd->abd", output_shape=(5, 4)), SEQUENCE, (1,)),
    (layers.EinsumDense("...x,xy->...y", output_shape=4), SEQUENCE, (0,)),
]


@pytest.mark.parametrize("layer, shape, axes", SINGLE_KERNEL, ids=lambda v: getattr(v, "name", ""))
def test_layers_of_one_kernel(layer, shape, axes):
    layer = built(layer, shape)
    (importance,) = importances(layer)
    np.testing.assert_allclose(importance, abs_sum(layer.kernel, axes), rtol=1e-5)


@pytest.mark.parametrize("layer_class", [layers.SeparableConv1D, layers.SeparableConv2D])
def test_separable_convolution_has_two_groups(layer_class):
    shape = SEQUENCE if layer_class is layers.SeparableConv1D else IMAGE
    layer = built(layer_class(4, 2, depth_multiplier=2), shape)
    depthwise, pointwise = importances(layer)
    spatial = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(depthwise, abs_sum(layer.depthwise_kernel, spatial), rtol=1e-5)
    np.testing.assert_allclose(
        pointwise, abs_sum(layer.pointwise_kernel, tuple(range(len(shape)))), rtol=1e-5
    )


@pytest.mark.parametrize("layer_class", [layers.SimpleRNN, layers.LSTM, layers.GRU])
def test_recurrent_layers_sum_both_kernels(layer_class):
    layer = built(layer_class(4), SEQUENCE)
    (importance,) = importances(layer)
    expected = abs_sum(layer.cell.kernel, 0) + abs_sum(layer.cell.recurrent_kernel, 0)
    np.testing.assert_allclose(importance, expected, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutional_lstm(rank):
    layer_class = getattr(layers, f"ConvLSTM{rank}D")
    layer = built(layer_class(2, 2), (2, *[4] * rank, 3))
    (importance,) = importances(layer)
    axes = tuple(range(rank + 1))
    expected = abs_sum(layer.cell.kernel, axes) + abs_sum(layer.cell.recurrent_kernel, axes)
    np.testing.assert_allclose(importance, expected, rtol=1e-5)


def test_bidirectional_groups_each_direction():
    layer = built(layers.Bidirectional(layers.LSTM(4)), SEQUENCE)
    for importance, cell in zip(
        importances(layer), (layer.forward_layer.cell, layer.backward_layer.cell), strict=True
    ):
        expected = abs_sum(cell.kernel, 0) + abs_sum(cell.recurrent_kernel, 0)
        np.testing.assert_allclose(importance, expected, rtol=1e-5)


def test_stacked_cells_have_a_group_each():
    cells = [layers.SimpleRNNCell(4), layers.LSTMCell(2)]
    layer = built(layers.RNN(cells), SEQUENCE)
    groups = grouping.layer_groups(layer)
    assert [g.node_shape for g in groups] == [(4,), (8,)]
    assert [g.feeds_output for g in groups] == [False, True]


@pytest.mark.parametrize("inner", [layers.Dense(4), layers.Conv1D(4, 1)])
def test_wrappers_delegate(inner):
    for wrapper in (layers.TimeDistributed, layers.SpectralNormalization):
        inner = type(inner).from_config(inner.get_config())
        shape = (2, *SEQUENCE) if wrapper is layers.TimeDistributed else SEQUENCE
        layer = built(wrapper(inner), shape)
        axes = tuple(range(len(inner.kernel.shape) - 1))
        (importance,) = importances(layer)
        np.testing.assert_allclose(importance, abs_sum(inner.kernel, axes), rtol=1e-5)


@pytest.mark.parametrize(
    "layer, input_shape",
    [
        (layers.MultiHeadAttention(2, 3, value_dim=4), (5, 6)),
        (layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2), (5, 6)),
    ],
)
def test_attention_groups_each_projection(layer, input_shape):
    inputs = keras.Input(input_shape)
    keras.Model(inputs, layer(inputs, inputs))
    groups = grouping.layer_groups(layer)
    hidden = [layer._query_dense, layer._key_dense, layer._value_dense]
    assert len(groups) == 4
    for group, dense in zip(groups, [*hidden, layer._output_dense], strict=True):
        (kernel,) = group.kernels
        assert kernel is dense.kernel
        axes = (0, 1) if dense is layer._output_dense else (0,)
        assert group.incoming_axes == [axes]
        assert group.feeds_output == (dense is layer._output_dense)


def test_every_keras_layer_with_a_kernel_is_registered():
    """A new Keras layer with a kernel must not be grouped by a guess."""
    # A spectrogram is a fixed transform.
    skipped = {"STFTSpectrogram"}
    for name in dir(layers):
        layer_class = getattr(layers, name)
        if not (isinstance(layer_class, type) and issubclass(layer_class, layers.Layer)):
            continue
        source = layer_class.__dict__.get("build")
        names = source.__code__.co_names + source.__code__.co_consts if source else ()
        owns_kernel = any("kernel" in str(n) for n in names)
        if name not in skipped and owns_kernel:
            assert any(base in grouping._groupings for base in layer_class.__mro__), name


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Embedding(5, 4), ()),
        (layers.BatchNormalization(), (3,)),
        (layers.LayerNormalization(axis=(1, 2)), (3, 4)),
        (layers.Dropout(0.1), (3,)),
    ],
)
def test_layers_without_nodes(layer, shape):
    assert grouping.layer_groups(built(layer, shape)) == []


def test_subclasses_are_grouped_as_their_base():
    class Transposed(layers.Conv2DTranspose):
        pass

    layer = built(Transposed(4, 3), IMAGE)
    (group,) = grouping.layer_groups(layer)
    assert group.incoming_axes == [(0, 1, 3)]
    assert not group.guessed


class OwnKernel(layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


class OutgoingFirst(layers.Layer):
    """Its weights are `(units, inputs)`, so that the guess by the last axis would be wrong."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(4, input_shape[-1]), name="w")

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.w))


def test_unknown_layer_with_a_kernel_is_guessed():
    layer = built(OwnKernel(), (3,))
    (group,) = grouping.layer_groups(layer)
    assert group.guessed
    assert group.incoming_axes == [(0,)]


def test_unknown_recurrent_cell_is_guessed_with_both_kernels():
    class Cell(layers.Layer):
        state_size = 4

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(4, 4), name="recurrent_kernel")

        def call(self, x, states):
            matmul = keras.ops.matmul
            y = matmul(x, self.kernel) + matmul(states[0], self.recurrent_kernel)
            return y, [y]

    layer = built(layers.RNN(Cell()), SEQUENCE)
    (group,) = grouping.layer_groups(layer)
    assert group.guessed
    assert len(group.kernels) == 2


def test_every_weight_of_keras_layers_is_known():
    """A matrix of a layer of Keras that is no kernel is not one of an unknown class."""
    for layer, shape in [(layers.PReLU(), (5, 3)), (layers.Embedding(5, 4), ())]:
        layer = built(layer, shape)
        assert any(len(weight.shape) >= 2 for weight in layer.weights)
        assert not grouping.has_unknown_weights(layer)
    assert grouping.has_unknown_weights(built(OutgoingFirst(), (3,)))


@pytest.fixture
def registered():
    @kg.register_grouping(OutgoingFirst)
    def outgoing_first(layer):
        return grouping.Group(layer.w, incoming_axes=1)

    yield outgoing_first
    del grouping._groupings[OutgoingFirst]


def test_registered_layer(registered):
    layer = built(OutgoingFirst(), (3,))
    (importance,) = importances(layer)
    np.testing.assert_allclose(importance, abs_sum(layer.w, 1), rtol=1e-6)
    model = keras.Sequential([keras.Input((3,)), OutgoingFirst(), layers.Dense(2)])
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.incoming_axes == [(1,)]


def test_registering_something_else_is_refused():
    with pytest.raises(TypeError, match="register_grouping"):
        kg.register_grouping(layers.Dense(3))

    @kg.register_grouping(OutgoingFirst)
    def wrong(layer):
        return layer.w

    try:
        with pytest.raises(TypeError, match="must return"):
            grouping.layer_groups(built(OutgoingFirst(), (3,)))
    finally:
        del grouping._groupings[OutgoingFirst]


def test_bad_groups_are_refused():
    with pytest.raises(ValueError, match="one entry per kernel"):
        grouping.Group([np.ones((2, 2))], [0, 0])
    with pytest.raises(ValueError, match=r"needs a kernel.*return an empty list"):
        grouping.Group([])


def test_inner_group_is_not_that_of_the_output():
    group = grouping.Group(np.ones((2, 3)), 1, output_axis=1, guessed=True)
    inner = group.inner()
    assert (inner.output_axis, inner.feeds_output) == (None, False)
    assert (inner.incoming_axes, inner.guessed) == ([(1,)], True)
    assert inner.kernels[0] is group.kernels[0]


@pytest.mark.parametrize(
    "equation, output_shape",
    [
        ("abc,c->ab", (5,)),  # Summed away,
        ("abc,bc->a", ()),
        ("abc,c->abc", (5, 3)),  # a scale of each value,
        ("abc,bc->abc", (5, 3)),
    ],
)
def test_einsum_without_nodes(equation, output_shape):
    """A kernel without axes of nodes, or with nothing to sum over, is no kernel of nodes."""
    inputs = keras.Input(SEQUENCE)
    hidden = layers.Dense(3, name="hidden")(inputs)
    einsum = layers.EinsumDense(equation, output_shape, name="einsum")
    outputs = einsum(hidden)
    assert grouping.layer_groups(einsum) == []
    alone = keras.Model(inputs, outputs)
    sums = "->abc" not in equation
    # What sums is where the output is computed; behind a scale it is the layer before.
    assert output_layers(alone) == ["einsum" if sums else "hidden"]
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(outputs)))
    assert output_layers(model) == ["out"]
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.kernels[0] is model.get_layer("hidden").kernel
    assert "einsum" in kg.summary(model)
    copy = kg.propagate(model)
    assert [type(layer).__name__ for layer in copy.layers].count("ErrorModulation") == 1
    with pytest.raises(ValueError, match="cannot wrap layer"):
        kg.ErrorModulation(einsum)


def test_einsum_with_a_repeated_letter_has_no_nodes():
    layer = layers.EinsumDense("ab,bcc->ac", output_shape=3)
    assert grouping.layer_groups(layer) == []


def hidden_and_output(model):
    entries = grouping.weight_layers(model)
    with_groups = [e for e in entries if e.groups]
    return (
        [e.layer.name for e in with_groups if not e.is_output],
        [e.layer.name for e in with_groups if e.is_output],
    )


def test_output_layer_of_a_sequential_model_is_before_its_softmax():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(4, name="a"),
            layers.Dense(4, name="b"),
            layers.Dropout(0.1),
            layers.Dense(2, name="c"),
            layers.BatchNormalization(),
            layers.Softmax(),
        ]
    )
    assert hidden_and_output(model) == (["a", "b"], ["c"])


def test_output_layers_of_a_graph_with_branches_and_two_heads():
    x = keras.Input((4,))
    a = layers.Dense(4, name="a")(x)
    b = layers.Dense(4, name="b")(a)
    joined = a + b
    head = layers.Activation("relu")(layers.Dense(2, name="head")(joined))
    other = layers.Dense(1, name="other")(b)
    model = keras.Model(x, {"head": head, "other": other})
    assert hidden_and_output(model) == (["a", "b"], ["head", "other"])


def test_output_is_found_within_a_nested_model():
    x = keras.Input((4,))
    body = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(4, name="b")])
    top_in = keras.Input((4,))
    top = keras.Model(top_in, layers.Softmax()(layers.Dense(2, name="c")(top_in)))
    model = keras.Model(x, top(body(x)))
    assert hidden_and_output(model) == (["a", "b"], ["c"])


def test_a_layer_shared_by_hidden_and_output_place_is_an_output_layer():
    x = keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    model = keras.Model(x, shared(layers.Dense(4, name="between")(shared(x))))
    assert hidden_and_output(model) == (["between"], ["shared"])


def test_subclassed_model_takes_its_last_layer_for_the_output_and_says_so():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = layers.Dense(4, name="a")
            self.b = layers.Dense(2, name="b")

        def call(self, x):
            return self.b(self.a(x))

    model = Net()
    model(np.zeros((1, 3)))
    assert hidden_and_output(model) == (["a"], ["b"])
    assert all(e.output_guessed for e in grouping.weight_layers(model))


def test_as_deep_a_graph_as_keras_builds_is_walked():
    x = y = keras.Input((2,))
    kernel_free = layers.Activation("relu")
    first = layers.Dense(2, name="first")
    y = first(y)
    for _ in range(700):
        y = kernel_free(y)
    model = keras.Model(x, layers.Dense(1, name="last")(y))
    assert hidden_and_output(model) == (["first"], ["last"])


def test_transformer_block_and_resnet_are_grouped_to_the_last_kernel():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 8)(tokens)
    attention = layers.MultiHeadAttention(2, 4, name="attention")
    x = layers.LayerNormalization()(x + attention(x, x))
    feed = layers.Dense(8, name="feed_out")(layers.Dense(16, "gelu", name="feed_in")(x))
    x = layers.LayerNormalization()(x + feed)
    model = keras.Model(tokens, layers.Dense(2, name="head")(x[:, 0]))
    assert hidden_and_output(model) == (["attention", "feed_in", "feed_out"], ["head"])
    groups = kg.Grapes("sgd", model=model).find_groups(model)
    kernels = [
        *(d.kernel for d in (attention.query_dense, attention.key_dense, attention.value_dense)),
        attention.output_dense.kernel,
        model.get_layer("feed_in").kernel,
        model.get_layer("feed_out").kernel,
    ]
    axes = [(0,), (0,), (0,), (0, 1), (0,), (0,)]
    assert [g.kernels[0] for g in groups] == kernels
    assert [g.incoming_axes[0] for g in groups] == axes


def test_names_alone():
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.SeparableConv2D(4, 2),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
            layers.Dense(2),
        ]
    )
    groups = grouping.group_by_name(model.trainable_variables)
    assert [g.kernels[0].name for g in groups] == ["depthwise_kernel", "pointwise_kernel", "kernel"]
    raw = grouping.group_by_name([v.value for v in model.trainable_variables])
    assert [tuple(g.kernels[0].shape) for g in raw] == [tuple(g.kernels[0].shape) for g in groups]


def test_one_kernel_is_an_output_layer():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert grouping.group_by_name(model.trainable_variables) == []


def output_layers(model):
    return [entry.layer.name for entry in grouping.weight_layers(model) if entry.is_output]


def test_output_layer_of_an_unknown_class():
    hidden = [layers.Dense(4, "relu", name="h1"), layers.Dense(4, name="h2")]
    model = keras.Sequential([keras.Input((3,)), *hidden, OutgoingFirst(name="out")])
    assert output_layers(model) == ["out"]


def test_tied_embeddings_are_the_output():
    if not hasattr(layers, "ReversibleEmbedding"):
        pytest.skip("this Keras has no ReversibleEmbedding")
    embedding = layers.ReversibleEmbedding(10, 6, name="embedding")
    inputs = keras.Input((5,), dtype="int32")
    hidden = layers.Dense(6, name="hidden")(embedding(inputs))
    model = keras.Model(inputs, embedding(hidden, reverse=True))
    assert output_layers(model) == ["embedding"]
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.kernels[0] is model.get_layer("hidden").kernel


@pytest.mark.parametrize(
    "layer", [layers.LayerNormalization(axis=(1, 2)), layers.PReLU(), layers.BatchNormalization()]
)
def test_elementwise_weights_behind_the_output_layer(layer):
    inputs = keras.Input((5, 3))
    hidden = layers.Dense(6, name="hidden")(inputs)
    model = keras.Model(inputs, layer(layers.Dense(4, name="out")(hidden)))
    assert output_layers(model) == ["out"]


def guessed_layers(model, **options):
    entries = grouping.weight_layers(model, **options)
    return [entry.layer.name for entry in entries if entry.output_guessed]


class Scale(layers.Layer):
    def build(self, input_shape):
        self.w = self.add_weight(shape=(1, input_shape[-1]), initializer="ones")

    def call(self, x):
        return x * self.w


@pytest.fixture
def scale_without_nodes():
    kg.register_grouping(Scale)(lambda layer: [])
    yield
    del grouping._groupings[Scale]


def scaled():
    dense = [layers.Dense(4, name="hidden"), layers.Dense(3, name="logits")]
    return keras.Sequential([keras.Input((4,)), *dense, Scale(name="scale")])


def test_a_layer_registered_without_nodes_is_looked_behind(scale_without_nodes):
    model = scaled()
    assert output_layers(model) == ["logits"]
    assert guessed_layers(model) == []
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.kernels[0] is model.layers[0].kernel


def test_an_output_layer_of_an_unknown_class_is_a_guess():
    model = scaled()
    assert output_layers(model) == ["scale"]
    assert guessed_layers(model) == ["logits", "scale"]
    with pytest.warns(UserWarning, match=r"'scale' of class Scale.*output_layers"):
        kg.Grapes("sgd", model=model).build(model.trainable_variables)


@pytest.mark.parametrize("given", [["logits"], "logits", "by layer", "by path"])
def test_output_layers_are_said(given):
    model = scaled()
    logits = model.get_layer("logits")
    given = [logits] if given == "by layer" else given
    given = [logits.path] if given == "by path" else given
    outputs = [e.layer for e in grouping.weight_layers(model, given) if e.is_output]
    assert outputs == [logits]
    assert guessed_layers(model, output_layers=given) == []


def test_no_output_layer():
    """Of an encoder that is a part of a whole all layers are hidden."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(3)])
    assert not any(entry.is_output for entry in grouping.weight_layers(model, []))
    assert len(kg.Grapes("sgd", model=model, output_layers=[]).find_groups(model)) == 2


def test_a_model_among_the_output_layers_knows_its_own():
    x = keras.Input((4,))
    head = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="b")], name="head")
    other = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="c")], name="other")
    model = keras.Model(x, other(head(x)))
    entries = grouping.weight_layers(model, ["head", "other"])
    assert [entry.is_output for entry in entries] == [False, True, False, True]
    with pytest.raises(ValueError, match=r"2 layers of that name.*other/a"):
        grouping.weight_layers(model, ["a"])


def test_a_wrapper_has_the_name_of_the_layer_in_it():
    model = kg.propagate(scaled(), select=lambda layer: layer.name == "hidden")
    entries = grouping.weight_layers(model, ["hidden"])
    assert [e.layer.name for e in entries if e.is_output] == ["hidden"]


@pytest.mark.parametrize(
    "given, error, match",
    [
        (["nowhere"], ValueError, r"'nowhere'.*no such layer.*'hidden', 'logits', 'scale'"),
        ([layers.Dense(3, name="foreign")], ValueError, "'foreign'.*no such layer"),
        (["free"], ValueError, "'free', which has no weights"),
        ([3], TypeError, "Received: 3 of type int"),
        (3, TypeError, "must be a list.*Received: output_layers=3"),
    ],
)
def test_bad_output_layers_are_refused(given, error, match):
    model = scaled()
    model.add(layers.ReLU(name="free"))
    with pytest.raises(error, match=match):
        kg.Grapes("sgd", model=model, output_layers=given)


def test_output_layers_need_a_model():
    with pytest.raises(ValueError, match="`output_layers` are layers of a model"):
        kg.Grapes("sgd", output_layers=["logits"])


class TiedHead(layers.Layer):
    """A hidden layer, and a product with the table of an embedding, as of a masked language model.

    `own_table` takes the variable of the table, `embedding` the layer that has it.
    """

    def __init__(self, embedding, own_table=False, **kwargs):
        super().__init__(**kwargs)
        if own_table:
            self.table = embedding.embeddings
        else:
            self.embedding = embedding
        self.inner = layers.Dense(6, "relu", name="inner")
        self.norm = layers.LayerNormalization(name="norm")

    def call(self, x):
        table = self.table if hasattr(self, "table") else self.embedding.embeddings
        return keras.ops.matmul(self.norm(self.inner(x)), keras.ops.transpose(table))


@pytest.mark.parametrize("own_table", [False, True])
def test_a_head_that_multiplies_by_an_embedding(own_table):
    embedding = layers.Embedding(9, 6, name="embedding")
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Dense(6, name="body")(embedding(tokens))
    head = TiedHead(embedding, own_table, name="head")
    model = keras.Model(tokens, head(x))
    output = "head" if own_table else "embedding"
    assert output_layers(model) == [output]
    assert set(guessed_layers(model)) == {output, "inner"}
    groups = kg.Grapes("sgd", model=model).find_groups(model)
    assert [g.kernels[0] for g in groups] == [model.get_layer("body").kernel, head.inner.kernel]
    (group,) = kg.Grapes("sgd", model=model, output_layers=["inner"]).find_groups(model)
    assert group.kernels[0] is model.get_layer("body").kernel


def test_a_composite_with_an_embedding_of_its_own_ends_in_its_last_layer():
    class Encoder(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.embedding = layers.Embedding(9, 6, name="embedding")
            self.inner = layers.Dense(6, name="inner")
            self.last = layers.Dense(6, name="last")

        def call(self, x):
            return self.last(self.inner(self.embedding(x)))

    tokens = keras.Input((5,), dtype="int32")
    model = keras.Model(tokens, Encoder()(tokens))
    assert output_layers(model) == ["last"]


class Distiller(keras.Model):
    def __init__(self, order):
        super().__init__()
        for name in order:
            dense = [layers.Dense(4, name=f"{name}_hidden"), layers.Dense(2, name=f"{name}_out")]
            part = keras.Sequential([keras.Input((3,)), *dense, layers.ReLU()], name=name)
            setattr(self, name, part)
        self.teacher.trainable = False

    def call(self, x):
        return self.student(x)


@pytest.mark.parametrize("order", [("student", "teacher"), ("teacher", "student")])
def test_the_part_that_is_trained_has_the_output(order):
    model = Distiller(order)
    assert output_layers(model) == ["student_out"]
    assert len(guessed_layers(model)) == 4
    groups = kg.Grapes("sgd", model=model).find_groups(model)
    assert [g.kernels[0] for g in groups] == [model.student.layers[0].kernel]


def test_several_heads_of_a_subclassed_model():
    class ActorCritic(keras.Model):
        def __init__(self):
            super().__init__()
            for name in ("body", "actor", "critic"):
                setattr(self, name, layers.Dense(3, name=name))

        def call(self, x):
            x = self.body(x)
            return self.actor(x), self.critic(x)

    model = ActorCritic()
    model(np.zeros((1, 3)))
    assert output_layers(model) == ["critic"]
    assert guessed_layers(model) == ["body", "actor", "critic"]
    grapes = kg.Grapes("sgd", model=model, output_layers=["actor", "critic"])
    (group,) = grapes.find_groups(model)
    assert group.kernels[0] is model.body.kernel
    # A head that is frozen stays where the output is computed.
    model.critic.trainable = False
    assert output_layers(model) == ["critic"]


def test_a_functional_model_with_a_call_of_its_own_is_guessed():
    class WithHead(keras.Model):
        def __init__(self):
            inputs = keras.Input((4,))
            super().__init__(inputs, layers.Dense(8, name="features")(inputs))
            self.head = layers.Dense(2, name="head")
            self.head.build((None, 8))

        def call(self, x, training=None, mask=None):
            return self.head(super().call(x))

    model = WithHead()
    assert output_layers(model) == ["head"]
    assert guessed_layers(model) == ["features", "head"]


def test_a_block_in_a_wrapper_is_no_guess():
    block = keras.Sequential([layers.Dense(3, name="dense"), layers.ReLU()])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), kg.ErrorModulation(block)])
    assert output_layers(model) == ["dense"]
    assert guessed_layers(model) == []
