"""The band of firing rates, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg

# Rates over two samples and two steps: 0, 0.25, 0.5, 1.
SPIKES = np.array([[[0, 0, 1, 1], [0, 0, 0, 1]], [[0, 1, 0, 1], [0, 0, 1, 1]]], "float32")


@pytest.mark.parametrize(
    "arguments, penalty",
    [
        # Distances from 0.25 to 0.5: 0.25, 0, 0, 0.5.
        ({"l1": 1.0, "l2": 0.0}, 0.75),
        ({"l2": 1.0}, 0.25**2 + 0.5**2),
        ({"l1": 2.0, "l2": 4.0}, 1.5 + 4 * 0.3125),
        ({}, 0.01 * 0.3125),
    ],
)
def test_by_hand(arguments, penalty):
    keep = kg.regularizers.FiringRateRegularizer(0.25, 0.5, **arguments)
    for outputs in (SPIKES, np.reshape(SPIKES, (2, 2, 1, 1, 4))):
        layer = keras.layers.Identity(activity_regularizer=keep)
        layer(keras.ops.convert_to_tensor(outputs))
        assert float(layer.losses[0]) == pytest.approx(penalty)


def test_it_draws_rates_into_the_band():
    spikes = tf.constant(SPIKES)
    with tf.GradientTape() as tape:
        tape.watch(spikes)
        penalty = kg.regularizers.FiringRateRegularizer(0.2, 0.6)(spikes)
    gradient = tape.gradient(penalty, spikes).numpy()
    assert (gradient[..., 0] < 0).all() and (gradient[..., 3] > 0).all()
    assert (gradient[..., 1:3] == 0).all()


def test_in_a_layer_trained_and_saved(tmp_path):
    keep = kg.regularizers.FiringRateRegularizer(0.2, 0.4, l2=1.0)
    units = kg.SNU(
        8, input_activation="leaky_relu", return_sequences=True, activity_regularizer=keep
    )
    model = keras.Sequential([keras.Input((None, 4)), units])
    model.compile(keras.optimizers.Adam(0.05), loss=None)
    x = (np.random.default_rng(0).random((16, 20, 4)) < 0.1).astype("float32")
    before = float(np.mean(model.predict(x, verbose=0)))
    model.fit(x, epochs=60, verbose=0)
    rates = model.predict(x, verbose=0).mean((0, 1))
    assert before < 0.1 and ((rates > 0.15) & (rates < 0.45)).mean() > 0.7
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].activity_regularizer.get_config() == keep.get_config()
    assert loaded.evaluate(x, verbose=0) == pytest.approx(model.evaluate(x, verbose=0))


def test_the_penalty_does_not_depend_on_the_batch():
    keep = kg.regularizers.FiringRateRegularizer(0.25, 0.5, l2=1.0)
    layer = keras.layers.Identity(activity_regularizer=keep)
    layer(keras.ops.convert_to_tensor(SPIKES))
    once = float(layer.losses[0])
    layer(keras.ops.convert_to_tensor(np.concatenate([SPIKES, SPIKES])))
    assert float(layer.losses[0]) == pytest.approx(once) == pytest.approx(0.3125)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda cls: cls(0.5, 0.2), "0 <= low <= high <= 1.*low=0.5, high=0.2"),
        (lambda cls: cls(-0.1, 0.2), "`low` must be .*-0.1"),
        (lambda cls: cls(0.1, 20), "high=20"),
        (lambda cls: cls(0.1, 0.2, l2=None), "`l2`.*None"),
        (lambda cls: cls(0.1, 0.2)(SPIKES[:, -1]), r"`return_sequences=True`.*\(2, 4\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(kg.regularizers.FiringRateRegularizer)
