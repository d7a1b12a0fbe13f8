"""What must hold for a model that nobody wrote for this package, checked with NumPy and a tape."""

import contextlib
import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_grapes as kg

RATE = 0.125


def incoming_axes(layer):
    """The kernels of one of Keras's layers, with the axes that enter a node; output nodes last."""
    if isinstance(layer, layers.SeparableConv2D):
        return [(layer.depthwise_kernel, (0, 1)), (layer.pointwise_kernel, (0, 1, 2))]
    if isinstance(layer, layers.DepthwiseConv2D):
        return [(layer.kernel, (0, 1))]
    if isinstance(layer, layers.Conv2D):
        return [(layer.kernel, (0, 1, 2))]
    if isinstance(layer, layers.Dense):
        return [(layer.kernel, (0,))]
    return []


def factor(kernel, axes, unit_mean=False):
    """Factors by Eq. 1 and 2 in float64, shaped to broadcast over the kernel."""
    values = np.asarray(kernel, "float64")
    importance = np.abs(values).sum(axes, keepdims=True)
    factors = np.clip(2 * importance / importance.max(), 1, 2)
    return factors / factors.mean() if unit_mean else factors


@tf.custom_gradient
def multiply_error(x, factors):
    return tf.identity(x), lambda error: (error * tf.cast(factors, error.dtype), None)


@contextlib.contextmanager
def modulated_by_hand(hidden, unit_mean):
    """Lets the layers of a plain model multiply their error, by code of this file alone."""

    def modulating(layer, call):
        kernel, axes = incoming_axes(layer)[-1]
        factors = factor(kernel, axes, unit_mean).reshape(-1)
        return lambda *args, **kwargs: multiply_error(call(*args, **kwargs), factors)

    calls = [(layer, layer.call) for layer in hidden]
    for layer, call in calls:
        object.__setattr__(layer, "call", modulating(layer, call))
    try:
        yield
    finally:
        for layer, _ in calls:
            object.__delattr__(layer, "call")


def gradients(model, x, weight):
    """Gradients of a random linear function of the outputs, and the outputs; the state stays."""
    state = [(v, v.numpy()) for v in model.non_trainable_variables]
    with tf.GradientTape() as tape:
        output = model(x, training=True)
        loss = tf.reduce_sum(output * weight)
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    after = [v.numpy() for v in model.non_trainable_variables]
    for variable, value in state:
        variable.assign(value)
    return [tf.convert_to_tensor(g).numpy() for g in found], output.numpy(), after


def assert_close(actual, expected, what):
    assert np.isfinite(actual).all(), what
    scale = np.abs(expected).max() or 1.0
    np.testing.assert_allclose(actual / scale, expected / scale, atol=1e-3, err_msg=what)


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def values(model):
    return [v.numpy() for v in model.variables]


def wrapped(model):
    return {
        layer.name for layer in model._flatten_layers() if isinstance(layer, kg.ErrorModulation)
    }


def check_image_classifier(model, x):
    """All of it, for a model whose last layer with a kernel is its head."""
    with_kernels = [layer for layer in model._flatten_layers() if incoming_axes(layer)]
    hidden = with_kernels[:-1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        propagated = kg.propagate(model)
    # Of the deepest the gradients themselves leave float32: the way out that is told.
    deep = any("The error gain" in str(warning.message) for warning in caught)
    if deep:
        propagated = kg.propagate(model, kg.Modulation(unit_mean=True))
    assert wrapped(propagated) == {layer.name for layer in hidden}
    assert_equal(values(propagated), values(model))
    expected = model(x, training=False).numpy()
    np.testing.assert_array_equal(propagated(x, training=False), expected)

    weight = np.random.default_rng(1).normal(size=expected.shape).astype("float32")
    plain, output, state = gradients(model, x, weight)
    given, given_output, given_state = gradients(propagated, x, weight)
    np.testing.assert_array_equal(given_output, output)
    assert_equal(given_state, state)
    with modulated_by_hand(hidden, unit_mean=deep):
        by_hand, _, _ = gradients(model, x, weight)
    for variable, one, other in zip(model.trainable_variables, given, by_hand, strict=True):
        # Shifts ahead of a normalization have no gradient but rounding.
        if len(variable.shape) > 1:
            assert_close(one, other, variable.path)
    with kg.plain_gradients():
        for one, other in zip(gradients(propagated, x, weight)[0], plain, strict=True):
            np.testing.assert_array_equal(one, other)

    stripped = kg.strip(propagated)
    assert not wrapped(stripped)
    assert_equal(values(stripped), values(model))
    np.testing.assert_array_equal(stripped(x, training=False), expected)
    check_step(model, plain, [pair for layer in hidden for pair in incoming_axes(layer)])
    return propagated


def check_step(model, plain, hidden_kernels):
    """One step of `Grapes(SGD)` is the plain one times the factors, of every variable."""
    rates = {id(kernel): factor(kernel, axes) for kernel, axes in hidden_kernels}
    # Of one size, so that no step is lost in rounding.
    plain = [g / max(np.abs(g).max(), 1e-30) for g in plain]
    steps = [RATE * rates.get(id(v), 1.0) * g for v, g in zip(model.trainable_variables, plain)]
    before = [v.numpy() for v in model.trainable_variables]
    optimizer = kg.Grapes(keras.optimizers.SGD(RATE), model=model)
    optimizer.apply([tf.constant(g) for g in plain], model.trainable_variables)
    assert len(optimizer.groups) == len(hidden_kernels)
    for variable, old, step in zip(model.trainable_variables, before, steps, strict=True):
        np.testing.assert_allclose(
            variable.numpy(), old - step, rtol=1e-5, atol=1e-6, err_msg=variable.path
        )
        variable.assign(old)
