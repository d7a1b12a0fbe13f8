"""Parameters of neurons that `Spiking` learns."""

import dataclasses
import math
from typing import ClassVar

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from keras_grapes.layers.learned import Bounds

ALL = {
    kg.LIF(0.8, threshold=0.7): {"decay": "unit", "threshold": "scalar"},
    kg.ALIF(0.8, 0.6, 0.5, 0.7): {
        "decay": "scalar", "threshold": "unit", "adaptation": "unit", "adaptation_decay": "scalar"
    },
    kg.Synaptic(0.7, 0.6, threshold=0.9, reset="zero"): {
        "decay": "unit", "synaptic_decay": "unit", "threshold": "unit"
    },
    kg.LeakyIntegrator(0.7): {"decay": "unit"},
}  # fmt: skip


def kind(neuron):
    return type(neuron).__name__


def gradients(layer, x, errors, mask=None):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x, mask=mask) * errors)
    return tape.gradient(loss, [w.value for w in layer.trainable_weights])


@pytest.mark.parametrize("neuron", ALL, ids=kind)
def test_outputs_are_the_neurons_and_gradients_those_of_the_unrolled_loop(neuron):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.uniform(0, 1, (3, 9, 4)), "float32")
    errors = rng.normal(size=(3, 9, 4)).astype("float32")
    mask = tf.constant(rng.random((3, 9)) < 0.7)
    layer = kg.Spiking(neuron, 0.1, ALL[neuron])
    unrolled = kg.Spiking(neuron, 0.1, ALL[neuron], unroll=True)
    # A random start, so that no two units are alike.
    layer.build(x.shape), unrolled.build(x.shape)
    np.testing.assert_allclose(layer(x), kg.Spiking(neuron, 0.1)(x), atol=1e-5)
    for weight, other in zip(layer.weights, unrolled.weights, strict=True):
        weight.assign(np.asarray(weight) + rng.normal(0, 0.2, weight.shape))
        other.assign(weight)
    for given in (None, mask):
        expected = gradients(unrolled, x, errors, given)
        assert len(expected) == len(ALL[neuron])
        assert all(np.abs(g).max() > 0.01 for g in expected)
        for jit_compile in (None, False, True):
            call = gradients
            if jit_compile is not None:
                call = tf.function(gradients, jit_compile=jit_compile)
            for actual, wanted in zip(call(layer, x, errors, given), expected):
                np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)


def test_gradients_of_a_leaky_integrator_by_hand():
    """The potential after inputs 1, 0, 2 is d^2 + 2: its derivative by the decay is 2 d."""
    layer = kg.Spiking(kg.LeakyIntegrator(0.5), 0, {"decay": "scalar"}, return_sequences=False)
    x = np.array([[[1.0], [0.0], [2.0]]], "float32")
    with tf.GradientTape() as tape:
        output = layer(x)
    np.testing.assert_allclose(output, [[2.25]])
    (weight,) = layer.trainable_weights
    # And that of the decay by its logit is d (1 - d).
    np.testing.assert_allclose(tape.gradient(output, weight.value), 2 * 0.5 * 0.25, rtol=1e-6)


def test_shapes_names_and_values():
    layer = kg.Spiking(kg.ALIF(0.8, 0.6, -0.5), 0, ALL[kg.ALIF(0.8, 0.6, 0.5, 0.7)])
    layer.build((None, 20, 5, 5, 3))
    shapes = {w.name: tuple(w.shape) for w in layer.trainable_weights}
    # An adaptation may become negative.
    assert shapes == {
        "decay_logit": (), "threshold_log": (3,), "adaptation": (3,), "adaptation_decay_logit": ()
    }  # fmt: skip
    values = {name: np.asarray(value) for name, value in layer.learned_parameters.items()}
    np.testing.assert_allclose(values["decay"], 0.8, rtol=1e-6)
    np.testing.assert_allclose(values["threshold"], [0.6] * 3, rtol=1e-6)
    np.testing.assert_allclose(values["adaptation"], [-0.5] * 3)
    assert kg.Spiking(kg.LIF()).learned_parameters == {}


@pytest.mark.parametrize(
    "bounds, suffix, values",
    [
        ((0.0, 1.0), "_logit", [0.001, 0.5, 0.999]),
        ((-1.0, 3.0), "_logit", [-0.9, 0.0, 2.5]),
        ((0.0, math.inf), "_log", [1e-4, 1.0, 50.0]),
        ((-math.inf, 2.0), "_log", [-30.0, 1.9]),
        ((), "", [-3.0, 4.0]),
    ],
)
def test_bounds(bounds, suffix, values):
    bounds = Bounds(*bounds)
    assert bounds.suffix == suffix
    for value in values:
        weight = np.float64(bounds.weight(value))
        assert float(bounds.value(weight)) == pytest.approx(value, rel=1e-5)
    for weight in (-10.0, 10.0):
        assert float(bounds.value(np.float64(weight))) in bounds


