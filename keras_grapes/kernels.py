"""The kernel of a layer as it acts, where it is not simply a variable.

A quantized layer holds integer codes and their scales; a layer with LoRA adds the product of two
adapters to a frozen kernel. In both cases the weights between the nodes are computed.
"""

import keras
import numpy as np
from keras import ops

__all__ = []


class ComputedKernel:
    """A kernel that a layer computes from other variables.

    Attributes:
        layer: The layer.
        variable: The variable that holds the frozen weights or their codes.
        shape: Shape of the kernel, that of the codes where these are not packed.
        has_adapters: Bool, whether LoRA adapters are part of it.
    """

    def __init__(self, layer):
        self.layer = layer
        stored = getattr(layer, "_kernel", None)
        self.variable = layer.quantized_kernel if stored is None else stored
        self.has_adapters = getattr(layer, "lora_enabled", False)
        self.shape = _shape(layer)

    @property
    def name(self):
        return self.variable.name

    @property
    def path(self):
        return self.variable.path

    @property
    def trainable(self):
        return self.variable.trainable

    @property
    def dtype(self):
        return "float32"

    def __array__(self, dtype=None, copy=None):
        return np.asarray(ops.convert_to_numpy(self.value()), dtype)

    def value(self):
        """Returns the weights now, a float32 tensor."""
        weights = _base(self.layer)
        if self.has_adapters:
            layer = self.layer
            product = ops.matmul(
                ops.cast(layer.lora_kernel_a, "float32"), ops.cast(layer.lora_kernel_b, "float32")
            )
            # Of Keras 3.9 the product is added as it is.
            scale = getattr(layer, "lora_alpha", layer.lora_rank) / layer.lora_rank
            weights = weights + scale * product
        return weights


def acting_kernel(layer):
    """Returns the kernel that a layer of Keras multiplies its inputs by.

    Args:
        layer: A built layer with a `kernel`, such as `Dense`, `EinsumDense` or `Conv2D`.

    Returns:
        Its variable, or a `ComputedKernel` where quantization or LoRA compute it.
    """
    if _is_coded(layer) or getattr(layer, "lora_enabled", False):
        return ComputedKernel(layer)
    return layer.kernel


def current(kernel):
    """Returns the weights of a kernel now: of a `ComputedKernel`, a variable or a tensor."""
    return kernel.value() if isinstance(kernel, ComputedKernel) else kernel


def stored_variable(kernel):
    """Returns the variable that stands for a kernel, the same each time it is asked for."""
    return kernel.variable if isinstance(kernel, ComputedKernel) else kernel


def _is_coded(layer):
    """Whether the layer holds codes in place of weights."""
    mode = getattr(layer, "quantization_mode", None)
    if mode in ("gptq", "awq"):
        # Ahead of the calibration the weights act.
        return bool(getattr(layer, f"is_{mode}_calibrated", False))
    if mode in (None, "int8", "int4", "float8"):
        return mode in ("int8", "int4")
    raise ValueError(
        f"The weights of layer '{layer.name}' of type {type(layer).__name__} cannot be told from "
        f"its codes. Received: quantization mode '{mode}'; known are int8, int4, float8, gptq and "
        "awq. Train the layer before you quantize it."
    )


class _WithoutAdapters:
    """A layer as its property `kernel` sees it, with LoRA left out."""

    lora_enabled = False

    def __init__(self, layer):
        self._layer = layer

    def __getattr__(self, name):
        return getattr(self._layer, name)


def _stored(layer):
    """The kernel or its codes, unpacked as the layer's class does it."""
    return type(layer).kernel.fget(_WithoutAdapters(layer))


def _shape(layer):
    if _is_calibrated(layer):
        is_dense = isinstance(layer, keras.layers.Dense)
        return tuple(layer.kernel_shape if is_dense else layer.original_kernel_shape)
    return tuple(_stored(layer).shape)


def _is_calibrated(layer):
    return _is_coded(layer) and layer.quantization_mode in ("gptq", "awq")


def _base(layer):
    """The weights without adapters."""
    stored = ops.cast(_stored(layer), "float32")
    if not _is_coded(layer):
        return stored
    scale = ops.cast(layer.kernel_scale, "float32")
    if _is_calibrated(layer):
        # The codes are (nodes, inputs), a scale for each node and group of inputs.
        weights = ops.transpose(_by_groups(stored, layer, scale, axis=-1))
        if layer.quantization_mode == "awq":
            weights = weights / ops.expand_dims(ops.cast(layer.awq_scales, "float32"), -1)
    elif getattr(layer, "_int4_block_size", None) not in (None, -1):
        rows = ops.reshape(stored, (-1, scale.shape[-1]))
        weights = _by_groups(rows, layer, scale, axis=0)
    elif len(scale.shape) == 1:
        weights = ops.reshape(stored, (-1, scale.shape[0])) / scale
    else:
        weights = stored / _over_einsum_kernel(scale, layer.equation, _shape(layer))
    return ops.reshape(weights, _shape(layer))


def _by_groups(codes, layer, scale, axis):
    """Weights of codes that have a scale and a zero for each group of inputs along `axis`."""
    group = ops.cast(layer.g_idx, "int32")
    zero = ops.cast(layer.kernel_zero, "float32")
    return (codes - ops.take(zero, group, axis=axis)) * ops.take(scale, group, axis=axis)


def _over_einsum_kernel(scale, equation, shape):
    """A scale for each node, laid out as the output of an einsum, over the axes of its kernel."""
    operands, output = equation.replace(" ", "").split("->")
    letters = operands.split(",")[1]
    nodes = sorted((c for c in letters if c in output), key=output.index)
    scale = ops.reshape(scale, [shape[letters.index(c)] for c in nodes])
    kept = [c for c in letters if c in output]
    scale = ops.transpose(scale, [nodes.index(c) for c in kept])
    return ops.reshape(scale, [n if c in output else 1 for n, c in zip(shape, letters)])
