"""What users do with the package, on the backend that Keras runs on.

The numbers are those of NumPy. That backends agree step by step is in `test_agreement.py`; what is
tried here is named in the table of the guide on backends.
"""

import keras
import numpy as np
import pytest
from keras import layers, ops, optimizers

import keras_grapes as kg
from keras_grapes import backend
from tests import reference
from tests.second_derivatives import gradient_of_penalty

pytestmark = pytest.mark.every_backend

RNG = np.random.default_rng(0)
X = RNG.normal(size=(32, 6)).astype("float32")
Y = X[:, :3].argmax(1)


def network():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="hidden"),
            layers.Dense(4, "tanh", name="second"),
            layers.Dense(3, "softmax", name="out"),
        ]
    )


def compiled(model, optimizer="sgd"):
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, **options):
    return model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, **options)


def array(tensor):
    return ops.convert_to_numpy(tensor)


OPTIMIZERS = {
    "sgd": lambda: optimizers.SGD(0.1),
    "nesterov": lambda: optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: optimizers.Adam(0.01),
    "adamw": lambda: optimizers.AdamW(0.01, weight_decay=0.0),
    "adamax": lambda: optimizers.Adamax(0.01),
    "nadam": lambda: optimizers.Nadam(0.01),
    "rmsprop": lambda: optimizers.RMSprop(0.01),
    "adagrad": lambda: optimizers.Adagrad(0.1),
    "adadelta": lambda: optimizers.Adadelta(1.0),
    "adafactor": lambda: optimizers.Adafactor(0.001),
    "lion": lambda: optimizers.Lion(0.01),
    "lamb": lambda: optimizers.Lamb(0.01),
}
if hasattr(optimizers, "Muon"):
    OPTIMIZERS["muon"] = lambda: optimizers.Muon(0.01, weight_decay=None, adam_weight_decay=None)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_first_step_of_grapes_is_the_plain_one_times_the_factor(name):
    shapes = {"kernel": (6, 5), "bias": (5,), "output_kernel": (5, 3)}
    before = {key: RNG.normal(size=shape).astype("float32") for key, shape in shapes.items()}
    gradients = [ops.convert_to_tensor(RNG.normal(size=s), "float32") for s in shapes.values()]

    def step(wrap):
        variables = [keras.Variable(value, name=key) for key, value in before.items()]
        wrap(OPTIMIZERS[name]()).apply(gradients, variables)
        return [array(v) - value for v, value in zip(variables, before.values())]

    plain, modulated = step(lambda optimizer: optimizer), step(kg.Grapes)
    factor = reference.dense_factor(before["kernel"])
    assert factor.min() < 1.9
    for change, expected, by in zip(modulated, plain, (factor, 1.0, 1.0)):
        np.testing.assert_allclose(change, expected * by, rtol=2e-4, atol=1e-6)


def test_moving_averages_decay_and_accumulation_run_with_grapes():
    options = {"use_ema": True, "weight_decay": 1e-3, "gradient_accumulation_steps": 2}
    model = network()
    compiled(model, kg.Grapes(optimizers.SGD(0.1, clipnorm=1.0, **options), model=model))
    before = array(model.layers[0].kernel)
    fit(model)
    assert np.abs(array(model.layers[0].kernel) - before).max() > 1e-4
    assert int(model.optimizer.iterations) in (2, 4)


def test_mixed_precision_trains():
    keras.config.set_dtype_policy("mixed_float16")
    model = kg.propagate(network())
    compiled(model, "adam")
    assert np.isfinite(fit(model).history["loss"][-1])
    assert keras.backend.standardize_dtype(model.layers[0].kernel.dtype) == "float32"


@pytest.mark.parametrize("first", ["copy", "model"])
def test_a_model_and_its_copies_live_side_by_side(first):
    model = compiled(network())
    propagated = compiled(kg.propagate(model))
    stripped = compiled(kg.strip(propagated))
    before = model.predict(X, verbose=0)
    np.testing.assert_array_equal(propagated.predict(X, verbose=0), before)
    trained, other = (propagated, model) if first == "copy" else (model, propagated)
    fit(trained)
    np.testing.assert_array_equal(other.predict(X, verbose=0), before)
    np.testing.assert_array_equal(stripped.predict(X, verbose=0), before)
    assert np.abs(trained.predict(X, verbose=0) - before).max() > 1e-4


def test_error_is_multiplied_in_the_backward_pass_alone():
    layer = kg.ErrorModulation(layers.Dense(5))
    layer.build((None, 6))
    kernel = array(layer.layer.kernel)
    factor = reference.dense_factor(kernel)
    x = keras.Variable(X[:1])
    outputs = array(layer(x))
    np.testing.assert_allclose(outputs, X[:1] @ kernel, rtol=1e-4, atol=1e-5)
    _, (by_x,) = backend.gradients(lambda: ops.sum(layer(x * 1.0)), [x])
    np.testing.assert_allclose(array(by_x)[0], kernel @ factor, rtol=1e-4)


