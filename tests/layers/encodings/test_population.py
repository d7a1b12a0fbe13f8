"""Population coding, as a function and as a layer."""

import keras
import numpy as np
import pytest

import keras_grapes as kg


def test_by_hand():
    # Centers -1, 0, 1 and the distance between them as the width.
    x = np.array([[-1.0, 0.5]])
    distances = np.array([[0.0, 1.0, 2.0], [1.5, 0.5, -0.5]])
    expected = np.exp(-(distances**2) / 2).reshape(1, 6)
    np.testing.assert_allclose(kg.population_code(x, 3, low=-1.0), expected, rtol=1e-6)
    narrow = np.exp(-(distances**2) / (2 * 0.2**2)).reshape(1, 6)
    activities = kg.population_code(x, 3, -1.0, 1.0, width=0.2)
    np.testing.assert_allclose(activities, narrow, rtol=1e-5)


def test_shapes_and_dtypes():
    assert kg.population_code(np.ones((2, 5, 4), "float16"), 7).shape == (2, 5, 28)
    assert kg.population_code(np.ones((2, 4), "float16"), 7).dtype == "float16"
    assert kg.population_code(np.arange(3), 7).shape == (3, 7)
    # The largest number of half precision is 65504.
    wide = kg.population_code(np.array([[1000.0]], "float16"), 3, 0.0, 1000.0)
    np.testing.assert_allclose(wide, np.exp(-(np.array([[2, 1, 0]]) ** 2) / 2), rtol=1e-3)


def test_layer_in_a_model():
    coding = kg.PopulationCoding(5, low=-2.0, high=2.0, width=0.7)
    model = keras.Sequential([keras.Input((3,)), coding, kg.LatencyCoding(8, threshold=0.1)])
    assert model.output_shape == (None, 8, 15)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    spikes = kg.latency_code(kg.population_code(x, 5, -2.0, 2.0, 0.7), 8, threshold=0.1)
    np.testing.assert_array_equal(model.predict(x, verbose=0), spikes)


def test_errors_pass_through():
    dense = keras.layers.Dense(1, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), dense, kg.PopulationCoding(3)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    model.fit(np.array([[0.2]]), np.zeros((1, 3)), verbose=0)
    assert float(dense.kernel[0, 0]) != 1.0


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kg.PopulationCoding(1), "`units` must be an int of at least 2.*units=1"),
        (lambda: kg.PopulationCoding(3, low=1.0), "`high` must be above `low`"),
        (lambda: kg.PopulationCoding(3, high=float("nan")), "`high` must be a finite number"),
        (lambda: kg.population_code([[0.5]], 3, width=0), "`width` must be .*above 0"),
        (lambda: kg.population_code(0.5, 3), r"`x` must have the axes"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
