"""What holds for all three rules."""

import os
import pathlib
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_grapes as kg
from tests.training import numpy_rules
from tests.training.models import RULES, batch_for, compiled, convolutional, dense, kernels, values

OPTIMIZERS = {
    "sgd": (lambda: keras.optimizers.SGD(0.2), lambda: numpy_rules.SGD(0.2)),
    "momentum": (
        lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        lambda: numpy_rules.SGD(0.1, 0.9),
    ),
    "nesterov": (
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        lambda: numpy_rules.SGD(0.1, 0.9, nesterov=True),
    ),
    "rmsprop": (lambda: keras.optimizers.RMSprop(0.003), lambda: numpy_rules.RMSprop(0.003)),
    "adam": (lambda: keras.optimizers.Adam(0.01), lambda: numpy_rules.Adam(0.01)),
}


@pytest.mark.parametrize("grapes", [False, True])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "name",
    [n if n in ("sgd", "adam") else pytest.param(n, marks=pytest.mark.slow) for n in OPTIMIZERS],
)
@pytest.mark.parametrize("rule", RULES)
def test_trains_as_the_numpy_implementation(rule, name, activation, grapes):
    # In float64, so that no optimizer amplifies a rounding error.
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        model = dense(activation=activation)
        trained = RULES[rule](model, modulation=grapes)
        compiled(trained, OPTIMIZERS[name][0](), run_eagerly=True)
        batches = [batch_for(model, seed=seed) for seed in range(6)]
        expected = numpy_rules.train(
            rule,
            OPTIMIZERS[name][1](),
            model.get_weights(),
            values(trained.feedback_kernels),
            batches,
            activation,
            grapes,
        )
        data = [np.concatenate(part) for part in zip(*batches)]
        trained.fit(*data, batch_size=24, shuffle=False, verbose=0)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grapes", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains_as_the_numpy_implementation_in_float32(rule, grapes, jit_compile):
    model = dense(activation="relu")
    trained = compiled(
        RULES[rule](model, modulation=grapes),
        keras.optimizers.SGD(0.1, momentum=0.9),
        jit_compile=jit_compile,
    )
    batches = [batch_for(model, seed=seed) for seed in range(5)]
    expected = numpy_rules.train(
        rule,
        numpy_rules.SGD(0.1, 0.9),
        model.get_weights(),
        values(trained.feedback_kernels),
        batches,
        "relu",
        grapes,
    )
    for x, y in batches:
        trained.train_on_batch(x, y)
    for weight, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grapes", [False, True])
def test_sample_and_class_weights_weight_the_error(rule_class, grapes):
    model = dense()
    rule = compiled(rule_class(model, modulation=grapes), keras.optimizers.SGD(1.0))
    x, y = batch_for(model)
    sample_weight = np.random.default_rng(1).uniform(size=len(x)).astype("float32")
    name = next(name for name, one in RULES.items() if one is rule_class)
    before = model.get_weights()
    expected = numpy_rules.gradients(
        name,
        before[::2],
        before[1::2],
        values(rule.feedback_kernels),
        x,
        y,
        "tanh",
        grapes,
        sample_weight,
    )
    rule.fit(x, y, sample_weight=sample_weight, batch_size=len(x), verbose=0)
    for old, new, gradient in zip(before, model.get_weights(), expected):
        np.testing.assert_allclose(old - new, gradient, atol=2e-6)

    model.set_weights(before)
    rule.fit(x, y, sample_weight=np.where(y == 1, 3.0, 0.5), batch_size=len(x), verbose=0)
    by_sample = model.get_weights()
    model.set_weights(before)
    class_weight = {0: 0.5, 1: 3.0, 2: 0.5, 3: 0.5}
    rule.fit(x, y, class_weight=class_weight, batch_size=len(x), verbose=0)
    for a, b in zip(by_sample, model.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("grapes", [False, True])
def test_differs_from_back_propagation_in_every_hidden_layer_alone(rule_class, make, grapes):
    model = make()
    rule = compiled(rule_class(model, modulation=grapes))
    x, y = batch_for(model)
    by_rule = rule.gradients(x, y)
    by_bp = rule.gradients(x, y, backpropagate=True)
    of = {
        id(weight): (a.numpy(), b.numpy())
        for weight, a, b in zip(rule.trainable_weights, by_rule, by_bp)
    }
    *hidden, output = kernels(model)
    np.testing.assert_allclose(*of[id(output)], rtol=1e-5, atol=1e-7)
    for kernel in hidden:
        a, b = of[id(kernel)]
        assert np.linalg.norm(a) > 0
        assert np.linalg.norm(a - b) > 0.1 * np.linalg.norm(b)


def test_back_propagation_on_demand_is_that_of_the_model(rule_class):
    model = convolutional()
    rule = compiled(rule_class(model))
    x, y = batch_for(model)
    with tf.GradientTape() as tape:
        probabilities = model(x)
        loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, probabilities))
    expected = tape.gradient(loss, model.trainable_weights)
    for a, b in zip(rule.gradients(x, y, backpropagate=True), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("make", [dense, convolutional])
def test_predicts_what_the_model_predicts_and_shares_its_weights(rule_class, make):
    model = make()
    rule = compiled(rule_class(model, modulation=kg.Modulation()), metrics=["accuracy"])
    x, y = batch_for(model)
    assert rule.model is model
    before = model.get_weights()
    rule.fit(x, y, epochs=2, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.get_weights()))
    np.testing.assert_array_equal(rule.predict(x, verbose=0), model.predict(x, verbose=0))
    np.testing.assert_array_equal(rule(x), model(x))
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    np.testing.assert_allclose(
        rule.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-6
    )


