import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.training.models import batch_for, compiled, convolutional, dense, kernels, values


def with_the_weights_as_feedback(model, **kwargs):
    rule = kg.FeedbackAlignment(model, **kwargs)
    for feedback, kernel in zip(rule.feedback_kernels, kernels(model)[1:], strict=True):
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
    rule = with_the_weights_as_feedback(model, modulation=True)
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
