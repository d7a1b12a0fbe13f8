"""Rate coding, as a function and as a layer."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg


@pytest.mark.parametrize("rate, value", [(1.0, 0.5), (0.3, 1.0), (0.3, 0.2), (1.0, 0.01)])
def test_spike_rate_lies_in_the_binomial_interval(rate, value):
    spikes = np.asarray(kg.rate_code(np.full((100, 50), value), steps=40, rate=rate, seed=1))
    count, p = spikes.size, rate * value
    # Five standard deviations: a fair coin leaves the interval once in two million.
    assert abs(spikes.sum() - count * p) < 5 * np.sqrt(count * p * (1 - p))
    # Independent from step to step.
    pairs = (spikes[:, 1:] * spikes[:, :-1]).ravel()
    assert abs(pairs.sum() - pairs.size * p**2) < 6 * np.sqrt(pairs.size * p**2)


def test_certain_values():
    spikes = np.asarray(kg.rate_code([[0.0, 1.0]], steps=1000))
    np.testing.assert_array_equal(spikes[0], np.tile([0, 1], (1000, 1)))


def test_shapes_and_dtypes():
    spikes = kg.rate_code(np.zeros((2, 3, 4), "float16"), steps=5)
    assert spikes.shape == (2, 5, 3, 4) and spikes.dtype == "float16"
    assert kg.rate_code([True, False], steps=5).dtype == "float32"
    assert kg.rate_code(np.zeros((0, 3)), steps=5).shape == (0, 5, 3)


def test_seed():
    x = np.full((3, 20), 0.5, "float32")

    def draw(**kwargs):
        return np.asarray(kg.rate_code(x, 10, **kwargs))

    np.testing.assert_array_equal(draw(seed=3), draw(seed=3))
    assert (draw(seed=3) != draw(seed=4)).any()
    assert (draw() != draw()).any()
    first, second = kg.RateCoding(10, seed=5), kg.RateCoding(10, seed=5)
    one, two = np.asarray(first(x)), np.asarray(first(x))
    np.testing.assert_array_equal(one, second(x))
    np.testing.assert_array_equal(two, second(x))
    assert (one != two).any()


def test_fresh_spikes_for_every_batch_in_predict_too():
    model = keras.Sequential([keras.Input((20,)), kg.RateCoding(10)])
    model.compile()
    x = np.tile(np.full((1, 20), 0.5, "float32"), (4, 1))
    first = model.predict(x, batch_size=2, verbose=0)
    assert (first[:2] != first[2:]).any()
    assert (first != model.predict(x, batch_size=2, verbose=0)).any()


def test_steps_in_training_and_in_test():
    coding = kg.RateCoding(steps=3, test_steps=7)
    x = np.zeros((2, 4), "float32")
    assert coding(x, training=True).shape == (2, 3, 4)
    assert coding(x, training=False).shape == coding(x).shape == (2, 7, 4)
    assert coding(keras.Input((4,))).shape == (None, None, 4)
    assert kg.RateCoding(3)(keras.Input((4,))).shape == (None, 3, 4)


def test_in_tf_data():
    coding = kg.RateCoding(steps=6, rate=0.5, seed=0)
    data = tf.data.Dataset.from_tensor_slices(np.ones((8, 30), "float32")).batch(4)
    batches = [spikes.numpy() for spikes in data.map(lambda x: coding(x, training=True))]
    assert [b.shape for b in batches] == [(4, 6, 30), (4, 6, 30)]
    assert (batches[0] != batches[1]).any()
    assert 0.4 < np.mean(batches) < 0.6


def test_config_save_and_load(tmp_path):
    coding = kg.RateCoding(steps=3, rate=0.25, test_steps=7, seed=2)
    restored = kg.RateCoding.from_config(coding.get_config())
    assert restored.get_config() == coding.get_config()
    model = keras.Sequential([keras.Input((5,)), coding, kg.SNU(2)])
    x = np.full((2, 5), 0.5, "float32")
    coding(x)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    # It goes on with the draws where the saved one does.
    np.testing.assert_array_equal(loaded.layers[0](x), coding(x))


@pytest.mark.parametrize(
    "x", [[[0.0, 1.5]], [[-0.1]], [[float("nan")]], np.full((2, 2), 255, "uint8")]
)
def test_values_outside_0_to_1(x):
    with pytest.raises(ValueError, match=r"from 0 to 1.*Divide pixels by 255"):
        kg.rate_code(x, steps=2)
    with pytest.raises(ValueError, match=r"from 0 to 1.*Divide pixels by 255"):
        kg.RateCoding(2)(np.asarray(x))


def test_integers_in_a_graph():
    data = tf.data.Dataset.from_tensors(np.full((2, 2), 255, "uint8"))
    with pytest.raises(ValueError, match="dtype uint8"):
        data.map(kg.RateCoding(2))


def coding_network(jit_compile=False):
    """Four steps of spikes, averaged over time by units that fire at every step with a spike."""
    hidden = kg.SNU(
        6, kernel_initializer="identity", bias_initializer="zeros", return_sequences=True
    )
    model = keras.Sequential(
        [keras.Input((6,)), kg.RateCoding(4), hidden, keras.layers.GlobalAveragePooling1D()]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    return model


RUNS = {
    "predict": lambda model, x: model.predict(x, batch_size=2, verbose=0),
    "fit": lambda model, x: model.fit(x, np.zeros((4, 6)), verbose=0).history["loss"],
    "train_on_batch": lambda model, x: model.train_on_batch(x, np.zeros((4, 6))),
    "dataset": lambda model, x: model.predict(
        tf.data.Dataset.from_tensor_slices(x.astype("float32")).batch(2), verbose=0
    ),
}
OUTSIDE = {
    "bytes": np.arange(24, dtype="uint8").reshape(4, 6),
    "above": np.linspace(0, 1.1, 24).reshape(4, 6),
    "below": np.linspace(-0.1, 1, 24).reshape(4, 6),
    "NaN": np.where(np.arange(24) == 20, np.nan, 0.5).reshape(4, 6),
}


@pytest.mark.parametrize("x", OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_values_outside_0_to_1_in_compiled_code(run, x):
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"from 0 to 1.*by 255"):
        run(coding_network(), x)


@pytest.mark.parametrize("x", OUTSIDE.values(), ids=OUTSIDE)
def test_under_xla_a_sample_with_values_outside_is_not_a_number(x):
    model = coding_network(jit_compile=True)
    outputs = model.predict(x, batch_size=4, verbose=0)
    outside = [not (sample.min() >= 0 and sample.max() <= 1) for sample in x]
    assert any(outside)
    np.testing.assert_array_equal(np.isnan(outputs).any(axis=1), outside)
    np.testing.assert_array_equal(np.isnan(outputs).all(axis=1), outside)
    assert np.isnan(model.train_on_batch(x, np.zeros((4, 6))))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_limits_of_values_in_compiled_code(jit_compile):
    x = np.repeat([[0.0], [1.0]], 6, axis=1)
    outputs = coding_network(jit_compile).predict(x, verbose=0)
    np.testing.assert_array_equal(outputs, x)


def test_served_model_refuses_values_outside(tmp_path):
    kg.export_saved_model(coding_network(), tmp_path / "served")
    serve = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    (outputs,) = serve(**{name: tf.ones((3, 6))}).values()
    np.testing.assert_array_equal(outputs, np.ones((3, 6)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Divide pixels by 255"):
        serve(**{name: tf.fill((3, 6), 255.0)})


def test_subclass_with_a_build_of_its_own():
    class Scaled(kg.RateCoding):
        def build(self, input_shape):
            self.scale = self.add_weight(shape=(), initializer="ones")

        def call(self, inputs, training=False):
            return 3 * self.scale * super().call(inputs, training)

    np.testing.assert_array_equal(Scaled(2)(np.ones((1, 4))), np.full((1, 2, 4), 3.0))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kg.RateCoding(0), "`steps` must be a positive int.*steps=0"),
        (lambda: kg.RateCoding(2.5), "steps=2.5"),
        (lambda: kg.RateCoding(2, test_steps=-1), "`test_steps`.*-1"),
        (lambda: kg.RateCoding(2, rate=1.5), "`rate` must be .*rate=1.5"),
        (lambda: kg.RateCoding(2, seed="x"), "`seed`.*'x'"),
        (lambda: kg.rate_code([[0.5]], 2, rate=-1), "`rate`.*rate=-1"),
        (lambda: kg.rate_code(0.5, 2), "batch axis"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("x", [None, [["a"]]])
def test_what_is_no_number(x):
    with pytest.raises(TypeError, match="`x` must be an array"):
        kg.rate_code(x, 3)


def test_numpy_numbers_are_taken():
    three = np.int64(3)
    coding = kg.RateCoding(three, np.float32(0.5), test_steps=three, seed=three)
    config = coding.get_config()
    assert config == kg.RateCoding(3, 0.5, 3, 3, name=coding.name).get_config()
    json.dumps(config)


def test_checkpoint_continues_the_draws(tmp_path):
    x = np.full((2, 50), 0.5, "float32")
    first, second = kg.RateCoding(4), kg.RateCoding(4)
    first(x)
    path = tf.train.Checkpoint(layer=first).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(layer=second).read(path).assert_consumed()
    np.testing.assert_array_equal(first(x), second(x))
