"""Plots of spikes, potentials and rates: what they draw."""

import numpy as np
import pytest

import keras_grapes as kg

matplotlib = pytest.importorskip("matplotlib")

SPIKES = np.zeros((2, 6, 3))
SPIKES[1, [1, 4], 0] = 1
SPIKES[1, 2, 2] = 1
POTENTIALS = np.arange(36, dtype="float64").reshape(2, 6, 3)
MASK = np.ones((2, 6), "bool")
MASK[1, 4:] = False
RECORDING = kg.analysis.Recording(SPIKES, POTENTIALS, MASK, np.array([1.0, 2.0, 3.0]))


def marks(axes):
    return sorted(map(tuple, axes.collections[0].get_offsets().tolist()))


def test_raster():
    (axes,) = kg.analysis.raster(SPIKES[1]).axes
    assert marks(axes) == [(1.0, 0.0), (2.0, 2.0), (4.0, 0.0)]
    assert axes.get_xlabel() == "time step" and axes.get_ylabel() == "unit"
    (axes,) = kg.analysis.raster(SPIKES, sample=1, dt=0.002).axes
    np.testing.assert_allclose(marks(axes), [(2.0, 0.0), (4.0, 2.0), (8.0, 0.0)])
    assert axes.get_xlabel() == "time (ms)"
    # Masked steps are no spikes, and the positions of images are rows.
    assert len(marks(kg.analysis.raster(RECORDING, sample=1).axes[0])) == 2
    images = SPIKES.reshape(2, 6, 1, 1, 3)
    assert marks(kg.analysis.raster(images, sample=1).axes[0])[0] == (1.0, 0.0)
    figure = kg.analysis.raster({"a": RECORDING, "b": SPIKES})
    assert [axes.get_title() for axes in figure.axes] == ["a", "b"]
    axes = matplotlib.figure.Figure().subplots()
    assert kg.analysis.raster(SPIKES[1] > 0, axes=axes) is axes.figure


def test_membrane_traces():
    figure = kg.analysis.membrane_traces(RECORDING, units=[0, 2], sample=1)
    first, second = figure.axes
    potential, threshold, fired = first.get_lines()
    np.testing.assert_array_equal(potential.get_ydata(), [18, 21, 24, 27, np.nan, np.nan])
    assert set(threshold.get_ydata()) == {1.0}
    np.testing.assert_array_equal(fired.get_xdata(), [1])
    assert set(second.get_lines()[1].get_ydata()) == {3.0}
    assert len(kg.analysis.membrane_traces(np.zeros((6, 9))).axes) == 5
    assert len(kg.analysis.membrane_traces(np.zeros((6, 2)), dt=0.001).axes) == 2
    readout = kg.analysis.Recording(SPIKES, POTENTIALS, MASK, None)
    assert len(kg.analysis.membrane_traces(readout).axes[0].get_lines()) == 1


def test_layer_rates():
    rates = {"a": np.array([0.1, 0.2, 0.6]), "b": RECORDING}
    (axes,) = kg.analysis.layer_rates(rates).axes
    (means,) = [line for line in axes.get_lines() if line.get_label() == "mean"]
    # Of 6 steps of the first sample and 4 of the second there is a spike of two units each.
    np.testing.assert_allclose(means.get_ydata(), [0.3, (0.1 + 0.0 + 0.1) / 3])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: kg.analysis.raster(np.zeros(3)), ValueError, r"\(time, units\).*\(3,\)"),
        (lambda: kg.analysis.raster([["a"]]), TypeError, "must be numbers"),
        (lambda: kg.analysis.raster(SPIKES, sample=2), ValueError, "`sample`.*2 samples.*=2"),
        (lambda: kg.analysis.raster(SPIKES, dt=0), ValueError, "`dt` must be .*dt=0"),
        (lambda: kg.analysis.raster({}), ValueError, "one layer at least"),
        (
            lambda: kg.analysis.raster({"a": SPIKES, "b": SPIKES}, axes=object()),
            ValueError,
            "`axes` are for one layer. Received: 2",
        ),
        (
            lambda: kg.analysis.membrane_traces(RECORDING, units=[3]),
            ValueError,
            "ints from 0 to 2. Received: 3",
        ),
        (lambda: kg.analysis.membrane_traces(RECORDING, units=[]), ValueError, "one unit"),
        (lambda: kg.analysis.layer_rates([0.1]), TypeError, "dict of names"),
        (lambda: kg.analysis.layer_rates({}), ValueError, "one layer at least"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