def test_feedback_stays_as_it_is_and_is_reproducible(rule_class):
    model = dense()
    rule = compiled(rule_class(model, seed=3))
    before = values(rule.feedback_kernels)
    rule.fit(*batch_for(model), epochs=2, verbose=0)
    same, other = rule_class(dense(), seed=3), rule_class(dense(), seed=4)
    for kernel, old, a, b in zip(
        rule.feedback_kernels, before, same.feedback_kernels, other.feedback_kernels, strict=True
    ):
        assert not kernel.trainable
        np.testing.assert_array_equal(kernel, old)
        np.testing.assert_array_equal(kernel, a)
        assert not np.array_equal(kernel, b)
    trainable = {id(weight) for weight in rule.trainable_weights}
    assert not trainable & {id(kernel) for kernel in rule.feedback_kernels}


def test_without_a_seed_feedback_follows_the_global_one(rule_class):
    drawn = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        drawn.append(rule_class(dense()).feedback_kernels[0].numpy())
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_kernels_of_one_shape_are_drawn_apart():
    model = dense((6, 8, 8, 8, 8))
    for rule in (kg.FeedbackAlignment(model, seed=0), kg.DirectFeedbackAlignment(model, seed=0)):
        first, second, *_ = values(rule.feedback_kernels)
        assert not np.array_equal(first, second)
    initializer = keras.initializers.RandomNormal(seed=5)
    first, second, *_ = values(
        kg.FeedbackAlignment(model, feedback_initializer=initializer).feedback_kernels
    )
    again = kg.FeedbackAlignment(model, feedback_initializer=initializer).feedback_kernels[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "make, jit_compile",
    [
        (dense, False),
        (convolutional, False),
        pytest.param(dense, True, marks=pytest.mark.slow),
    ],
)
def test_saved_and_loaded_it_goes_on_the_same(rule_class, make, jit_compile, tmp_path):
    model = make()
    modulation = kg.Modulation(bounds=(0.0, 2.0))
    rule = rule_class(model, modulation, "lecun_normal", seed=3)
    compiled(rule, "adam", jit_compile=jit_compile, metrics=["accuracy"])
    x, y = batch_for(model)
    rule.fit(x, y, verbose=0)
    rule.save(tmp_path / "rule.keras")
    rule.save_weights(tmp_path / "rule.weights.h5")
    loaded = keras.saving.load_model(tmp_path / "rule.keras")
    assert type(loaded) is rule_class and loaded.modulation == modulation
    fresh = rule_class(make(), modulation, seed=4)
    fresh.load_weights(tmp_path / "rule.weights.h5")
    for a, b, c in zip(rule.weights, loaded.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    history = rule.fit(x, y, epochs=2, shuffle=False, verbose=0).history
    assert loaded.fit(x, y, epochs=2, shuffle=False, verbose=0).history == history
    for a, b in zip(rule.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_loads_in_a_new_process(tmp_path):
    model = dense()
    rule = compiled(
        kg.DirectFeedbackAlignment(model, modulation=kg.Modulation()), metrics=["accuracy"]
    )
    x, y = batch_for(model)
    rule.fit(x, y, verbose=0)
    rule.save(tmp_path / "rule.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y)
    code = """
        import keras, numpy as np, keras_grapes
        rule = keras.saving.load_model("rule.keras")
        data = np.load("data.npz")
        rule.fit(data["x"], data["y"], shuffle=False, verbose=0)
        np.savez("after.npz", *rule.get_weights())
    """
    root = str(pathlib.Path(kg.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        capture_output=True,
    )
    rule.fit(x, y, shuffle=False, verbose=0)
    for a, b in zip(rule.get_weights(), np.load(tmp_path / "after.npz").values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_config_round_trip(rule_class):
    rule = rule_class(
        dense(), kg.Modulation(unit_mean=True), "glorot_normal", seed=11, name="my_rule"
    )
    config = rule.get_config()
    kept = dict(config)
    again = rule_class.from_config(config)
    assert config == kept
    assert again.name == "my_rule" and again.seed == 11
    assert again.modulation == rule.modulation
    assert isinstance(again.feedback_initializer, keras.initializers.GlorotNormal)
    assert again.model.get_config() == rule.model.get_config()
    for a, b in zip(rule.feedback_kernels, again.feedback_kernels, strict=True):
        np.testing.assert_array_equal(a, b)
    assert rule_class.from_config(rule_class(dense()).get_config()).modulation is None


def test_modulation_none_means_none_and_true_means_grapes(rule_class):
    assert rule_class(dense(), modulation=None).modulation is None
    assert rule_class(dense(), modulation=True).modulation == kg.Modulation()
    assert rule_class(dense(), modulation=False).modulation is None
    with pytest.raises(TypeError, match="`modulation` must be"):
        rule_class(dense(), modulation="grapes")


def test_own_training_loop_trains_by_the_rule(rule_class):
    model = dense()
    rule = compiled(rule_class(model, modulation=kg.Modulation()))
    x, y = batch_for(model)
    for call in ({}, {"training": True}):
        with tf.GradientTape() as tape:
            probabilities = rule(x, **call)
            loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, probabilities))
        for a, b in zip(tape.gradient(loss, rule.trainable_weights), rule.gradients(x, y)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_saturated_softmax_keeps_its_error(rule_class):
    # The probability of the true class is 0 in float32: its logarithm must not be taken.
    model = dense()
    model.layers[-1].bias.assign([200.0, 0.0, 0.0, 0.0])
    rule = compiled(rule_class(model), keras.optimizers.SGD(1.0))
    x, _ = batch_for(model)
    before = model.get_weights()[-1]
    rule.train_on_batch(x, np.ones(len(x), int))
    np.testing.assert_allclose(before - model.get_weights()[-1], [1, -1, 0, 0], atol=1e-5)


@pytest.mark.parametrize(
    "loss, activation", [("mse", "sigmoid"), ("binary_crossentropy", "sigmoid"), ("mae", None)]
)
def test_error_is_the_derivative_by_the_output_pre_activation(rule_class, loss, activation):
    model = keras.Sequential(
        [keras.Input((5,)), layers.Dense(6, "tanh"), layers.Dense(3, activation)]
    )
    rule = rule_class(model)
    rule.compile("sgd", loss=loss)
    x, _ = batch_for(model)
    y = np.random.default_rng(2).uniform(size=(len(x), 3)).astype("float32")
    hidden = np.tanh(x @ values(kernels(model))[0])
    with tf.GradientTape() as tape:
        pre = tf.constant(hidden @ values(kernels(model))[1])
        tape.watch(pre)
        value = rule.compute_loss(x, y, keras.activations.get(activation)(pre))
    error = tape.gradient(value, pre).numpy()
    (feedback,) = values(rule.feedback_kernels)
    expected = x.T @ ((error @ feedback.T) * (1 - hidden**2))
    np.testing.assert_allclose(rule.gradients(x, y)[0], expected, rtol=1e-4, atol=1e-6)


def test_regularizers_act_as_in_back_propagation(rule_class):
    kwargs = {"kernel_regularizer": keras.regularizers.L2(0.1)}
    plain, regularized = dense(), dense(**kwargs)
    regularized.set_weights(plain.get_weights())
    x, y = batch_for(plain)
    a = compiled(rule_class(plain, seed=0)).gradients(x, y)
    rule = compiled(rule_class(regularized, seed=0))
    b = rule.gradients(x, y)
    for place, (kernel, one, other) in enumerate(zip(kernels(plain)[:-1], a[::2], b[::2])):
        np.testing.assert_allclose(other - one, 0.2 * kernel.numpy(), atol=1e-6, err_msg=place)
    np.testing.assert_allclose(
        rule.evaluate(x, y, verbose=0) - compiled(plain).evaluate(x, y, verbose=0),
        sum(0.1 * (k.numpy() ** 2).sum() for k in kernels(plain)[:-1]),
        rtol=1e-4,
    )


@pytest.mark.parametrize("grapes", [False, True])
def test_activity_regularizer_acts_on_its_layer_unmodulated(grapes):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, activity_regularizer=keras.regularizers.L2(0.3)),
            layers.Dense(2, "softmax"),
        ]
    )
    x, y = batch_for(model)
    rule = compiled(kg.DirectFeedbackAlignment(model, grapes, feedback_initializer="zeros"))
    hidden = x @ kernels(model)[0].numpy()
    model(x)
    # Keras takes the mean over the batch, 3.9 the sum.
    share = float(model.losses[0]) / (0.3 * np.sum(hidden**2))
    np.testing.assert_allclose(
        rule.gradients(x, y)[0], x.T @ hidden * 0.6 * share, rtol=1e-4, atol=1e-6
    )
    compiled(model)
    np.testing.assert_allclose(
        rule.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), rtol=1e-5
    )


