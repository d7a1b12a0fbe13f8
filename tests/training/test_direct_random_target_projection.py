import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from tests.training import numpy_rules
from tests.training.models import batch_for, compiled, dense, kernels, values


def by_hand(rule, x, targets, weights=1.0, grapes=False):
    """Gradients of the hidden layers of a tanh network in float64."""
    parameters = [np.array(w, "float64") for w in rule.model.get_weights()]
    signals, found = [x.astype("float64")], []
    for kernel, bias in zip(parameters[:-2:2], parameters[1:-2:2]):
        signals.append(np.tanh(signals[-1] @ kernel + bias))
    above = parameters[2::2]
    for signal, hidden, feedback, out in zip(
        signals, signals[1:], values(rule.feedback_kernels), above
    ):
        factor = numpy_rules.factor(np.abs(out).sum(axis=1)) if grapes else 1.0
        arriving = np.reshape(weights, (-1, 1)) * (targets @ feedback.T) / len(x)
        delta = factor * arriving * (1 - hidden**2)
        found += [signal.T @ delta, delta.sum(0)]
    return found


def assert_close(gradients, expected):
    for a, b in zip(gradients, expected):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grapes", [False, True])
def test_targets_in_every_shape_a_loss_takes(grapes):
    model = dense()
    rule = kg.DirectRandomTargetProjection(model, modulation=grapes, seed=0)
    x, y = batch_for(model)
    expected = by_hand(rule, x, np.eye(4)[y], grapes=grapes)
    for loss, targets in (
        ("sparse_categorical_crossentropy", y),
        ("sparse_categorical_crossentropy", y[:, None]),
        ("categorical_crossentropy", np.eye(4)[y]),
        ("mse", np.eye(4, dtype="float32")[y]),
    ):
        rule.compile("sgd", loss)
        gradients = rule.gradients(x, targets)
        assert_close(gradients[:-2], expected)
        exact = rule.gradients(x, targets, backpropagate=True)
        assert_close(gradients[-2:], exact[-2:])
        assert np.abs(gradients[0] - exact[0]).max() > 1e-3


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_and_train_on_batch_step_by_its_gradients(jit_compile):
    model = dense()
    rule = kg.DirectRandomTargetProjection(model, modulation=kg.Modulation(), seed=0)
    compiled(rule, keras.optimizers.SGD(1.0), metrics=["accuracy"], jit_compile=jit_compile)
    x, y = batch_for(model)
    weights = np.random.default_rng(1).uniform(size=len(x)).astype("float32")
    before = model.get_weights()
    model_loss = rule.evaluate(x, y, sample_weight=weights, verbose=0)[0]
    expected = by_hand(rule, x, np.eye(4)[y], weights, grapes=True)
    history = rule.fit(x, y, sample_weight=weights, batch_size=len(x), verbose=0).history
    # The loss that is shown is that of `compile` alone.
    np.testing.assert_allclose(history["loss"][0], model_loss, rtol=1e-5)
    assert_close([a - b for a, b in zip(before[:-2], model.get_weights())], expected)
    model.set_weights(before)
    loss = rule.train_on_batch(x, y, sample_weight=weights)[0]
    np.testing.assert_allclose(loss, model_loss, rtol=1e-5)
    assert_close([a - b for a, b in zip(before[:-2], model.get_weights())], expected)


def test_own_training_loop_by_the_loss_of_the_rule():
    model = dense()
    rule = compiled(kg.DirectRandomTargetProjection(model, seed=0))
    x, y = batch_for(model)
    with tf.GradientTape() as tape:
        loss = rule.compute_loss(x, y, rule(x, training=True))
    assert_close(tape.gradient(loss, rule.trainable_weights), rule.gradients(x, y))


def test_hidden_layers_do_not_wait_for_the_output():
    model = dense()
    rule = compiled(kg.DirectRandomTargetProjection(model))
    x, y = batch_for(model)
    before = values(rule.gradients(x, y))
    for kernel in kernels(model)[1:]:
        kernel.assign(-3 * kernel)
    after = values(rule.gradients(x, y))
    np.testing.assert_allclose(before[0], after[0], rtol=1e-5, atol=1e-8)


