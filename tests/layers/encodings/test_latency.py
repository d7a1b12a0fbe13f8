"""Latency coding, as a function and as a layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg


def times(spikes):
    """Step of the one spike of each value, -1 where there is none."""
    spikes = np.asarray(spikes)
    assert (spikes.sum(axis=1) <= 1).all()
    return np.where(spikes.any(axis=1), spikes.argmax(axis=1), -1)


def test_linear_by_hand():
    # (10 - 1) (1 - x): 0, 2.25, 4.5 (to the even 4), 8.1, 8.991.
    values = [[1.0, 0.75, 0.5, 0.1, 0.001, 0.0]]
    np.testing.assert_array_equal(times(kg.latency_code(values, 10))[0], [0, 2, 4, 8, 9, -1])
    # Above a threshold of 0.5 times are twice as late: 9 (1 - x) / 0.5.
    values = [[1.0, 0.9, 0.75, 0.51, 0.5, 0.2]]
    late = kg.latency_code(values, 10, threshold=0.5)
    np.testing.assert_array_equal(times(late)[0], [0, 2, 4, 9, -1, -1])


def test_time_constant_by_hand():
    x = np.array([[1.0, 0.8, 0.4, 0.25, 0.21, 0.2, 0.0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.floor(5 * np.log(x / (x - 0.2)))[0]
    # 1.1, 1.4, 3.5, 8.0, 15.2, never, never; of 12 steps.
    np.testing.assert_array_equal(expected[:5], [1, 1, 3, 8, 15])
    spikes = kg.latency_code(x, 12, threshold=0.2, tau=5.0)
    np.testing.assert_array_equal(times(spikes)[0], [1, 1, 3, 8, -1, -1, -1])


def test_shapes_and_dtypes():
    spikes = kg.latency_code(np.ones((2, 3, 4), "float16"), steps=5)
    assert spikes.shape == (2, 5, 3, 4) and spikes.dtype == "float16"
    assert kg.latency_code([True, False], steps=5).dtype == "float32"
    assert kg.latency_code(np.zeros((0, 3)), steps=5).shape == (0, 5, 3)
    # In half precision there are not enough numbers for 4000 steps.
    x = np.array([[0.3333]])
    assert times(kg.latency_code(x, 4000))[0, 0] == round(3999 * (1 - 0.3333))


def test_layer_in_a_model():
    coding = kg.LatencyCoding(6, threshold=0.1, tau=2.0)
    model = keras.Sequential([keras.Input((2, 3)), coding])
    assert model.output_shape == (None, 6, 2, 3)
    x = np.random.default_rng(0).random((4, 2, 3)).astype("float32")
    expected = kg.latency_code(x, 6, threshold=0.1, tau=2.0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(4).map(coding)
    np.testing.assert_array_equal(next(iter(batches)), expected)
    assert kg.LatencyCoding(3, dtype="mixed_float16")(x).dtype == "float16"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kg.LatencyCoding(0), "`steps` must be an int of at least 1.*steps=0"),
        (lambda: kg.latency_code([[0.5]], 2.5), "steps=2.5"),
        (lambda: kg.LatencyCoding(2, threshold=1.0), "`threshold` must be below 1"),
        (lambda: kg.LatencyCoding(2, threshold=-0.1), "`threshold` must be .*-0.1"),
        (lambda: kg.LatencyCoding(2, tau=1.0), "above 0 with `tau`"),
        (lambda: kg.LatencyCoding(2, threshold=0.1, tau=0), "`tau` must be .*tau=0"),
        (lambda: kg.latency_code(0.5, 2), r"`x` must have the axes \(batch, ...\)"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_number():
    for call in (kg.population_code, kg.latency_code):
        with pytest.raises(TypeError, match="`x` must be an array or tensor of numbers"):
            call([["a"]], 3)
