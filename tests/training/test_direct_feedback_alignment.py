import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from tests.training import numpy_rules
from tests.training.models import batch_for, compiled, convolutional, dense, kernels, values


def factors(model):
    """Factors of the first hidden layer, told from gradients with and without GRAPES."""
    x, y = batch_for(model)
    plain, grapes = (
        compiled(kg.DirectFeedbackAlignment(model, modulation, seed=0)).gradients(x, y)[0]
        for modulation in (None, True)
    )
    axes = tuple(range(plain.ndim - 1))
    return np.abs(grapes).sum(axis=axes) / np.abs(plain).sum(axis=axes)


def test_update_of_a_hidden_layer_does_not_read_the_weights_above():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, "tanh"),
            layers.Dense(7, "tanh", name="above"),
            layers.Dense(3, kernel_initializer="zeros", name="out"),
        ]
    )
    x, _ = batch_for(model)
    rule = kg.DirectFeedbackAlignment(model)
    # With zero weights at the output, its error does not depend on the layers below.
    rule.compile("sgd", "mse")
    y = np.random.default_rng(0).normal(size=(len(x), 3))
    before = values(rule.gradients(x, y))
    kernel = model.get_layer("above").kernel
    kernel.assign(-3 * kernel)
    after = values(rule.gradients(x, y))
    assert np.abs(before[0]).max() > 0
    np.testing.assert_array_equal(before[0], after[0])
    assert np.abs(before[2] - after[2]).max() > 0


def test_feedback_kernels_reach_the_maps():
    shapes = [k.shape for k in kg.DirectFeedbackAlignment(convolutional()).feedback_kernels]
    # Ahead of the pooling and of `Flatten`.
    assert shapes == [(8 * 8 * 4, 3), (2 * 2 * 6, 3), (10, 3)]


def test_error_arrives_at_every_place_of_a_map():
    model = keras.Sequential(
        [
            keras.Input((3, 3, 2)),
            layers.Conv2D(4, 1, activation="tanh"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )
    x, y = batch_for(model)
    rule = compiled(kg.DirectFeedbackAlignment(model))
    map_ = np.tanh(x @ values(kernels(model))[0][0, 0])
    flat = map_[:, :2, :2].max(axis=(1, 2))
    logits = flat @ values(kernels(model))[1]
    error = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error[np.arange(len(x)), y] -= 1
    arriving = (error / len(x)) @ values(rule.feedback_kernels)[0].T
    delta = arriving.reshape(map_.shape) * (1 - map_**2)
    expected = np.einsum("nhwi,nhwo->io", x, delta)
    np.testing.assert_allclose(rule.gradients(x, y)[0][0, 0], expected, rtol=1e-4, atol=1e-6)


def test_importance_is_that_of_the_weights_that_leave():
    model = dense()
    above = np.abs(values(kernels(model))[1]).sum(axis=1)
    np.testing.assert_allclose(factors(model), numpy_rules.factor(above), rtol=1e-4)


def test_importance_of_a_map_through_pooling_and_flatten():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(5, 3, activation="tanh"),
            layers.AveragePooling2D(2),
            layers.Dropout(0.1),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )
    above = np.abs(values(kernels(model))[1]).reshape(2, 2, 5, 3).sum(axis=(0, 1, 3))
    np.testing.assert_allclose(factors(model), numpy_rules.factor(above), rtol=1e-4)


def test_importance_of_a_map_through_a_convolution_and_global_pooling():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(5, 3, activation="tanh"),
            layers.MaxPooling2D(),
            layers.Conv2D(4, 2, activation="tanh"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    above = np.abs(values(kernels(model))[1]).sum(axis=(0, 1, 3))
    np.testing.assert_allclose(factors(model), numpy_rules.factor(above), rtol=1e-4)


def test_importance_of_units_that_are_shaped_to_a_map():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(18, "tanh"),
            layers.Reshape((3, 3, 2)),
            layers.Conv2D(4, 2, activation="tanh"),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )
    above = np.abs(values(kernels(model))[1]).sum(axis=(0, 1, 3))
    np.testing.assert_allclose(factors(model), numpy_rules.factor(np.tile(above, 9)), rtol=1e-4)


@pytest.mark.parametrize(
    "between, layer",
    [
        ([layers.Reshape((4, 4, 1)), layers.MaxPooling2D(), layers.Flatten()], "pooling"),
        (
            [
                layers.Reshape((4, 4)),
                layers.MaxPooling1D(2, strides=1, padding="same"),
                layers.Flatten(),
            ],
            "pooling",
        ),
    ],
)
def test_modulation_where_the_nodes_get_mixed_is_refused(between, layer):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(16), *between, layers.Dense(3, "softmax")]
    )
    with pytest.raises(ValueError, match=f"cannot tell which weights leave the nodes.*{layer}"):
        kg.DirectFeedbackAlignment(model, modulation=kg.Modulation())
    kg.DirectFeedbackAlignment(model)


