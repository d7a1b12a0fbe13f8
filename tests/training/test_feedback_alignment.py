import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests.training.models import batch_for, compiled, convolutional, dense, kernels, values


def with_the_weights_as_feedback(model, **kwargs):
    rule = kg.FeedbackAlignment(model, **kwargs)
    weights = {}
    for site in rule.wiring.sites:
        if site.depends:
            weights.update((id(kernel), kernel) for kernel in site.linear.kernels)
    for feedback, kernel in zip(rule.feedback_kernels, weights.values(), strict=True):
        feedback.assign(kernel)
    return rule


@pytest.mark.parametrize("make", [dense, convolutional])
def test_feedback_equal_to_the_weights_is_back_propagation(make):
    model = make()
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    x, y = batch_for(model)
    compiled(with_the_weights_as_feedback(model)).fit(x, y, batch_size=len(x), verbose=0)
    compiled(plain).fit(x, y, batch_size=len(x), verbose=0)
    for a, b in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-7)


@pytest.mark.parametrize("make", [dense, convolutional])
def test_with_grapes_it_is_the_propagating_version(make):
    model = make()
    propagated = kg.propagate(model)
    x, y = batch_for(model)
    rule = with_the_weights_as_feedback(model, modulation=kg.Modulation())
    compiled(rule).fit(x, y, batch_size=len(x), verbose=0)
    compiled(propagated).fit(x, y, batch_size=len(x), verbose=0)
    for a, b in zip(model.get_weights(), propagated.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_feedback_kernels_have_the_shapes_of_the_kernels_above():
    model = convolutional()
    shapes = [kernel.shape for kernel in kg.FeedbackAlignment(model).feedback_kernels]
    assert shapes == [kernel.shape for kernel in kernels(model)[1:]]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Conv1D(6, 3, padding="causal", dilation_rate=2, name="causal"),
        keras.layers.Conv1D(6, 2, strides=2, groups=2, activation="tanh", name="strided"),
        keras.layers.Dense(6, "tanh", name="each_time"),
    ],
)
def test_layers_over_time_with_their_options(layer):
    model = keras.Sequential(
        [
            keras.Input((9, 3)),
            keras.layers.Conv1D(4, 3, activation="tanh"),
            layer,
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(3, "softmax"),
        ]
    )
    x, y = batch_for(model)
    rule = compiled(with_the_weights_as_feedback(model))
    for a, b in zip(rule.gradients(x, y), rule.gradients(x, y, backpropagate=True), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_error_goes_through_the_feedback_and_not_the_weights():
    model = dense()
    rule = compiled(kg.FeedbackAlignment(model))
    x, y = batch_for(model)
    before = values(rule.gradients(x, y))
    rule.feedback_kernels[1].assign(2 * rule.feedback_kernels[1])
    after = values(rule.gradients(x, y))
    for place in (0, 1, 2, 3):
        np.testing.assert_allclose(after[place], 2 * before[place], rtol=1e-5, atol=1e-7)
    for place in (4, 5, 6, 7):
        np.testing.assert_array_equal(after[place], before[place])


def residual_convolutions():
    inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    skip = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(4, 3, padding="same", activation="tanh")(skip)
    x = layers.BatchNormalization()(x)
    x = layers.MaxPooling2D()(layers.ReLU()(x + skip))
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh")(x)
    x = layers.Conv2DTranspose(3, 2, strides=2, activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def attention():
    inputs = keras.Input((5, 8))
    x = layers.Dense(8, "tanh")(inputs)
    heads = [layers.EinsumDense("abc,cde->abde", (5, 2, 4), bias_axes="de") for _ in "qkv"]
    query, key, value = (head(x) for head in heads)
    scores = layers.Softmax()(keras.ops.einsum("aqhd,akhd->ahqk", query, key))
    mixed = keras.ops.einsum("ahqk,akhd->aqhd", scores, value)
    x = layers.LayerNormalization()(x + layers.EinsumDense("abde,dec->abc", (5, 8))(mixed))
    return keras.Model(inputs, layers.Dense(3)(x))


def shared():
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, "tanh"), layers.Dense(6, "relu")])
    first, second = keras.Input((6,), name="first"), keras.Input((6,), name="second")
    x = layers.Subtract()([inner(first), inner(second)])
    outputs = {"near": layers.Dense(2)(x), "far": layers.Dense(3)(inner(x))}
    return keras.Model({"first": first, "second": second}, outputs)


def units_over_time(*more):
    return keras.Sequential([keras.Input((7, 5)), *more, layers.Dense(3)])


def images_over_time():
    return keras.Sequential(
        [
            keras.Input((4, 6, 6, 2)),
            kg.ConvSNU2D(3, 3, return_sequences=True),
            kg.ConvSNU2D(4, 2, strides=2, padding="same", return_sequences=True),
            layers.TimeDistributed(layers.Conv2D(3, 2, activation="tanh")),
            layers.TimeDistributed(layers.Flatten()),
            kg.SSNU(3),
        ]
    )


