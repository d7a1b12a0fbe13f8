"""Spiking neural units against hand calculation, NumPy and `keras.layers.RNN`."""

import inspect
import itertools
import json
import subprocess
import sys
from math import exp, tanh

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from tests.second_derivatives import gradient_of_penalty

RESETS = ("gate", "soft", "subtract", "none")
UNITS = {"step": kg.SNU, "sigmoid": kg.SSNU}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def normal(seed, stddev=0.5):
    return keras.initializers.RandomNormal(stddev=stddev, seed=seed)


def random_state(rng, shape):
    return [tf.constant(rng.uniform(0, 1, shape), "float32") for _ in range(2)]


def values_and_gradients(layer, x, weights, **call):
    """Outputs of a layer, and the gradients of their weighted sum by all it depends on."""
    sources = [x, *call.get("initial_state", [])]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs = layer(x, **call)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        loss = sum(tf.reduce_sum(w * output) for w, output in zip(weights, outputs))
    sources += [v.value for v in layer.trainable_variables]
    return [*outputs, *tape.gradient(loss, sources, unconnected_gradients="zero")]


def assert_same(actual, expected, tolerance=2e-6):
    for a, e in zip(actual, expected, strict=True):
        scale = 1 + np.max(np.abs(e), initial=0)
        np.testing.assert_allclose(a, e, rtol=0, atol=tolerance * scale)


# By hand: one unit, weight 1, decay 0.5, bias -1, inputs 0.8, 1, 0.4.


def step_slope(x):
    return 1 - tanh(x) ** 2


def soft_gate(s):
    return 1 - 1 / (1 + exp(-(s - 1)))


def graded(s):
    return 1 / (1 + exp(-(s - 1)))


def trajectory(kind, reset):
    """Potentials and outputs of three steps, written out, and d y[3] / d x[1..3]."""
    if kind == "step":
        s1, y1 = 0.8, 0.0
        s2 = 1 + 0.5 * {"soft": 0.8 * soft_gate(0.8)}.get(reset, 0.8)
        y2 = 1.0  # 1.4 or 1.2199 exceed the threshold
        s3 = (
            0.4
            + 0.5 * {"gate": 0, "soft": s2 * soft_gate(s2), "subtract": s2 - 1, "none": s2}[reset]
        )
        y3 = 1.0 if reset == "none" else 0.0  # 1.1, else 0.4, 0.6716, 0.6
        h1, h2, h3 = (step_slope(s - 1) for s in (s1, s2, s3))
    else:
        s1, y1 = 0.8, graded(0.8)
        s2 = (
            1
            + 0.5
            * {
                "gate": 0.8 * (1 - y1),
                "soft": 0.8 * soft_gate(0.8),
                "subtract": 0.8 - y1,
                "none": 0.8,
            }[reset]
        )
        y2 = graded(s2)
        s3 = (
            0.4
            + 0.5
            * {
                "gate": s2 * (1 - y2),
                "soft": s2 * soft_gate(s2),
                "subtract": s2 - y2,
                "none": s2,
            }[reset]
        )
        y3 = graded(s3)
        h1, h2, h3 = (graded(s) * (1 - graded(s)) for s in (s1, s2, s3))

    def onward(s, y, h):
        """d s[t+1] / d s[t]: through the potential and through the output."""
        gate = soft_gate(s)
        return (
            0.5
            * {
                "gate": (1 - y) - s * h,
                "soft": gate - s * gate * (1 - gate),
                "subtract": 1 - h,
                "none": 1,
            }[reset]
        )

    d3 = h3
    d2 = d3 * onward(s2, y2, h2)
    d1 = d2 * onward(s1, y1, h1)
    return [s1, s2, s3], [y1, y2, y3], [d1, d2, d3]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("kind", UNITS)
def test_trajectory_by_hand(kind, reset, jit_compile):
    layer = UNITS[kind](
        1,
        decay=0.5,
        reset=reset,
        kernel_initializer="ones",
        return_sequences=True,
        return_state=True,
    )
    x = tf.constant([[[0.8], [1.0], [0.4]]])
    layer.build(x.shape)
    potentials, outputs, gradient = trajectory(kind, reset)

    @tf.function(jit_compile=jit_compile)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            sequence, *state = layer(x)
            last = sequence[0, -1, 0]
        return sequence, state, tape.gradient(last, x)

    sequence, (last_output, last_potential), actual_gradient = run(x)
    np.testing.assert_allclose(sequence[0, :, 0], outputs, rtol=1e-6)
    np.testing.assert_allclose(last_output, [[outputs[-1]]], rtol=1e-6)
    np.testing.assert_allclose(last_potential, [[potentials[-1]]], rtol=1e-6)
    np.testing.assert_allclose(actual_gradient[0, :, 0], gradient, rtol=2e-6)


