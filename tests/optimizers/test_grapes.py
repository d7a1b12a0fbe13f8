import copy
import json
import pickle
import threading
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, optimizers

import keras_grapes as kg
from tests import reference

# All of Keras's optimizers whose step is linear in the learning rate.
LINEAR = {
    "sgd": lambda: optimizers.SGD(0.1),
    "momentum": lambda: optimizers.SGD(0.1, momentum=0.9),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "amsgrad": lambda: optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.0),
    "adamax": lambda: optimizers.Adamax(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "rmsprop momentum": lambda: optimizers.RMSprop(0.01, momentum=0.9, centered=True),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adafactor": lambda: optimizers.Adafactor(0.001),
    "lion": lambda: optimizers.Lion(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
}
# What the oldest supported Keras does not have yet.
if hasattr(optimizers, "Muon"):
    LINEAR["muon"] = lambda: optimizers.Muon(0.01, weight_decay=None, adam_weight_decay=None)
if hasattr(optimizers, "ScheduleFreeAdamW"):
    LINEAR["schedule free"] = lambda: optimizers.ScheduleFreeAdamW(0.01, weight_decay=0.0)
ALL = {**LINEAR, "ftrl": lambda: optimizers.Ftrl(0.1)}


def network(**options):
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="hidden", **options),
            layers.Dense(4, "tanh", name="second"),
            layers.Dense(3, name="out"),
        ]
    )


def data(batch=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, 6)).astype("float32"), rng.integers(0, 3, batch)


def compiled(optimizer, model=None, **options):
    model = model or network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    return model


def fit(model, epochs=1, **options):
    x, y = data(64)
    return model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0, **options)


def values(variables):
    return [v.numpy() for v in variables]