def words():
    inputs = keras.Input((7,))
    x = layers.Embedding(10, 6, mask_zero=True, trainable=False)(inputs)
    x = layers.Dense(5, "tanh")(layers.Dense(5)(x))
    x = kg.SNU(6, return_sequences=True)(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


GRAPHS = {
    "residual convolutions": residual_convolutions,
    "attention": attention,
    "shared and nested": shared,
    "spiking": lambda: units_over_time(
        kg.SNU(8, return_sequences=True, reset="soft", trainable_decay="unit"),
        kg.SNU(6, recurrent=True, go_backwards=True),
    ),
    "spiking, step by step": lambda: units_over_time(
        kg.SNU(8, return_sequences=True, unroll=True), layers.RNN(kg.SNUCell(6))
    ),
    "soft and recurrent": lambda: units_over_time(
        kg.SSNU(8, return_sequences=True, reset="subtract"),
        layers.SimpleRNN(6, return_sequences=True),
        layers.SimpleRNN(5, use_bias=False),
    ),
    "images over time": images_over_time,
    "masks": words,
}


def data_for(model, examples=6):
    random = np.random.default_rng(0)
    if model.inputs[0].shape == (None, 7):
        tokens = random.integers(1, 10, (examples, 7))
        tokens[:, 4:] *= random.integers(0, 2, (examples, 1))
        return tokens, random.normal(size=(examples, 3))

    def draw(tensor):
        return (2 * random.normal(size=(examples, *tensor.shape[1:]))).astype("float32")

    x, y = [draw(t) for t in model.inputs], [draw(t) for t in model.outputs]
    if len(x) > 1:
        return dict(zip(sorted(model.input), x)), dict(zip(sorted(model.output), y))
    return x[0], y[0]


@pytest.mark.parametrize("name", GRAPHS)
def test_any_graph_predicts_and_with_the_weights_learns_as_the_model(name):
    keras.utils.set_random_seed(0)
    model = GRAPHS[name]()
    rule = with_the_weights_as_feedback(model)
    x, y = data_for(model)
    loss = dict.fromkeys(y, "mse") if isinstance(y, dict) else "mse"
    rule.compile(keras.optimizers.SGD(0.1), loss)
    for a, b in zip(*(keras.tree.flatten(one.predict(x, verbose=0)) for one in (rule, model))):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    by_rule, by_bp = rule.gradients(x, y), rule.gradients(x, y, backpropagate=True)
    for weight, a, b in zip(rule.trainable_weights, by_rule, by_bp, strict=True):
        assert (a is None) == (b is None), weight.path
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=weight.path)
    rule.feedback_kernels[0].assign(-rule.feedback_kernels[0])
    changed = [
        np.abs(np.asarray(a) - b).max() > 1e-5
        for a, b in zip(rule.gradients(x, y), by_bp)
        if b is not None
    ]
    assert any(changed) and not all(changed)


@pytest.mark.parametrize(
    "name",
    [
        name if name == "shared and nested" else pytest.param(name, marks=pytest.mark.slow)
        for name in GRAPHS
    ],
)
def test_any_graph_is_trained_and_saved(name, tmp_path):
    model = GRAPHS[name]()
    rule = kg.FeedbackAlignment(model, modulation=kg.Modulation(), seed=0)
    x, y = data_for(model)
    loss = dict.fromkeys(y, "mse") if isinstance(y, dict) else "mse"
    rule.compile("sgd", loss)
    before = model.get_weights()
    rule.fit(x, y, verbose=0)
    moved = [np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights())]
    assert sum(moved) >= len(rule.hidden_layers) + 1
    rule.save(tmp_path / "rule.keras")
    loaded = keras.saving.load_model(tmp_path / "rule.keras")
    for a, b in zip(*(keras.tree.flatten(one.predict(x, verbose=0)) for one in (rule, loaded))):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for a, b in zip(rule.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_feedback_kernels_in_the_order_of_the_layers():
    model = residual_convolutions()
    rule = kg.FeedbackAlignment(model)
    shapes = [tuple(kernel.shape) for kernel in rule.feedback_kernels]
    assert shapes == [(3, 3, 4, 1), (1, 1, 4, 4), (2, 2, 4, 2), (2, 2, 3, 8), (3, 3)]
    # One of a shared layer, however often it is called.
    shapes = [tuple(kernel.shape) for kernel in kg.FeedbackAlignment(shared()).feedback_kernels]
    assert shapes == [(6, 6), (6, 6), (6, 3), (6, 2)]


def test_rule_of_ones_own_hands_errors_down_by_other_kernels():
    @keras.saving.register_keras_serializable("test_feedback_alignment")
    class HalfWay(kg.FeedbackAlignment):
        def __init__(self, model, share=0.5, **kwargs):
            self.share = share
            super().__init__(model, **kwargs)

        def backward_kernel(self, kernel, feedback):
            return self.share * kernel + (1 - self.share) * feedback

        def get_config(self):
            return {**super().get_config(), "share": self.share}

    model = dense()
    x, y = batch_for(model)
    exact = compiled(HalfWay(model, 1.0, seed=0))
    for a, b in zip(exact.gradients(x, y), exact.gradients(x, y, backpropagate=True)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    random = compiled(HalfWay(model, 0.0, seed=0)).gradients(x, y)
    for a, b in zip(random, compiled(kg.FeedbackAlignment(model, seed=0)).gradients(x, y)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert HalfWay.from_config(HalfWay(model, 0.25).get_config()).share == 0.25
