import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes.hardware import Chain, FixedPoint, UpdateNoise, constrain

X = np.random.default_rng(0).normal(size=(32, 6)).astype("float32")
Y = np.arange(32) % 3


def network(**kwargs):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, "tanh", name="hidden", **kwargs),
            layers.Dense(3, "softmax", name="output", **kwargs),
        ]
    )


def fit(model, optimizer="sgd", epochs=1, **kwargs):
    model.compile(optimizer, "sparse_categorical_crossentropy", **kwargs)
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0)
    return model


def is_on_grid(weights, step):
    codes = np.array(weights) / step
    return np.abs(codes - np.round(codes)).max() < 1e-4


def test_nearest_by_hand():
    weights = [0.0, 0.124, 0.126, 0.25, -0.9, 0.876, 2.0, -2.0, np.nan]
    expected = [0.0, 0.0, 0.25, 0.25, -1.0, 0.75, 0.75, -1.0, np.nan]
    np.testing.assert_array_equal(FixedPoint(3)(weights), expected)
    np.testing.assert_array_equal(FixedPoint(3, range=4.0)([1.4, 1.6, -9.0]), [1.0, 2.0, -4.0])
    assert FixedPoint(3)(np.zeros(2, "float16")).dtype == "float16"


@pytest.mark.parametrize("bits", [2, 8, 16])
def test_all_codes_are_kept_as_they_are(bits):
    codes = np.unique(np.linspace(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 1000).round())
    weights = (codes * 0.3 / 2 ** (bits - 1)).astype("float32")
    rounded = FixedPoint(bits, 0.3)(weights)
    np.testing.assert_allclose(rounded, weights, rtol=1e-6)
    np.testing.assert_array_equal(FixedPoint(bits, 0.3)(rounded), rounded)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("bits, largest", [(16, 1.0), (16, 0.3), (5, 0.3)])
def test_stochastic_rounding_keeps_what_is_on_the_grid(bits, largest, dtype):
    weights = np.linspace(-1, 1, 70_000) * largest
    weights = FixedPoint(bits, largest)(keras.ops.convert_to_tensor(weights, dtype))
    constraint = FixedPoint(bits, largest, "stochastic", seed=0)
    for _ in range(3):
        np.testing.assert_array_equal(constraint(weights), weights)


def test_stochastic_rounding_is_right_in_the_mean():
    constraint = FixedPoint(4, rounding="stochastic", seed=0)
    rounded = np.array(constraint(np.full(20_000, 0.3)))
    # 2.4 steps of 1/8: three in 40 % of the cases.
    assert set(np.unique(rounded)) == {0.25, 0.375}
    assert rounded.mean() == pytest.approx(0.3, abs=0.002)
    assert not np.array_equal(rounded, constraint(np.full(20_000, 0.3)))
    again = FixedPoint(4, rounding="stochastic", seed=0)(np.full(20_000, 0.3))
    np.testing.assert_array_equal(rounded, again)


def test_noise_has_the_stddev_and_is_reproducible():
    noise = np.array(UpdateNoise(0.1, range=0.5, seed=1)(np.full(20_000, 0.2)))
    assert noise.mean() == pytest.approx(0.2, abs=0.002)
    assert noise.std() == pytest.approx(0.05, rel=0.03)
    np.testing.assert_array_equal(noise, UpdateNoise(0.1, 0.5, seed=1)(np.full(20_000, 0.2)))
    np.testing.assert_array_equal(UpdateNoise(0)([1.0, 2.0]), [1.0, 2.0])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_noise_is_fresh_at_every_step_of_a_compiled_model(jit_compile):
    model = constrain(network(), UpdateNoise(0.1, seed=0))
    model.compile(
        keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", jit_compile=jit_compile
    )
    kernel = model.layers[0].kernel
    values = [np.array(kernel)]
    for _ in range(3):
        model.train_on_batch(X, Y)
        values.append(np.array(kernel))
    steps = np.diff(values, axis=0)
    assert np.abs(steps.std(axis=(1, 2)) - 0.1).max() < 0.03
    for first, second in ((0, 1), (1, 2)):
        assert abs(np.corrcoef(steps[first].ravel(), steps[second].ravel())[0, 1]) < 0.5