def test_statistics_and_dropout_advance_once_a_step(rule_class):
    def make():
        keras.utils.set_random_seed(1)
        return keras.Sequential(
            [
                keras.Input((4,)),
                layers.Dense(6),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.Dropout(0.5, seed=3),
                layers.Dense(3, "softmax"),
            ]
        )

    plain, model = make(), make()
    x, y = batch_for(model)
    rule = compiled(rule_class(model, modulation=kg.Modulation()), keras.optimizers.SGD(0.0))
    rule.fit(x, y, epochs=3, batch_size=8, shuffle=False, verbose=0)
    compiled(plain, keras.optimizers.SGD(0.0)).fit(
        x, y, epochs=3, batch_size=8, shuffle=False, verbose=0
    )
    assert plain.non_trainable_variables
    for a, b in zip(plain.non_trainable_variables, model.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_gradients_change_nothing(rule_class):
    model = convolutional()
    rule = compiled(rule_class(model), metrics=["accuracy"])
    x, y = batch_for(model)
    rule.fit(x, y, verbose=0)
    before = values(rule.variables + rule.optimizer.variables)
    rule.gradients(x, y)
    rule.gradients(x, y, backpropagate=True)
    for a, b in zip(before, values(rule.variables + rule.optimizer.variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_layer_stays_and_the_others_learn(rule_class):
    model = dense()
    model.layers[1].trainable = False
    rule = compiled(rule_class(model, modulation=kg.Modulation()))
    before = values(kernels(model))
    rule.fit(*batch_for(model), verbose=0)
    changed = [not np.array_equal(a, b) for a, b in zip(before, values(kernels(model)))]
    assert changed == [True, False, True, True]


def test_nested_and_functional_chains(rule_class):
    x = inputs = keras.Input((6,))
    x = keras.Sequential([keras.Input((6,)), layers.Dense(9, "tanh"), layers.Dense(8, "tanh")])(x)
    x = layers.Dense(7)(x)
    x = layers.Activation("tanh")(x)
    nested = keras.Model(inputs, layers.Softmax()(layers.Dense(4)(x)))
    flat = dense()
    nested.set_weights(flat.get_weights())
    x, y = batch_for(flat)
    a = compiled(rule_class(flat, True, seed=1)).gradients(x, y)
    b = compiled(rule_class(nested, True, seed=1)).gradients(x, y)
    for one, other in zip(a, b, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("grapes", [False, True])
def test_mixed_precision(rule_class, policy, grapes):
    keras.config.set_dtype_policy(policy)
    try:
        model = dense((20, 64, 64, 3))
        rule = compiled(rule_class(model, modulation=grapes), keras.optimizers.SGD(0.2))
    finally:
        keras.config.set_dtype_policy("float32")
    scaled = isinstance(rule.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    full = dense((20, 64, 64, 3))
    full.set_weights(model.get_weights())
    reference = compiled(rule_class(full, modulation=grapes), keras.optimizers.SGD(0.2))
    for a, b in zip(reference.feedback_kernels, rule.feedback_kernels):
        assert b.dtype == "float32"
        a.assign(b)
    x, y = batch_for(model)
    history = rule.fit(x, y, epochs=4, batch_size=24, verbose=0).history["loss"]
    expected = reference.fit(x, y, epochs=4, batch_size=24, verbose=0).history["loss"]
    np.testing.assert_allclose(history, expected, rtol=0.03)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda: keras.optimizers.AdamW(0.01, clipnorm=0.1),
        lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.5, 24)),
        lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2, use_ema=True),
    ],
    ids=["clipnorm", "schedule", "accumulation"],
)
def test_optimizers_of_any_kind_and_several_steps_an_execution(rule_class, make_optimizer):
    model = dense()
    x, y = batch_for(model, 48)
    losses = []
    weights = model.get_weights()
    for steps in (1, 3):
        model.set_weights(weights)
        rule = compiled(
            rule_class(model, True, seed=0), make_optimizer(), steps_per_execution=steps
        )
        fitted = rule.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
        losses.append(fitted.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert losses[0][-1] < losses[0][0]


def test_mirrored_strategy_trains_as_one_device_does(rule_class, two_devices):
    model = dense()
    weights = model.get_weights()
    x, y = batch_for(model)
    plain = compiled(rule_class(model, True, seed=0), keras.optimizers.SGD(0.1))
    plain.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
    expected = model.get_weights()
    with two_devices.scope():
        mirrored = dense()
        rule = compiled(rule_class(mirrored, True, seed=0), keras.optimizers.SGD(0.1))
    mirrored.set_weights(weights)
    rule.fit(x, y, batch_size=24, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(mirrored.get_weights(), expected):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_grapes_optimizer_is_the_local_version_on_the_rule(rule_class):
    model = dense()
    rule = rule_class(model)
    compiled(rule, kg.Grapes(keras.optimizers.SGD(1.0), model=model))
    x, y = batch_for(model)
    before, gradients = model.get_weights(), rule.gradients(x, y)
    rule.train_on_batch(x, y)
    for place, (old, new, gradient) in enumerate(zip(before, model.get_weights(), gradients)):
        hidden_kernel = old.ndim == 2 and place < len(before) - 2
        factor = numpy_rules.factor(np.abs(old).sum(axis=0)) if hidden_kernel else 1.0
        np.testing.assert_allclose(old - new, factor * gradient.numpy(), atol=1e-5)


def among_others(optimizer):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    chosen = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {".*kernel": optimizer})
    return keras.optimizers.MultiOptimizer(chosen)


@pytest.mark.parametrize(
    "wrap", [lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer, among_others]
)
def test_modulating_twice_is_refused(rule_class, wrap):
    model = dense()
    rule = rule_class(model, modulation=kg.Modulation())
    optimizer = wrap(kg.Grapes("sgd", model=model))
    with pytest.raises(ValueError, match="`optimizer` must not be a `Grapes`"):
        rule.compile(optimizer, "sparse_categorical_crossentropy")
    assert not rule.compiled


def test_he_uniform_bound_is_by_the_layer_that_receives():
    model = dense((5, 200, 300, 10))
    bounds = {"fa": [200, 300], "dfa": [200, 300], "ifa": [200]}
    for name, widths in bounds.items():
        kernels_ = RULES[name](model, seed=0).feedback_kernels
        for kernel, width in zip(kernels_, widths, strict=True):
            bound = np.sqrt(6 / width)
            assert 0.98 * bound < np.abs(kernel.numpy()).max() <= bound
    nokland = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    kernel = kg.DirectFeedbackAlignment(model, None, nokland).feedback_kernels[0].numpy()
    assert 0.98 / np.sqrt(200) < np.abs(kernel).max() <= 1 / np.sqrt(200)


def test_inputs_of_another_type_and_structure(rule_class):
    inputs = keras.Input((4, 4, 1))
    x = layers.Flatten()(layers.Rescaling(1 / 255)(inputs))
    model = keras.Model([inputs], layers.Dense(3, "softmax")(layers.Dense(5, "relu")(x)))
    rule = compiled(rule_class(model))
    images = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1), dtype="uint8")
    np.testing.assert_array_equal(rule([images]), model([images]))
    rule.fit(images, np.zeros(12, int), verbose=0)


