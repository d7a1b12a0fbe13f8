"""Keras's callbacks and the tools around it, each used as its documentation says."""

import csv

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg


def network():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, "relu"),
            layers.Dense(8, "relu"),
            layers.Dense(3, "softmax"),
        ]
    )


def compiled(inner="sgd", loss="sparse_categorical_crossentropy"):
    model = network()
    model.compile(kg.Grapes(inner, model=model), loss, metrics=["accuracy"])
    return model


def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 6)).astype("float32")
    return x, np.argmax(x[:, :3], axis=1)


def fit(model, *callbacks, epochs=2):
    x, y = data()
    return model.fit(
        x, y, validation_data=(x, y), epochs=epochs, verbose=0, callbacks=list(callbacks)
    )


def test_csv_logger(tmp_path):
    fit(compiled(), keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(np.isfinite(float(row["val_loss"])) for row in rows)


def test_early_stopping_brings_the_best_weights_back():
    model = compiled(keras.optimizers.SGD(20.0))
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    losses = fit(model, stop, epochs=20).history["val_loss"]
    assert len(losses) < 20
    assert losses[-1] > min(losses)
    np.testing.assert_allclose(model.evaluate(*data(), verbose=0)[0], min(losses), rtol=1e-5)


def test_learning_rate_on_a_plateau():
    model = compiled(keras.optimizers.SGD(0.25))
    fit(model, keras.callbacks.ReduceLROnPlateau(factor=0.5, patience=1, min_delta=100.0), epochs=4)
    assert float(model.optimizer.inner_optimizer.learning_rate) == 0.25 * 0.5**3


def test_tensor_board(tmp_path):
    tensor_board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model = compiled(keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)))
    fit(model, keras.callbacks.TensorBoard(tmp_path, histogram_freq=1))
    events = tensor_board.EventAccumulator(str(tmp_path / "train")).Reload()
    names = events.Tags()["tensors"]
    assert {"epoch_loss", "epoch_learning_rate"} <= set(names)
    assert any("kernel" in name for name in names)


def test_keras_tuner(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")
    # KerasTuner imports it, and does not ask for it.
    pytest.importorskip("tensorboard.plugins.hparams.api")
    tried = []

    def build(choices):
        low = choices.Choice("low", [0.0, 0.5, 1.0])
        tried.append(low)
        modulation = kg.Modulation(bounds=(low, 2.0))
        model = kg.propagate(network(), modulation)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    tuner = keras_tuner.GridSearch(
        build, "val_loss", max_trials=3, directory=tmp_path, project_name="bounds"
    )
    x, y = data()
    tuner.search(x, y, epochs=1, validation_data=(x, y), verbose=0)
    assert set(tried) == {0.0, 0.5, 1.0}
    (best,) = tuner.get_best_models(1)
    assert np.isfinite(best.evaluate(x, y, verbose=0)[0])


@pytest.mark.parametrize("instance", [False, True])
def test_scikit_learn_wrapper(instance):
    # Keras 3.9 takes it to be imported.
    pytest.importorskip("sklearn.utils.multiclass")

    def build(X, y):  # noqa: N803
        return compiled(keras.optimizers.Adam(0.05), "categorical_crossentropy")

    classifier = keras.wrappers.SKLearnClassifier(build(None, None) if instance else build)
    x, y = data()
    classifier.fit(x, y, epochs=30, verbose=0)
    assert classifier.score(x, y) > 0.7
    assert len(classifier.model_.optimizer.groups) == 2