def assert_equal(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def random_variables():
    """A hidden kernel, its bias and an output kernel, and gradients for them."""
    rng = np.random.default_rng(0)
    shapes = [(6, 5), (5,), (5, 3)]
    names = ["kernel", "bias", "kernel"]
    variables = [
        keras.Variable(rng.normal(size=shape), dtype="float32", name=name)
        for shape, name in zip(shapes, names)
    ]
    gradients = [tf.constant(rng.normal(size=shape), "float32") for shape in shapes]
    return variables, gradients


@pytest.mark.parametrize("name", LINEAR)
def test_first_step_is_the_plain_one_times_the_factor(name):
    if name == "schedule free":
        pytest.skip("its first step is an average: see the trajectory test")
    plain, gradients = random_variables()
    modulated, _ = random_variables()
    before = values(plain)
    LINEAR[name]().apply(gradients, plain)
    kg.Grapes(LINEAR[name]()).apply(gradients, modulated)
    factor = reference.dense_factor(before[0])
    assert factor.min() < 1.9
    for i, expected in enumerate([factor, 1.0, 1.0]):
        step, plain_step = modulated[i].numpy() - before[i], plain[i].numpy() - before[i]
        np.testing.assert_allclose(step, plain_step * expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_uniform_factor_is_a_larger_learning_rate(name):
    """With one factor for all nodes every later step, and its state, must be the plain one's."""
    plain, gradients = random_variables()
    modulated, _ = random_variables()
    twice = ALL[name]()
    twice.learning_rate = 2 * float(twice.learning_rate)
    # Only the hidden kernel learns at the larger rate.
    grapes = kg.Grapes(ALL[name](), modulation=kg.Modulation(bounds=(2, 2)))
    for _ in range(5):
        twice.apply(gradients, plain)
        grapes.apply(gradients, modulated)
    np.testing.assert_allclose(modulated[0], plain[0], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ALL)
def test_config_round_trip(name):
    grapes = kg.Grapes(ALL[name](), modulation=kg.Modulation((0, 2)), name="mine")
    config = grapes.get_config()
    copy = json.loads(json.dumps(keras.saving.serialize_keras_object(grapes)))
    for restored in (
        kg.Grapes.from_config(config),
        keras.saving.deserialize_keras_object(copy),
        keras.optimizers.get(copy),
    ):
        assert restored.get_config() == grapes.get_config()
        assert type(restored.inner_optimizer) is type(grapes.inner_optimizer)
    assert "inner_optimizer" in config, "from_config must not change the dict it is given"


@pytest.mark.parametrize(
    "name, with_model", [*((name, True) for name in ALL), ("sgd", False), ("adam", False)]
)
def test_saved_and_resumed_training_equals_uninterrupted_training(name, with_model, tmp_path):
    model = network()
    compiled(kg.Grapes(ALL[name](), model=model if with_model else None), model)
    fit(model, epochs=2)
    model.save(tmp_path / "model.keras")
    fit(model, epochs=2)
    resumed = keras.models.load_model(tmp_path / "model.keras")
    fit(resumed, epochs=2)
    assert_equal(values(resumed.weights), values(model.weights))
    assert_equal(values(resumed.optimizer.variables), values(model.optimizer.variables))


def test_no_state_of_its_own_and_weights_files_move_both_ways(tmp_path):
    path = tmp_path / "state.weights.h5"
    model = compiled(kg.Grapes(optimizers.Adam(0.01)))
    fit(model)
    assert model.optimizer.variables == model.optimizer.inner_optimizer.variables
    assert int(model.optimizer.iterations) == 4
    for source, target in [
        (kg.Grapes(optimizers.Adam()), optimizers.Adam()),
        (optimizers.Adam(), kg.Grapes(optimizers.Adam())),
    ]:
        source, target = compiled(source), compiled(target)
        fit(source)
        source.save_weights(path)
        target.optimizer.build(target.trainable_variables)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            target.load_weights(path)
        assert_equal(values(target.optimizer.variables), values(source.optimizer.variables))
        assert int(target.optimizer.iterations) == 4


def test_state_is_saved_once(tmp_path):
    sizes = []
    for i, optimizer in enumerate([optimizers.Adam(), kg.Grapes(optimizers.Adam())]):
        model = compiled(optimizer, keras.Sequential([keras.Input((300,)), layers.Dense(300)]))
        model.optimizer.build(model.trainable_variables)
        path = tmp_path / f"{i}.weights.h5"
        model.save_weights(path)
        sizes.append(path.stat().st_size)
    assert sizes[1] < 1.05 * sizes[0]


def test_pickle_and_clone():
    model = network()
    compiled(kg.Grapes("adam", model=model), model)
    fit(model)
    clone = pickle.loads(pickle.dumps(model))
    fit(clone)
    fit(model)
    assert_equal(values(clone.weights), values(model.weights))
    fresh = keras.models.clone_model(model)
    assert fresh.optimizer is not model.optimizer
    fresh.set_weights(model.get_weights())
    fit(fresh)
    assert len(fresh.optimizer.groups) == 2


def test_checkpoint(tmp_path):
    model = compiled(kg.Grapes(optimizers.Adam(0.01)))
    fit(model)
    path = tf.train.Checkpoint(optimizer=model.optimizer, model=model).write(str(tmp_path / "c"))
    other = compiled(kg.Grapes(optimizers.Adam(0.01)))
    other.optimizer.build(other.trainable_variables)
    status = tf.train.Checkpoint(optimizer=other.optimizer, model=other).read(path)
    status.assert_existing_objects_matched()
    assert_equal(values(other.optimizer.variables), values(model.optimizer.variables))


def test_deep_copies_are_optimizers_of_their_own():
    model = network()
    grapes = compiled(kg.Grapes("adam", model=model), model).optimizer
    fit(model)
    for again in (copy.deepcopy(grapes), copy.copy(grapes), pickle.loads(pickle.dumps(grapes))):
        assert again.inner_optimizer is not grapes.inner_optimizer
        again.build(model.trainable_variables)
        assert modulated(again) == ["hidden", "second"]
        assert again.get_config() == grapes.get_config()


@pytest.mark.parametrize("jit", [False, True])
def test_fit_equals_a_loop_with_a_tape(jit):
    by_fit = network()
    by_loop = keras.models.clone_model(by_fit)
    by_loop.set_weights(by_fit.get_weights())
    compiled(kg.Grapes(optimizers.SGD(0.1), model=by_fit), by_fit, jit_compile=jit)
    x, y = data()
    by_fit.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0)
    optimizer = kg.Grapes(optimizers.SGD(0.1), model=by_loop)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            value = loss(y, by_loop(x, training=True))
        gradients = tape.gradient(value, by_loop.trainable_variables)
        optimizer.apply(gradients, by_loop.trainable_variables)

    for _ in range(3):
        step()
    for a, b in zip(values(by_fit.weights), values(by_loop.weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_apply_gradients_and_the_other_calling_conventions():
    variables, gradients = random_variables()
    grapes = kg.Grapes(optimizers.SGD(0.1))
    assert grapes.apply([]) is None
    assert not grapes.built, "an empty list must not build the optimizer"
    with pytest.raises(ValueError, match="without `variables`"):
        grapes.apply(gradients)
    assert int(grapes.apply_gradients(zip(gradients, variables))) == 1
    grapes.apply(gradients)
    assert int(grapes.iterations) == 2
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        grapes.apply([None, *gradients[1:]], variables)


def test_raw_tensorflow_variables():
    variables, gradients = random_variables()
    raw = [v.value for v in variables]
    factor = reference.dense_factor(raw[0])
    before = raw[0].numpy()
    kg.Grapes(optimizers.SGD(0.1)).apply(gradients, raw)
    expected = before - 0.1 * gradients[0].numpy() * factor
    np.testing.assert_allclose(raw[0], expected, rtol=1e-5)


def test_kernels_of_one_group_see_the_same_weights():
    """A recurrent kernel is updated after the kernel, but with factors from before both updates."""
    model = keras.Sequential([keras.Input((4, 3)), layers.SimpleRNN(5), layers.Dense(2)])
    cell = model.layers[0].cell
    before = [cell.kernel.numpy(), cell.recurrent_kernel.numpy()]
    factor = reference.factor(sum(reference.importance(w, 0) for w in before))
    grapes = kg.Grapes(optimizers.SGD(1.0), model=model)
    gradients = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    grapes.apply(gradients, model.trainable_variables)
    np.testing.assert_allclose(cell.kernel, before[0] - factor, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cell.recurrent_kernel, before[1] - factor, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cell.bias, -np.ones(5))


def test_every_kind_of_kernel_learns_at_its_nodes_rates():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),
            layers.Conv2DTranspose(3, 3),
            layers.DepthwiseConv2D(2, depth_multiplier=2),
            layers.SeparableConv2D(5, 2),
            layers.Reshape((36, 5)),
            layers.LSTM(3, return_sequences=True),
            layers.EinsumDense("abc,cd->abd", output_shape=(None, 4)),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2),
        ]
    )
    conv, transpose, depthwise, separable, _, lstm, einsum, _, out = model.layers

    def factor(kernel, axes):
        return reference.factor(np.abs(kernel.numpy()).sum(axes, keepdims=True))

    cell = lstm.cell
    gates = reference.factor(
        np.abs(cell.kernel.numpy()).sum(0) + np.abs(cell.recurrent_kernel.numpy()).sum(0)
    )
    expected = {
        id(conv.kernel): factor(conv.kernel, (0, 1, 2)),
        id(transpose.kernel): factor(transpose.kernel, (0, 1, 3)),
        id(depthwise.kernel): factor(depthwise.kernel, (0, 1)),
        id(separable.depthwise_kernel): factor(separable.depthwise_kernel, (0, 1)),
        id(separable.pointwise_kernel): factor(separable.pointwise_kernel, (0, 1, 2)),
        id(cell.kernel): gates,
        id(cell.recurrent_kernel): gates,
        id(einsum.kernel): factor(einsum.kernel, 0),
        id(out.kernel): 1.0,
    }
    variables = model.trainable_variables
    before = values(variables)
    grapes = kg.Grapes(optimizers.SGD(1.0), model=model)
    grapes.apply([keras.ops.ones(v.shape) for v in variables], variables)
    for variable, old in zip(variables, before):
        rate = np.broadcast_to(expected.get(id(variable), 1.0), old.shape)
        np.testing.assert_allclose(old - variable.numpy(), rate, rtol=1e-5, atol=1e-6)


