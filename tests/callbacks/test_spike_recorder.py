"""The callback that records spikes and potentials."""

import keras
import numpy as np
import pytest

import keras_grapes as kg


def model_and_data():
    units = kg.SNU(6, return_sequences=True, input_activation="leaky_relu", name="hidden")
    model = keras.Sequential(
        [keras.Input((8,)), kg.RateCoding(12, seed=0), units, kg.SNU(2, name="last")]
    )
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x = np.random.default_rng(0).random((16, 8)).astype("float32")
    return model, x, np.ones((16, 2), "float32")


def test_it_records_the_start_and_the_epochs():
    model, x, y = model_and_data()
    recorder = kg.callbacks.SpikeRecorder(x[:3], every=2)
    before = kg.analysis.record(model_and_data()[0], x[:3])
    model.fit(x, y, epochs=4, verbose=0, callbacks=[recorder])
    assert recorder.epochs == [0, 2, 4]
    assert list(recorder.recordings[0]) == ["hidden", "last"]
    assert recorder.recordings[0]["hidden"].potentials.shape == (3, 12, 6)
    # The thresholds have been trained meanwhile.
    thresholds = [recording["hidden"].threshold for recording in recorder.recordings]
    assert np.abs(thresholds[0] - thresholds[-1]).max() > 0
    assert before["hidden"].spikes.shape == recorder.recordings[0]["hidden"].spikes.shape
    model.fit(x, y, epochs=2, verbose=0, callbacks=[recorder])
    assert recorder.epochs == [0, 2, 4, 6]
    other, *_ = model_and_data()
    other.fit(x, y, verbose=0, callbacks=[recorder])
    assert recorder.epochs == [0]


def test_training_is_the_same_with_it():
    histories = []
    for callbacks in ([], [kg.callbacks.SpikeRecorder(np.full((2, 8), 0.5, "float32"))]):
        keras.utils.set_random_seed(0)
        model, x, y = model_and_data()
        histories.append(model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks).history["loss"])
    assert histories[0] == histories[1]


def test_plot():
    pytest.importorskip("matplotlib")
    model, x, y = model_and_data()
    recorder = kg.callbacks.SpikeRecorder(x[:3])
    with pytest.raises(ValueError, match="Nothing was recorded"):
        recorder.plot()
    model.fit(x, y, verbose=0, callbacks=[recorder])
    titles = [axes.get_title() for axes in recorder.plot("last", sample=2).axes]
    assert titles == ["last, epoch 0", "last, epoch 1"]
    assert recorder.plot().axes[0].get_title() == "hidden, epoch 0"
    with pytest.raises(ValueError, match=r"\['hidden', 'last'\].*layer='first'"):
        recorder.plot("first")


def test_bad_arguments():
    for every in (0, 1.5, True):
        with pytest.raises(ValueError, match="`every` must be a positive int"):
            kg.callbacks.SpikeRecorder(np.ones((1, 8)), every=every)
    with pytest.raises(ValueError, match="`batch_size` must be a positive int"):
        kg.callbacks.SpikeRecorder(np.ones((1, 8)), batch_size=0)
    with pytest.raises(TypeError, match=r"`layers` must be a list of names.*layers='first'"):
        kg.callbacks.SpikeRecorder(np.ones((1, 8)), layers="first")
    model, x, y = model_and_data()
    recorder = kg.callbacks.SpikeRecorder(x, layers=["first"])
    with pytest.raises(ValueError, match=r"names among \['hidden', 'last'\]"):
        model.fit(x, y, verbose=0, callbacks=[recorder])
