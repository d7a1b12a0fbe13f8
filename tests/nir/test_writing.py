"""Models as graphs of NIR, against the definitions of NIR's nodes run in NumPy."""

import sys

import keras
import numpy as np
import pytest

import keras_grapes as kg
from tests.nir import simulator

nir = pytest.importorskip("nir")

LIF = {"input_activation": "linear", "return_sequences": True}


def normal(stddev=1.0, seed=0):
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def spikes(*shape, rate=0.5):
    return (np.random.default_rng(0).random(shape) < rate).astype("float32")


def written(model, tmp_path, **kwargs):
    kg.export_nir(model, tmp_path / "model.nir", **kwargs)
    return nir.read(tmp_path / "model.nir")


def small(*layers, features=3, time=None):
    return keras.Sequential([keras.Input((time, features)), *layers])


def test_parameters_by_hand(tmp_path):
    layer = kg.SNU(2, decay=0.75, name="hidden", **LIF)
    model = small(layer)
    layer.cell.bias.assign([-1.0, -0.5])
    graph = written(model, tmp_path, dt=0.002)
    assert graph.edges == [
        ("input", "hidden_kernel"),
        ("hidden_kernel", "hidden"),
        ("hidden", "output"),
    ]
    neuron = graph.nodes["hidden"]
    assert isinstance(neuron, nir.LIF)
    np.testing.assert_allclose(neuron.tau, [0.008, 0.008], rtol=1e-6)
    np.testing.assert_allclose(neuron.r, [4.0, 4.0], rtol=1e-6)
    np.testing.assert_array_equal(neuron.v_threshold, [1.0, 0.5])
    np.testing.assert_array_equal(neuron.v_leak, [0.0, 0.0])
    np.testing.assert_array_equal(neuron.v_reset, [0.0, 0.0])
    weight = graph.nodes["hidden_kernel"].weight
    np.testing.assert_array_equal(weight, np.asarray(layer.cell.kernel).T)
    assert {array.dtype for array in (neuron.tau, neuron.r, weight)} == {np.dtype("float32")}
    assert tuple(graph.nodes["input"].input_type["input"]) == (3,)
    assert graph.metadata["dt"] == 0.002


@pytest.mark.parametrize(
    "arguments, kind, expected",
    [
        ({"decay": 1.0}, "IF", {"r": 1000, "v_threshold": 1}),
        ({"decay": 0.0}, "LIF", {"tau": 0.001, "r": 1}),
        ({"use_bias": False}, "LIF", {"tau": 0.005, "v_threshold": 0}),
        (
            {"activation": "linear", "reset": "none", "use_bias": False},
            "LI",
            {"tau": 0.005, "r": 5, "v_leak": 0},
        ),
        (
            {"activation": "linear", "reset": "none", "use_bias": False, "decay": 1.0},
            "I",
            {"r": 1000},
        ),
    ],
)
def test_kinds_of_neurons(arguments, kind, expected, tmp_path):
    model = small(kg.SNU(2, name="units", kernel_initializer=normal(), **LIF, **arguments))
    graph = written(model, tmp_path)
    assert type(graph.nodes["units"]).__name__ == kind
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(graph.nodes["units"], name), value, rtol=1e-6)
    x = spikes(1, 12, 3)
    expected = model.predict(x, verbose=0)[0]
    np.testing.assert_allclose(simulator.run(graph, x[0], 0.001), expected, atol=1e-5)


def network():
    """Recurrent units with decays and thresholds of their own, a dense layer, and a readout."""
    first = kg.SNU(
        10,
        recurrent=True,
        trainable_decay="unit",
        kernel_initializer=normal(1.0, 1),
        recurrent_initializer=normal(0.5, 2),
        name="first",
        **LIF,
    )
    readout = kg.SNU(
        2,
        decay=0.9,
        activation="linear",
        reset="none",
        use_bias=False,
        kernel_initializer=normal(1.0, 4),
        name="readout",
        **LIF,
    )
    model = small(
        first,
        keras.layers.Dropout(0.5),
        keras.layers.Dense(6, kernel_initializer=normal(1.0, 3), name="between"),
        kg.SNU(4, kernel_initializer=normal(1.0, 5), name="second", **LIF),
        readout,
    )
    rng = np.random.default_rng(1)
    first.cell.decay_logit.assign(rng.normal(1.0, 1.0, 10))
    first.cell.bias.assign(rng.uniform(-1.0, -0.2, 10))
    model.get_layer("between").bias.assign(rng.normal(0.0, 1.0, 6))
    return model


