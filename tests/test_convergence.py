"""What the documentation proves about convergence, checked in numbers."""

import itertools

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests import reference

SAMPLES = 40


def quadratic(units, seed):
    """A linear hidden layer under a fixed output: a model, its data, and its exact loss.

    The loss is quadratic in the hidden kernel, so that its smoothness is an eigenvalue.
    """
    random = np.random.default_rng(seed)
    # Inputs of very different sizes, so that one direction is much steeper than the others.
    x = random.normal(size=(SAMPLES, 5)) * [3, 1, 1, 0.5, 0.2]
    target = random.normal(size=(SAMPLES, 1))
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(units, use_bias=False),
            keras.layers.Dense(1, use_bias=False, trainable=False),
        ]
    )
    output = random.normal(size=(units, 1))
    model.set_weights([random.normal(size=(5, units)), output])

    def loss_and_gradient(kernel):
        error = x @ kernel @ output - target
        return np.mean(error**2), 2 * x.T @ error @ output.T / SAMPLES

    smoothness = np.linalg.eigvalsh(np.kron(2 * x.T @ x / SAMPLES, output @ output.T)).max()
    return model, (x, target), loss_and_gradient, smoothness


def kernels_of_descent(model, data, rate, steps):
    """Kernels of the hidden layer before each step of `Grapes(SGD(rate))`, and after the last."""
    model.compile(kg.Grapes(keras.optimizers.SGD(rate), model=model), "mse")
    kernels = [model.layers[0].kernel.numpy().astype("float64")]
    for _ in range(steps):
        model.train_on_batch(*data)
        kernels.append(model.layers[0].kernel.numpy().astype("float64"))
    return kernels


@pytest.mark.parametrize("share", [0.3, 2 / 3, 0.99])
def test_every_step_of_the_local_version_descends_by_the_bound(share):
    model, data, loss_and_gradient, smoothness = quadratic(units=4, seed=1)
    rate = share / smoothness
    bound = min(1 - smoothness * rate / 2, 2 - 2 * smoothness * rate)
    assert bound > 0
    kernels = kernels_of_descent(model, data, rate, steps=25)
    spread = 0.0
    for before, after in itertools.pairwise(kernels):
        loss, gradient = loss_and_gradient(before)
        m = reference.dense_factor(before)
        spread = max(spread, np.ptp(m))
        descent = rate * np.sum(m * (1 - smoothness * rate * m / 2) * gradient**2)
        assert descent >= rate * bound * np.sum(gradient**2) - 1e-12
        # To the rounding of the float32 weights.
        assert loss_and_gradient(after)[0] <= loss - descent + 1e-5 * (1 + loss)
    # The factors did differ.
    assert spread > 0.1


def test_the_bound_on_the_rate_is_sharp_for_one_node():
    def last_loss(share):
        model, data, loss_and_gradient, smoothness = quadratic(units=1, seed=2)
        kernels = kernels_of_descent(model, data, share / smoothness, steps=400)
        return loss_and_gradient(kernels[0])[0], loss_and_gradient(kernels[-1])[0]

    first, last = last_loss(0.98)
    assert last < first
    first, last = last_loss(1.05)
    assert last > 10 * first


COUNTEREXAMPLE = [[[0.1]], [[0.5, 1.0]], [[2.2], [-1.0]]]


def counterexample():
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, activation="relu", use_bias=False),
            keras.layers.Dense(2, activation="relu", use_bias=False),
            keras.layers.Dense(1, use_bias=False),
        ]
    )
    model.set_weights([np.array(weights) for weights in COUNTEREXAMPLE])
    return model


def half_squared_error(weights):
    """The loss of the counterexample, in float64."""
    y = np.ones((1, 1))
    for kernel in weights[:-1]:
        y = np.maximum(y @ kernel, 0)
    return 0.5 * ((y @ weights[-1]).item() - 1) ** 2


@pytest.mark.parametrize("rate", [1e-1, 1e-2, 1e-3])
def test_a_step_of_the_propagating_version_can_ascend(rate):
    one = np.ones((1, 1), "float32")
    before = half_squared_error([np.array(weights) for weights in COUNTEREXAMPLE])
    after = {}
    for name, modulation in (
        ("plain", kg.Modulation(granularity="layer", unit_mean=True)),
        ("propagating", kg.Modulation()),
        ("mean alone", kg.Modulation(granularity="layer")),
    ):
        model = kg.propagate(counterexample(), modulation)
        # Of the mean of the squared error the gradient is twice that of half of it.
        model.compile(keras.optimizers.SGD(rate / 2), "mse")
        model.train_on_batch(one, one)
        after[name] = half_squared_error([w.astype("float64") for w in model.get_weights()])
    assert after["propagating"] > before
    assert after["plain"] < before
    assert after["mean alone"] < before
    # To first order the loss rises by the rate times the product of gradient and step.
    error = 0.1 * 0.1 - 1
    if rate == 1e-3:
        rise = after["propagating"] - before
        np.testing.assert_allclose(rise, rate * 0.0991 * error**2, rtol=0.05)
