import csv
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from tests import reference

STATISTICS = ["mean", "std", "min", "max", "at_floor"]
X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.arange(32) % 3


def network(**kwargs):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, "tanh", name="h1", **kwargs),
            layers.Dense(8, "tanh", name="h2", **kwargs),
            layers.Dense(3, "softmax", name="out"),
        ]
    )


def fit(model, *callbacks, optimizer=None, epochs=2, **kwargs):
    model.compile(optimizer or "sgd", "sparse_categorical_crossentropy")
    return model.fit(X, Y, epochs=epochs, verbose=0, callbacks=list(callbacks), **kwargs).history


def expected(factor):
    return [factor.mean(), factor.std(), factor.min(), factor.max(), np.mean(factor == 1)]


def spread(model):
    """Gives the first layer factors of which some are at the floor."""
    model.get_layer("h1").kernel.assign(np.arange(1, 10) * np.ones((6, 9)))
    return model


def test_records_agree_with_the_weights():
    model = spread(network())
    before = reference.dense_factor(model.get_layer("h1").kernel)
    model = kg.propagate(model)
    history = kg.callbacks.ModulationHistory()
    fit(model, history, epochs=3)
    after = reference.dense_factor(model.get_layer("h1").layer.kernel)
    np.testing.assert_array_equal(history.records, [0, 1, 2, 3])
    assert list(history.history) == ["h1", "h2"]
    measured = history.history["h1"]
    assert list(measured) == STATISTICS
    assert expected(before)[-1] == pytest.approx(4 / 9)
    np.testing.assert_allclose([v[0] for v in measured.values()], expected(before), rtol=1e-6)
    np.testing.assert_allclose([v[-1] for v in measured.values()], expected(after), rtol=1e-6)
    np.testing.assert_allclose(history.initial["h1"], before, rtol=1e-6)
    np.testing.assert_allclose(history.latest["h1"], after, rtol=1e-6)


def presynaptic(model):
    """Factors of the first hidden layer from the weights that leave it."""
    return reference.dense_factor(np.transpose(model.get_layer("h2").kernel))


def own(model):
    return reference.dense_factor(model.get_layer("h1").kernel)


@pytest.mark.parametrize(
    "train, factor",
    [
        (lambda model: (model, kg.Grapes("sgd")), own),
        (lambda model: (model, kg.Grapes("adam", model=model)), own),
        (lambda model: (kg.FeedbackAlignment(model, modulation=kg.Modulation()), "sgd"), own),
        (
            lambda model: (kg.IndirectFeedbackAlignment(model, modulation=kg.Modulation()), "sgd"),
            own,
        ),
        (
            lambda model: (kg.DirectFeedbackAlignment(model, modulation=kg.Modulation()), "sgd"),
            presynaptic,
        ),
        (lambda model: (kg.DirectFeedbackAlignment(model), kg.Grapes("sgd", model=model)), own),
    ],
)
def test_every_way_to_modulate(train, factor):
    model = network()
    trained, optimizer = train(model)
    history = kg.callbacks.ModulationHistory()
    fit(trained, history, optimizer=optimizer, epochs=1)
    assert list(history.history) == ["h1", "h2"]
    np.testing.assert_allclose(history.latest["h1"], factor(model), rtol=1e-6)


def test_spiking_nested_and_shared_layers():
    inner = keras.Sequential([keras.Input((5, 6)), kg.SSNU(6, return_sequences=True, name="snu")])
    x = keras.Input((5, 6))
    model = keras.Model(x, layers.Dense(3, "softmax")(inner(inner(x))[:, -1]))
    model = kg.propagate(model)
    history = kg.callbacks.ModulationHistory()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.repeat(X[:, None], 5, 1), Y, verbose=0, callbacks=[history])
    assert list(history.history) == ["snu"]
    assert history.latest["snu"].shape == (6,)


def test_layers_of_one_name_and_several_groups_are_told_apart():
    inputs = keras.Input((4, 6))
    x = inputs
    for name in ("one", "two"):
        x = keras.Sequential([layers.Dense(6, name="same")], name=name)(x)
    x = layers.SeparableConv1D(5, 2, name="separable")(x)
    x = layers.Bidirectional(layers.LSTM(4), name="both")(x)
    model = keras.Model(inputs, layers.Dense(2)(x))
    model.compile(kg.Grapes("sgd", model=model), "mse")
    history = kg.callbacks.ModulationHistory()
    model.fit(np.ones((2, 4, 6)), np.ones((2, 2)), verbose=0, callbacks=[history])
    assert len(history.history) == 6
    assert all(name.count("/") for name in history.history)


def test_other_callbacks_and_the_history_of_keras_see_it(tmp_path):
    model = kg.propagate(network())
    history = kg.callbacks.ModulationHistory()
    logs = fit(model, history, keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    for name in ("h1", "h2"):
        for statistic in STATISTICS:
            key = f"modulation/{name}/{statistic}"
            values = history.history[name][statistic][1:]
            np.testing.assert_array_equal(logs[key], values)
            np.testing.assert_array_equal([float(row[key]) for row in rows], values)


def test_every_few_epochs_and_at_the_end():
    model = kg.propagate(network())
    history = kg.callbacks.ModulationHistory(every=2, log="mean")
    logs = fit(model, history, epochs=5)
    np.testing.assert_array_equal(history.records, [0, 2, 4, 5])
    # Between the records the logs repeat the last one.
    means = history.history["h1"]["mean"]
    np.testing.assert_array_equal(logs["modulation/h1/mean"], means[[0, 1, 1, 2, 2]])
    assert "modulation/h1/std" not in logs


def test_batches_and_steps_per_execution():
    for steps, records in ((1, [0, 3, 6, 8]), (2, [0, 4, 6, 8])):
        model = kg.propagate(network())
        history = kg.callbacks.ModulationHistory(every=3, unit="batch")
        model.compile("sgd", "sparse_categorical_crossentropy", steps_per_execution=steps)
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[history])
        np.testing.assert_array_equal(history.records, records)