def task():
    """Whether the values of a sample are large in the mean."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (64, 12, 6)).astype("float32")
    return x, (x.mean((1, 2)) > 0.5).astype("float32")[:, None]


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((12, 6)),
            keras.layers.Dense(8),
            kg.Spiking(kg.LIF(0.9), 0.0, {"decay": "unit", "threshold": "unit"}, name="hidden"),
            keras.layers.Dense(1),
            kg.Spiking(
                kg.LeakyIntegrator(), 0.0, {"decay": "scalar"}, return_sequences=False, name="out"
            ),
        ]
    )


def test_training_moves_them_within_their_bounds_and_they_are_saved(tmp_path):
    model, x = network(), task()[0]
    model.compile(keras.optimizers.Adam(0.3), "mse")
    model.fit(*task(), epochs=15, batch_size=16, verbose=0)
    hidden = model.get_layer("hidden")
    decay, threshold = (np.asarray(v) for v in hidden.learned_parameters.values())
    # Steps of 0.3 a batch would lead out of the interval.
    assert np.abs(np.asarray(hidden.trainable_weights[0]) - math.log(9)).max() > 1
    assert ((decay > 0) & (decay < 1)).all() and np.ptp(decay) > 0.05
    assert (threshold > 0).all() and np.ptp(threshold) > 0.05
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_array_equal(
        loaded.get_layer("hidden").learned_parameters["decay"], hidden.learned_parameters["decay"]
    )
    config = hidden.get_config()
    assert config["trainable_parameters"] == {"decay": "unit", "threshold": "unit"}
    again = kg.Spiking.from_config(config)
    assert again.get_config() == config and again.neuron == kg.LIF(0.9)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone.predict(x, verbose=0), model.predict(x, verbose=0))
    hidden.trainable = False
    assert not hidden.trainable_weights and len(hidden.weights) == 2


def test_other_trainings_take_them():
    x, y = task()
    for make in (kg.propagate, kg.DirectFeedbackAlignment, kg.FeedbackAlignment):
        other = make(network())
        other.compile(keras.optimizers.SGD(0.1), "mse")
        before = [np.array(w) for w in other.trainable_weights]
        other.fit(x, y, verbose=0)
        moved = [(np.array(w) != b).any() for w, b in zip(other.trainable_weights, before)]
        assert all(moved), (make, moved)
    model = network()
    model.compile(kg.Grapes("adam", model=model), "mse")
    model.fit(x, y, verbose=0)


def test_half_precision():
    """A leak of 0.1 % is one, and is learned in single precision."""
    layer = kg.Spiking(kg.LIF(0.999), 0, {"decay": "unit"}, dtype="mixed_bfloat16")
    layer.build((None, 4, 2))
    assert layer.weights[0].dtype == "float32"
    np.testing.assert_allclose(layer.learned_parameters["decay"], [0.999] * 2, rtol=1e-6)


@keras.saving.register_keras_serializable(package="tests")
@dataclasses.dataclass(frozen=True)
class TimeConstant(kg.Neuron):
    """A neuron of a user's own, by a time constant in steps."""

    tau: float = 5.0
    name: str = "none"

    bounds: ClassVar = {"tau": (1.0, math.inf)}

    def step(self, current, output, state, parameters):
        return (keras.ops.exp(-1.0 / self.tau) * state[0] * (1 - output) + current,)

    def emit(self, state, parameters):
        return kg.layers.spike(state[0] - 1.0)


def test_a_neuron_of_ones_own():
    layer = kg.Spiking(TimeConstant(), 0, {"tau": "unit"})
    x = np.random.default_rng(2).uniform(0, 0.6, (4, 30, 3)).astype("float32")
    (gradient,) = gradients(layer, x, np.ones_like(x))
    assert np.all(gradient != 0) and layer.weights[0].name == "tau_log"
    np.testing.assert_allclose(layer.learned_parameters["tau"], [5.0] * 3, rtol=1e-6)
    np.testing.assert_array_equal(layer(x), kg.Spiking(TimeConstant())(x))


@pytest.mark.parametrize(
    "neuron, trainable, message",
    [
        (kg.LIF(), {"leak": "unit"}, r"parameters \['decay', 'threshold'\].*\{'leak': 'unit'\}"),
        (kg.LIF(), {"reset": "unit"}, r"parameters \['decay', 'threshold'\]"),
        (kg.LIF(), {"detach_reset": "scalar"}, r"parameters \['decay', 'threshold'\]"),
        (kg.LIF(), {"decay": "filter"}, "'scalar', one value for all units, or 'unit'"),
        (kg.LIF(), "decay", "must be a dict.*'decay'"),
        (kg.LIF(decay=1.0), {"decay": "unit"}, r"above 0.0 and below 1.0.*decay=1.0"),
        (kg.LIF(decay=0), {"decay": "unit"}, r"above 0.0 and below 1.0.*decay=0"),
        (TimeConstant(0.5), {"tau": "unit"}, r"above 1.0 and below inf.*tau=0.5"),
        (TimeConstant(), {"name": "unit"}, r"TimeConstant has the parameters \['tau'\]"),
    ],
)
def test_bad_arguments(neuron, trainable, message):
    with pytest.raises(ValueError, match=message):
        kg.Spiking(neuron, trainable_parameters=trainable)