def test_network_in_numpy_and_back(tmp_path):
    model, x = network(), spikes(2, 25, 3)
    graph = written(model, tmp_path)
    recurrence = ("first", "first_recurrent_kernel"), ("first_recurrent_kernel", "first")
    assert set(recurrence) <= set(graph.edges)
    expected = model.predict(x, verbose=0)
    assert np.abs(expected).max() > 0.5
    for sample, output in zip(x, expected):
        np.testing.assert_allclose(simulator.run(graph, sample, 0.001), output, atol=1e-4)
    again = kg.import_nir(tmp_path / "model.nir")
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, atol=1e-5)
    names = ["first", "between", "second", "readout"]
    assert [layer.name for layer in again.layers[1:]] == names
    # Read and written once more it is the same graph.
    kg.export_nir(again, tmp_path / "again.nir")
    second = nir.read(tmp_path / "again.nir")
    assert set(second.edges) == set(graph.edges)
    for name, node in graph.nodes.items():
        for attribute in ("weight", "bias", "r", "tau", "v_threshold"):
            if hasattr(node, attribute):
                np.testing.assert_allclose(
                    getattr(second.nodes[name], attribute), getattr(node, attribute), rtol=1e-5
                )


def without_kernels():
    """Every neuron that NIR has, with learned parameters, on images and vectors."""
    timed = keras.layers.TimeDistributed
    spiking = kg.Spiking
    layers = [
        timed(keras.layers.Conv2D(2, 2, kernel_initializer=normal(), name="conv")),
        spiking(
            kg.LIF(0.8, 0.7, reset="zero"),
            trainable_parameters={"decay": "unit", "threshold": "unit"},
            name="images",
        ),
        keras.layers.Reshape((-1, 24)),
        keras.layers.Dense(6, kernel_initializer=normal(), name="first"),
        spiking(kg.LIF(1.0, 0.9, reset="zero"), lateral_inhibition=0.25, name="inhibiting"),
        keras.layers.Dense(5, kernel_initializer=normal(1.0, 1), name="second"),
        spiking(
            kg.Synaptic(0.7, 0.6, reset="zero"),
            trainable_parameters={"synaptic_decay": "unit", "threshold": "scalar"},
            name="synaptic",
        ),
        keras.layers.Dense(2, kernel_initializer=normal(1.0, 2), name="third"),
        spiking(kg.LeakyIntegrator(0.9), name="readout"),
    ]
    model = keras.Sequential([keras.Input((None, 5, 4, 1)), *layers])
    rng = np.random.default_rng(3)
    for layer in model.layers:
        if isinstance(layer, kg.Spiking):
            for weight in layer.weights:
                weight.assign(np.asarray(weight) + rng.normal(0, 0.3, weight.shape))
    # Weights without a bias would be read as the kernels of units.
    for bias in (w for w in model.weights if w.name == "bias"):
        bias.assign(rng.normal(0.2, 0.3, bias.shape))
    return model


def test_layers_without_a_kernel_in_numpy_and_back(tmp_path):
    model, x = without_kernels(), spikes(2, 20, 5, 4, 1)
    graph = written(model, tmp_path)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert kinds == {
        "input": "Input", "conv": "Conv2d", "images": "LIF", "first_flatten": "Flatten",
        "first": "Affine", "inhibiting": "IF", "inhibiting_inhibition": "Linear",
        "second": "Affine", "synaptic": "CubaLIF", "third": "Affine", "readout": "LI",
        "output": "Output",
    }  # fmt: skip
    rates = [r.rates.mean() for r in kg.analysis.record(model, x).values()]
    assert min(rates[:3]) > 0.05
    expected = model.predict(x, verbose=0)
    assert expected.std() > 0.1
    for sample, output in zip(x, expected):
        run = simulator.run(graph, np.moveaxis(sample, -1, 1), 0.001)
        np.testing.assert_allclose(run, output, atol=1e-4)
    again = kg.import_nir(tmp_path / "model.nir")
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, atol=1e-4)
    for name in ("images", "inhibiting", "synaptic", "readout"):
        layer, read = model.get_layer(name), again.get_layer(name)
        assert type(read) is kg.Spiking
        assert type(read.neuron) is type(layer.neuron)
        assert read.lateral_inhibition == layer.lateral_inhibition
    assert again.get_layer("readout").neuron == kg.LeakyIntegrator(0.9)
    # Read and written once more it is the same graph.
    kg.export_nir(again, tmp_path / "again.nir")
    second = nir.read(tmp_path / "again.nir")
    assert {name: type(node).__name__ for name, node in second.nodes.items()}.keys() >= kinds.keys()
    for name in ("images", "inhibiting", "synaptic", "readout"):
        for attribute in ("r", "tau", "tau_mem", "tau_syn", "w_in", "v_threshold"):
            if hasattr(graph.nodes[name], attribute):
                np.testing.assert_allclose(
                    getattr(second.nodes[name], attribute),
                    getattr(graph.nodes[name], attribute),
                    rtol=1e-4,
                )