def test_further_training_goes_on_and_another_model_begins_anew():
    history = kg.callbacks.ModulationHistory()
    model = kg.propagate(network())
    fit(model, history)
    fit(model, history)
    np.testing.assert_array_equal(history.records, [0, 1, 2, 3, 4])
    fit(kg.propagate(network()), history, epochs=1)
    np.testing.assert_array_equal(history.records, [0, 1])
    assert len(history.history["h1"]["mean"]) == 2


def test_layers_that_are_frozen_and_freed_between_trainings_keep_their_place():
    pytest.importorskip("matplotlib").use("agg")
    model = network()
    history = kg.callbacks.ModulationHistory(log="mean")
    modulated = []
    for name, trainable in (("h1", False), ("h1", True), ("h2", False)):
        model.get_layer(name).trainable = trainable
        logs = fit(model, history, optimizer=kg.Grapes("sgd", model=model), epochs=1)
        modulated.append({key.split("/")[1] for key in logs if key != "loss"})
    assert modulated == [{"h2"}, {"h1", "h2"}, {"h1"}]
    np.testing.assert_array_equal(history.records, [0, 1, 2, 3])
    present = {name: np.isfinite(values["max"]) for name, values in history.history.items()}
    np.testing.assert_array_equal(present["h1"], [False, False, True, True])
    np.testing.assert_array_equal(present["h2"], [True, True, True, False])
    assert list(history.latest) == ["h1"]
    assert len(history.plot().axes[0].lines) == 2
    labels = history.plot("distribution").axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == ["h1"]


def test_training_is_the_same_with_it_and_it_works_compiled_by_xla():
    weights = []
    for callbacks in ([], [kg.callbacks.ModulationHistory(unit="batch")]):
        keras.utils.set_random_seed(0)
        model = kg.propagate(network())
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=True)
        model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for plain, observed in zip(*weights):
        np.testing.assert_array_equal(plain, observed)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16"])
def test_half_precision(policy):
    model = kg.propagate(spread(network(dtype=policy)))
    history = kg.callbacks.ModulationHistory()
    fit(model, history, epochs=1)
    assert history.history["h1"]["max"][0] == 2
    assert history.history["h1"]["at_floor"][0] == pytest.approx(4 / 9)
    assert history.history["h1"]["mean"].dtype == "float64"


def test_controls_keep_the_share_at_the_floor():
    for modulation, mean in (
        (kg.Modulation(granularity="layer"), own(spread(network())).mean()),
        (kg.Modulation(unit_mean=True), 1),
    ):
        model = kg.propagate(spread(network()), modulation)
        history = kg.callbacks.ModulationHistory()
        fit(model, history, epochs=1)
        assert history.history["h1"]["mean"][0] == pytest.approx(mean)
        assert history.history["h1"]["at_floor"][0] == pytest.approx(4 / 9)


def test_histograms_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(TypeError, match="`histogram` must be a path"):
        kg.callbacks.ModulationHistory(histogram=5)
    history = kg.callbacks.ModulationHistory(histogram=tmp_path)
    fit(kg.propagate(network()), history)
    (path,) = tmp_path.iterdir()
    written = [
        (event.step, value)
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "modulation/h1"
    ]
    assert [step for step, _ in written] == [0, 1, 2]
    # Rows of left edge, right edge and count.
    bins = tf.make_ndarray(written[-1][1].tensor)
    assert bins[:, 2].sum() == 9
    assert bins[0, 0] == pytest.approx(history.history["h1"]["min"][-1])


def test_histograms_without_tensorboard_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        kg.callbacks.ModulationHistory(histogram="logs")


def test_plots():
    pytest.importorskip("matplotlib").use("agg")
    history = kg.callbacks.ModulationHistory()
    with pytest.raises(ValueError, match="nothing to draw"):
        history.plot()
    fit(kg.propagate(network()), history)
    axes = history.plot().axes[0]
    for line in axes.lines:
        np.testing.assert_array_equal(line.get_ydata(), history.history[line.get_label()]["mean"])
    assert len(axes.lines) == 2
    axes = history.plot("distribution").axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["h1", "h2"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["epoch 0", "epoch 2"]
    with pytest.raises(ValueError, match="`panel` must be one of"):
        history.plot("means")


def test_bad_use():
    for arguments in ({"every": 0}, {"every": 1.5}, {"every": True}, {"unit": "step"}):
        (name,) = arguments
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            kg.callbacks.ModulationHistory(**arguments)
    for log in (("median",), None, [["mean"]]):
        with pytest.raises(ValueError, match="`log` must have names of"):
            kg.callbacks.ModulationHistory(log=log)
    for model in (network(), kg.FeedbackAlignment(network())):
        with pytest.raises(ValueError, match="found nothing that is modulated"):
            fit(model, kg.callbacks.ModulationHistory())


def test_a_model_that_is_not_built_is_refused():
    unbuilt = keras.Sequential([layers.Dense(4), layers.Dense(3, "softmax")])
    with pytest.raises(ValueError, match="has no weights yet"):
        fit(unbuilt, kg.callbacks.ModulationHistory(), optimizer=kg.Grapes("sgd"))


def test_a_frozen_layer_is_not_in_the_record_of_the_optimizer():
    model = network()
    model.get_layer("h1").trainable = False
    history = kg.callbacks.ModulationHistory()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, history, optimizer=kg.Grapes("sgd", model=model))
    assert list(history.history) == ["h2"]
