"""What cannot be trained is refused at construction, by every rule."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests.training.models import batch_for, compiled


def chain(*between, inputs=(6,)):
    return keras.Sequential(
        [keras.Input(inputs), layers.Dense(5, "relu"), *between, layers.Dense(3)]
    )


def functional(build, inputs=1):
    tensors = [keras.Input((6,)) for _ in range(inputs)]
    return keras.Model(tensors, build(*tensors))


def skip(x):
    hidden = layers.Dense(6)(x)
    return layers.Dense(3)(layers.Add(name="meet")([x, hidden]))


def twice(x):
    layer = layers.Dense(6, name="again")
    return layers.Dense(3)(layer(layer(x)))


def words():
    return layers.Embedding(10, 4, mask_zero=True, trainable=False, name="words")


def masked(*between):
    return keras.Sequential([keras.Input((6,)), words(), *between, layers.Dense(3)])


def pool_masked_words(x):
    x = layers.GlobalAveragePooling1D(name="pool")(layers.Dense(8)(words()(x)))
    return layers.Dense(3)(x)


class OwnMask(layers.Layer):
    def call(self, x):
        return x

    def compute_mask(self, inputs, mask=None):
        return keras.ops.any(inputs > 0, axis=-1)


class Subclassed(keras.Model):
    def call(self, x):
        return x


class OwnDense(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


class OwnMatrix(layers.Layer):
    def build(self, shape):
        self.matrix = self.add_weight(shape=(shape[-1], shape[-1]))

    def call(self, x):
        return keras.ops.matmul(x, self.matrix)


class Gated(layers.Layer):
    """Two matrices of weights, and no linear map that anybody told."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4), name="kernel")
        self.gate = self.add_weight(shape=(shape[-1], 4), name="gate")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel) * keras.ops.matmul(x, self.gate)


class OwnSequential(keras.Sequential):
    def call(self, x):
        return 2 * super().call(x)


def optional_input():
    first, second = keras.Input((6,)), keras.Input((6,), optional=True, name="spare")
    return keras.Model([first, second], layers.Dense(3)(layers.Dense(4)(first)))


REFUSED = {
    "no hidden layer": (
        lambda: keras.Sequential([keras.Input((6,)), layers.Dense(3)]),
        "needs a hidden layer",
    ),
    "no hidden layer in two branches": (
        lambda: functional(lambda x: layers.Add()([layers.Dense(3)(x), layers.Dense(3)(x)])),
        "needs a hidden layer.*2 such layers",
    ),
    "unbuilt": (lambda: keras.Sequential([layers.Dense(4), layers.Dense(3)]), "built"),
    "subclassed": (Subclassed, "subclassed model.*Functional or Sequential model"),
    "own call of a model": (
        lambda: OwnSequential(chain().layers),
        r"subclassed model.*keras.Model\(model.inputs, model.outputs\)",
    ),
    "recurrent": (
        lambda: chain(layers.LSTM(4, name="memory"), inputs=(5, 6)),
        "cannot train layer 'memory' of type LSTM.*no linear map.*register_linear_map",
    ),
    "composite": (
        lambda: functional(
            lambda x: layers.Dense(3)(
                layers.MultiHeadAttention(2, 3, name="heads")(*[layers.Reshape((6, 1))(x)] * 2)
            )
        ),
        "cannot train layer 'heads' of type MultiHeadAttention.*register_linear_map",
    ),
    "own call": (lambda: chain(OwnDense(4, name="own")), "'own'.*`call` of its own"),
    "own matrix": (lambda: chain(OwnMatrix(name="own")), "'own'.*has weights between nodes"),
    "own kernels": (lambda: chain(Gated(name="own")), "'own'.*has weights between nodes"),
    "modulated": (lambda: kg.propagate(chain()), "keras_grapes.strip"),
    "weights ahead": (
        lambda: keras.Sequential(
            [
                keras.Input((6,)),
                layers.BatchNormalization(name="norm"),
                layers.Dense(4),
                layers.Dense(3),
            ]
        ),
        "brings no error to layer 'norm'",
    ),
    "embedding ahead": (
        lambda: keras.Sequential(
            [
                keras.Input((6,)),
                layers.Embedding(9, 4, name="words"),
                layers.Dense(4),
                layers.Dense(3),
            ]
        ),
        "cannot train layer 'words' of type Embedding.*freeze",
    ),
    "optional input": (optional_input, "'spare' is optional"),
}

