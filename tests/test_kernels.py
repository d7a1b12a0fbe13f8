"""The kernel that acts is the one by which the layer multiplies: it is read off its outputs."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes import kernels
from keras_grapes.groups import layer_groups
from tests import reference

EINSUMS = {
    "abc,cd->abd": ((4, 6), (None, 3)),
    "abc,cde->abde": ((4, 6), (None, 2, 3)),
    "abc,cde->abed": ((4, 6), (None, 3, 2)),
    "abc,dc->abd": ((4, 6), (None, 3)),
    "abcd,cde->abe": ((4, 2, 3), (None, 5)),
}
BLOCKS = hasattr(keras.quantizers, "Int4QuantizationConfig")


def build(layer, input_shape):
    inputs = keras.Input(input_shape)
    keras.Model(inputs, layer(inputs))
    # Nodes of very different strength: codes alone are of about one strength.
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=layer.kernel.shape) * (1 + 9 * rng.random(layer.kernel.shape[-1]))
    layer.kernel.assign(kernel)
    return layer


def quantize(layer, mode):
    if not BLOCKS and mode.startswith("int4"):
        pytest.skip("this Keras has no int4 with blocks")
    if mode.startswith("int4"):
        size = {"int4": -1, "int4 in blocks": 2}[mode]
        layer.quantize("int4", config=keras.quantizers.Int4QuantizationConfig(block_size=size))
    else:
        layer.quantize(mode)


def enable_lora(layer):
    layer.enable_lora(2)
    rng = np.random.default_rng(1)
    layer.lora_kernel_b.assign(rng.normal(size=layer.lora_kernel_b.shape))


def acting(layer):
    kernel = kernels.acting_kernel(layer)
    assert isinstance(kernel, kernels.ComputedKernel)
    assert tuple(kernel.shape) == tuple(kernel.value().shape)
    return keras.ops.convert_to_numpy(kernel.value())


def answers_to_ones(layer, input_shape):
    """What the layer makes of inputs of which one is 1 and the others 0."""
    size = int(np.prod(input_shape))
    ones = np.eye(size, dtype="float32").reshape(1, size, *input_shape)
    return ones, keras.ops.convert_to_numpy(layer(ones))


@pytest.mark.parametrize("mode", ["int8", "int4", "int4 in blocks"])
def test_quantized_dense(mode):
    layer = build(layers.Dense(7), (5,))
    quantize(layer, mode)
    ones = np.eye(5, dtype="float32")
    np.testing.assert_allclose(acting(layer), layer(ones), atol=1e-4)
    enable_lora(layer)
    np.testing.assert_allclose(acting(layer), layer(ones), atol=1e-4)


@pytest.mark.parametrize("mode", ["int8", "int4", "int4 in blocks"])
@pytest.mark.parametrize("equation", EINSUMS)
def test_quantized_einsum_dense(equation, mode):
    shape, output_shape = EINSUMS[equation]
    layer = build(layers.EinsumDense(equation, output_shape), shape)
    quantize(layer, mode)
    ones, answers = answers_to_ones(layer, shape[1:])
    np.testing.assert_allclose(np.einsum(equation, ones, acting(layer)), answers, atol=1e-4)
    if equation in ("abc,dc->abd", "abc,cde->abed"):
        return  # Keras's own LoRA fails for these.
    enable_lora(layer)
    ones, answers = answers_to_ones(layer, shape[1:])
    np.testing.assert_allclose(np.einsum(equation, ones, acting(layer)), answers, atol=1e-4)


@pytest.mark.parametrize("mode, bits", [("gptq", 4), ("gptq", 8), ("awq", 4)])
@pytest.mark.parametrize("equation", [None, "abc,cde->abde"])
def test_calibrated_quantization(mode, bits, equation):
    config_class = getattr(keras.quantizers, f"{mode.upper()}Config", None)
    if config_class is None:
        pytest.skip(f"this Keras has no {mode}")
    layer = layers.Dense(6) if equation is None else layers.EinsumDense(equation, (None, 2, 3))
    build(layer, (8,) if equation is None else (4, 8))
    config = config_class(dataset=None, tokenizer=None, weight_bits=bits, group_size=4)
    layer.quantize(mode, config=config)
    # Until it is calibrated the weights act.
    assert kernels.acting_kernel(layer) is layer.kernel
    rng = np.random.default_rng(0)
    for codes in (layer.quantized_kernel, layer.kernel_zero):
        codes.assign(rng.integers(0, 200, codes.shape).astype("uint8"))
    layer.kernel_scale.assign(rng.random(layer.kernel_scale.shape))
    layer.g_idx.assign(np.arange(8) // 4)
    if mode == "awq":
        layer.awq_scales.assign(0.5 + rng.random(8))
    setattr(layer, f"is_{mode}_calibrated", True)
    ones, answers = answers_to_ones(layer, (8,))
    found = acting(layer)
    assert found.shape == ((8, 6) if equation is None else (8, 2, 3))
    np.testing.assert_allclose(np.tensordot(ones, found, 1), answers, rtol=1e-5, atol=1e-4)


def test_float8_and_plain_layers_have_their_variable():
    layer = build(layers.Dense(4), (3,))
    assert kernels.acting_kernel(layer) is layer.kernel
    layer.quantize("float8")
    assert kernels.acting_kernel(layer) is layer.kernel


def test_a_computed_kernel_is_taken_where_a_kernel_is():
    layer = keras.layers.Dense(2, use_bias=False)
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 4.0], [1.0, 4.0]])])
    layer.quantize("int8")
    (group,) = layer_groups(layer)
    np.testing.assert_allclose(kg.node_importance(group.kernels[0]), [2.0, 8.0], rtol=1e-6)
    np.testing.assert_allclose(kg.Modulation()(list(group.kernels)), [1.0, 2.0], rtol=1e-6)


def test_an_unknown_quantization_is_refused():
    class Later(layers.Dense):
        quantization_mode = "int2"

    layer = Later(3)
    layer.built = True
    with pytest.raises(ValueError, match=r"cannot be told from its codes.*int2"):
        kernels.acting_kernel(layer)


@pytest.mark.parametrize("rank", [1, 2])
def test_convolution_with_adapters(rank):
    layer_class = {1: layers.Conv1D, 2: layers.Conv2D}[rank]
    layer = build(layer_class(4, 2, use_bias=False), (*[6] * rank, 3))
    base = layer.kernel.numpy()
    enable_lora(layer)
    product = layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
    np.testing.assert_allclose(acting(layer), base + product, rtol=1e-5, atol=1e-5)


def test_error_below_a_quantized_layer():
    """By hand: both nodes have codes of one strength, and weights of 2 and 8."""
    layer = layers.Dense(2, use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign([[1.0, 4.0], [1.0, 4.0]])
    layer.quantize("int8")
    (group,) = layer_groups(layer)
    np.testing.assert_allclose(group.factor(kg.Modulation()), [1.0, 2.0], rtol=1e-6)


def test_factor_of_a_layer_with_adapters_follows_them():
    layer = build(layers.Dense(4), (3,))
    (group,) = layer_groups(layer)
    stored = group.variables
    enable_lora(layer)
    (group,) = layer_groups(layer)
    assert group.variables == stored, "the same variable stands for the kernel before and after"
    for _ in range(2):
        effective = layer(np.eye(3, dtype="float32")).numpy() - layer.bias.numpy()
        expected = reference.dense_factor(effective)
        np.testing.assert_allclose(group.factor(kg.Modulation()), expected, rtol=1e-5)
        layer.lora_kernel_b.assign(np.random.default_rng(5).normal(size=(2, 4)))


def test_adapters_count_in_full_precision():
    keras.config.set_dtype_policy("mixed_float16")
    layer = build(layers.Dense(4), (3,))
    base = layer.kernel.numpy()
    enable_lora(layer)
    product = layer.lora_kernel_a.numpy() @ layer.lora_kernel_b.numpy()
    np.testing.assert_allclose(acting(layer), base + product, rtol=1e-6, atol=1e-6)