def functional(name_output):
    inputs = keras.Input((6,))
    output = layers.Dense(4, name="out")(layers.Dense(8, "tanh")(inputs))
    return keras.Model(inputs, name_output(output))


@pytest.mark.parametrize(
    "name_output, name_target",
    [
        (lambda output: output, lambda y: y),
        (lambda output: [output], lambda y: y),
        (lambda output: {"out": output}, lambda y: {"out": y}),
    ],
    ids=["tensor", "list", "dict"],
)
def test_losses_metrics_and_outputs_by_name(rule_class, name_output, name_target):
    model = functional(name_output)
    rule = rule_class(model)
    x, labels = batch_for(functional(lambda output: output))
    y = name_target(np.eye(4)[labels])
    predictions = [one.predict(x, verbose=0) for one in (rule, model)]
    keras.tree.assert_same_structure(*predictions)
    np.testing.assert_array_equal(*(keras.tree.flatten(part)[0] for part in predictions))
    evaluated = []
    for one in (rule, model):
        one.compile("sgd", loss={"out": "mse"}, metrics={"out": ["mae"]})
        evaluated.append(one.evaluate(x, y, verbose=0, return_dict=True))
    assert evaluated[0] == pytest.approx(evaluated[1])
    rule.fit(x, y, verbose=0)
    assert len(rule.gradients(x, y, backpropagate=True)) == 4