def test_sparse_gradients():
    for name in ("sgd", "momentum", "adam", "rmsprop", "adagrad"):
        variables, gradients = random_variables()
        plain, _ = random_variables()
        before = variables[0].numpy()
        sparse = tf.IndexedSlices(
            tf.ones((2, 5)), indices=tf.constant([1, 3]), dense_shape=tf.constant([6, 5])
        )
        kg.Grapes(LINEAR[name]()).apply([sparse, *gradients[1:]], variables)
        LINEAR[name]().apply([sparse, *gradients[1:]], plain)
        step = variables[0].numpy() - before
        expected = (plain[0].numpy() - before) * reference.dense_factor(before)
        np.testing.assert_allclose(step, expected, rtol=1e-4, atol=1e-6)
        assert not step[[0, 2, 4, 5]].any()


def test_what_belongs_to_the_inner_optimizer_stays_unmodulated():
    """Weight decay before, constraints and moving average after the modulated update."""
    variables, gradients = random_variables()
    before = variables[0].numpy()
    inner = optimizers.SGD(0.1, weight_decay=0.5, clipvalue=0.2, use_ema=True, ema_momentum=0.5)
    grapes = kg.Grapes(inner)
    grapes.apply(gradients, variables)
    clipped = np.clip(gradients[0].numpy(), -0.2, 0.2)
    expected = before * (1 - 0.1 * 0.5) - 0.1 * reference.dense_factor(before) * clipped
    np.testing.assert_allclose(variables[0], expected, rtol=1e-5, atol=1e-6)
    average = inner._model_variables_moving_average[0].numpy()
    # The average starts at the first updated weights.
    np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)
    grapes.finalize_variable_values(variables)
    np.testing.assert_allclose(variables[0], average)