# An independent forward pass and backpropagation through time, in float64.


def reference(kind, reset, x, kernel, recurrent, bias, decay, errors):
    """Outputs, and the gradients of `sum(errors * outputs)` by all parameters and `x`."""
    batch, steps, _ = x.shape
    units = kernel.shape[1]
    s, y = [np.zeros((batch, units))], [np.zeros((batch, units))]
    drives = []
    for t in range(steps):
        gate = 1 - y[t] if reset == "gate" else 1 - sigmoid(s[t] + bias)
        drives.append(x[:, t] @ kernel + y[t] @ recurrent + decay * s[t] * gate)
        s.append(np.maximum(drives[t], 0))
        z = s[t + 1] + bias
        y.append((z > 0).astype(float) if kind == "step" else sigmoid(z))

    d_kernel, d_recurrent, d_bias, d_decay = (
        np.zeros_like(p) for p in (kernel, recurrent, bias, decay)
    )
    d_x = np.zeros_like(x)
    d_s, d_y = np.zeros_like(s[0]), np.zeros_like(y[0])
    for t in reversed(range(steps)):
        z = s[t + 1] + bias
        slope = 1 - np.tanh(z) ** 2 if kind == "step" else sigmoid(z) * (1 - sigmoid(z))
        d_z = (d_y + errors[:, t]) * slope
        d_bias += d_z.sum(0)
        d_drive = (d_s + d_z) * (drives[t] > 0)
        d_kernel += x[:, t].T @ d_drive
        d_recurrent += y[t].T @ d_drive
        d_x[:, t] = d_drive @ kernel.T
        d_y = d_drive @ recurrent.T
        if reset == "gate":
            d_decay += (d_drive * s[t] * (1 - y[t])).sum(0)
            d_s = d_drive * decay * (1 - y[t])
            d_y -= d_drive * decay * s[t]
        else:
            gate = sigmoid(s[t] + bias)
            d_decay += (d_drive * s[t] * (1 - gate)).sum(0)
            by_gate = -d_drive * decay * s[t] * gate * (1 - gate)
            d_s = d_drive * decay * (1 - gate) + by_gate
            d_bias += by_gate.sum(0)
    return np.stack(y[1:], 1), d_kernel, d_recurrent, d_bias, d_decay, d_x


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("reset", ["gate", "soft"])
@pytest.mark.parametrize("kind", UNITS)
def test_against_numpy_over_20_steps(kind, reset, recurrent):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (3, 20, 6))
    errors = rng.normal(size=(3, 20, 5))
    layer = UNITS[kind](
        5,
        reset=reset,
        recurrent=recurrent,
        trainable_decay="unit",
        return_sequences=True,
        kernel_initializer=normal(1),
        recurrent_initializer=normal(2),
        dtype="float64",
    )
    layer.build(x.shape)
    cell = layer.cell
    cell.decay_logit.assign(rng.normal(size=5))
    decay = sigmoid(np.array(cell.decay_logit))
    kernel, bias = np.array(cell.kernel), np.array(cell.bias)
    feedback = np.array(cell.recurrent_kernel) if recurrent else np.zeros((5, 5))
    expected = reference(kind, reset, x, kernel, feedback, bias, decay, errors)
    outputs, d_kernel, d_recurrent, d_bias, d_decay, d_x = expected
    d_logit = d_decay * decay * (1 - decay)

    actual = values_and_gradients(layer, tf.constant(x), [errors])
    by_variable = dict(zip([v.name for v in layer.trainable_variables], actual[2:]))
    assert_same(actual[:2], [outputs, d_x], tolerance=1e-10)
    assert_same(
        [by_variable["kernel"], by_variable["bias"], by_variable["decay_logit"]],
        [d_kernel, d_bias, d_logit],
        tolerance=1e-10,
    )
    if recurrent:
        assert_same([by_variable["recurrent_kernel"]], [d_recurrent], tolerance=1e-10)

    single = UNITS[kind].from_config({**layer.get_config(), "dtype": "float32"})
    single.build(x.shape)
    single.set_weights(layer.get_weights())
    actual = values_and_gradients(single, tf.constant(x, "float32"), [errors.astype("float32")])
    assert_same(actual[:2], [outputs, d_x], tolerance=1e-5)


