import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes.groups import (
    weight_layers,
)
from keras_grapes.groups.registry import groupings
from tests.groups.grouped import OutgoingFirst, output_layers


def hidden_and_output(model):
    entries = weight_layers(model)
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
    assert all(e.output_guessed for e in weight_layers(model))


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
    entries = weight_layers(model, **options)
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
    del groupings.functions[Scale]


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
    outputs = [e.layer for e in weight_layers(model, given) if e.is_output]
    assert outputs == [logits]
    assert guessed_layers(model, output_layers=given) == []


def test_no_output_layer():
    """Of an encoder that is a part of a whole all layers are hidden."""
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(3)])
    assert not any(entry.is_output for entry in weight_layers(model, []))
    assert len(kg.Grapes("sgd", model=model, output_layers=[]).find_groups(model)) == 2


def test_a_model_among_the_output_layers_knows_its_own():
    x = keras.Input((4,))
    head = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="b")], name="head")
    other = keras.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="c")], name="other")
    model = keras.Model(x, other(head(x)))
    entries = weight_layers(model, ["head", "other"])
    assert [entry.is_output for entry in entries] == [False, True, False, True]
    with pytest.raises(ValueError, match=r"2 layers of that name.*other/a"):
        weight_layers(model, ["a"])


def test_a_wrapper_has_the_name_of_the_layer_in_it():
    model = kg.propagate(scaled(), select=lambda layer: layer.name == "hidden")
    entries = weight_layers(model, ["hidden"])
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
    if not any(model.head.kernel is v for v in model.trainable_variables):
        pytest.skip("this Keras trains only the graph of a functional model")
    assert output_layers(model) == ["head"]
    assert guessed_layers(model) == ["features", "head"]


def test_a_block_in_a_wrapper_is_no_guess():
    block = keras.Sequential([layers.Dense(3, name="dense"), layers.ReLU()])
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), kg.ErrorModulation(block)])
    assert output_layers(model) == ["dense"]
    assert guessed_layers(model) == []


class TiedDecoder(layers.Layer):
    """Multiplies by the kernel of another layer, transposed."""

    def __init__(self, encoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.encoder.kernel))

    def get_config(self):
        encoder = keras.saving.serialize_keras_object(self.encoder)
        return {**super().get_config(), "encoder": encoder}

    @classmethod
    def from_config(cls, config):
        encoder = keras.saving.deserialize_keras_object(config["encoder"])
        return cls(**{**config, "encoder": encoder})


def tied_autoencoder():
    i = keras.Input((6,))
    first = layers.Dense(5, "tanh", name="first")
    encoder = layers.Dense(3, "tanh", name="encoder")
    outputs = TiedDecoder(encoder, name="decoder")(encoder(first(i)))
    return keras.Model(i, outputs)


def test_a_layer_that_a_tied_one_holds_counts_as_output_and_it_is_said():
    model = tied_autoencoder()
    assert output_layers(model) == ["encoder"]
    with pytest.warns(UserWarning, match="'encoder' is taken for an output.*'decoder'.*=\\[\\]"):
        propagated = kg.propagate(model)
    wrapped = [one.name for one in propagated.layers if isinstance(one, kg.ErrorModulation)]
    assert wrapped == ["first"]
    grapes = kg.Grapes("sgd", model=model)
    with pytest.warns(UserWarning, match="'encoder' is taken for an output layer"):
        grapes.build(model.trainable_variables)
    assert len(grapes.groups) == 1


@pytest.mark.filterwarnings("error")
def test_a_tied_layer_that_is_said_to_be_hidden_is_modulated():
    model = tied_autoencoder()
    grapes = kg.Grapes("sgd", model=model, output_layers=[])
    grapes.build(model.trainable_variables)
    assert len(grapes.groups) == 2