@pytest.mark.parametrize(
    "clipping", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"clipvalue": 0.1}]
)
def test_gradients_are_clipped_before_they_are_modulated(clipping):
    plain, gradients = random_variables()
    modulated, _ = random_variables()
    before = plain[0].numpy()
    optimizers.SGD(0.1, **clipping).apply(gradients, plain)
    kg.Grapes(optimizers.SGD(0.1, **clipping)).apply(gradients, modulated)
    plain_step = plain[0].numpy() - before
    assert np.abs(plain_step).max() < 0.1 * np.abs(gradients[0]).max()
    step = modulated[0].numpy() - before
    np.testing.assert_allclose(
        step, plain_step * reference.dense_factor(before), rtol=1e-4, atol=1e-6
    )


def test_weights_are_overwritten_by_their_moving_average():
    variables, gradients = random_variables()
    before = variables[0].numpy()
    grapes = kg.Grapes(
        optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=2)
    )
    first = before - 0.1 * reference.dense_factor(before) * gradients[0].numpy()
    grapes.apply(gradients, variables)
    np.testing.assert_allclose(variables[0], first, rtol=1e-5, atol=1e-6)
    grapes.apply(gradients, variables)
    second = first - 0.1 * reference.dense_factor(first) * gradients[0].numpy()
    np.testing.assert_allclose(variables[0], 0.75 * first + 0.25 * second, rtol=1e-5, atol=1e-6)


def test_constraint_holds_after_the_step():
    model = compiled(kg.Grapes(optimizers.SGD(1.0)), network(kernel_constraint="non_neg"))
    fit(model)
    assert (model.layers[0].kernel.numpy() >= 0).all()


def test_gradient_accumulation_modulates_once_per_real_step():
    variables, gradients = random_variables()
    before = variables[0].numpy()
    grapes = kg.Grapes(optimizers.SGD(0.1, gradient_accumulation_steps=2))
    grapes.apply(gradients, variables)
    np.testing.assert_array_equal(variables[0], before)
    grapes.apply(gradients, variables)
    expected = before - 0.1 * reference.dense_factor(before) * gradients[0].numpy()
    np.testing.assert_allclose(variables[0], expected, rtol=1e-5, atol=1e-6)
    assert int(grapes.iterations) == 1


def test_automatic_names_are_distinct():
    names = [kg.Grapes("sgd").name for _ in range(2)]
    assert len(set(names)) == 2
    assert all(name.startswith("grapes") for name in names)
    assert kg.Grapes("sgd", name="grapes").name == "grapes"


SETTINGS = {
    "weight_decay": 0.1,
    "clipnorm": 1.0,
    "use_ema": True,
    "ema_momentum": 0.5,
    "ema_overwrite_frequency": 3,
    "gradient_accumulation_steps": 2,
    "loss_scale_factor": 8.0,
}


def test_settings_are_those_of_the_inner_optimizer():
    inner = optimizers.Adam(0.1, **SETTINGS)
    grapes = kg.Grapes(inner)
    for name, value in SETTINGS.items():
        assert getattr(grapes, name) == value
        setattr(grapes, name, value + 1)
        assert getattr(inner, name) == value + 1
    for name in ("clipvalue", "global_clipnorm"):
        assert getattr(grapes, name) is None
        setattr(grapes, name, 0.5)
        assert getattr(inner, name) == 0.5
    # What it adds to the inner optimizer is nothing.
    plain, grapes = optimizers.Adam(0.1, **SETTINGS), kg.Grapes(optimizers.Adam(0.1, **SETTINGS))
    variables, _ = random_variables()
    for optimizer in (plain, grapes):
        optimizer.build(variables)
    assert [v.shape for v in grapes.variables] == [v.shape for v in plain.variables]