def test_summary_lists_factors_and_gains():
    text = kg.summary(kg.propagate(network()))
    assert "hidden" in text and "yes: error" in text


def test_saved_and_resumed_training_goes_on(tmp_path):
    model = network()
    compiled(model, kg.Grapes("adam", model=model))
    fit(model)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, restored):
        fit(each)
    for one, other in zip(model.weights, restored.weights, strict=True):
        np.testing.assert_allclose(array(one), array(other), atol=1e-7)


def test_weights_of_a_propagated_and_of_a_spiking_model_are_saved(tmp_path):
    spiking = keras.Sequential([keras.Input((5, 6)), kg.SNU(4), layers.Dense(3, "softmax")])
    for number, model in enumerate((kg.propagate(network()), spiking)):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        restored = keras.models.load_model(path)
        x = RNG.normal(size=(2, *model.input_shape[1:])).astype("float32")
        np.testing.assert_allclose(
            restored.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
        )


@pytest.mark.parametrize("reset", ["gate", "soft", "subtract", "none"])
def test_spiking_layer_equals_its_cell_in_keras_rnn(reset):
    """Also its gradients, behind a mask with a masked start, gaps and rows of one kind."""
    x = RNG.normal(0, 2, size=(4, 6, 3)).astype("float32")
    rows = ("011101", "111111", "000000", "100110")
    mask = ops.convert_to_tensor([[step == "1" for step in row] for row in rows])
    bias = keras.initializers.Constant(-0.2)
    arguments = {"recurrent": True, "reset": reset, "bias_initializer": bias}
    layer = kg.SNU(5, return_sequences=True, **arguments)
    rnn = layers.RNN(kg.SNUCell(5, **arguments), return_sequences=True)
    results = []
    for each in (layer, rnn):
        each.build(x.shape)
        each.set_weights(layer.get_weights())

        def loss(each=each):
            return ops.sum(each(x, mask=mask) * ops.reshape(ops.arange(5.0), (1, 1, 5)))

        outputs = array(each(x, mask=mask))
        _, gradients = backend.gradients(loss, each.trainable_variables)
        results.append([outputs, *map(array, gradients)])
    assert 0.1 < results[0][0].mean() < 0.9
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_convolutional_spiking_layer_trains():
    model = keras.Sequential(
        [
            keras.Input((4, 6, 6, 1)),
            kg.ConvSNU2D(3, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, "softmax"),
        ]
    )
    before = array(model.layers[0].cell.kernel)
    compiled(kg.propagate(model))
    model = compiled(model)
    model.fit(RNG.random((8, 4, 6, 6, 1), "float32"), Y[:8], verbose=0)
    assert np.abs(array(model.layers[0].cell.kernel) - before).max() > 0


def test_rate_coding_spikes_at_its_rates():
    x = np.array([[0.0, 0.25, 1.0]], "float32")
    spikes = array(kg.rate_code(x, steps=2000, seed=1))
    assert spikes.shape == (1, 2000, 3)
    np.testing.assert_allclose(spikes.mean(1)[0], [0, 0.25, 1], atol=5 * np.sqrt(0.19 / 2000))
    np.testing.assert_array_equal(spikes, array(kg.rate_code(x, steps=2000, seed=1)))
    coding = kg.RateCoding(50, seed=1)
    first, second = array(coding(x)), array(coding(x))
    assert (first != second).any()
    np.testing.assert_array_equal(array(kg.RateCoding(50, seed=1)(x)), first)
    with pytest.raises(ValueError, match="0 to 1"):
        kg.rate_code(2 * x, steps=3)


def test_rate_coding_draws_anew_in_every_step_of_fit():
    model = keras.Sequential(
        [keras.Input((6,)), kg.RateCoding(5), kg.SNU(4), layers.Dense(3, "softmax")]
    )
    compiled(model)
    x = np.abs(np.tanh(X))
    state = array(model.layers[0].seed_generator.state)
    model.fit(x, Y, batch_size=8, verbose=0)
    assert (array(model.layers[0].seed_generator.state) != state).any()


def test_surrogate():
    np.testing.assert_allclose(
        array(kg.Surrogate("triangular", slope=2.0)(np.array([-1.0, 0.0, 0.25], "float32"))),
        [0, 1, 0.5],
    )


