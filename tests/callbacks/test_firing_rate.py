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
    hidden, output = model.layers
    output.return_sequences = True
    graded = np.mean(output(hidden(X)))
    np.testing.assert_allclose(watch.rates["output"], [graded, graded], rtol=1e-6)
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
    for limits in ({"silent": "a"}, {"saturated": None}):
        with pytest.raises(ValueError, match="`silent` and `saturated` must"):
            kg.callbacks.FiringRate(X, **limits)
    with pytest.raises(ValueError, match="`batch_size` must be a positive int"):
        kg.callbacks.FiringRate(X, batch_size=0)


def firing(units=2, name="snu", **kwargs):
    """Units without leak that get 0.75 at every step and fire at the second of every two."""
    return kg.SNU(
        units,
        decay=1.0,
        kernel_initializer=keras.initializers.Constant(0.25),
        name=name,
        **kwargs,
    )


def rates_of(layer, x=X):
    """The rates after one epoch, and the warnings."""
    model = layer
    if not isinstance(layer, keras.Model):
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    watch = kg.callbacks.FiringRate(x)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, np.zeros(model(x).shape), verbose=0, callbacks=[watch])
    return watch.rates, [str(w.message) for w in caught]


@pytest.mark.parametrize("arguments", [{}, {"return_sequences": True}])
def test_all_time_steps_count_whatever_the_layer_returns(arguments):
    layer = firing(**arguments)
    assert rates_of(layer) == ({"snu": [0.5]}, [])
    assert layer.return_sequences == ("return_sequences" in arguments)


def returns_state():
    x = keras.Input((4, 3))
    return keras.Model(x, firing(return_state=True)(x)[0])


def nested():
    blocks = [
        keras.Sequential([keras.Input((4, 3)), firing(3, return_sequences=True)], name=name)
        for name in ("one", "two")
    ]
    return keras.Sequential([keras.Input((4, 3)), *blocks, firing(name="top")])


def called_in_another_model():
    layer = firing(return_sequences=True)
    for steps in (7, 4):
        x = keras.Input((steps, 3))
        model = keras.Model(x, layer(x))
    return model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.spiking = firing()

    def call(self, x):
        return self.spiking(x)


@pytest.mark.parametrize(
    "make, rates",
    [
        (returns_state, {"snu": 0.5}),
        # Three units of which each gives 0.25 at every second step: a spike at the fourth alone.
        (nested, {"one/snu": 0.5, "two/snu": 0.25, "top": 0.0}),
        (called_in_another_model, {"snu": 0.5}),
        (lambda: keras.Sequential([firing()]), {"snu": 0.5}),
        (Subclassed, {"snu": 0.5}),
        (lambda: keras.layers.Bidirectional(firing()), {"forward_snu": 0.5, "backward_snu": 0.5}),
        (lambda: keras.layers.RNN(firing().cell, name="loop"), {"loop": 0.5}),
    ],
)
def test_every_kind_of_model(make, rates):
    assert rates_of(make())[0] == {name: [rate] for name, rate in rates.items()}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("make", [firing, lambda **k: keras.layers.RNN(firing().cell, **k)])
def test_skipped_steps_do_not_count(make, zero, backwards):
    # Samples of eight steps of which 8, 4, 0 and 2 are inputs, in two batches: of every two the
    # second spikes, 4 + 2 + 1 spikes in 8 + 4 + 2 steps.
    x = np.full((4, 8, 3), -1.0, "float32")
    for sample, steps in ((0, slice(0, 8)), (1, slice(4, 8)), (3, slice(3, 5))):
        x[sample, steps] = 1.0
    layer = make(zero_output_for_mask=zero, go_backwards=backwards, name="snu")
    model = keras.Sequential([keras.Input((8, 3)), keras.layers.Masking(-1.0), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    watch = kg.callbacks.FiringRate(x, batch_size=3)
    model.fit(x, np.zeros((4, 2)), verbose=0, callbacks=[watch])
    assert watch.rates == {"snu": [0.5]}
    np.testing.assert_array_equal(watch.unit_rates["snu"], [0.5, 0.5])


def test_positions_and_skipped_steps():
    layer = kg.ConvSNU2D(
        3, 1, decay=1.0, kernel_initializer=keras.initializers.Constant(0.75), name="conv"
    )
    images = keras.Input((4, 5, 5, 1))
    mask = keras.Input((4,), dtype="bool")
    model = keras.Model([images, mask], layer(images, mask=mask))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = [np.ones((2, 4, 5, 5, 1), "float32"), np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)]
    watch = kg.callbacks.FiringRate(x)
    model.fit(x, np.zeros((2, 5, 5, 3)), verbose=0, callbacks=[watch])
    # A spike in two steps, and one in three.
    assert watch.rates["conv"] == [pytest.approx(2 / 5)]


def readout():
    return kg.SNU(
        2,
        activation="linear",
        input_activation="linear",
        reset="none",
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(-0.1),
        name="readout",
    )


def test_a_readout_that_does_not_spike_is_left_out():
    layers = [firing(return_sequences=True), readout()]
    rates, messages = rates_of(keras.Sequential([keras.Input((4, 3)), *layers]))
    assert rates == {"snu": [0.5]} and not messages
    with pytest.raises(ValueError, match="no spiking layer"):
        rates_of(readout())


def test_positions_of_a_filter_are_averaged():
    layer = kg.ConvSNU2D(
        3, 1, decay=1.0, kernel_initializer=keras.initializers.Constant(0.75), name="conv"
    )
    assert rates_of(layer, np.ones((6, 4, 5, 5, 1), "float32"))[0] == {"conv": [0.5]}


def test_what_cannot_be_seen_is_named():
    cells = [kg.SNUCell(3, name="inner"), firing().cell]
    rates, messages = rates_of(keras.layers.RNN(cells, name="stack"))
    assert list(rates) == ["stack"]
    assert "cannot see the outputs of 'inner'" in messages[0]


def test_further_training_goes_on_and_another_model_begins_anew():
    watch = kg.callbacks.FiringRate(X, silent=0)
    for model, names in ((make_model("zeros"), ["hidden", "output"]), (Subclassed(), ["snu"])):
        model.compile("sgd", "mse")
        for epochs in (1, 2):
            model.fit(X, Y, verbose=0, callbacks=[watch])
            assert list(watch.rates) == names
            assert all(len(rates) == epochs for rates in watch.rates.values())