CHAINS = {
    "two inputs": (
        lambda: functional(
            lambda a, b: layers.Dense(3)(layers.Dense(4)(a) + layers.Dense(4)(b)), 2
        ),
        "with 2 inputs",
    ),
    "two outputs": (
        lambda: functional(lambda a: [layers.Dense(3)(layers.Dense(4)(a)), layers.Dense(2)(a)]),
        "with 2 outputs",
    ),
    "skip": (lambda: functional(skip), "branches meet in"),
    "layer used twice": (lambda: functional(twice), "'again' more than once"),
    "two kernels": (
        lambda: chain(
            layers.Reshape((5, 1)), layers.SeparableConv1D(4, 2, name="apart"), inputs=(6,)
        ),
        "'apart'.*several kernels",
    ),
    "masking": (
        lambda: chain(layers.Masking(name="mask"), layers.Dropout(0.1), inputs=(5, 6)),
        "carry the mask of layer 'mask' of type Masking through layer 'dense.*GlobalAverage",
    ),
    "mask of an embedding": (
        lambda: masked(layers.Dense(8)),
        "carry the mask of layer 'words' of type Embedding through layer 'dense.*mask_zero=False",
    ),
    "mask of a layer of one's own": (
        lambda: chain(OwnMask(name="own"), inputs=(5, 6)),
        "mask of layer 'own' of type OwnMask",
    ),
    "mask in a Functional model": (
        lambda: functional(pool_masked_words),
        "meet in.*a mask that Keras hands to a layer is a branch too",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(rule_class, case):
    make, message = REFUSED[case]
    model = make()
    with pytest.raises(ValueError, match=f"(?s){rule_class.__name__}.*{message}"):
        rule_class(model)


@pytest.mark.parametrize("case", CHAINS)
def test_refused_by_the_rule_of_chains_alone(case):
    make, message = CHAINS[case]
    with pytest.raises(ValueError, match=f"(?s)IndirectFeedbackAlignment.*{message}"):
        kg.IndirectFeedbackAlignment(make())
    kg.FeedbackAlignment(make())
    kg.DirectFeedbackAlignment(make())


@pytest.mark.parametrize("model", [None, "model", layers.Dense(3), keras.Model])
def test_what_is_no_model_is_refused(rule_class, model):
    with pytest.raises(TypeError, match=r"`model` must be a `keras.Model`"):
        rule_class(model)


def test_frozen_weights_ahead_of_the_first_kernel_are_taken(rule_class):
    first = layers.BatchNormalization(trainable=False)
    model = keras.Sequential([keras.Input((6,)), first, layers.Dense(4), layers.Dense(3)])
    assert len(rule_class(model).trainable_weights) == 4


@pytest.mark.parametrize(
    "between",
    [
        [layers.GlobalAveragePooling1D(), layers.Dense(8, "relu")],
        [layers.Conv1D(8, 2), layers.GlobalAveragePooling1D()],
    ],
    ids=["used up", "dropped by Keras"],
)
@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_mask_that_ends_ahead_of_the_first_dense_layer_is_taken(rule_class, between):
    model = masked(*between)
    x = np.array([[1, 2, 0, 0, 0, 0], [3, 4, 5, 0, 0, 0]])
    np.testing.assert_array_equal(
        rule_class(model).predict(x, verbose=0), model.predict(x, verbose=0)
    )


def test_layer_without_weights_may_come_twice(rule_class):
    relu = layers.ReLU()
    model = chain(relu, layers.Dense(4), relu)
    x, y = batch_for(model)
    rule = compiled(rule_class(model, modulation=kg.Modulation()))
    np.testing.assert_array_equal(rule.predict(x, verbose=0), model.predict(x, verbose=0))
    rule.fit(x, y, verbose=0)


def test_a_feedback_model_is_no_chain(rule_class):
    with pytest.raises(ValueError, match="subclassed model"):
        rule_class(rule_class(chain()))
