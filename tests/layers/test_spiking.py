"""Neurons as values, and the layer without weights that runs them."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg

NEURONS = {
    "LIF": kg.LIF(0.8, threshold=0.7),
    "LIF to zero": kg.LIF(0.8, 0.7, "zero", detach_reset=True),
    "ALIF": kg.ALIF(0.8, 0.6, adaptation_decay=0.7),
    "Synaptic": kg.Synaptic(0.7, 0.6, threshold=0.9, reset="zero"),
    "LeakyIntegrator": kg.LeakyIntegrator(0.7),
}


def run(neuron, currents, **kwargs):
    """Outputs and states of one unit over time."""
    layer = kg.Spiking(neuron, return_state=True, dtype="float64", **kwargs)
    outputs, _, *states = layer(np.reshape(currents, (1, -1, 1)))
    return np.ravel(outputs), [float(state[0, 0]) for state in states]


@pytest.mark.parametrize(
    "neuron, currents, outputs, states",
    [
        # 0.8, 1.4, 0.5 * (1.4 - 1) + 0.4
        (kg.LIF(0.5), [0.8, 1.0, 0.4], [0, 1, 0], [0.6]),
        (kg.LIF(0.5, reset="zero"), [0.8, 1.0, 0.4], [0, 1, 0], [0.4]),
        (kg.LIF(0.5, reset="none"), [0.8, 1.0, 0.4], [0, 1, 1], [1.1]),
        # Three spikes of a potential of 1.5 and a threshold of 1, 1, 1.5: the third fails.
        (
            kg.ALIF(0.0, adaptation=0.5, adaptation_decay=0.5, reset="none"),
            [0.0, 1.5, 1.5, 1.5],
            [0, 1, 0, 1],
            [1.5, 0.5],
        ),
        # Synaptic currents 1, 0.5, 0.25; potentials 1, 1, 0.75.
        (kg.Synaptic(0.5, 0.5, threshold=2.0), [1.0, 0.0, 0.0], [0, 0, 0], [0.75, 0.25]),
        (kg.LeakyIntegrator(0.5), [1.0, -1.0, 2.0], [1.0, -0.5, 1.75], [1.75]),
    ],
)
def test_by_hand(neuron, currents, outputs, states):
    actual, last = run(neuron, currents)
    np.testing.assert_allclose(actual, outputs)
    np.testing.assert_allclose(last, states)


def test_lateral_inhibition_by_hand():
    """A spike takes 0.6 from the other two units at the next step, and nothing from its own."""
    layer = kg.Spiking(kg.LIF(0.0, reset="none"), lateral_inhibition=0.6)
    x = np.array([[[1.5, 0.0, 0.0], [1.5, 1.5, 2.0]]])
    np.testing.assert_array_equal(layer(x), [[[1, 0, 0], [1, 0, 1]]])


def values_and_gradients(layer, x, errors, mask=None):
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, mask=mask)
        loss = tf.reduce_sum(outputs * errors)
    return outputs, tape.gradient(loss, x)


@pytest.mark.parametrize("lateral_inhibition", [0.0, 0.3])
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_gradients_equal_those_of_the_unrolled_loop(neuron, lateral_inhibition):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(0, 1, (3, 9, 4)), "float32")
    errors = rng.normal(size=(3, 9, 4)).astype("float32")
    rows = [[0, 1, 1, 1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 0, 0], [0] * 9]
    for mask in (None, tf.constant(np.array(rows, bool))):
        layer = kg.Spiking(neuron, lateral_inhibition)
        unrolled = kg.Spiking(neuron, lateral_inhibition, unroll=True)
        expected = values_and_gradients(unrolled, x, errors, mask)
        assert np.abs(expected[1]).max() > 1
        for actual, wanted in zip(values_and_gradients(layer, x, errors, mask), expected):
            np.testing.assert_allclose(actual, wanted, atol=2e-6)
    for jit_compile in (False, True):
        compiled = tf.function(
            lambda x: values_and_gradients(layer, x, errors, mask), jit_compile=jit_compile
        )
        for actual, wanted in zip(compiled(x), expected):
            np.testing.assert_allclose(actual, wanted, atol=2e-6)


def lif_by_numpy(x, errors, decay, threshold, detached):
    """Forward and backward through `reset="subtract"`, in float64."""
    v, y = [np.zeros_like(x[:, 0])], [np.zeros_like(x[:, 0])]
    for t in range(x.shape[1]):
        v.append(decay * (v[t] - threshold * y[t]) + x[:, t])
        y.append((v[t + 1] > threshold).astype(float))
    d_v, gradient = np.zeros_like(v[0]), np.zeros_like(x)
    for t in reversed(range(x.shape[1])):
        d_y = errors[:, t] - (0 if detached else decay * threshold * d_v)
        d_v = decay * d_v + d_y * (1 - np.tanh(v[t + 1] - threshold) ** 2)
        gradient[:, t] = d_v
    return np.stack(y[1:], 1), gradient


@pytest.mark.parametrize("detached", [False, True])
def test_against_numpy(detached):
    rng = np.random.default_rng(1)
    x, errors = rng.uniform(0, 1, (2, 23, 3)), rng.normal(size=(2, 23, 3))
    layer = kg.Spiking(kg.LIF(0.9, 0.8, detach_reset=detached), dtype="float64")
    expected = lif_by_numpy(x, errors, 0.9, 0.8, detached)
    for actual, wanted in zip(values_and_gradients(layer, tf.constant(x), errors), expected):
        np.testing.assert_allclose(actual, wanted, atol=1e-12)


@keras.saving.register_keras_serializable(package="tests")
@dataclasses.dataclass(frozen=True)
class Quadratic(kg.Neuron):
    """A neuron of a user's own."""

    decay: float = 0.9

    def step(self, current, output, state, parameters):
        (v,) = state
        return (self.decay * v * (1 + 0.1 * v) * (1 - output) + current,)

    def emit(self, state, parameters):
        (v,) = state
        return kg.layers.spike(v - 1.0, "atan")