def test_settings_that_are_changed_act():
    variables, gradients = random_variables()
    before = variables[0].numpy()
    grapes = kg.Grapes(optimizers.SGD(0.1))
    grapes.weight_decay = 0.5
    grapes.clipvalue = 0.2
    clipped = np.clip(gradients[0].numpy(), -0.2, 0.2)
    np.testing.assert_allclose(grapes._clip_gradients(gradients)[0], clipped)
    grapes.apply(gradients, variables)
    expected = before * (1 - 0.1 * 0.5) - 0.1 * reference.dense_factor(before) * clipped
    np.testing.assert_allclose(variables[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", ["var_list", "var_names"])
def test_variables_that_weight_decay_leaves_out(by):
    variables, gradients = random_variables()
    before = values(variables)
    grapes = kg.Grapes(optimizers.SGD(0.1, weight_decay=0.5))
    grapes.exclude_from_weight_decay(
        **{by: {"var_list": [variables[1]], "var_names": ["bias"]}[by]}
    )
    grapes.apply([0 * gradient for gradient in gradients], variables)
    np.testing.assert_array_equal(variables[1], before[1])
    np.testing.assert_allclose(variables[0], 0.95 * before[0], rtol=1e-6)


def test_every_step_of_several_threads_is_modulated():
    """All threads step with one gradient, from weights whose factors stay as they are."""
    # The factor of a kernel is that of its columns' strength: 1, 1.5 and 2.
    kernel, out = (keras.Variable([[1e3, 1.5e3, 2e3]], name="kernel") for _ in range(2))
    grapes = kg.Grapes(optimizers.SGD(1.0))
    grapes.build([kernel, out])
    rates = []

    def record(gradient, variable, learning_rate):
        rates.append((tuple(variable.shape), np.asarray(learning_rate)))

    grapes._plain_update_step = record
    gradients = [keras.ops.ones((1, 3))] * 2

    def train():
        for _ in range(50):
            grapes.apply(gradients, [kernel, out])

    threads = [threading.Thread(target=train) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    modulated_rates = [rate for _, rate in rates if rate.ndim]
    assert len(rates) == 400
    assert len(modulated_rates) == 200
    for rate in modulated_rates:
        np.testing.assert_allclose(rate, [1.0, 1.5, 2.0])


def test_an_update_outside_of_a_step_is_modulated():
    """As by a user who calls the inner optimizer, which belongs to `Grapes` from then on."""
    variables, gradients = random_variables()
    grapes = kg.Grapes(optimizers.SGD(0.1))
    grapes.build(variables)
    before = variables[0].numpy()
    grapes.inner_optimizer.apply(gradients, variables)
    expected = before - 0.1 * reference.dense_factor(before) * gradients[0].numpy()
    np.testing.assert_allclose(variables[0], expected, rtol=1e-5)


def test_learning_rate_is_the_inner_optimizers():
    grapes = kg.Grapes(optimizers.SGD(0.1))
    grapes.learning_rate = 0.5
    assert float(grapes.inner_optimizer.learning_rate) == 0.5
    schedule = optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = compiled(kg.Grapes(optimizers.SGD(schedule)))
    fit(model)
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.1 * 0.5**4, rtol=1e-6)
    with pytest.raises(TypeError, match="not settable"):
        model.optimizer.learning_rate = 0.1
    restored = kg.Grapes.from_config(model.optimizer.get_config())
    assert restored.inner_optimizer._learning_rate.get_config() == schedule.get_config()


def test_learning_rate_of_a_function():
    rates = iter([0.5, 0.25])
    variables, gradients = random_variables()
    grapes = kg.Grapes(optimizers.SGD(lambda: next(rates)))
    for rate in (0.5, 0.25):
        before = variables[0].numpy()
        grapes.apply(gradients, variables)
        expected = rate * reference.dense_factor(before) * gradients[0].numpy()
        np.testing.assert_allclose(before - variables[0].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_weights_of_the_optimizer_are_set():
    source, target = (compiled(kg.Grapes(optimizers.Adam(0.01))) for _ in range(2))
    fit(source)
    target.optimizer.build(target.trainable_variables)
    target.optimizer.set_weights(values(source.optimizer.variables))
    assert_equal(
        values(target.optimizer.inner_optimizer.variables), values(source.optimizer.variables)
    )


def test_learning_rate_and_averaging_callbacks():
    model = compiled(kg.Grapes(optimizers.SGD(0.1, use_ema=True)))
    fit(
        model,
        epochs=3,
        callbacks=[
            keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1)),
            keras.callbacks.SwapEMAWeights(swap_on_epoch=True),
        ],
        validation_data=data(),
    )
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.1 / 3, rtol=1e-6)


def test_averages_are_swapped_inside_a_multi_optimizer():
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")

    def end_of_epoch(make):
        keras.utils.set_random_seed(0)
        model = network()
        mapping = {".*kernel": make()}
        multi = optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.0), mapping))
        ends = []
        record = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: ends.append(model.layers[0].kernel.numpy())
        )
        # At the end of an epoch the averages take the weights' place.
        swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        fit(compiled(multi, model), callbacks=[record, swap, record])
        trained, averaged = ends
        assert not np.allclose(trained, averaged)
        return averaged

    options = {"use_ema": True, "ema_momentum": 0.5}
    # With factors of 1 the same must come out.
    none = kg.Modulation(bounds=(1, 1))
    plain = end_of_epoch(lambda: optimizers.SGD(0.1, **options))
    wrapped = end_of_epoch(lambda: kg.Grapes(optimizers.SGD(0.1, **options), modulation=none))
    np.testing.assert_allclose(wrapped, plain, rtol=1e-4)


