"""Records of spikes and potentials, against NumPy and against what layers return."""

import keras
import numpy as np
import pytest

import keras_grapes as kg


def spikes(*shape, rate=0.5):
    return (np.random.default_rng(0).random(shape) < rate).astype("float32")


def units(n, **kwargs):
    kernel = keras.initializers.RandomNormal(stddev=1.0, seed=3)
    return kg.SNU(n, kernel_initializer=kernel, **kwargs)


def test_against_numpy():
    layer = units(4, name="units", input_activation="linear", recurrent=True)
    model = keras.Sequential([keras.Input((None, 3)), layer])
    layer.cell.bias.assign([-1.0, -0.5, -0.2, 0.1])
    x = spikes(2, 15, 3)
    recorded = kg.analysis.record(model, x)["units"]
    kernel, recurrent, bias = (
        np.asarray(w, "float64")
        for w in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
    )
    s = y = np.zeros((2, 4))
    for t in range(15):
        s = x[:, t] @ kernel + y @ recurrent + 0.8 * s * (1 - y)
        y = (s + bias > 0).astype("float64")
        np.testing.assert_allclose(recorded.potentials[:, t], s, atol=1e-5)
        np.testing.assert_array_equal(recorded.spikes[:, t], y)
    np.testing.assert_allclose(recorded.threshold, [1.0, 0.5, 0.2, -0.1], rtol=1e-6)
    np.testing.assert_allclose(recorded.rates, recorded.spikes.mean((0, 1)), rtol=1e-6)


def test_every_kind_of_layer():
    """All steps of all layers, nested ones and images too, whatever they return."""
    inner = keras.Sequential([units(5, return_sequences=True, go_backwards=True, name="inner")])
    inputs = keras.Input((8, 5, 5, 1))
    x = kg.ConvSNU2D(2, 3, return_sequences=True, kernel_initializer="ones", name="images")(inputs)
    x = keras.layers.Reshape((8, 18))(x)
    x = inner(x)
    x = keras.layers.RNN(kg.SNUCell(3), return_sequences=True, name="cell")(x)
    readout = units(2, activation="linear", reset="none", use_bias=False, name="readout")
    model = keras.Model(inputs, readout(x))
    x = spikes(2, 8, 5, 5, 1, rate=0.2)
    recorded = kg.analysis.record(kg.propagate(model), x, batch_size=1)
    assert list(recorded) == ["images", "inner", "cell", "readout"]
    shapes = {name: record.potentials.shape for name, record in recorded.items()}
    assert shapes == {
        "images": (2, 8, 3, 3, 2), "inner": (2, 8, 5), "cell": (2, 8, 3), "readout": (2, 8, 2)
    }  # fmt: skip
    last = recorded["readout"]
    np.testing.assert_allclose(last.spikes, last.potentials)
    np.testing.assert_allclose(last.spikes[:, -1], model.predict(x, verbose=0), atol=1e-6)
    assert last.threshold is None
    assert recorded["images"].rates.shape == (2,)
    np.testing.assert_array_equal(recorded["images"].spikes > 0, recorded["images"].potentials > 1)