def test_groups_above_are_refused_with_a_modulation():
    model = keras.Sequential(
        [
            keras.Input((5, 2)),
            layers.Conv1D(4, 1),
            layers.Conv1D(4, 1, groups=2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="groups=1"):
        kg.DirectFeedbackAlignment(model, modulation=kg.Modulation())


def test_unknown_sizes_are_refused():
    model = keras.Sequential(
        [
            keras.Input((None, None, 1)),
            layers.Conv2D(4, 3),
            layers.GlobalMaxPooling2D(),
            layers.Dense(3),
        ]
    )
    for rule in (kg.DirectFeedbackAlignment, kg.IndirectFeedbackAlignment):
        with pytest.raises(ValueError, match=r"Give the sizes to `keras.Input`"):
            rule(model)
    kg.FeedbackAlignment(model)


def test_importance_of_units_that_change_places():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(12, "tanh"),
            layers.Reshape((3, 4)),
            layers.Permute((2, 1)),
            layers.Flatten(),
            layers.Dense(3, "softmax"),
        ]
    )
    above = np.abs(values(kernels(model))[1]).sum(axis=1).reshape(4, 3).T.ravel()
    np.testing.assert_allclose(factors(model), numpy_rules.factor(above), rtol=1e-4)


def test_importance_of_a_layer_that_is_called_twice():
    inputs = keras.Input((6,))
    layer = layers.Dense(6, "tanh")
    model = keras.Model(inputs, layers.Dense(3, "softmax")(layer(layer(inputs))))
    rule = kg.DirectFeedbackAlignment(model, modulation=kg.Modulation())
    own, above = (np.abs(w).sum(axis=1) for w in values(kernels(model)))
    np.testing.assert_allclose(rule.factor(0), numpy_rules.factor(own + above), rtol=1e-4)


def test_different_nodes_that_meet_are_refused():
    inputs = keras.Input((5,))
    hidden = layers.Reshape((4, 4))(layers.Dense(16)(inputs))
    meet = layers.Add(name="meet")([hidden, layers.Permute((2, 1))(hidden)])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(meet)))
    with pytest.raises(ValueError, match="'meet' of type Add: different nodes meet"):
        kg.DirectFeedbackAlignment(model, modulation=kg.Modulation())


def sequence(*more, steps=10):
    return keras.Sequential([keras.Input((steps, 6)), *more])


OVER_TIME = {
    "labels of steps": (
        [layers.Dense(8), layers.Dense(7), layers.Dense(3)],
        [(8, 3), (7, 3)],
    ),
    "convolutions over time": (
        [layers.Conv1D(8, 3, padding="same"), layers.Conv1D(3, 3, padding="same")],
        [(8, 3)],
    ),
    "shorter output": ([layers.Dense(8), layers.Conv1D(3, 3)], [(80, 24)]),
    "flat output": ([layers.Dense(8), layers.Flatten(), layers.Dense(3)], [(80, 3)]),
    "spikes at every step": (
        [kg.SNU(8, return_sequences=True), kg.SNU(3, return_sequences=True)],
        [(8, 3)],
    ),
    "spikes at the last step": (
        [kg.SNU(8, return_sequences=True), kg.SNU(7), layers.Dense(3)],
        [(8, 3), (7, 3)],
    ),
    "spiking output of the last step": ([layers.Dense(8), kg.SNU(3)], [(8, 3)]),
    "recurrent": (
        [layers.SimpleRNN(8, return_sequences=True), layers.SimpleRNN(3, return_sequences=True)],
        [(8, 3)],
    ),
    "a code that is repeated": (
        [kg.SNU(8), layers.RepeatVector(4), layers.SimpleRNN(3, return_sequences=True)],
        [(8, 3)],
    ),
}


@pytest.mark.parametrize("case", OVER_TIME)
def test_feedback_kernels_over_time(case):
    more, shapes = OVER_TIME[case]
    rule = kg.DirectFeedbackAlignment(sequence(*more))
    assert [tuple(kernel.shape) for kernel in rule.feedback_kernels] == shapes


def test_unknown_length_takes_one_kernel_for_all_steps():
    model = sequence(layers.Dense(8), kg.SNU(4, return_sequences=True), layers.Dense(3), steps=None)
    shapes = [k.shape for k in kg.DirectFeedbackAlignment(model).feedback_kernels]
    assert shapes == [(8, 3), (4, 3)]