def test_state_tree_has_the_paths_that_a_loaded_model_has(tmp_path):
    inputs = keras.Input((6,))
    outputs = layers.Dense(3, name="out")(layers.Dense(5, name="hidden")(inputs))
    model = keras.Model(inputs, outputs)
    compiled(kg.Grapes(optimizers.Adam(0.01), model=model), model)
    fit(model)
    tree = model.get_state_tree("numpy_array")
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    state = loaded.optimizer.variables
    loaded.optimizer.set_weights([np.zeros(v.shape) for v in state])
    loaded.set_state_tree(tree)
    assert_equal(values(state), values(model.optimizer.variables))
    assert np.abs(state[2].numpy()).max() > 0
    # Whichever way it was built.
    variables, gradients = random_variables()
    applied = kg.Grapes(optimizers.Adam(0.01, name="adam"))
    applied.apply(gradients, variables)
    built = kg.Grapes(optimizers.Adam(0.01, name="adam"))
    built.build(variables)
    assert [v.path for v in applied.variables] == [v.path for v in built.variables]


def test_mixed_float16_with_loss_scaling_and_a_skipped_step():
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    grapes = kg.Grapes(optimizers.SGD(0.1, use_ema=True), model=model)
    compiled(grapes, model)
    assert isinstance(model.optimizer, optimizers.LossScaleOptimizer)
    x, y = data()
    before = values(model.weights)
    model.train_on_batch(np.full_like(x, np.inf), y)
    assert_equal(values(model.weights), before)
    assert int(grapes.iterations) == 0
    fit(model, callbacks=[keras.callbacks.SwapEMAWeights(swap_on_epoch=True)])
    assert int(grapes.iterations) == 4
    assert not np.array_equal(model.layers[0].kernel.numpy(), before[0])
    assert "yes: update" in kg.summary(model)


def test_loss_scale_factor_is_handed_down():
    grapes = kg.Grapes(optimizers.SGD(0.1, loss_scale_factor=128.0))
    assert float(grapes.scale_loss(1.0)) == 128.0
    grapes.loss_scale_factor = None
    assert grapes.inner_optimizer.loss_scale_factor is None
    assert float(grapes.scale_loss(1.0)) == 1.0


def test_loss_is_scaled_as_for_any_optimizer_within_a_loss_scale_optimizer():
    updates = []
    for wrap in (lambda inner: inner, kg.Grapes):
        variables, gradients = random_variables()
        before = variables[0].numpy()
        inner = optimizers.SGD(0.1, loss_scale_factor=128.0)
        scaling = optimizers.LossScaleOptimizer(wrap(inner), initial_scale=64.0)
        assert float(scaling.scale_loss(1.0)) == 64.0
        scaling.apply([64.0 * gradient for gradient in gradients], variables)
        updates.append(variables[0].numpy() - before)
    plain, modulated = updates
    expected = reference.dense_factor(before) * plain
    np.testing.assert_allclose(modulated, expected, rtol=1e-4, atol=1e-6)


def test_variables_that_keras_overwrites_are_not_stepped():
    variables, gradients = random_variables()
    variables[0].overwrite_with_gradient = True
    kg.Grapes(optimizers.SGD(0.1)).apply(gradients, variables)
    np.testing.assert_array_equal(variables[0], gradients[0])


def test_variables_that_came_later_are_refused_as_by_any_optimizer():
    variables, gradients = random_variables()
    grapes = kg.Grapes(optimizers.SGD(0.1))
    grapes.apply(gradients[:2], variables[:2])
    with pytest.raises(ValueError, match="Unknown variable"):
        grapes.apply(gradients, variables)


def test_inside_a_multi_optimizer():
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    model = network()
    grapes = kg.Grapes(optimizers.SGD(1.0))
    mapping = optimizers.OptimizerMap(optimizers.SGD(1.0), {".*kernel": grapes})
    multi = optimizers.MultiOptimizer(mapping)
    before = model.layers[0].kernel.numpy()
    variables = model.trainable_variables
    multi.apply([keras.ops.ones(v.shape) for v in variables], variables)
    step = before - model.layers[0].kernel.numpy()
    expected = np.broadcast_to(reference.dense_factor(before), before.shape)
    np.testing.assert_allclose(step, expected, rtol=1e-5)


