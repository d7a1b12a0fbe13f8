import csv
import warnings

import keras
import numpy as np
import pytest

import keras_grapes as kg


def drive(callback, curve, start=0, key="val_accuracy"):
    """Plays a curve to a callback and returns the logs that it leaves."""
    callback.on_train_begin()
    played = []
    for epoch, accuracy in enumerate(curve, start=start):
        logs = {key: accuracy, "loss": 1.0}
        callback.on_epoch_end(epoch, logs)
        played.append(logs)
    callback.on_train_end()
    return played


def curve(max_accuracy, slowness, epochs=12):
    epochs = np.arange(1, epochs + 1)
    return max_accuracy * epochs / (slowness + epochs)


def test_logs_and_result():
    callback = kg.callbacks.LearningCurve()
    logs = drive(callback, curve(0.9, 2.5))
    assert np.isnan([entry["learning_curve/slowness"] for entry in logs[:2]]).all()
    for entry in logs[2:]:
        assert entry["learning_curve/slowness"] == pytest.approx(2.5, rel=1e-5)
        assert entry["learning_curve/max_accuracy"] == pytest.approx(0.9, rel=1e-5)
    assert tuple(callback.fit) == (
        logs[-1]["learning_curve/max_accuracy"],
        logs[-1]["learning_curve/slowness"],
    )
    np.testing.assert_array_equal(callback.accuracy, curve(0.9, 2.5))


def test_every_fit_begins_a_new_curve_and_a_resumed_one_goes_on():
    callback = kg.callbacks.LearningCurve("accuracy", chance=0.1, max_accuracy="observed")
    drive(callback, curve(0.5, 1), key="accuracy")
    drive(callback, curve(0.9, 2.5)[:6], key="accuracy")
    drive(callback, curve(0.9, 2.5)[6:], start=6, key="accuracy")
    np.testing.assert_array_equal(callback.accuracy, curve(0.9, 2.5))
    assert callback.fit.max_accuracy == curve(0.9, 2.5)[-1]


@pytest.mark.parametrize(
    "values, start, message",
    [
        ([0.1] * 5, 0, "must not be constant"),
        ([0.2, 0.3], 0, "needs 3 epochs"),
        ([20.0, 30.0, 40.0], 0, "Divide percent by 100"),
        ([0.2, 0.3, 0.35], 4, "the callback that saw the earlier ones"),
    ],
)
def test_what_cannot_be_fitted_ends_in_a_warning(values, start, message):
    callback = kg.callbacks.LearningCurve()
    with pytest.warns(UserWarning, match=message):
        logs = drive(callback, values, start)
    assert callback.fit is None
    assert np.isnan(logs[-1]["learning_curve/slowness"])


def test_in_a_fit_of_keras(tmp_path):
    x = np.random.default_rng(0).normal(size=(128, 4)).astype("float32")
    y = np.argmax(x[:, :3], axis=1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
    model.compile(
        keras.optimizers.SGD(0.3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    callback = kg.callbacks.LearningCurve(max_accuracy="observed")
    history = model.fit(
        x,
        y,
        epochs=6,
        validation_data=(x, y),
        verbose=0,
        callbacks=[callback, keras.callbacks.CSVLogger(tmp_path / "log.csv")],
    ).history
    with open(tmp_path / "log.csv") as file:
        last = list(csv.DictReader(file))[-1]
    expected = kg.analysis.fit_plateau(history["val_accuracy"], max_accuracy="observed")
    assert (
        history["learning_curve/slowness"][-1]
        == float(last["learning_curve/slowness"])
        == expected.slowness
    )
    assert (
        history["learning_curve/max_accuracy"][-1]
        == float(last["learning_curve/max_accuracy"])
        == expected.max_accuracy
    )


def test_bad_use():
    with pytest.raises(ValueError, match="`max_accuracy` must be one of"):
        kg.callbacks.LearningCurve(max_accuracy="best")
    with pytest.raises(TypeError, match=r"`monitor` must be a string. Received: monitor=5"):
        kg.callbacks.LearningCurve(5)
    with pytest.raises(ValueError, match="`chance` must be a number from 0 to 1"):
        kg.callbacks.LearningCurve(chance=10)
    with pytest.raises(ValueError, match=r"needs 'val_accuracy'.*\['accuracy', 'loss'\]"):
        drive(kg.callbacks.LearningCurve(), [0.1], key="accuracy")


def test_plot():
    pytest.importorskip("matplotlib").use("agg")
    callback = kg.callbacks.LearningCurve()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(callback, curve(0.9, 2.5))
    axes = callback.plot().axes[0]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), curve(0.9, 2.5))