@pytest.mark.parametrize(
    "rule", [kg.FeedbackAlignment, kg.DirectFeedbackAlignment, kg.IndirectFeedbackAlignment]
)
def test_rules_train_and_are_saved(rule, tmp_path):
    model = rule(network(), modulation=kg.Modulation(), seed=0)
    compiled(model, optimizers.SGD(0.1))
    angle = kg.callbacks.AlignmentAngle(X, Y)
    history = fit(model, epochs=3, callbacks=[angle]).history
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.isfinite(values).all() for values in angle.angles.values())
    model.save(tmp_path / "rule.keras")
    restored = keras.models.load_model(tmp_path / "rule.keras")
    np.testing.assert_allclose(
        restored.predict(X, verbose=0), model.predict(X, verbose=0), atol=1e-6
    )
    for one, other in zip(model.feedback_kernels, restored.feedback_kernels, strict=True):
        np.testing.assert_array_equal(array(one), array(other))


def test_gradients_of_feedback_alignment_are_those_of_numpy():
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "tanh", use_bias=False), layers.Dense(3)]
    )
    rule = kg.FeedbackAlignment(model, seed=0)
    rule.compile("sgd", "mse")
    target = RNG.normal(size=(32, 3)).astype("float32")
    first, second, _ = map(array, rule.gradients(X, target))
    kernel, output_kernel = (array(layer.kernel) for layer in model.layers)
    hidden = np.tanh(X @ kernel)
    error = 2 * (hidden @ output_kernel - target) / target.size
    (feedback,) = map(array, rule.feedback_kernels)
    np.testing.assert_allclose(second, hidden.T @ error, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        first, X.T @ ((error @ feedback.T) * (1 - hidden**2)), rtol=1e-4, atol=1e-6
    )


def test_callbacks_observe_and_leave_training_as_it_is():
    weights = []
    for observed in (True, False):
        keras.utils.set_random_seed(1)
        model = compiled(kg.propagate(network()))
        history = kg.callbacks.ModulationHistory(every=2, unit="batch")
        tasks = kg.callbacks.TaskAccuracy({"all": (X, Y)})
        curve = kg.callbacks.LearningCurve(monitor="accuracy")
        fit(model, epochs=2, callbacks=[history, tasks, curve] if observed else None)
        weights.append([array(w) for w in model.weights])
        if observed:
            np.testing.assert_array_equal(history.records, [0, 2, 4, 6, 8])
            kernel = array(model.layers[0].kernel)
            expected = reference.dense_factor(kernel).mean()
            np.testing.assert_allclose(history.history["hidden"]["mean"][-1], expected, rtol=1e-5)
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_firing_rate_is_recorded():
    model = keras.Sequential(
        [keras.Input((5, 6)), kg.SNU(4, name="snu"), layers.Dense(3, "softmax")]
    )
    rates = kg.callbacks.FiringRate(RNG.random((8, 5, 6), "float32"))
    compiled(model).fit(
        RNG.random((8, 5, 6), "float32"), Y[:8], verbose=0, callbacks=[rates], epochs=2
    )
    assert len(rates.rates["snu"]) == 2
    assert all(0 <= rate <= 1 for rate in rates.rates["snu"])


def test_noise_of_devices_is_another_in_every_step():
    model = keras.Sequential([keras.Input((6,)), layers.Dense(200), layers.Dense(3, "softmax")])
    kg.hardware.constrain(model, kg.hardware.UpdateNoise(0.01, seed=0))
    before = array(model.layers[0].kernel)
    compiled(model, optimizers.SGD(1e-9))
    fit(model)
    # Four steps: twice the noise of one; four times if it were the same in each.
    np.testing.assert_allclose((array(model.layers[0].kernel) - before).std(), 0.02, rtol=0.15)


def test_weights_have_the_bits_of_devices():
    model = network()
    kg.hardware.constrain(model, kg.hardware.FixedPoint(4, rounding="stochastic", seed=0))
    fit(compiled(model))
    codes = array(model.layers[0].kernel) * 8
    np.testing.assert_array_equal(codes, np.round(codes))


def test_statistics_of_weights():
    statistics = kg.analysis.weights.statistics(network())
    assert statistics["hidden"].count == 30


def test_what_needs_tensorflow_says_so(tmp_path):
    if backend.name == "tensorflow":
        assert kg.export_saved_model(network(), tmp_path / "1").is_dir()
        return
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        kg.export_saved_model(network(), tmp_path / "1")
    assert not (tmp_path / "1").exists()


@pytest.mark.parametrize("unit", [kg.SNU, kg.SSNU])
def test_second_derivatives_of_spiking_units(unit):
    rng = np.random.default_rng(3)
    x, kernel = rng.uniform(0, 2, (2, 4, 3)).astype("float32"), rng.normal(size=(3, 8)) / 2
    found = []
    for unroll in (True, False):
        layer = unit(8, return_sequences=True, unroll=unroll)
        layer.build(x.shape)
        layer.cell.kernel.assign(kernel)
        if keras.backend.backend() == "jax" and not unroll:
            with pytest.raises(NotImplementedError, match="unroll=True"):
                gradient_of_penalty(layer, x)
            return
        found.append(ops.convert_to_numpy(gradient_of_penalty(layer, x)))
    assert np.abs(found[0]).max() > 0.01
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)
