"""Convolutional spiking neural units."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_grapes as kg
from keras_grapes.layers.conv_snu import ConvSNU2DCell

X = np.random.default_rng(0).uniform(0, 1, (2, 5, 6, 7, 3)).astype("float32")


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": (3, 2), "strides": 2, "padding": "same", "reset": "soft"},
        {"kernel_size": 2, "dilation_rate": 2, "trainable_decay": "unit"},
    ],
)
def test_is_a_convolution_and_the_dynamics_of_snu(arguments):
    layer = kg.ConvSNU2D(
        4,
        **arguments,
        kernel_initializer=keras.initializers.HeNormal(seed=0),
        return_sequences=True,
        return_state=True,
    )
    outputs, *states = layer(X)
    convolution = {"strides": 1, "padding": "valid", "dilation_rate": 1} | {
        name: arguments[name]
        for name in ("strides", "padding", "dilation_rate")
        if name in arguments
    }
    current = np.stack(
        [
            keras.ops.conv(X[:, t], layer.cell.kernel, data_format="channels_last", **convolution)
            for t in range(X.shape[1])
        ],
        axis=1,
    )
    # The same currents, every position as a sample of its own, through dense units of weight 1.
    _, steps, height, width, channels = current.shape
    samples = current.transpose(0, 2, 3, 1, 4).reshape(-1, steps, channels)
    rest = {name: arguments[name] for name in ("reset", "trainable_decay") if name in arguments}
    dense = kg.SNU(4, kernel_initializer="identity", return_sequences=True, **rest)
    expected = np.array(dense(samples)).reshape(-1, height, width, steps, channels)
    np.testing.assert_array_equal(outputs, expected.transpose(0, 3, 1, 2, 4))
    assert 0 < np.mean(outputs) < 1
    np.testing.assert_array_equal(states[0], outputs[:, -1])
    assert layer.compute_output_shape(X.shape) == tuple(o.shape for o in (outputs, *states))


def test_equals_the_cell_in_keras_rnn():
    results = []
    for make in (
        lambda **options: kg.ConvSNU2D(4, 3, kernel_initializer="he_normal", **options),
        lambda **options: keras.layers.RNN(ConvSNU2DCell(4, 3), **options),
    ):
        layer = make(return_sequences=True)
        # `keras.layers.RNN` has no shape to tell for a state that is an image.
        layer.cell.build((2, *X.shape[2:]))
        layer.cell.kernel.assign(np.random.default_rng(1).normal(size=(3, 3, 3, 4)) / 3)
        mask = tf.constant([[True, False, True, True, False], [True, True, True, False, True]])
        with tf.GradientTape() as tape:
            outputs = layer(tf.constant(X), mask=mask)
            loss = tf.reduce_sum(outputs * tf.random.stateless_normal(outputs.shape, (1, 2)))
        results.append(
            [outputs, *tape.gradient(loss, [v.value for v in layer.trainable_variables])]
        )
    for actual, expected in zip(*results):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_trains_saves_and_is_modulated(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 7, 3)),
            kg.RateCoding(4, seed=0),
            kg.ConvSNU2D(4, 3, return_sequences=True),
            keras.layers.TimeDistributed(keras.layers.Flatten()),
            kg.SNU(2, return_sequences=True),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(X[:, 0], np.zeros((2, 2)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(X[:, 0], verbose=0), model.predict(X[:, 0], verbose=0)
    )
    wrapped = kg.propagate(model).layers[1]
    assert isinstance(wrapped, kg.ErrorModulation)
    layer = kg.ConvSNU2D(4, 3, dilation_rate=2, dropout=0.1)
    assert kg.ConvSNU2D.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kg.ConvSNU2D(0, 3), "`filters` must be a positive int.*filters=0"),
        (lambda: kg.ConvSNU2D(2, (3, 3, 3)), "`kernel_size` must be .* 2 of them"),
        (lambda: kg.ConvSNU2D(2, 3, padding="causal"), '`padding` must be "valid" or "same"'),
        (lambda: kg.ConvSNU2D(2, 3, strides=2, dilation_rate=2), "`strides` and `dilation_rate`"),
        (lambda: kg.ConvSNU2D(True, 3), "`filters` must be a positive int. Received: filters=True"),
        (lambda: kg.ConvSNU2D(2, True), "`kernel_size` must be a positive int or 2 of them"),
        (lambda: kg.ConvSNU2D(2, 3, recurrent=True), "no `recurrent`"),
        (lambda: kg.ConvSNU2D(2, 3)(X[0]), "expected ndim=5"),
        (lambda: kg.ConvSNU2D(2, 3)(keras.Input((4, None, None, 3))), "height.*are known"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