def test_layers_without_a_kernel():
    """All states of all neurons, and a threshold that moves."""
    inputs = keras.Input((8, 5, 5, 1))
    x = keras.layers.TimeDistributed(keras.layers.Conv2D(2, 3))(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = kg.Spiking(kg.LIF(0.8), trainable_parameters={"threshold": "unit"}, name="images")(x)
    x = keras.layers.Reshape((8, 18))(x)
    x = keras.layers.Dense(4, kernel_initializer="ones")(x)
    x = kg.Spiking(kg.ALIF(0.7, 1.0, 0.25, 0.5), lateral_inhibition=0.1, name="adapting")(x)
    x = kg.Spiking(kg.Synaptic(0.5, 0.6), go_backwards=True, name="synaptic")(x)
    readout = kg.Spiking(kg.LeakyIntegrator(), return_sequences=False, name="readout")
    model = keras.Model(inputs, readout(x))
    model.get_layer("images").cell.weights[0].assign(np.log([0.2, 0.4]))
    x = np.random.default_rng(0).normal(size=(2, 8, 5, 5, 1))
    recorded = kg.analysis.record(model, x)
    assert {name: record.spikes.shape for name, record in recorded.items()} == {
        "images": (2, 8, 3, 3, 2), "adapting": (2, 8, 4), "synaptic": (2, 8, 4),
        "readout": (2, 8, 4),
    }  # fmt: skip
    images, adapting, synaptic, readout = recorded.values()
    np.testing.assert_allclose(images.threshold, [0.2, 0.4], rtol=1e-6)
    np.testing.assert_array_equal(images.spikes > 0, images.potentials > images.threshold)
    assert images.spikes.any() and images.rates.shape == (2,)
    adaptation = adapting.states["adaptation"]
    assert list(adapting.states) == ["potential", "adaptation"]
    fired = adapting.spikes
    np.testing.assert_allclose(adaptation[:, 1:], 0.5 * adaptation[:, :-1] + fired[:, :-1])
    np.testing.assert_allclose(adapting.threshold, 1 + 0.25 * adaptation)
    np.testing.assert_array_equal(fired > 0, adapting.potentials > adapting.threshold)
    assert fired.any() and adaptation.any()
    kg.analysis.membrane_traces(adapting)
    # From the last step of its input to the first.
    current, before = synaptic.states["synaptic_current"], 0
    for t, spike in enumerate(fired[:, ::-1].swapaxes(0, 1)):
        before = 0.6 * before + spike
        np.testing.assert_allclose(current[:, t], before, rtol=1e-6)
    np.testing.assert_array_equal(synaptic.threshold, [1.0] * 4)
    assert readout.threshold is None
    np.testing.assert_allclose(readout.spikes[:, -1], model.predict(x, verbose=0), atol=1e-6)


def test_masked_steps_do_not_count():
    model = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.Masking(-1.0),
            kg.SNU(1, return_sequences=True, kernel_initializer="ones", name="units"),
        ]
    )
    x = np.full((2, 20, 1), -1.0, "float32")
    # Of ten steps and of five one spikes.
    x[0, :10] = 0
    x[1, :5] = 0
    x[:, 4] = 2.0
    recorded = kg.analysis.record(model, x)["units"]
    assert recorded.mask.sum() == 15
    assert recorded.rates == pytest.approx(2 / 15)


def test_stateful_layers_go_on_from_where_they_were():
    model = keras.Sequential(
        [keras.Input(batch_shape=(1, 5, 3)), units(4, stateful=True, name="units")]
    )
    x = spikes(1, 10, 3)
    whole = kg.analysis.record(keras.Sequential([keras.Input((10, 3)), units(4, name="units")]), x)[
        "units"
    ]
    first = kg.analysis.record(model, x[:, :5])["units"]
    second = kg.analysis.record(model, x[:, 5:])["units"]
    both = np.concatenate([first.potentials, second.potentials], axis=1)
    np.testing.assert_allclose(both, whole.potentials, atol=1e-6)


def test_shared_and_chosen_layers_and_subclassed_models():
    class Twice(keras.Model):
        def __init__(self):
            super().__init__()
            self.shared = units(3, return_sequences=True, name="shared")
            self.other = units(3, name="other")

        def call(self, x):
            return self.other(self.shared(self.shared(x)))

    model, x = Twice(), spikes(2, 6, 3)
    model(x)
    recorded = kg.analysis.record(model, x, layers=["shared"])
    assert list(recorded) == ["shared", "shared_2"]
    again = model.shared(recorded["shared"].spikes)
    np.testing.assert_array_equal(recorded["shared_2"].spikes, again)
    np.testing.assert_array_equal(recorded["shared_2"].threshold, [1, 1, 1])


def test_what_cannot_be_recorded():
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no spiking layer"):
        kg.analysis.record(plain, np.ones((1, 3)))
    with pytest.raises(TypeError, match=r"`model` must be .*SNU"):
        kg.analysis.record(kg.SNU(2), np.ones((1, 3, 2)))
    model = keras.Sequential([keras.Input((4, 3)), units(2, name="units")])
    for layers in (["hidden"], "units"):
        with pytest.raises(ValueError, match=r"names among \['units'\]"):
            kg.analysis.record(model, np.ones((1, 4, 3)), layers=layers)


def test_a_layer_that_is_not_called():
    class Unused(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = units(3, name="used")
            self.unused = units(3, name="unused")

        def call(self, x):
            return self.used(x)

    model, x = Unused(), spikes(2, 6, 3)
    model(x)
    with pytest.raises(ValueError, match="'unused' cannot be looked at"):
        kg.analysis.record(model, x)
    assert list(kg.analysis.record(model, x, layers=["used"])) == ["used"]