def images():
    """Strided, padded, pooled and flattened images, with a skip."""
    timed = keras.layers.TimeDistributed
    inputs = keras.Input((None, 8, 9, 2))
    x = kg.ConvSNU2D(4, 3, strides=2, padding="same", kernel_initializer=normal(0.6), **LIF)(inputs)
    x = timed(keras.layers.Conv2D(3, 3, padding="same", bias_initializer=normal(), name="conv"))(x)
    x = kg.ConvSNU2D(5, 2, decay=1.0, padding="same", kernel_initializer=normal(0.7, 1), **LIF)(x)
    x = timed(keras.layers.AveragePooling2D(2, name="pool"))(x)
    x = keras.layers.Rescaling(2.0, name="twice")(x)
    flat = timed(keras.layers.Flatten())(x)
    left = kg.SNU(6, kernel_initializer=normal(1.0, 2), **LIF)(flat)
    right = keras.layers.Dense(6, name="skip")(flat)
    outputs = kg.SNU(7, kernel_initializer=normal(1.0, 3), name="last", **LIF)(left + right)
    return keras.Model(inputs, outputs)


def test_images_in_numpy_and_back(tmp_path):
    model, x = images(), spikes(2, 8, 8, 9, 2)
    graph = written(model, tmp_path)
    expected = model.predict(x, verbose=0)
    assert 0.1 < expected.mean() < 0.9
    for sample, output in zip(x, expected):
        # NIR has the channels first.
        run = simulator.run(graph, np.moveaxis(sample, -1, 1), 0.001)
        np.testing.assert_array_equal(run, output)
    again = kg.import_nir(tmp_path / "model.nir")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)
    kg.export_nir(again, tmp_path / "again.nir")
    third = kg.import_nir(tmp_path / "again.nir")
    np.testing.assert_array_equal(third.predict(x, verbose=0), expected)


@pytest.mark.parametrize(
    "layers",
    [
        [keras.layers.Reshape((-1, 12))],
        [keras.layers.Permute((1, 3, 2)), keras.layers.Reshape((5, 12))],
        [keras.layers.TimeDistributed(keras.layers.Flatten())],
        [
            keras.layers.Reshape((-1, 3, 4, 1)),
            keras.layers.Permute((1, 3, 4, 2)),
            keras.layers.Reshape((-1, 12)),
        ],
    ],
)
def test_order_of_features(layers, tmp_path):
    """Whatever moves values about, the kernel behind it finds them."""
    model = keras.Sequential([keras.Input((5, 3, 4)), *layers, keras.layers.Dense(2, name="last")])
    x = np.random.default_rng(0).normal(size=(1, 5, 3, 4)).astype("float32")
    graph = written(model, tmp_path)
    run = simulator.run(graph, np.moveaxis(x[0], -1, 1), 0.001)
    np.testing.assert_allclose(run, model.predict(x, verbose=0)[0], atol=1e-5)