def test_saved_inside_a_multi_optimizer(tmp_path):
    if not hasattr(optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    dense = [layers.Dense(6, name=name) for name in ("a", "b", "out")]
    model = keras.Sequential([keras.Input((6,)), *dense])
    grapes = kg.Grapes(optimizers.SGD(0.1), model=model)
    mapping = optimizers.OptimizerMap(optimizers.SGD(0.1), {".*kernel": grapes})
    compile_fit(model, optimizers.MultiOptimizer(mapping))
    assert modulated(grapes) == ["a", "b"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    (grapes,) = [inner for inner in loaded.optimizers if isinstance(inner, kg.Grapes)]
    assert modulated(grapes) == ["a", "b"]


def test_mirrored_over_two_devices_equals_one(two_devices):
    results = []
    x, y = data(64)
    for strategy in (tf.distribute.get_strategy(), two_devices):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model = keras.Sequential(
                [keras.Input((8, 6)), layers.LSTM(5), layers.Dense(4, "relu"), layers.Dense(3)]
            )
            compiled(kg.Grapes(optimizers.AdamW(0.01), model=model), model)
        sequences = np.repeat(x[:, None], 8, axis=1)
        model.fit(sequences, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        results.append(values(model.weights))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_frozen_layers_and_unfreezing():
    model = network()
    model.layers[0].trainable = False
    frozen = model.layers[0].kernel.numpy()
    compiled(kg.Grapes("sgd", model=model), model)
    fit(model)
    np.testing.assert_array_equal(model.layers[0].kernel, frozen)
    assert [g.kernels[0] for g in model.optimizer.groups] == [model.layers[1].kernel]
    model.layers[0].trainable = True
    compiled(kg.Grapes("sgd", model=model), model)
    fit(model)
    assert len(model.optimizer.groups) == 2


def alike():
    """Kernels of one shape, so that a wrong position of one would not be noticed."""
    dense = [layers.Dense(6, use_bias=False, name=name) for name in "abc"]
    return keras.Sequential([keras.Input((6,)), *dense, layers.Dense(6, name="out")])


def pyramid():
    dense = [layers.Dense(units, name=name) for units, name in zip((8, 7, 5), "abc")]
    return keras.Sequential([keras.Input((6,)), *dense, layers.Dense(6, name="out")])


def modulated(optimizer):
    return [group.kernels[0].path.split("/")[-2] for group in optimizer.groups]


def compile_fit(model, optimizer):
    model.compile(optimizer, "mse")
    model.fit(data()[0], data()[0], verbose=0)


def freeze_then_compile(model):
    grapes = kg.Grapes("sgd", model=model)
    model.layers[0].trainable = False
    compile_fit(model, grapes)


def thaw_then_compile(model):
    model.layers[0].trainable = False
    grapes = kg.Grapes("sgd", model=model)
    model.layers[0].trainable = True
    compile_fit(model, grapes)


def train_then_freeze(model):
    compile_fit(model, kg.Grapes("sgd", model=model))
    model.layers[0].trainable = False
    compile_fit(model, model.optimizer)


def freeze_without_compile(model):
    compile_fit(model, kg.Grapes("sgd", model=model))
    model.layers[0].trainable = False


@pytest.mark.filterwarnings("ignore:Skipping variable loading")
@pytest.mark.parametrize(
    "prepare, expected",
    [
        (freeze_then_compile, "bc"),
        (thaw_then_compile, "abc"),
        (train_then_freeze, "bc"),
        (freeze_without_compile, "bc"),
    ],
)
@pytest.mark.parametrize("make", [alike, pyramid])
def test_saved_model_keeps_its_groups_when_layers_are_frozen(make, prepare, expected, tmp_path):
    model = make()
    prepare(model)
    # And once more, from what was loaded.
    for name in ("once.keras", "twice.keras"):
        model.save(tmp_path / name)
        model = keras.models.load_model(tmp_path / name)
        assert modulated(model.optimizer) == list(expected)
    clone = keras.models.clone_model(model)
    clone.optimizer.build(clone.trainable_variables)
    assert modulated(clone.optimizer) == list(expected)


def test_loaded_model_whose_layers_are_frozen_keeps_its_groups(tmp_path):
    model = alike()
    compile_fit(model, kg.Grapes("sgd", model=model))
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    model.layers[1].trainable = False
    model.compile(kg.Grapes.from_config(model.optimizer.get_config()), "mse")
    model.optimizer.build(model.trainable_variables)
    assert modulated(model.optimizer) == ["a", "c"]


def test_weights_shared_between_layers_are_modulated_once():
    shared = layers.Dense(6, name="shared")
    x = keras.Input((6,))
    model = keras.Model(x, layers.Dense(3)(shared(shared(x))))
    assert len(kg.Grapes("sgd", model=model).find_groups(model)) == 1
    # A hidden layer that shares its kernel with the output layer is not modulated.
    tied = keras.Model(x, shared(layers.Dense(6)(shared(x))))
    (group,) = kg.Grapes("sgd", model=tied).find_groups(tied)
    assert group.kernels[0] is not shared.kernel


def test_inner_optimizer_built_before():
    variables, gradients = random_variables()
    inner = optimizers.Adam(0.01)
    inner.apply(gradients, variables)
    grapes = kg.Grapes(inner)
    with pytest.raises(ValueError, match="without `variables`"):
        grapes.apply(gradients)
    grapes.apply(gradients, variables)
    assert len(grapes.groups) == 1
    assert int(grapes.iterations) == 2


def test_weights_within_error_modulation_are_left_alone_with_one_warning():
    model = kg.propagate(network(), select=lambda layer: layer.name == "hidden")
    for given in (None, model):
        compiled(kg.Grapes("sgd", model=given), model)
        with pytest.warns(UserWarning, match="leaves 1 kernels alone") as caught:
            model.optimizer.build(model.trainable_variables)
        # The line that builds it.
        assert caught[0].filename == __file__
        fit(model)
        assert len([w for w in caught if "leaves" in str(w.message)]) == 1
        assert [g.kernels[0] for g in model.optimizer.groups] == [model.get_layer("second").kernel]


def test_weights_within_error_modulation_are_left_alone_among_the_variables_of_a_tape():
    model = kg.propagate(network())
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(model(data()[0]))
    variables = tape.watched_variables()
    grapes = kg.Grapes("sgd")
    with pytest.warns(UserWarning, match="leaves 2 kernels alone"):
        grapes.apply_gradients(zip(tape.gradient(loss, variables), variables))
    assert grapes.groups == []
    assert "no: in an ErrorModulation" in kg.summary(grapes)


def test_subclassed_model():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(5, "relu")
            self.out = layers.Dense(3)

        def call(self, x):
            return self.out(self.hidden(x))

    model = Net()
    model(data()[0])
    compiled(kg.Grapes("sgd", model=model), model)
    fit(model)
    assert [g.kernels[0] for g in model.optimizer.groups] == [model.hidden.kernel]


def test_model_that_is_not_built_is_refused():
    model = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match=r"`model` must be built.*model\.build"):
        kg.Grapes("sgd", model=model)
    with pytest.raises(TypeError, match=r"`model` must be a `keras\.Model`"):
        kg.Grapes("sgd", model="network")


def test_variables_of_another_model_are_refused():
    model = compiled(kg.Grapes("sgd", model=network()))
    for _ in range(2):
        with pytest.raises(ValueError, match="not that model's"):
            fit(model)
    assert not model.optimizer.built


def test_restored_optimizer_refuses_a_model_of_other_shapes():
    model = network()
    config = kg.Grapes("sgd", model=model).get_config()
    other = keras.Sequential([keras.Input((7,)), layers.Dense(2), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"restored.*Grapes\(\.\.\., model=model\)"):
        kg.Grapes.from_config(config).build(other.trainable_variables)


@pytest.mark.parametrize(
    "inner, error, match",
    [
        (None, TypeError, "`inner_optimizer`"),
        (3, TypeError, "`inner_optimizer`"),
        (optimizers.SGD, TypeError, r"write `\(\)`"),
        ("no such optimizer", ValueError, "`inner_optimizer` must name"),
        ({"name": "sgd"}, ValueError, "`inner_optimizer` must name.*Received.*'name': 'sgd'"),
        (lambda: optimizers.LossScaleOptimizer(optimizers.SGD()), ValueError, "way round"),
        (lambda: kg.Grapes("sgd"), ValueError, "way round"),
    ],
)
def test_bad_inner_optimizers_are_refused(inner, error, match):
    if callable(inner) and not isinstance(inner, type):
        inner = inner()
    with pytest.raises(error, match=match):
        kg.Grapes(inner)


def test_one_inner_optimizer_serves_one_wrapper():
    inner = optimizers.SGD()
    kg.Grapes(inner)
    with pytest.raises(ValueError, match="in use by another"):
        kg.Grapes(inner)


@pytest.mark.parametrize(
    "argument", ["learning_rate", "weight_decay", "clipnorm", "use_ema", "loss_scale_factor"]
)
def test_arguments_of_the_inner_optimizer_are_refused(argument):
    with pytest.raises(ValueError, match=f"Set `{argument}` on the `inner_optimizer`"):
        kg.Grapes("sgd", **{argument: 1})


def test_refusal_leaves_the_inner_optimizer_untouched():
    inner = optimizers.SGD()
    with pytest.raises(TypeError):
        kg.Grapes(inner, modulation="yes")
    kg.Grapes(inner)