# The layer is `keras.layers.RNN(cell)`, only faster.

PARTS = {
    "plain": {},
    "recurrent": {"recurrent": True},
    "scalar decay": {"trainable_decay": "scalar"},
    "unit decay": {"trainable_decay": "unit", "recurrent": True},
    "no bias": {"use_bias": False, "trainable_decay": "scalar"},
    "other activations": {"input_activation": "elu", "activation": "tanh", "recurrent": True},
    "leaky": {"input_activation": "leaky_relu"},
    "unknown activation": {"input_activation": "gelu", "activation": "softsign"},
}


@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("part", PARTS)
def test_equals_the_cell_in_keras_rnn(part, reset):
    rng = np.random.default_rng(1)
    x = tf.constant(rng.uniform(0, 2, (4, 6, 5)), "float32")
    # Padding on the left and in between, all and nothing of it, and on the right.
    rows = [[0, 1, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0]]
    mask = np.array(rows, bool)
    arguments = {
        "reset": reset,
        "kernel_initializer": normal(1, 1.0),
        "recurrent_initializer": normal(2, 1.0),
        **PARTS[part],
    }
    weights = [rng.normal(size=s).astype("float32") for s in ((4, 6, 3), (4, 3), (4, 3))]
    last_weights = [weights[1], *weights[1:]]
    for backwards, sequences, masked, zero in itertools.product((False, True), repeat=4):
        options = {
            "return_sequences": sequences,
            "return_state": True,
            "go_backwards": backwards,
            "zero_output_for_mask": zero,
        }
        call = {"initial_state": random_state(rng, (4, 3))}
        if masked:
            call["mask"] = tf.constant(mask)
        rnn = keras.layers.RNN(kg.SNUCell(3, **arguments), **options)
        layer = kg.SNU(3, **arguments, **options)
        rnn.build(x.shape)
        layer.build(x.shape)
        if not arguments.get("use_bias", True):
            call["initial_state"] = [tf.zeros((4, 3))] * 2
        expected = values_and_gradients(rnn, x, weights if sequences else last_weights, **call)
        actual = values_and_gradients(layer, x, weights if sequences else last_weights, **call)
        assert_same(actual, expected)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("kind", UNITS)
def test_eager_graph_unrolled_and_compiled_are_the_same(kind, recurrent):
    rng = np.random.default_rng(2)
    x = tf.constant(rng.uniform(0, 2, (3, 8, 5)), "float32")
    weights = [rng.normal(size=(3, 8, 4)).astype("float32")]
    arguments = {
        "recurrent": recurrent,
        "return_sequences": True,
        "kernel_initializer": normal(1, 1.0),
        "recurrent_initializer": normal(2, 1.0),
    }
    layer = UNITS[kind](4, **arguments)
    unrolled = UNITS[kind](4, unroll=True, **arguments)
    layer.build(x.shape)
    unrolled.build(x.shape)
    expected = values_and_gradients(unrolled, x, weights)
    assert_same(values_and_gradients(layer, x, weights), expected)
    for training, jit_compile in itertools.product((False, True), repeat=2):

        @tf.function(jit_compile=jit_compile)
        def run(x, training=training):
            return values_and_gradients(layer, x, weights, training=training)

        assert_same(run(x), expected)


