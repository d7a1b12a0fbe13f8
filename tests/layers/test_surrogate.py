"""The step and its pseudo-derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from keras_grapes.layers.surrogate import get_surrogate, spike

X = np.array([-2.0, -0.3, 0.0, 0.1, 0.7, 3.0])

# What each one is, in NumPy, with the slope k.
FORMULAS = {
    "tanh": lambda x, k: 1 - np.tanh(k * x) ** 2,
    "sigmoid": lambda x, k: k * np.exp(-k * x) / (1 + np.exp(-k * x)) ** 2,
    "atan": lambda x, k: k / 2 / (1 + (np.pi / 2 * k * x) ** 2),
    "fast_sigmoid": lambda x, k: 1 / (1 + k * np.abs(x)) ** 2,
    "triangular": lambda x, k: np.maximum(0, 1 - k * np.abs(x)),
    "straight_through": lambda x, k: k * np.ones_like(x),
}
DEFAULT_SLOPES = {
    "tanh": 1,
    "sigmoid": 4,
    "atan": 2,
    "fast_sigmoid": 25,
    "triangular": 1,
    "straight_through": 1,
}


@keras.saving.register_keras_serializable(package="test_surrogate")
def box(x):
    return keras.ops.cast(keras.ops.abs(x) < 0.5, x.dtype)


@pytest.mark.parametrize("slope", [None, 0.5, 3.0])
@pytest.mark.parametrize("name", FORMULAS)
def test_step_forward_and_pseudo_derivative_backward(name, slope):
    x = tf.constant(X)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = spike(x, kg.Surrogate(name, slope))
    expected = FORMULAS[name](X, DEFAULT_SLOPES[name] if slope is None else slope)
    np.testing.assert_array_equal(y, [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(tape.gradient(y, x), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", FORMULAS)
def test_the_surrogate_a_layer_is_given_is_the_one_it_uses(name):
    layer = kg.SNU(1, surrogate=name, kernel_initializer="ones")
    x = tf.constant([[[0.9]]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    expected = FORMULAS[name](-0.1, DEFAULT_SLOPES[name])
    np.testing.assert_allclose(tape.gradient(y, x), [[[expected]]], rtol=1e-5)


def test_second_derivative_is_that_of_the_pseudo_derivative():
    x = tf.constant(X)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = spike(x, kg.Surrogate("tanh"))
        slope = inner.gradient(y, x)
    expected = -2 * np.tanh(X) * (1 - np.tanh(X) ** 2)
    np.testing.assert_allclose(outer.gradient(slope, x), expected, atol=1e-12)


@pytest.mark.parametrize("surrogate", ["atan", kg.Surrogate("triangular", 2.0), box])
def test_serialization(surrogate):
    layer = kg.SNU(3, surrogate=surrogate)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    np.testing.assert_array_equal(restored.cell.surrogate(X), get_surrogate(surrogate)(X))


def test_half_precision_stays_half_precision():
    for name in FORMULAS:
        assert kg.Surrogate(name)(tf.constant(X, "float16")).dtype == tf.float16


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: kg.Surrogate("tan"), ValueError, "must be one of .*'tanh'.*Received: 'tan'"),
        (lambda: kg.Surrogate(["a"]), ValueError, r"must be one of .*Received: \['a'\]"),
        (lambda: kg.Surrogate("tanh", slope=0), ValueError, "above 0.*slope=0"),
        (lambda: kg.Surrogate("tanh", slope="2"), ValueError, "above 0.*slope='2'"),
        (lambda: kg.Surrogate("tanh", slope=float("nan")), ValueError, "slope=nan"),
        (lambda: get_surrogate(3), TypeError, "Received: 3 of type int"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
