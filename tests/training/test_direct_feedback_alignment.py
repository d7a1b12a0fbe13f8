import keras
import numpy as np
import pytest
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
        ([layers.Reshape((4, 4)), layers.Permute((2, 1)), layers.Flatten()], "permute"),
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
        kg.DirectFeedbackAlignment(model, modulation=True)
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
        kg.DirectFeedbackAlignment(model, modulation=True)


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