def test_a_neuron_of_ones_own():
    rng = np.random.default_rng(2)
    x = tf.constant(rng.uniform(0, 1, (2, 14, 3)), "float32")
    errors = rng.normal(size=(2, 14, 3)).astype("float32")
    expected = values_and_gradients(kg.Spiking(Quadratic(0.7), unroll=True), x, errors)
    for actual, wanted in zip(
        values_and_gradients(kg.Spiking(Quadratic(0.7)), x, errors), expected
    ):
        np.testing.assert_allclose(actual, wanted, atol=2e-6)


@pytest.mark.parametrize("trainable", [None, {"decay": "unit"}])
def test_a_neuron_of_ones_own_in_a_loop_of_keras(trainable):
    """`keras.layers.RNN` takes it step by step, and finds the same."""
    rng = np.random.default_rng(5)
    x = tf.constant(rng.uniform(0, 1, (2, 14, 3)), "float32")
    errors = rng.normal(size=(2, 14, 3)).astype("float32")
    cell = kg.SpikingCell(Quadratic(0.7), 0.2, trainable)
    cell.build((2, 3))
    loop = keras.layers.RNN(cell, return_sequences=True)
    expected = values_and_gradients(loop, x, errors)
    layer = kg.Spiking(Quadratic(0.7), 0.2, trainable)
    for actual, wanted in zip(values_and_gradients(layer, x, errors), expected):
        np.testing.assert_allclose(actual, wanted, atol=2e-6)


@pytest.mark.parametrize("steps", [50, 400])
def test_a_neuron_of_ones_own_is_taken_by_the_loop_over_blocks(steps, monkeypatch):
    """It is traced for one block of steps, forward and backward, however long the sequence is."""
    calls = []
    step = Quadratic.step

    def counted(self, current, *rest):
        calls.append(current.shape)
        return step(self, current, *rest)

    monkeypatch.setattr(Quadratic, "step", counted)
    layer = kg.Spiking(Quadratic(0.7))
    layer.build((2, steps, 3))
    calls.clear()
    errors = np.ones((2, steps, 3), "float32")
    traced = tf.function(lambda x: values_and_gradients(layer, x, errors))
    traced.get_concrete_function(tf.TensorSpec((2, steps, 3)))
    assert 0 < len(calls) < 20
    # The derivatives of all steps of a block at once.
    assert calls[-1][0] > 1 and calls[-1][1:] == (2, 3)


