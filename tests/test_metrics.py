"""Metrics of spikes over time, by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg

# Counts 2, 1, 0; first spikes 1, 0, never.  Then two silent samples.
SPIKES = np.zeros((3, 4, 3), "float32")
SPIKES[0, [1, 2], 0] = 1
SPIKES[0, 0, 1] = 1


@pytest.mark.parametrize("by, decision", [("count", 0), ("first_spike", 1)])
def test_spikes(by, decision):
    for target in range(3):
        metric = kg.metrics.SpikeAccuracy(by)
        metric.update_state([target, 0, 1], SPIKES)
        # Silence decides for no class, not for the first one.
        assert float(metric.result()) == pytest.approx((target == decision) / 3)
    metric.reset_state()
    metric.update_state(np.eye(3)[[decision, 0, 0]], SPIKES, sample_weight=[1.0, 0.0, 0.0])
    assert float(metric.result()) == 1.0


def test_potentials_and_masks():
    potentials = np.array([[[0.5, 0.2], [0.1, 0.7], [9.0, -9.0]]], "float32")
    metric = kg.metrics.SpikeAccuracy("potential")
    metric.update_state([0], potentials)
    assert float(metric.result()) == 1.0
    masked = tf.constant(potentials)
    masked._keras_mask = tf.constant([[True, True, False]])
    metric.reset_state()
    metric.update_state([1], masked)
    assert float(metric.result()) == 1.0


def test_config():
    metric = kg.metrics.SpikeAccuracy("first_spike", name="first")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert again.get_config() == metric.get_config()
    assert again.by == "first_spike" and again.name == "first"


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"`by` must be .*'rate'"):
        kg.metrics.SpikeAccuracy("rate")
    with pytest.raises(ValueError, match=r"`return_sequences=True`.*\(3, 3\)"):
        kg.metrics.SpikeAccuracy().update_state([0, 0, 0], SPIKES[:, 0])
