import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from tests.training.models import batch_for, compiled, kernels, values


def softmax_error(logits, y):
    error = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error[np.arange(len(y)), y] -= 1
    return error / len(y)


def test_one_feedback_kernel_to_the_first_hidden_layer():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(6), layers.Dense(7), layers.Dense(3)])
    assert [k.shape for k in kg.IndirectFeedbackAlignment(model).feedback_kernels] == [(6, 3)]


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_error_goes_up_the_way_of_the_values(pooling):
    pool = layers.MaxPooling1D if pooling == "max" else layers.AveragePooling1D
    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            layers.Conv1D(3, 1, activation="tanh"),
            pool(2),
            layers.Flatten(),
            layers.Dense(5, "tanh"),
            layers.Dense(3, "softmax"),
        ]
    )
    x, y = batch_for(model)
    rule = compiled(kg.IndirectFeedbackAlignment(model))
    (feedback,) = values(rule.feedback_kernels)
    w1, w2, w3 = values(kernels(model))
    map_ = np.tanh(x @ w1[0])
    pairs = map_.reshape(len(x), 2, 2, 3)
    chosen = pairs == pairs.max(axis=2, keepdims=True) if pooling == "max" else 0.5
    pooled = (pairs * chosen).sum(axis=2).reshape(len(x), -1)
    hidden = np.tanh(pooled @ w2)
    error = softmax_error(hidden @ w3, y)
    delta = (error @ feedback.T).reshape(map_.shape) * (1 - map_**2)
    carried = (delta.reshape(pairs.shape) * chosen).sum(axis=2).reshape(len(x), -1)
    delta_2 = (carried @ w2) * (1 - hidden**2)
    gradients = rule.gradients(x, y)
    expected = [np.einsum("nti,nto->io", x, delta)[None], delta.sum(axis=(0, 1))]
    expected += [pooled.T @ delta_2, delta_2.sum(axis=0)]
    for gradient, value in zip(gradients, expected):
        np.testing.assert_allclose(gradient, value, rtol=1e-4, atol=1e-6)


def test_layer_that_changes_the_shape_in_its_own_way_is_refused():
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6),
            layers.RepeatVector(2),
            layers.Activation("relu"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match=r"cannot carry the error forward.*repeat_vector"):
        kg.IndirectFeedbackAlignment(model)
    kg.DirectFeedbackAlignment(model)


@pytest.mark.parametrize("between", [[], [layers.MaxPooling1D(2)]])
def test_activation_without_a_gradient_brings_no_error_up(between):
    def spike(x):
        return keras.ops.cast(x > 0, x.dtype)

    model = keras.Sequential(
        [
            keras.Input((4, 2)),
            layers.Conv1D(3, 1, activation=spike),
            *between,
            layers.Flatten(),
            layers.Dense(5, "tanh"),
            layers.Dense(3, "softmax"),
        ]
    )
    x, y = batch_for(model)
    gradients = compiled(kg.IndirectFeedbackAlignment(model)).gradients(x, y)
    np.testing.assert_array_equal(gradients[2], 0)
    assert np.abs(gradients[4]).max() > 0
