"""Losses on spikes over time, by hand and against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from keras_grapes import losses

SPIKES = np.array(
    [
        [[0, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 0]],
        [[0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0]],
    ],
    "float32",
)
LABELS = np.array([0, 2])
POTENTIALS = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")


def crossentropy(logits, labels):
    logits = np.asarray(logits, "float64")
    return (
        np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    )


def squared(values, correct, incorrect):
    wanted = np.where(np.eye(3)[LABELS] == 1, correct, incorrect)
    return ((np.asarray(values, "float64") - wanted) ** 2).mean(-1)


COUNTS = [[3, 0, 2], [1, 3, 0]]
# The second unit of the first sample and the third of the second are silent for all four steps.
TIMES = np.array([[1, 4, 0], [3, 0, 4]])

EXPECTED = [
    (losses.SpikeCountCrossentropy(), crossentropy(COUNTS, LABELS)),
    (losses.SpikeCountCrossentropy(scale=0.5), crossentropy(np.array(COUNTS) / 2, LABELS)),
    (
        losses.SpikeRateCrossentropy(scale=2.0),
        crossentropy(2 * SPIKES, np.repeat(LABELS[:, None], 4, 1)).mean(1),
    ),
    (losses.SpikeRateMeanSquaredError(0.8, 0.1), squared(SPIKES.mean(1), 0.8, 0.1)),
    (losses.FirstSpikeCrossentropy(scale=0.5), crossentropy(-0.5 * TIMES, LABELS)),
    (losses.FirstSpikeMeanSquaredError(), squared(TIMES / 4, 0, 1)),
    (losses.FirstSpikeMeanSquaredError(0.25, 0.75), squared(TIMES / 4, 0.25, 0.75)),
    (losses.MembraneCrossentropy(), crossentropy(POTENTIALS.max(1), LABELS)),
    (losses.MembraneCrossentropy(over="mean"), crossentropy(POTENTIALS.mean(1), LABELS)),
    (losses.MembraneCrossentropy(over="last"), crossentropy(POTENTIALS[:, -1], LABELS)),
    (
        losses.MembraneMeanSquaredError(2.0, -1.0),
        np.mean([squared(POTENTIALS[:, t], 2.0, -1.0) for t in range(4)], axis=0),
    ),
]


def outputs_of(loss):
    return POTENTIALS if "Membrane" in type(loss).__name__ else SPIKES


@pytest.mark.parametrize("loss, expected", EXPECTED, ids=lambda v: getattr(v, "name", ""))
def test_values(loss, expected):
    outputs = outputs_of(loss)
    for targets in (LABELS, LABELS[:, None], np.eye(3)[LABELS]):
        np.testing.assert_allclose(float(loss(targets, outputs)), expected.mean(), rtol=1e-5)
    weighted = float(loss(LABELS, outputs, sample_weight=np.array([0.0, 3.0])))
    np.testing.assert_allclose(weighted, 3 * expected[1] / 2, rtol=1e-5)
    single = type(loss)(**{**loss.get_config(), "reduction": "none"})
    np.testing.assert_allclose(single(LABELS, outputs), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [loss for loss, _ in EXPECTED], ids=lambda v: v.name)
def test_a_mask_leaves_steps_out(loss):
    """Padded with noise and masked, wherever the steps are, it is as without."""
    outputs = outputs_of(loss)
    expected = float(loss(LABELS, outputs))
    noise = np.random.default_rng(1).random((2, 7, 3)).astype("float32").round() + 5
    mask = np.array([[0, 1, 1, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0, 1]], "bool")
    padded = noise
    for sample in range(2):
        padded[sample, mask[sample]] = outputs[sample]
    padded = tf.constant(padded)
    padded._keras_mask = tf.constant(mask)
    np.testing.assert_allclose(float(loss(LABELS, padded)), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [loss for loss, _ in EXPECTED], ids=lambda v: v.name)
def test_config(loss):
    restored = type(loss).from_config(loss.get_config())
    assert restored.get_config() == loss.get_config()
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()


def test_first_spike_time_is_that_of_the_first_spike():
    times = losses.first_spike_time(SPIKES)
    np.testing.assert_array_equal(times, TIMES)
    # Of probabilities it is the mean: 0 * 0.5 + 1 * 0.5 * 0.5 + 2 * 0.25.
    assert float(losses.first_spike_time([[[0.5], [0.5]]])[0, 0]) == 0.75


def test_derivatives_of_the_first_spike_time():
    """Each is the difference that the spike makes, spikes that are not there included."""
    spikes = tf.constant(SPIKES)
    with tf.GradientTape() as tape:
        tape.watch(spikes)
        total = tf.reduce_sum(losses.first_spike_time(spikes))
    gradient = tape.gradient(total, spikes).numpy()

    def time(train):
        return train.argmax() if train.any() else len(train)

    for sample in range(2):
        for unit in range(3):
            for step in range(4):
                with_spike, without = SPIKES[sample, :, unit].copy(), SPIKES[sample, :, unit].copy()
                with_spike[step], without[step] = 1, 0
                expected = time(with_spike) - time(without)
                assert gradient[sample, step, unit] == expected
    # The silent unit is drawn towards spiking, the more the earlier.
    np.testing.assert_array_equal(gradient[0, :, 1], [-4, -3, -2, -1])


@pytest.mark.parametrize("loss", [loss for loss, _ in EXPECTED], ids=lambda v: v.name)
def test_silent_outputs_learn(loss):
    silent = tf.zeros((2, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(silent)
        value = loss(LABELS, silent)
    gradient = tape.gradient(value, silent).numpy()
    assert np.isfinite(gradient).all()
    if getattr(loss, "correct_time", None) != 0.75:
        for sample, label in enumerate(LABELS):
            # Less loss by more spikes, or a higher potential, of the unit of the class.
            assert gradient[sample, :, label].sum() < 0


def test_they_train_and_save(tmp_path):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 64)
    x = (rng.random((64, 10, 4)) < np.where(y[:, None, None] == 1, 0.8, 0.1)).astype("float32")
    x[..., 2:] = (rng.random((64, 10, 2)) < np.where(y[:, None, None] == 1, 0.1, 0.8)).astype("f4")

    def accuracy(loss, readout, by):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((None, 4)), keras.layers.Masking(-1.0), readout])
        metrics = [kg.metrics.SpikeAccuracy(by)]
        model.compile(keras.optimizers.Adam(0.05), loss, metrics=metrics)
        model.fit(x, y, epochs=24, verbose=0)
        path = tmp_path / "model.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        result = model.evaluate(x, y, verbose=0, return_dict=True)
        assert loaded.evaluate(x, y, verbose=0, return_dict=True) == result
        return result["spike_accuracy"]

    def spiking():
        return kg.SNU(2, input_activation="linear", return_sequences=True)

    potential = {"activation": "linear", "reset": "none", "use_bias": False}
    readout = kg.SNU(2, input_activation="linear", return_sequences=True, **potential)
    assert accuracy(losses.SpikeCountCrossentropy(), spiking(), "count") > 0.9
    assert accuracy(losses.FirstSpikeCrossentropy(), spiking(), "first_spike") > 0.9
    assert accuracy(losses.MembraneCrossentropy(), readout, "potential") > 0.9


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: losses.SpikeCountCrossentropy(scale=0),
            "`scale` must be a finite number above 0.*scale=0",
        ),
        (lambda: losses.SpikeRateCrossentropy(scale="1"), "`scale` must be a finite number"),
        (lambda: losses.SpikeRateMeanSquaredError(correct_rate=None), "`correct_rate`.*None"),
        (lambda: losses.FirstSpikeCrossentropy(scale=-1), "`scale`.*-1"),
        (lambda: losses.FirstSpikeMeanSquaredError(incorrect_time=20), "`incorrect_time`.*20"),
        (lambda: losses.MembraneCrossentropy(over="sum"), "`over` must be .*'sum'"),
        (lambda: losses.MembraneMeanSquaredError(float("inf")), "`correct`.*inf"),
        (
            lambda: losses.SpikeCountCrossentropy()(LABELS, SPIKES[:, -1]),
            r"`return_sequences=True`.*\(2, 3\)",
        ),
        (
            lambda: losses.SpikeCountCrossentropy()(np.ones((2, 4)), SPIKES),
            r"one-hot, \(batch, 3\).*\(2, 4\)",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
