"""What the encodings take, in eager, graph and compiled code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg

NAN, INFINITE = float("nan"), float("inf")
SHARES = {"above": 1.1, "below": -0.1, "NaN": NAN}
FINITE = {"infinite": INFINITE, "minus infinite": -INFINITE, "NaN": NAN}
# The encoding, a value that it does not take, and what it says.
CASES = [
    (coding, value, message)
    for coding, values, message in [
        (kg.RateCoding(3), SHARES, r"Rate coding takes values from 0 to 1.*by 255"),
        (kg.LatencyCoding(3), SHARES, r"Latency coding takes values from 0 to 1.*by 255"),
        (kg.LatencyCoding(3, 0.1, tau=2.0), SHARES, r"Latency coding takes values from 0 to 1"),
        (kg.DeltaCoding(), FINITE, r"Delta coding takes finite values.*nan_to_num"),
        (kg.DeltaCoding(reference="last_spike"), FINITE, r"Delta coding takes finite values"),
        (kg.PopulationCoding(3), FINITE, r"Population coding takes finite values"),
    ]
    for value in values.values()
]


def samples(value):
    """Four samples, of which the second has the value."""
    x = np.linspace(0, 1, 48).reshape(4, 6, 2).astype("float32")
    x[1, 3, 0] = value
    return x


@pytest.mark.parametrize("coding, value, message", CASES)
def test_refused_in_eager_and_in_compiled_code(coding, value, message):
    x = samples(value)
    with pytest.raises(ValueError, match=message):
        coding(x)
    assert np.isfinite(coding(x[:1])).all()
    model = keras.Sequential([keras.Input((6, 2)), coding])
    model.compile(jit_compile=False)
    assert np.isfinite(model.predict(x[2:], verbose=0)).all()
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.predict(x, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        list(tf.data.Dataset.from_tensors(x).map(coding))


@pytest.mark.parametrize("coding, value, message", CASES)
def test_under_xla_the_sample_is_not_a_number(coding, value, message):
    model = keras.Sequential([keras.Input((6, 2)), coding])
    model.compile(jit_compile=True)
    outputs = model.predict(samples(value), verbose=0)
    assert np.isnan(outputs[1]).all()
    assert np.isfinite(np.delete(outputs, 1, axis=0)).all()


@pytest.mark.parametrize("coding", [kg.RateCoding(3), kg.LatencyCoding(3)])
def test_integers_in_a_graph(coding):
    data = tf.data.Dataset.from_tensors(np.full((2, 2), 255, "uint8"))
    with pytest.raises(ValueError, match=r"dtype uint8.*Divide pixels by 255"):
        data.map(coding)


def test_one_value_a_sample():
    coded = tf.function(lambda x: kg.population_code(x, 3), jit_compile=True)(
        tf.constant([0.5, NAN])
    )
    np.testing.assert_array_equal(np.isnan(coded), [[False] * 3, [True] * 3])