@pytest.mark.parametrize("how", ["eager", "graph", "compiled loops", "jit"])
@pytest.mark.parametrize("kind", UNITS)
def test_second_derivatives_equal_those_of_the_cell(kind, how, monkeypatch):
    """Also those through the spikes, which have surrogates for derivatives."""
    if how == "compiled loops":
        monkeypatch.setattr("keras_grapes.layers.trajectory.COMPILED_FROM", 0)
    x = tf.constant(np.random.default_rng(3).uniform(0, 2, (2, 4, 3)), "float32")
    arguments = {
        "recurrent": True,
        "kernel_initializer": normal(1, 0.4),
        "recurrent_initializer": normal(2, 0.4),
    }
    cell = {"step": kg.SNUCell, "sigmoid": kg.SSNUCell}[kind]
    layer = UNITS[kind](8, return_sequences=True, **arguments)
    rnn = keras.layers.RNN(cell(8, **arguments), return_sequences=True, unroll=True)
    penalties = []
    for model in (layer, rnn):
        model.build(x.shape)

        def penalty_gradient(model=model):
            return gradient_of_penalty(model, x)

        if model is layer and how != "eager":
            penalty_gradient = tf.function(penalty_gradient, jit_compile=how == "jit")
        penalties.append(penalty_gradient())
    assert np.abs(penalties[1]).max() > 0.01
    scale = np.abs(penalties[1]).max()
    np.testing.assert_allclose(*penalties, atol=1e-5 * scale)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("steps", [1, 4, 5, 13, 17, 23, None])
def test_any_number_of_steps(steps, jit_compile):
    """Blocks of steps, and what is left over of them."""
    if steps is None and jit_compile:
        pytest.skip("XLA knows every length.")
    length = steps or 11
    rng = np.random.default_rng(7)
    x = tf.constant(rng.uniform(0, 2, (2, length, 3)), "float32")
    weights = [rng.normal(size=(2, length, 4)).astype("float32")]
    arguments = {"recurrent": True, "kernel_initializer": normal(1), "return_sequences": True}
    arguments["recurrent_initializer"] = normal(2)
    layer, unrolled = kg.SSNU(4, **arguments), kg.SSNU(4, unroll=True, **arguments)
    layer.build(x.shape)
    unrolled.build(x.shape)
    signature = [tf.TensorSpec((None, steps, 3))] if not jit_compile else None

    @tf.function(jit_compile=jit_compile, input_signature=signature)
    def run(x):
        return values_and_gradients(layer, x, weights, training=True)

    assert_same(run(x), values_and_gradients(unrolled, x, weights))


def compiles_a_part(traced):
    """Whether XLA is to compile a function that a traced function calls."""
    graph = traced.graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    return any(node.attr["_XlaMustCompile"].b for node in nodes)


@pytest.mark.parametrize("make", [kg.SNU, kg.SSNU])
@pytest.mark.parametrize(
    "steps, units, training, compiled",
    [
        (20, 256, True, True),
        (20, 256, False, False),
        (20, 4, True, False),
        (None, 256, True, False),
    ],
)
def test_what_is_compiled_on_its_own(make, steps, units, training, compiled):
    """Large samples of a known length, in training alone."""
    layer = make(units, recurrent=True)
    layer.build((2, steps, 3))

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x, training=training))
        return tape.gradient(loss, layer.cell.kernel.value)

    signature = [tf.TensorSpec((None, steps, 3))]
    traced = tf.function(gradients, input_signature=signature).get_concrete_function()
    assert compiles_a_part(traced) is compiled