def test_targets_of_each_step_go_to_that_step():
    model = keras.Sequential([keras.Input((10, 6)), layers.Dense(8, "tanh"), layers.Dense(3)])
    rule = kg.DirectRandomTargetProjection(model)
    assert rule.feedback_kernels[0].shape == (8, 3)
    rule.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, _ = batch_for(model, 5)
    y = np.random.default_rng(0).integers(0, 3, (5, 10))
    weights = np.random.default_rng(1).uniform(size=(5, 10)).astype("float32")
    h = np.tanh(x @ values(kernels(model))[0])
    arriving = weights[..., None] * (np.eye(3)[y] @ values(rule.feedback_kernels)[0].T) / 50
    expected = np.einsum("bti,bto->io", x, arriving * (1 - h**2))
    np.testing.assert_allclose(rule.gradients(x, y, weights)[0], expected, rtol=1e-4, atol=1e-6)


def test_several_outputs_by_name():
    inputs = keras.Input((6,))
    trunk = layers.Dense(8, "tanh")(inputs)
    one, two = layers.Dense(3, "softmax", name="one")(trunk), layers.Dense(1, name="two")(trunk)
    rule = kg.DirectRandomTargetProjection(keras.Model(inputs, [one, two]))
    rule.compile("sgd", {"one": "sparse_categorical_crossentropy", "two": "mse"})
    random = np.random.default_rng(0)
    x = random.normal(size=(7, 6)).astype("float32")
    y = {"one": random.integers(0, 3, 7), "two": random.normal(size=7).astype("float32")}
    h = np.tanh(x @ values(kernels(rule.model))[0])
    targets = np.concatenate([np.eye(3)[y["one"]], y["two"][:, None]], axis=1)
    arriving = targets @ values(rule.feedback_kernels)[0].T / 7
    expected = x.T @ (arriving * (1 - h**2))
    np.testing.assert_allclose(rule.gradients(x, y)[0], expected, rtol=1e-4, atol=1e-6)
    rule.fit(x, y, verbose=0)


def test_saved_and_loaded_it_goes_on_the_same(tmp_path):
    model = dense()
    rule = compiled(kg.DirectRandomTargetProjection(model, modulation=kg.Modulation()), "adam")
    x, y = batch_for(model)
    rule.fit(x, y, verbose=0)
    rule.save(tmp_path / "rule.keras")
    loaded = keras.saving.load_model(tmp_path / "rule.keras")
    history = rule.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    assert loaded.fit(x, y, epochs=2, shuffle=False, verbose=0).history == history


def test_mixed_precision_scales_what_arrives_as_the_loss():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = dense()
        rule = compiled(kg.DirectRandomTargetProjection(model, seed=0), keras.optimizers.SGD(1.0))
        x, y = batch_for(model)
        before = model.get_weights()
        expected = by_hand(rule, x, np.eye(4)[y])
        rule.fit(x, y, batch_size=len(x), verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    for old, new, gradient in zip(before, model.get_weights(), expected):
        np.testing.assert_allclose(old - new, gradient, rtol=0.02, atol=2e-3)


def test_mirrored_strategy_trains_as_one_device_does(two_devices):
    model = dense()
    weights = model.get_weights()
    x, y = batch_for(model)
    plain = compiled(
        kg.DirectRandomTargetProjection(model, True, seed=0), keras.optimizers.SGD(0.5)
    )
    plain.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
    with two_devices.scope():
        mirrored = dense()
        rule = compiled(
            kg.DirectRandomTargetProjection(mirrored, True, seed=0), keras.optimizers.SGD(0.5)
        )
    mirrored.set_weights(weights)
    rule.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(mirrored.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_targets_of_another_shape_are_refused():
    model = dense()
    rule = kg.DirectRandomTargetProjection(model)
    rule.compile("sgd", lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1))
    x, _ = batch_for(model)
    with pytest.raises(ValueError, match=r"targets of shape \(24, 2, 2\) for an output of shape"):
        rule.gradients(x, np.zeros((24, 2, 2)))


def test_learns_real_digits():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    rule = kg.DirectRandomTargetProjection(dense((64, 64, 64, 10)), seed=0)
    compiled(rule, keras.optimizers.SGD(0.1), metrics=["accuracy"])
    history = rule.fit(images, labels, epochs=10, batch_size=32, verbose=0).history
    assert history["accuracy"][-1] > 0.8
