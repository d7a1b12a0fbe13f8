import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes.linear import linear_map

LAYERS = {
    "dense": (layers.Dense(4, "tanh", bias_initializer="ones"), (3,)),
    "without a bias": (layers.Dense(4, use_bias=False), (5, 3)),
    "einsum": (layers.EinsumDense("abc,cde->abde", (5, 2, 4), "relu", bias_axes="de"), (5, 3)),
    "einsum, ellipsis": (layers.EinsumDense("...x,xy->...y", 4, bias_axes="y"), (5, 3)),
    "conv": (layers.Conv2D(6, 2, strides=2, groups=3, activation="tanh"), (6, 6, 3)),
    "causal": (layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (7, 3)),
    "3d": (layers.Conv3D(4, 2), (3, 3, 3, 2)),
    "transposed": (layers.Conv2DTranspose(4, 3, strides=2, output_padding=1), (4, 4, 3)),
    "depthwise": (layers.DepthwiseConv2D(2, depth_multiplier=2), (4, 4, 3)),
    "depthwise over time": (layers.DepthwiseConv1D(2, activation="tanh"), (5, 3)),
    "separable": (layers.SeparableConv2D(4, 2, depth_multiplier=2), (4, 4, 3)),
    "separable over time": (layers.SeparableConv1D(4, 2, padding="same"), (5, 3)),
    "recurrent": (layers.SimpleRNN(4, return_sequences=True, go_backwards=True), (5, 3)),
    "spiking": (kg.SNU(4, recurrent=True, reset="soft"), (5, 3)),
    "soft spiking": (kg.SSNU(4, return_sequences=True, return_state=True), (5, 3)),
    "spiking cell": (layers.RNN(kg.SNUCell(4), return_sequences=True), (5, 3)),
    "spiking maps": (kg.ConvSNU2D(2, 2, return_sequences=True), (3, 5, 5, 2)),
    "each step": (layers.TimeDistributed(layers.Conv1D(4, 2, activation="tanh")), (3, 5, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_its_linear_map_and_what_follows(name):
    layer, shape = LAYERS[name]
    layer = type(layer).from_config(layer.get_config())
    x = 2 * np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    expected = keras.tree.flatten(layer(x))
    linear = linear_map(layer)
    kernels = [keras.ops.convert_to_tensor(kernel) for kernel in linear.kernels]
    before = linear.apply(keras.ops.convert_to_tensor(x), *kernels)
    for a, b in zip(keras.tree.flatten(linear.finish(before)), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    # Linear in the inputs, and in kernels that are not the layer's own.
    twice = linear.apply(keras.ops.convert_to_tensor(-2 * x), *kernels)
    np.testing.assert_allclose(twice, -2 * before, rtol=1e-4, atol=1e-5)
    other = linear.apply(keras.ops.convert_to_tensor(x), 3 * kernels[0], *kernels[1:])
    np.testing.assert_allclose(other, 3 * before, rtol=1e-4, atol=1e-5)
    # And the layer is as it was.
    for a, b in zip(keras.tree.flatten(layer(x)), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", [layers.LSTM(3), layers.Embedding(4, 3), layers.Dense(3)])
def test_layers_without_one(layer):
    if not isinstance(layer, layers.Dense):
        layer(np.zeros((1, 2, 3), "int32") if isinstance(layer, layers.LSTM) else np.zeros((1, 2)))
    assert linear_map(layer) is None  # `Dense` is not built.


class Doubled(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def test_call_of_ones_own_is_refused_until_it_is_registered(monkeypatch):
    layer = Doubled(3)
    layer.build((None, 2))
    with pytest.raises(ValueError, match=r"`call` of its own.*register_linear_map"):
        linear_map(layer)
    registry = kg.linear._linear_maps
    monkeypatch.setattr(registry, "functions", dict(registry.functions))

    @kg.register_linear_map(Doubled)
    def doubled(layer):
        return kg.LinearMap(layer.kernel, lambda x, w: 2 * keras.ops.matmul(x, w))

    x = keras.ops.ones((1, 2))
    linear = linear_map(layer)
    np.testing.assert_allclose(linear.finish(linear.apply(x, layer.kernel)), layer(x), rtol=1e-6)


def test_wrong_registrations_are_named(monkeypatch):
    with pytest.raises(TypeError, match=r"`register_linear_map` takes a subclass.*Received: 3"):
        kg.register_linear_map(3)
    registry = kg.linear._linear_maps
    monkeypatch.setattr(registry, "functions", dict(registry.functions))
    kg.register_linear_map(Doubled)(lambda layer: layer.kernel)
    layer = Doubled(3)
    layer.build((None, 2))
    with pytest.raises(TypeError, match="registered for `Doubled` must be a"):
        linear_map(layer)