@pytest.fixture
def compile_all(monkeypatch):
    """Has the loops of small samples compiled too."""
    monkeypatch.setattr("keras_grapes.layers.trajectory.COMPILED_FROM", 0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", UNITS)
def test_compiled_loops_equal_those_that_are_not(kind, masked, compile_all):
    rng = np.random.default_rng(9)
    mask = tf.constant(rng.uniform(size=(3, 8)) < 0.6) if masked else None
    weights = [rng.normal(size=(3, 8, 4)).astype("float32")]
    weights += [rng.normal(size=(3, 4)).astype("float32") for _ in range(2)]
    x = tf.constant(rng.uniform(0, 2, (3, 8, 5)), "float32")
    layer = UNITS[kind](
        4,
        recurrent=True,
        reset="soft",
        trainable_decay="unit",
        return_sequences=True,
        return_state=True,
        kernel_initializer=normal(1, 1.0),
    )
    layer.build(x.shape)
    call = {"initial_state": random_state(rng, (3, 4)), "mask": mask, "training": True}
    expected = values_and_gradients(layer, x, weights, **call)

    @tf.function(input_signature=[tf.TensorSpec((None, 8, 5))])
    def run(x):
        return values_and_gradients(layer, x, weights, **call)

    assert_same(run(x), expected)
    assert compiles_a_part(run.get_concrete_function())


def test_without_xla_nothing_is_compiled(compile_all, monkeypatch):
    monkeypatch.setattr("keras_grapes.backend.tensorflow._has_xla", lambda: False)
    layer = kg.SNU(4)

    @tf.function
    def run(x):
        return layer(x, training=True)

    assert not compiles_a_part(run.get_concrete_function(tf.zeros((2, 8, 5))))


def test_stateful_batches_continue_each_other():
    x = np.random.default_rng(4).uniform(0, 1, (2, 9, 3)).astype("float32")
    arguments = {"recurrent": True, "return_sequences": True, "kernel_initializer": normal(1, 1.0)}
    whole = kg.SSNU(4, **arguments)
    parts = kg.SSNU(4, stateful=True, **arguments)
    whole.build(x.shape)
    parts.build((2, 3, 3))
    parts.cell.set_weights(whole.cell.get_weights())
    expected = whole(x)
    for _ in range(2):
        outputs = [parts(x[:, t : t + 3]) for t in (0, 3, 6)]
        np.testing.assert_allclose(np.concatenate(outputs, 1), expected, atol=1e-6)
        parts.reset_state()


def test_dropout_drops_the_same_inputs_at_all_steps():
    layer = kg.SNU(
        8,
        dropout=0.5,
        seed=1,
        input_activation="linear",
        activation="linear",
        decay=0.0,
        use_bias=False,
        kernel_initializer="identity",
        return_sequences=True,
    )
    x = tf.ones((16, 5, 8))
    np.testing.assert_array_equal(layer(x), x)
    first, second = np.array(layer(x, training=True)), np.array(layer(x, training=True))
    assert set(np.unique(first)) == {0.0, 2.0}
    np.testing.assert_array_equal(first, np.repeat(first[:, :1], 5, axis=1))
    assert (first != second).any()


@pytest.mark.parametrize("trainable_decay, shape", [("scalar", ()), ("unit", (4,))])
def test_trainable_decay_starts_at_decay_and_stays_between_0_and_1(trainable_decay, shape):
    layer = kg.SSNU(4, decay=0.7, trainable_decay=trainable_decay, kernel_initializer="ones")
    x, y = np.ones((2, 5, 3), "float32"), np.ones((2, 4), "float32")
    layer.build(x.shape)
    decay = layer.cell.parameters()[0]
    assert decay.shape == shape
    np.testing.assert_allclose(decay, 0.7, rtol=1e-6)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.Adam(1.0), "mse")
    model.fit(x, y, epochs=20, verbose=0)
    decay = np.array(layer.cell.parameters()[0])
    assert ((decay > 0) & (decay < 1) & (decay != 0.7)).all()


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 6)),
            kg.SNU(8, return_sequences=True, recurrent=True, trainable_decay="unit"),
            kg.SSNU(5, return_sequences=True, reset="soft", surrogate=kg.Surrogate("atan", 3.0)),
            kg.SNU(3, return_sequences=True),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    return model


RNG = np.random.default_rng(5)
X, Y = (
    RNG.uniform(0, 2, (12, 7, 6)).astype("float32"),
    np.eye(3, dtype="float32")[RNG.integers(0, 3, 12)],
)


def test_saved_model_resumes(tmp_path):
    model = make_model()
    model.fit(X, Y, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), model.predict(X, verbose=0))
    for m in (model, loaded):
        m.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    for trained, resumed in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(resumed, trained, atol=1e-7)