def convolutional():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 8, 8, 1)),
            keras.layers.TimeDistributed(keras.layers.Conv2D(4, 3)),
            keras.layers.BatchNormalization(),
            kg.Spiking(kg.LIF(), name="spikes"),
            keras.layers.TimeDistributed(keras.layers.GlobalAveragePooling2D()),
            keras.layers.Dense(3),
            kg.Spiking(Quadratic(), lateral_inhibition=0.1, name="own"),
            kg.Spiking(kg.LeakyIntegrator(), return_sequences=False, name="readout"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def test_follows_convolution_and_normalization_and_is_saved(tmp_path):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(4, 6, 8, 8, 1)), np.ones((4, 3))
    model = convolutional()
    watch = kg.callbacks.FiringRate(x)
    before = [np.array(w) for w in model.trainable_weights]
    model.fit(x, y, verbose=0, callbacks=[watch])
    assert all((np.array(w) != b).any() for w, b in zip(model.trainable_weights[2:4], before[2:4]))
    assert list(watch.rates) == ["spikes", "own"] and 0 < watch.rates["spikes"][0] < 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    layer = model.get_layer("own")
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
    assert layer.neuron == Quadratic() and layer.lateral_inhibition == 0.1


def test_half_precision_and_states():
    layer = kg.Spiking(kg.LIF(0.999), return_state=True, stateful=True, dtype="mixed_bfloat16")
    x = np.full((1, 1, 1), 2.0**-10)
    for _ in range(300):
        output, _, potential = layer(x)
    assert (output.dtype, potential.dtype) == ("bfloat16", "float32")
    np.testing.assert_allclose(potential, [[2.0**-10 * (1 - 0.999**300) / 0.001]], rtol=1e-5)


def test_detach_reset_of_an_snu():
    rng = np.random.default_rng(4)
    x = tf.constant(rng.uniform(0, 1, (3, 9, 4)), "float32")
    errors = rng.normal(size=(3, 9, 4)).astype("float32")
    for reset in ("gate", "soft", "subtract", "none"):
        results = []
        for options in ({"detach_reset": True}, {"detach_reset": True, "unroll": True}, {}):
            layer = kg.SNU(
                4,
                reset=reset,
                return_sequences=True,
                kernel_initializer="ones",
                bias_initializer=keras.initializers.Constant(-2.0),
                **options,
            )
            results.append(values_and_gradients(layer, x, errors))
        (outputs, gradient), (_, unrolled), (plain, through) = results
        np.testing.assert_array_equal(outputs, plain)
        np.testing.assert_allclose(gradient, unrolled, atol=2e-6)
        assert (np.abs(gradient - through).max() > 1e-3) == (reset != "none")
    config = kg.SNU(2, detach_reset=True).get_config()
    assert kg.SNU.from_config(config).detach_reset


class Mixing(kg.Neuron):
    def step(self, current, output, state, parameters):
        return (state[0] + current - keras.ops.mean(output, -1, keepdims=True),)

    def emit(self, state, parameters):
        return kg.layers.spike(state[0] - 1.0)


class OfNoTuple(Mixing):
    def step(self, current, output, state, parameters):
        return state[0] + current


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: kg.Spiking(Mixing()), ValueError, "Mixing, in which one unit depends on another"),
        (lambda: kg.Spiking(OfNoTuple()), ValueError, "must return a tuple of its 1 states"),
        (lambda: kg.Spiking("lif"), TypeError, "`neuron` must be .*'lif'"),
        (lambda: kg.Spiking(kg.LIF(), -1.0), ValueError, r"`lateral_inhibition`.*-1\.0"),
        (lambda: kg.LIF(1.1), ValueError, r"`decay` must be a number from 0 to 1.*1\.1"),
        (lambda: kg.LIF(threshold=0), ValueError, "`threshold` must be a finite number above 0.*0"),
        (lambda: kg.LIF(threshold=float("nan")), ValueError, "`threshold` must be a finite.*nan"),
        (lambda: kg.ALIF(adaptation_decay=-1), ValueError, "`adaptation_decay` must be.*-1"),
        (lambda: kg.Synaptic(reset="soft"), ValueError, "`reset` must be one of.*'soft'"),
        (lambda: kg.LeakyIntegrator(2), ValueError, "`decay` must be.*2"),
        (lambda: kg.LIF(surrogate="relu"), ValueError, "`surrogate` must be one of"),
        (lambda: kg.SNU(2, detach_reset=1), ValueError, "`detach_reset` must be True or False"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()