def test_layers_of_one_shape_get_different_noise():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(5), layers.Dense(5)])
    constrain(model, [UpdateNoise(0.1, seed=0)])
    for layer in model.layers:
        layer.kernel.assign(np.zeros((5, 5)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.train_on_batch(np.ones((2, 5)), np.ones((2, 5)))
    assert not np.array_equal(model.layers[0].kernel, model.layers[1].kernel)


@pytest.mark.parametrize(
    "train",
    [
        lambda model: (model, "adam"),
        lambda model: (model, kg.Grapes("adam", model=model)),
        lambda model: (kg.propagate(model), "sgd"),
        lambda model: (kg.DirectFeedbackAlignment(model, modulation=kg.Modulation()), "sgd"),
        lambda model: (model, keras.optimizers.LossScaleOptimizer(kg.Grapes("sgd", model=model))),
    ],
)
def test_goes_with_every_optimizer_and_rule(train):
    model, optimizer = train(network())
    constrain(model, [UpdateNoise(0.01, seed=0), FixedPoint(5, 2.0, "stochastic", seed=0)])
    before = [np.array(w) for w in model.trainable_weights]
    fit(model, optimizer)
    for weight, old in zip(model.trainable_weights, before):
        assert not np.array_equal(weight, old)
        assert is_on_grid(weight, 2 / 16) == (len(weight.shape) == 2)


def test_a_skipped_step_changes_nothing():
    model = constrain(network(), UpdateNoise(0.1))
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())
    model.compile(optimizer, "sparse_categorical_crossentropy")
    before = model.get_weights()
    model.train_on_batch(X * np.inf, Y)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_argument_of_a_layer_and_half_precision():
    constraint = FixedPoint(4)
    model = fit(network(kernel_constraint=constraint, dtype="mixed_float16"), "adam")
    assert is_on_grid(model.layers[0].kernel, 1 / 8)


def test_constrain_a_model_that_was_trained_and_free_it_again():
    model = fit(network())
    constrain(model, FixedPoint(4))
    model.fit(X, Y, verbose=0)
    assert is_on_grid(model.layers[0].kernel, 1 / 8)
    constrain(model, None)
    model.fit(X, Y, verbose=0)
    assert not is_on_grid(model.layers[0].kernel, 1 / 8)


def test_recurrent_and_separable_layers_are_constrained_and_saved(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.SeparableConv1D(4, 2),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True)),
            kg.SSNU(5, recurrent=True),
            layers.Dense(2),
        ]
    )
    constrain(model, FixedPoint(6, 3.0, seed=2))
    model.compile("sgd", "mse")
    model.save(tmp_path / "model.keras")
    for trained in (model, keras.models.load_model(tmp_path / "model.keras")):
        trained.fit(np.ones((4, 8, 3)), np.ones((4, 2)), verbose=0)
        matrices = [w for w in trained.trainable_weights if "kernel" in w.name]
        assert len(matrices) == 9
        assert all(is_on_grid(w, 3 / 32) for w in matrices)


def test_saved_and_loaded_in_a_new_process(tmp_path):
    chain = [UpdateNoise(0.02, 0.7, seed=3), FixedPoint(5, 0.5, "stochastic", seed=4)]
    model = fit(constrain(kg.propagate(network()), chain))
    model.save(tmp_path / "model.keras")
    code = (
        "import numpy as np, keras, keras_grapes as kg\n"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
        "model.fit(np.ones((8, 6)), np.zeros(8), verbose=0)\n"
        "kernel = model.layers[0].layer.kernel\n"
        "noise, fixed = kernel.constraint.constraints\n"
        "assert (noise.stddev, noise.range) == (0.02, 0.7)\n"
        "assert (fixed.bits, fixed.range, fixed.rounding) == (5, 0.5, 'stochastic')\n"
        "assert noise.seed is not None\n"
        "assert np.all(np.array(kernel) * 32 == np.round(np.array(kernel) * 32))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "constraint",
    [
        FixedPoint(6, 0.5, "stochastic", seed=3),
        UpdateNoise(0.1, 2.0),
        Chain([UpdateNoise(0.0, seed=1), FixedPoint(3), keras.constraints.NonNeg()]),
    ],
)
def test_config_round_trip(constraint):
    copy = keras.constraints.deserialize(keras.constraints.serialize(constraint))
    assert type(copy) is type(constraint)
    assert copy.get_config() == constraint.get_config()


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: FixedPoint(1), ValueError, "`bits` must be"),
        (lambda: FixedPoint(17), ValueError, "`bits` must be"),
        (lambda: FixedPoint(8.0), ValueError, "`bits` must be"),
        (lambda: FixedPoint(8, 0), ValueError, "`range` must be"),
        (lambda: FixedPoint(8, (-1, 1)), ValueError, "`range` must be"),
        (lambda: FixedPoint(8, rounding="up"), ValueError, "`rounding` must be"),
        (lambda: FixedPoint(8, 1, "stochastic", seed=0.5), ValueError, "`seed` must be"),
        (lambda: UpdateNoise(-0.1), ValueError, "`stddev` must be"),
        (lambda: UpdateNoise(float("nan")), ValueError, "`stddev` must be"),
        (lambda: UpdateNoise(0.1, seed=-1), ValueError, "`seed` must be"),
        (lambda: Chain([]), TypeError, "`constraints` must be a list"),
        (lambda: Chain(FixedPoint(8)), TypeError, "`constraints` must be a list"),
        (lambda: Chain(["nonneg"]), TypeError, "A constraint must be"),
        (lambda: constrain(network(), abs), TypeError, "A constraint must be"),
        (lambda: constrain("model", FixedPoint(8)), TypeError, "`model` must be"),
        (
            lambda: constrain(keras.Sequential([layers.Dense(2)]), FixedPoint(8)),
            ValueError,
            "must be built",
        ),
    ],
)
def test_bad_use(make, error, message):
    with pytest.raises(error, match=message):
        make()