def test_dict_of_outputs_saved_and_loaded(rule_class, tmp_path):
    rule = rule_class(functional(lambda output: {"scores": output}))
    rule.compile("sgd", loss={"scores": "mse"})
    x = batch_for(rule.model)[0]
    rule.save(tmp_path / "rule.keras")
    loaded = keras.saving.load_model(tmp_path / "rule.keras")
    np.testing.assert_array_equal(
        loaded.predict(x, verbose=0)["scores"], rule.predict(x, verbose=0)["scores"]
    )
    loaded.fit(x, {"scores": np.zeros((len(x), 4))}, verbose=0)


def test_wrong_input_shape_is_named(rule_class):
    with pytest.raises(ValueError, match=r"expected shape=\(None, 6\)"):
        rule_class(dense())(np.zeros((2, 5), "float32"))


@pytest.mark.parametrize(
    "initializer, message",
    [
        ("he_unifrom", "`feedback_initializer` must be a Keras initializer"),
        (None, "`feedback_initializer` must be a Keras initializer"),
        (lambda shape, dtype=None: np.zeros(shape[::-1]), r"shape \(\d+, \d+\) where"),
        (lambda shape: np.zeros(3), r"shape \(3,\) where"),
        (np.zeros((2, 2)), "`feedback_initializer` makes no feedback kernel of the shape"),
        (
            keras.initializers.Constant(np.ones((3, 3))),
            "`feedback_initializer` makes no feedback kernel of the shape",
        ),
        (lambda shape: np.zeros(shape, "no type"), "`feedback_initializer` makes no feedback"),
    ],
)
def test_wrong_feedback_initializer(rule_class, initializer, message):
    with pytest.raises(ValueError, match=message):
        rule_class(dense(), feedback_initializer=initializer)


@pytest.mark.parametrize("seed", [1.5, "0", True])
def test_wrong_seed(rule_class, seed):
    with pytest.raises(TypeError, match="`seed` must be an int or None"):
        rule_class(dense(), seed=seed)


def test_checkpoint_holds_the_feedback_kernels(rule_class, tmp_path):
    saved, restored = (rule_class(dense(), seed=seed) for seed in (0, 1))
    path = tf.train.Checkpoint(model=saved).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=restored).read(path).assert_consumed()
    for a, b in zip(saved.feedback_kernels, restored.feedback_kernels, strict=True):
        np.testing.assert_array_equal(a, b)


def test_exported_it_serves_the_same(rule_class, tmp_path):
    model = dense()
    rule = compiled(rule_class(model, modulation=kg.Modulation()))
    x, _ = batch_for(model)
    rule.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(x), model.predict(x, verbose=0), atol=1e-6)


def test_learns_real_digits(rule_class):
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    images, labels = sklearn_datasets.load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    rule = rule_class(dense((64, 64, 64, 10)), modulation=kg.Modulation(), seed=0)
    compiled(rule, keras.optimizers.SGD(0.05), metrics=["accuracy"])
    history = rule.fit(images, labels, epochs=8, batch_size=32, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8
