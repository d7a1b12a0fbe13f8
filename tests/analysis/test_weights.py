import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg

weights = kg.analysis.weights


def network():
    return keras.Sequential(
        [
            keras.Input((300,)),
            layers.Dense(200, name="hidden"),
            layers.Dense(10, name="output"),
        ]
    )


def test_statistics_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, name="one")])
    model.layers[0].kernel.assign([[0.0, 0.0], [0.0, 4.0]])
    (found,) = weights.statistics(model).values()
    # Mean 1, deviations -1 (three times) and 3: moments 3 and 21.
    assert found == weights.WeightStatistics(4, 1.0, 3.0, pytest.approx(21 / 9 - 3), 0.0)
    model.layers[0].kernel.assign(np.ones((2, 2)))
    (found,) = weights.statistics(model).values()
    assert (found.variance, found.tail) == (0, 0)
    assert np.isnan(found.kurtosis)


def test_known_distributions():
    model = network()
    found = weights.statistics(model)
    assert list(found) == ["hidden", "output"]
    bound = np.sqrt(6 / 500)
    assert found["hidden"].variance == pytest.approx(bound**2 / 3, rel=0.02)
    assert found["hidden"].kurtosis == pytest.approx(-1.2, abs=0.02)
    assert found["hidden"].tail == 0
    random = np.random.default_rng(0)
    model.layers[0].kernel.assign(random.normal(size=(300, 200)))
    assert weights.statistics(model)["hidden"].kurtosis == pytest.approx(0, abs=0.1)
    assert weights.statistics(model)["hidden"].tail == pytest.approx(0.0027, rel=0.2)
    model.layers[0].kernel.assign(random.laplace(size=(300, 200)))
    assert weights.statistics(model)["hidden"].kurtosis == pytest.approx(3, abs=0.5)
    # Laplace: exp(-3 * sqrt(2)) of the weights are beyond 3 standard deviations.
    assert weights.statistics(model)["hidden"].tail == pytest.approx(np.exp(-3 * 2**0.5), rel=0.1)


def test_modulated_and_feedback_models_have_the_weights_of_the_plain_one():
    model = network()
    expected = weights.statistics(model)
    assert weights.statistics(kg.propagate(model)) == expected
    assert weights.statistics(kg.FeedbackAlignment(model)) == expected
    recurrent = keras.Sequential([keras.Input((5, 3)), layers.SimpleRNN(4), layers.Dense(2)])
    assert [s.count for s in weights.statistics(recurrent).values()] == [3 * 4 + 4 * 4, 8]


def test_plot_for_two_models():
    pytest.importorskip("matplotlib").use("agg")
    model = network()
    figure = weights.plot({"plain": model, "GRAPES": kg.propagate(model)})
    assert [axes.get_title() for axes in figure.axes] == ["plain", "GRAPES"]
    assert [line.get_label() for line in figure.axes[1].lines] == ["hidden", "output"]
    x, density = figure.axes[0].lines[0].get_data()
    assert np.nansum(density) * (x[1] - x[0]) == pytest.approx(1)


def test_bad_use():
    with pytest.raises(TypeError, match=r"those of a `keras\.Model`"):
        weights.statistics([np.ones(3)])
    with pytest.raises(ValueError, match="build it"):
        weights.statistics(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="has no kernels"):
        weights.statistics(keras.Sequential([keras.Input((2,)), layers.ReLU()]))
    with pytest.raises(TypeError, match="dict of names"):
        weights.plot(network())
    with pytest.raises(ValueError, match="one model at least"):
        weights.plot({})
    diverged = network()
    diverged.layers[0].kernel.assign(np.full((300, 200), np.nan))
    with pytest.raises(ValueError, match="inf in layer 'hidden'"):
        weights.plot({"diverged": diverged})


def test_weights_of_a_quantized_layer_are_those_that_act():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="dense")])
    model.layers[0].kernel.assign([[1.0, 4.0], [1.0, 4.0]])
    model.quantize("int8")
    (found,) = kg.analysis.weights.statistics(model).values()
    np.testing.assert_allclose([found.mean, found.variance], [2.5, 2.25], rtol=1e-6)