def test_global_pool_and_padding(tmp_path):
    timed = keras.layers.TimeDistributed
    model = keras.Sequential(
        [
            keras.Input((None, 5, 5, 2)),
            timed(keras.layers.ZeroPadding2D(1, name="zeros")),
            kg.ConvSNU2D(3, 3, kernel_initializer=normal(0.5), name="units", **LIF),
            timed(keras.layers.ZeroPadding2D((0, 1), name="more")),
            timed(keras.layers.AveragePooling2D((1, 2), name="pool")),
            timed(keras.layers.GlobalAveragePooling2D(name="mean")),
            keras.layers.Dense(2, name="last"),
        ]
    )
    x = spikes(1, 6, 5, 5, 2)
    run = simulator.run(written(model, tmp_path), np.moveaxis(x[0], -1, 1), 0.001)
    expected = model.predict(x, verbose=0)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(run, expected[0], atol=1e-5)
    again = kg.import_nir(tmp_path / "model.nir").predict(x, verbose=0)
    np.testing.assert_allclose(again, expected, atol=1e-5)


def test_last_step_alone(tmp_path):
    layer = kg.SNU(4, input_activation="linear", kernel_initializer=normal(2.0), name="last")
    model = small(layer, keras.layers.Dense(2))
    x = spikes(3, 9, 3)
    expected = model.predict(x, verbose=0)
    run = simulator.run(written(model, tmp_path), x[1], 0.001)
    np.testing.assert_allclose(run[-1], expected[1], atol=1e-5)
    again = kg.import_nir(tmp_path / "model.nir")
    np.testing.assert_allclose(again.predict(x, verbose=0), expected, atol=1e-6)


def test_modulation_is_left_out_and_nested_models_are_opened(tmp_path):
    inner = keras.Sequential([kg.SNU(4, kernel_initializer=normal(2.0), name="inner", **LIF)])
    model = small(inner, kg.SNU(2, kernel_initializer=normal(2.0), name="outer", **LIF))
    x = spikes(2, 9, 3)
    expected = model.predict(x, verbose=0)
    graph = written(kg.propagate(model), tmp_path)
    assert {"inner", "inner_kernel", "outer", "outer_kernel"} < set(graph.nodes)
    again = kg.import_nir(tmp_path / "model.nir")
    np.testing.assert_array_equal(again.predict(x, verbose=0), expected)


def test_cells_in_keras_rnn_and_names(tmp_path):
    cell = kg.SNUCell(4, input_activation="linear")
    model = small(
        keras.layers.RNN(cell, return_sequences=True, name="output"),
        keras.layers.Dense(2, name="input"),
    )
    graph = written(model, tmp_path)
    assert set(graph.nodes) == {
        "input", "output_kernel", "output", "input_2", "output_2"
    }  # fmt: skip
    assert isinstance(graph.nodes["output"], nir.LIF)


def test_a_slow_learned_leak_is_not_lost(tmp_path):
    layer = kg.SNU(1, decay=0.5, trainable_decay="scalar", name="slow", **LIF)
    model = small(layer)
    layer.cell.decay_logit.assign(20.0)
    # 1 - sigmoid(20) = 1 / (1 + e^20), of which single precision makes 0.
    tau = written(model, tmp_path).nodes["slow"].tau
    np.testing.assert_allclose(tau, 0.001 * (1 + np.exp(20.0)), rtol=1e-6)


