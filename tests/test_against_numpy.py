"""Whole training runs against the independent implementation in `reference.py`."""

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import keras_grapes as kg
from tests import reference

OPTIMIZERS = {
    "sgd": (lambda: optimizers.SGD(0.1), lambda: reference.SGD(0.1)),
    "momentum": (
        lambda: optimizers.SGD(0.05, momentum=0.9),
        lambda: reference.SGD(0.05, momentum=0.9),
    ),
    "nesterov": (
        lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True),
        lambda: reference.SGD(0.05, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (lambda: optimizers.RMSprop(0.01), lambda: reference.RMSprop(0.01)),
    "adam": (lambda: optimizers.Adam(0.01), lambda: reference.Adam(0.01)),
}


def network(activation):
    return keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(10, activation),
            layers.Dense(9, activation),
            layers.Dense(8, activation),
            layers.Dense(5, "softmax"),
        ]
    )


@pytest.mark.parametrize("version", ["plain", "local", "propagating"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_after_several_steps(name, activation, version):
    # In float64: at rounding precision, an Adam step of a vanishing gradient has any sign.
    keras.config.set_dtype_policy("float64")
    make_optimizer, make_reference = OPTIMIZERS[name]
    model = network(activation)
    by_hand = reference.Network(model.get_weights(), activation, make_reference(), version)
    optimizer = make_optimizer()
    if version == "propagating":
        model = kg.propagate(model)
    elif version == "local":
        optimizer = kg.Grapes(optimizer, model=model)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    rng = np.random.default_rng(0)
    start = model.get_weights()
    for _ in range(8):
        x, labels = rng.normal(size=(16, 12)), rng.integers(0, 5, 16)
        model.train_on_batch(x, labels)
        by_hand.step(x, labels)
    for given, expected, old in zip(model.get_weights(), by_hand.weights, start, strict=True):
        assert np.abs(expected - old).max() > 1e-3, "the test must move the weights"
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-6)


def test_versions_differ():
    """The reference itself tells the versions apart, so that the test above can fail."""
    keras.config.set_dtype_policy("float64")
    weights = network("relu").get_weights()
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(16, 12)), rng.integers(0, 5, 16)
    results = []
    for version in ("plain", "local", "propagating"):
        net = reference.Network(weights, "relu", reference.SGD(0.1), version)
        net.step(x, labels)
        results.append(net.kernels[0])
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(results[a] - results[b]).max() > 1e-3