@pytest.mark.parametrize(
    "hidden", [layers.Dense(8, "tanh"), layers.Conv2D(8, 1, activation="tanh")]
)
def test_error_of_a_place_goes_to_that_place(hidden):
    model = keras.Sequential([keras.Input((4, 5, 2)), hidden, layers.Dense(3)])
    rule = kg.DirectFeedbackAlignment(model)
    assert rule.feedback_kernels[0].shape == (8, 3)
    rule.compile("sgd", "mse")
    x = np.zeros((2, 4, 5, 2), "float32")
    x[:, 3, 4] = 1
    y = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype("float32")
    elsewhere, there = y.copy(), y.copy()
    elsewhere[:, 0, 0] += 9
    there[:, 3, 4] += 9
    (before, *_), (same, *_), (other, *_) = (rule.gradients(x, t) for t in (y, elsewhere, there))
    np.testing.assert_array_equal(before, same)
    assert np.abs(before - other).max() > 0.01
    kernel, feedback = values(kernels(model))[0], values(rule.feedback_kernels)[0]
    h = np.tanh(x @ kernel.reshape(2, 8))
    e = 2 * (h @ values(kernels(model))[1] - y) / y.size
    expected = np.einsum("bhwi,bhwo->io", x, (e @ feedback.T) * (1 - h**2))
    np.testing.assert_allclose(np.reshape(before, (2, 8)), expected, rtol=1e-4, atol=1e-6)


def test_error_without_time_goes_to_all_steps():
    model = sequence(kg.SSNU(8, return_sequences=True), kg.SSNU(4), layers.Dense(3))
    rule = kg.DirectFeedbackAlignment(model)
    rule.compile("sgd", "mse")
    x, _ = batch_for(model)
    y = np.random.default_rng(0).normal(size=(len(x), 3)).astype("float32")
    e = 2 * (model.predict(x, verbose=0) - y) / y.size
    arriving = np.repeat((e @ values(rule.feedback_kernels)[0].T)[:, None], 10, axis=1)
    first = model.layers[0]
    with tf.GradientTape() as tape:
        value = keras.ops.sum(first(x) * arriving)
    for a, b in zip(rule.gradients(x, y), tape.gradient(value, first.trainable_weights)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def two_heads():
    inputs = keras.Input((6,))
    trunk = layers.Dense(8, "tanh", name="trunk")(inputs)
    own = layers.Dense(7, "tanh", name="own")(trunk)
    return keras.Model(
        inputs, [layers.Dense(3, name="one")(own), layers.Dense(2, name="two")(trunk)]
    )


def test_a_tensor_gets_the_errors_of_the_outputs_that_it_leads_to():
    model = two_heads()
    rule = kg.DirectFeedbackAlignment(model)
    shapes = {k.path.split("/")[-1]: tuple(k.shape) for k in rule.feedback_kernels}
    assert shapes == {"feedback_trunk": (8, 5), "feedback_own": (7, 3)}
    rule.compile("sgd", {"one": "mse", "two": "mse"})
    x = np.random.default_rng(0).normal(size=(9, 6)).astype("float32")
    y = [np.random.default_rng(1).normal(size=(9, n)).astype("float32") for n in (3, 2)]
    predicted = model.predict(x, verbose=0)
    errors = [2 * (p - t) / t.size for p, t in zip(predicted, y)]
    trunk = np.tanh(x @ model.get_layer("trunk").kernel.numpy())
    arriving = np.concatenate(errors, axis=1) @ values(rule.feedback_kernels)[0].T
    expected = x.T @ (arriving * (1 - trunk**2))
    np.testing.assert_allclose(rule.gradients(x, y)[0], expected, rtol=1e-4, atol=1e-6)


def test_immense_kernels_are_refused_and_shared_ones_are_not():
    def maps(padding):
        return keras.Sequential(
            [
                keras.Input((96, 96, 1)),
                layers.Conv2D(16, 3, padding="same", name="wide"),
                layers.Conv2D(2, 3, padding=padding),
            ]
        )

    with pytest.raises(ValueError, match=r"layer 'wide' of type Conv2D.*9.7 GiB.*Alignment"):
        kg.DirectFeedbackAlignment(maps("valid"))
    assert kg.DirectFeedbackAlignment(maps("same")).feedback_kernels[0].shape == (16, 2)


def test_rule_of_ones_own_sends_the_signs_of_the_errors():
    class SignDFA(kg.DirectFeedbackAlignment):
        def sent_error(self, error):
            return keras.ops.sign(error)

    model = dense()
    x, y = batch_for(model)
    rule = compiled(SignDFA(model, seed=0))
    plain = compiled(kg.DirectFeedbackAlignment(model, seed=0))
    last = np.sign(values(plain.gradients(x, y, backpropagate=True))[-1])
    assert set(np.abs(last)) == {1.0}
    a, b = values(rule.gradients(x, y)), values(plain.gradients(x, y))
    assert np.abs(a[0]).max() > 10 * np.abs(b[0]).max()
    np.testing.assert_allclose(a[-1], b[-1], rtol=1e-6)
