"""The callback that watches how much spiking layers fire."""

import warnings

import keras
import numpy as np
import pytest

import keras_grapes as kg

X = np.ones((6, 4, 3), "float32")
Y = np.zeros((6, 2), "float32")


def make_model(bias, wrap=lambda layer: layer):
    """Two steps of potential 0, so that the bias alone decides whether a unit fires."""
    hidden = kg.SNU(
        5, return_sequences=True, kernel_initializer="zeros", bias_initializer=bias, name="hidden"
    )
    model = keras.Sequential([keras.Input((4, 3)), wrap(hidden), kg.SSNU(2, name="output")])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def fit(model, epochs=2, **kwargs):
    watch = kg.callbacks.FiringRate(X, **kwargs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[watch]).history
    return watch, history, [str(w.message) for w in caught if "firing rate" in str(w.message)]


def test_rates_are_recorded_for_every_layer_and_epoch():
    # Three of five units fire at every step.
    model = make_model("zeros")
    model.layers[0].cell.bias.assign([1.0, -1.0, 1.0, -1.0, 1.0])
    watch, history, messages = fit(model)
    np.testing.assert_allclose(watch.rates["hidden"], [0.6, 0.6])
    np.testing.assert_allclose(history["firing_rate/hidden"], [0.6, 0.6])
    np.testing.assert_array_equal(watch.unit_rates["hidden"], [1, 0, 1, 0, 1])
    output = model.predict(X, verbose=0)
    np.testing.assert_allclose(watch.rates["output"][-1], output.mean(), rtol=1e-6)
    assert not messages


@pytest.mark.parametrize("bias, kind", [(-1.0, "silent"), (1.0, "saturated")])
def test_warns_once_a_layer(bias, kind):
    model = make_model(keras.initializers.Constant(bias), wrap=kg.ErrorModulation)
    _, _, messages = fit(model, epochs=3)
    assert len(messages) == 1
    assert f"'hidden' is {kind}" in messages[0]


def test_limits_are_the_users():
    _, _, messages = fit(make_model("ones"), saturated=1.0)
    assert not messages


def test_training_is_the_same_without_it():
    weights = []
    for watched in (False, True):
        keras.utils.set_random_seed(0)
        coding = kg.RateCoding(4, rate=0.5, seed=1)
        hidden = kg.SSNU(5, return_sequences=True)
        model = keras.Sequential([keras.Input((3,)), coding, hidden, kg.SSNU(2)])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        callbacks = [kg.callbacks.FiringRate(X[:, 0])] if watched else []
        model.fit(X[:, 0], Y, epochs=3, verbose=0, shuffle=False, callbacks=callbacks)
        weights.append(model.get_weights())
    for plain, watched in zip(*weights):
        np.testing.assert_array_equal(plain, watched)


def test_bad_use():
    with pytest.raises(ValueError, match=r"silent=0\.9, saturated=0\.1"):
        kg.callbacks.FiringRate(X, silent=0.9, saturated=0.1)
    plain = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2)])
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no spiking layer"):
        plain.fit(X, Y, verbose=0, callbacks=[kg.callbacks.FiringRate(X)])

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = kg.SNU(2)

        def call(self, x):
            return self.layer(x)

    model = Subclassed()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="subclassed"):
        model.fit(X, Y, verbose=0, callbacks=[kg.callbacks.FiringRate(X)])