def refused(*layers, time=None):
    return lambda: small(*layers, time=time)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            refused(kg.SNU(2, name="a", return_sequences=True)),
            "'a'.*input_activation='relu'.*train",
        ),
        (refused(kg.SNU(2, name="a", reset="subtract", **LIF)), "'a'.*reset='subtract'.*'gate'"),
        (refused(kg.SNU(2, name="a", reset="none", **LIF)), "'a'.*reset='none'"),
        (refused(kg.SSNU(2, name="a", **LIF)), "'a'.*'sigmoid'"),
        (refused(kg.SNU(2, name="a", go_backwards=True, **LIF)), "'a'.*go_backwards=True"),
        (
            refused(kg.SNU(2, name="a", activation="linear", reset="none", **LIF)),
            "'a'.*no bias.*use_bias=False",
        ),
        (refused(kg.Spiking(kg.LIF(), name="a")), "'a'.*reset='subtract'.*reset=\"zero\""),
        (refused(kg.Spiking(kg.ALIF(), name="a")), "'a'.*the neuron ALIF"),
        (
            refused(kg.Spiking(kg.Synaptic(1.0, reset="zero"), name="a")),
            "'a'.*second order that do not leak",
        ),
        (
            refused(kg.Spiking(kg.LeakyIntegrator(), go_backwards=True, name="a")),
            "'a'.*go_backwards=True",
        ),
        (refused(keras.layers.Dense(2, activation="relu", name="a")), "'a'.*activation 'relu'"),
        (refused(keras.layers.LSTM(2, name="a")), "'a' of type LSTM.*LSTMCell"),
        (
            refused(kg.SNU(2, **LIF), keras.layers.GlobalAveragePooling1D(name="a")),
            r"'a' of type GlobalAveragePooling1D.*model.inputs, model.get_layer",
        ),
        (refused(keras.layers.BatchNormalization(name="a")), "'a' of type BatchNormalization"),
        (refused(keras.layers.Masking(name="a")), "'a' of type Masking"),
        (refused(keras.layers.Flatten(name="a"), time=4), "'a'.*TimeDistributed"),
        (refused(keras.layers.Permute((2, 1), name="a"), time=4), "'a'.*moves time"),
        (refused(keras.layers.Reshape((6, 2), name="a"), time=4), "'a'.*reshapes time"),
        (refused(keras.layers.Rescaling(2.0, 1.0, name="a")), "'a'.*offset"),
        (
            lambda: keras.Sequential([keras.Input((784,)), kg.RateCoding(5), kg.SNU(2)]),
            "encodes its inputs.*layers behind",
        ),
        (lambda: keras.Sequential([kg.SNU(2)]), "built Sequential or Functional"),
    ],
)
def test_what_has_no_equivalent(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        kg.export_nir(make(), tmp_path / "model.nir")
    assert not (tmp_path / "model.nir").exists()


def test_the_ways_out_work(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((3,)),
            kg.RateCoding(5),
            kg.SNU(4, name="hidden", **LIF),
            keras.layers.GlobalAveragePooling1D(name="mean"),
        ]
    )
    inner = keras.Sequential([keras.Input((None, 3)), *model.layers[1:]])
    hidden = inner.get_layer("hidden")(inner.inputs[0])
    inner = keras.Model(inner.inputs, hidden)
    assert set(written(inner, tmp_path).nodes) == {"input", "hidden_kernel", "hidden", "output"}


def test_images_that_have_no_equivalent(tmp_path):
    def model(*layers):
        return keras.Sequential([keras.Input((4, 6, 6, 2)), *layers])

    timed = keras.layers.TimeDistributed
    for layers, message in [
        ([timed(keras.layers.MaxPooling2D(name="a"))], "'a' of type MaxPooling2D.*AveragePool"),
        ([timed(keras.layers.Conv2D(2, 1, groups=2, name="a"))], "'a'.*groups"),
        ([timed(keras.layers.Conv2D(2, (3, 1), name="a"))], "'a'.*square kernels"),
        ([keras.layers.Dense(2, name="a")], "'a'.*flatten"),
        ([timed(keras.layers.AveragePooling2D(4, padding="same", name="a"))], "'a'.*padding"),
        ([timed(keras.layers.Flatten())], "must not end with flat"),
        (
            [timed(keras.layers.ZeroPadding2D(1)), timed(keras.layers.Flatten(name="a"))],
            "'a'.*zeros around",
        ),
        ([timed(keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="a"))], "'a'.*both sides"),
    ]:
        with pytest.raises(ValueError, match=message):
            kg.export_nir(model(*layers), tmp_path / "model.nir")


@pytest.mark.parametrize("dt", [0, -1.0, "1", None, True, float("inf")])
def test_bad_dt(dt, tmp_path):
    model = small(kg.SNU(2, **LIF))
    with pytest.raises(ValueError, match="`dt` must be a finite number of seconds above 0"):
        kg.export_nir(model, tmp_path / "model.nir", dt=dt)


def test_what_is_no_model(tmp_path):
    with pytest.raises(TypeError, match=r"`model` must be a Keras model.*SNU"):
        kg.export_nir(kg.SNU(2), tmp_path / "model.nir")


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (
        lambda: kg.export_nir(small(kg.SNU(2, **LIF)), tmp_path / "model.nir"),
        lambda: kg.import_nir(tmp_path / "model.nir"),
    ):
        with pytest.raises(ImportError, match=r"keras_grapes\[nir\]"):
            call()