def test_exported_model_runs_without_the_package_for_any_time(tmp_path):
    model = make_model()
    model.fit(X, Y, verbose=0)
    model.export(tmp_path / "served", verbose=False)
    long = np.random.default_rng(6).uniform(0, 2, (5, 40, 6)).astype("float32")
    np.savez(tmp_path / "data.npz", short=X[:2], long=long)
    program = f"""
import sys, numpy as np, tensorflow as tf
served = tf.saved_model.load({str(tmp_path / "served")!r})
data = np.load({str(tmp_path / "data.npz")!r})
np.savez({str(tmp_path / "results.npz")!r}, **{{name: served.serve(data[name]) for name in data}})
assert "keras_grapes" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    results = np.load(tmp_path / "results.npz")
    np.testing.assert_allclose(results["short"], model.predict(X[:2], verbose=0), atol=1e-6)
    np.testing.assert_allclose(results["long"], model.predict(long, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        kg.SNU(3, 0.5, recurrent=True, reset="subtract", dropout=0.1, seed=3, name="a"),
        kg.SSNU(3, input_activation="linear", bias_regularizer="l2", go_backwards=True),
        kg.SNU(3, bias_initializer="zeros", kernel_constraint="non_neg", dtype="mixed_bfloat16"),
        kg.SNUCell(3, trainable_decay="scalar", surrogate="triangular"),
        keras.layers.RNN([kg.SNUCell(3), kg.SSNUCell(2)], return_sequences=True),
        keras.layers.Bidirectional(kg.SNU(3, return_sequences=True)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_config(layer):
    config = layer.get_config()
    restored = type(layer).from_config(layer.get_config())
    assert restored.get_config() == config
    assert layer.get_config() == config
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert restored.get_config() == config


def test_input_shape_and_numpy_ints_as_in_layers_of_keras():
    with pytest.warns(UserWarning, match="prefer using an `Input"):
        model = keras.Sequential([kg.SNU(np.int64(3), input_shape=(6, 4))])
    assert model.built and model.output_shape == (None, 3)
    json.dumps(model.layers[0].get_config())


def test_arguments_of_the_cell_are_properties_as_in_layers_of_keras():
    layer = kg.SNU(3, decay=0.5, dropout=0.1, kernel_regularizer="l2", reset="soft")
    assert (layer.units, layer.decay, layer.dropout, layer.reset) == (3, 0.5, 0.1, "soft")
    assert layer.use_bias and not layer.recurrent and layer.activation == "step"
    assert layer.kernel_regularizer is layer.cell.kernel_regularizer
    assert kg.SSNU(3).activation is keras.activations.sigmoid
    convolution = kg.ConvSNU2D(2, 3, strides=2)
    assert (convolution.filters, convolution.strides) == (2, (2, 2))


def test_frozen_layer_stays_frozen_in_a_copy():
    model = keras.Sequential([keras.Input((None, 6)), kg.SNU(4)])
    model.layers[0].trainable = False
    assert not keras.models.clone_model(model).trainable_variables
    assert not keras.Sequential(
        [keras.Input((None, 6)), kg.SNU(4, trainable=False)]
    ).trainable_variables


def test_cells_in_keras_layers():
    x = tf.constant(X)
    stacked = keras.layers.RNN([kg.SNUCell(4), kg.SNUCell(2)], return_sequences=True)
    first, second = kg.SNU(4, return_sequences=True), kg.SNU(2, return_sequences=True)
    outputs = stacked(x)
    second(first(x))
    first.cell.set_weights(stacked.cell.cells[0].get_weights())
    second.cell.set_weights(stacked.cell.cells[1].get_weights())
    np.testing.assert_array_equal(second(first(x)), outputs)
    assert keras.layers.Bidirectional(kg.SNU(4))(x).shape == (12, 8)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    layer = kg.SNU(4, recurrent=True, return_sequences=True, dtype=policy)
    outputs, _, *gradients = values_and_gradients(layer, tf.constant(X), [tf.ones((), policy[6:])])
    assert outputs.dtype == layer.compute_dtype == policy[6:]
    assert all(g.dtype == "float32" and np.isfinite(g).all() for g in gradients)


OPTIONS = {"return_sequences": True}


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize(
    "make",
    [
        kg.SNU,
        pytest.param(
            lambda **k: keras.layers.RNN(kg.SNUCell(**k), **OPTIONS), marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.parametrize("trainable_decay", [None, "scalar", "unit"])
def test_slow_leak_in_half_precision(make, policy, trainable_decay):
    """A constant current of 2^-10, which half precision has exactly, for 3000 steps.

    The potential after k steps is 2^-10 * (1 - .999^k) / .001, which exceeds 1/2 with k = 718; a
    leak of 1 - 2^-8 = .99609 would end at 1/4, and a sum in half precision too.
    """
    arguments = {"decay": 0.999, "trainable_decay": trainable_decay, "kernel_initializer": "ones"}
    half = keras.initializers.Constant(-0.5)
    if make is kg.SNU:
        arguments |= OPTIONS
    keras.config.set_dtype_policy(policy)
    layer = make(units=1, bias_initializer=half, **arguments)
    outputs = np.array(layer(np.full((1, 3000, 1), 2.0**-10))[0], "float32").ravel()
    expected = np.zeros(3000)
    expected[717::718] = 1
    np.testing.assert_array_equal(outputs, expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_states_keep_their_precision_from_call_to_call(policy):
    arguments = {"decay": 0.999, "kernel_initializer": "ones", "dtype": policy}
    x = np.full((1, 1, 1), 2.0**-10)
    stateful = kg.SNU(1, stateful=True, return_state=True, **arguments)
    by_hand = kg.SNU(1, return_state=True, **arguments)
    states = None
    for _ in range(300):
        potential = stateful(x)[2]
        _, *states = by_hand(x, initial_state=states)
    assert potential.dtype == states[1].dtype == "float32"
    expected = 2.0**-10 * (1 - 0.999**300) / 0.001
    np.testing.assert_allclose([potential, states[1]], [[[expected]]] * 2, rtol=1e-5)
    symbols = by_hand(keras.Input((5, 1)))
    assert [symbol.dtype for symbol in symbols] == [policy[6:], "float32", "float32"]


def test_nan_is_passed_on():
    x = X.copy()
    x[0, 3] = np.nan
    output, _, potential = kg.SNU(4, return_state=True, input_activation="linear", reset="none")(x)
    assert np.isnan(potential[0]).all() and np.isfinite(potential[1:]).all()
    assert np.isnan(output[0]).all() and np.isin(output[1:], [0, 1]).all()


@pytest.mark.parametrize(
    "layer",
    [kg.SNU(5), kg.SNU(5, unroll=True), kg.Spiking(kg.Synaptic())],
    ids=lambda layer: layer.name,
)
def test_states_and_masks_of_other_shapes_are_refused(layer):
    x = np.ones((2, 4, 5), "float32")
    count = len(layer.cell.state_size)
    for states in ([np.zeros((2, 5))] * (count - 1), [np.zeros((3, 5))] * count, np.zeros((2, 5))):
        with pytest.raises(ValueError, match=rf"`initial_state`.*list of {count}.*Received"):
            layer(x, initial_state=states)
    for shape in ((2, 3), (3, 4), (2, 4, 1)):
        with pytest.raises(ValueError, match=r"`mask`.*\(batch, time\)"):
            layer(x, mask=np.ones(shape, bool))
    expected = layer(x, mask=np.ones((2, 4), bool))
    np.testing.assert_array_equal(layer(x, mask=np.ones((1, 4), bool)), expected)


# GRAPES.


def factor_of(*kernels):
    importance = sum(np.abs(np.array(kernel)).sum(0) for kernel in kernels)
    return np.clip(2 * importance / importance.max(), 1, 2)


@pytest.mark.parametrize("recurrent", [False, True])
def test_error_modulation_multiplies_the_error_of_each_unit(recurrent):
    x = tf.constant(X)
    weights = [RNG.normal(size=(12, 7, 5)).astype("float32")]
    layer = kg.SNU(5, return_sequences=True, recurrent=recurrent)
    wrapped = kg.ErrorModulation(layer)
    wrapped.build(x.shape)
    cell = layer.cell
    factor = factor_of(cell.kernel, *([cell.recurrent_kernel] if recurrent else []))
    assert factor.min() < 1.9
    expected = values_and_gradients(layer, x, [weights[0] * factor])
    actual = values_and_gradients(wrapped, x, weights)
    np.testing.assert_array_equal(actual[0], expected[0])
    assert_same(actual[1:], expected[1:])


def test_propagate_wraps_the_hidden_layers():
    model = kg.propagate(make_model())
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["ErrorModulation", "ErrorModulation", "SNU", "GlobalAveragePooling1D"]
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(model(X), kg.strip(model)(X))


def test_grapes_multiplies_the_update_of_each_unit():
    plain, grapes = make_model(), make_model()
    plain.compile(keras.optimizers.SGD(0.1), "mse")
    grapes.compile(kg.Grapes(keras.optimizers.SGD(0.1), model=grapes), "mse")
    before = [np.array(w) for w in plain.get_weights()]
    for model in (plain, grapes):
        model.train_on_batch(X, Y)
    hidden = plain.layers[0].cell
    names = [w.name for w in plain.weights]
    kernel, recurrent = names.index("kernel"), names.index("recurrent_kernel")
    factor = factor_of(before[kernel], before[recurrent])
    for place in (kernel, recurrent):
        plain_step = plain.get_weights()[place] - before[place]
        step = grapes.get_weights()[place] - before[place]
        assert np.abs(plain_step).max() > 0
        np.testing.assert_allclose(step, factor * plain_step, rtol=1e-3, atol=1e-7)
    assert hidden.recurrent


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"units": 0}, "`units` must be a positive int.*units=0"),
        ({"units": 2.0}, "units=2.0"),
        ({"units": 2, "decay": 1.5}, "`decay` must be a number from 0 to 1.*1.5"),
        ({"units": 2, "decay": 1.0, "trainable_decay": "unit"}, "trainable `decay` must start"),
        ({"units": 2, "trainable_decay": True}, "`trainable_decay` must be one of"),
        ({"units": 2, "reset": "hard"}, "`reset` must be one of.*'gate'.*'hard'"),
        ({"units": 2, "reset": ["gate"]}, r"`reset` must be one of.*\['gate'\]"),
        ({"units": 2, "recurrent": 1}, "`recurrent` must be True or False.*1"),
        ({"units": 2, "use_bias": "a"}, "`use_bias` must be True or False.*'a'"),
        ({"units": 2, "dropout": 2}, "`dropout` must be a number from 0 to 1"),
        ({"units": 2, "recurrent_dropout": 0.1}, "no `recurrent_dropout`"),
        ({"units": 2, "surrogate": "relu"}, "`surrogate` must be one of.*'relu'"),
        ({"units": 2, "activation": "stepp"}, "stepp"),
        ({"units": 2, "threshold": 1.0}, "threshold"),
    ],
)
@pytest.mark.parametrize("make", [kg.SNU, kg.SNUCell])
def test_bad_arguments(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(**arguments)


def test_no_time_steps():
    for unroll in (False, True):
        with pytest.raises(ValueError, match=r"one time step at least.*\(4, 0, 3\)"):
            kg.SNU(2, unroll=unroll)(np.ones((4, 0, 3)))
    with pytest.raises(ValueError, match="unrolled over a known number of time steps"):
        tf.function(kg.SNU(2, unroll=True), input_signature=[tf.TensorSpec((2, None, 3))])(
            tf.ones((2, 4, 3))
        )


def test_stateful_batches_have_one_size():
    layer = kg.SNU(2, stateful=True)
    layer(np.ones((4, 5, 3)))
    with pytest.raises(ValueError, match=r"must have 4 samples.*batch of 3"):
        layer(np.ones((3, 5, 3)))


@pytest.mark.parametrize("unroll", [False, True])
def test_dropout_of_the_cell_in_a_loop_of_keras(unroll):
    cell = kg.SNUCell(
        8,
        dropout=0.5,
        seed=1,
        input_activation="linear",
        activation="linear",
        decay=0.0,
        use_bias=False,
        kernel_initializer="identity",
    )
    layer = keras.layers.RNN(cell, return_sequences=True, unroll=unroll)
    x = tf.ones((16, 5, 8))
    np.testing.assert_array_equal(layer(x), x)
    first, second = np.array(layer(x, training=True)), np.array(layer(x, training=True))
    assert set(np.unique(first)) == {0.0, 2.0}
    np.testing.assert_array_equal(first, np.repeat(first[:, :1], 5, axis=1))
    assert (first != second).any()


def test_bad_inputs():
    with pytest.raises(ValueError, match="expected ndim=3"):
        kg.SNU(2)(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"number of features.*must be known"):
        kg.SNU(2).build((None, 3, None))
    with pytest.raises(ValueError, match="Wrap the recurrent layer"):
        kg.ErrorModulation(kg.SNUCell(2))


@pytest.mark.parametrize(
    "layer, cell, but",
    [
        (kg.SNU, kg.SNUCell, ""),
        (kg.SSNU, kg.SSNUCell, ""),
        (kg.SSNUCell, kg.SNUCell, ""),
        (kg.ConvSNU2D, kg.SNUCell, "units recurrent"),
    ],
)
def test_the_signature_names_every_argument_with_its_default(layer, cell, but):
    def arguments(cls):
        return {n: p.default for n, p in inspect.signature(cls.__init__).parameters.items()}

    expected, found = arguments(cell), arguments(layer)
    for name, default in expected.items():
        if not name.startswith(tuple(but.split()) or ("-",)):
            is_other = name == "activation" and "SSNU" in layer.__name__
            assert found[name] == ("sigmoid" if is_other else default)
