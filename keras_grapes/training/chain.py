"""A model as a chain of blocks, each a layer with a kernel and what follows it up to the next."""

import dataclasses

import keras
from keras import layers, ops

from keras_grapes import graph, grouping

WEIGHT_LAYERS = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)

# Layers that bring values to other places and leave them as they are, or pick or average them.
MOVING_LAYERS = (
    layers.Flatten,
    layers.Reshape,
    layers.Permute,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
)

# Layers without a kernel whose weights act within a node; back-propagation stays in the block.
_LOCAL_WEIGHTS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.PReLU,
    layers.RMSNormalization,
)


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A layer without a kernel, with the shapes it maps, the batch left out."""

    layer: keras.layers.Layer
    input_shape: tuple
    output_shape: tuple

    @property
    def moves(self):
        """Whether it only brings values to other places."""
        return isinstance(self.layer, MOVING_LAYERS)


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A layer with a kernel and the layers that follow it up to the next one.

    Attributes:
        layer: The `Dense` or `Conv` layer.
        group: The `keras_grapes.grouping.Group` of its nodes.
        shape: Shape of its output, the batch left out.
        local: Tuple of the `Step`s that follow, up to the last that changes values: activation,
            normalization, dropout, and what moves values ahead of these.
        moving: Tuple of the `Step`s after these that only move values: pooling, `Flatten`.
    """

    layer: keras.layers.Layer
    group: grouping.Group
    shape: tuple
    local: tuple
    moving: tuple

    @property
    def steps(self):
        return (*self.local, *self.moving)

    @property
    def map_shape(self):
        """Shape behind the last step that changes values, the batch left out."""
        return self.local[-1].output_shape if self.local else self.shape

    def kernel(self):
        """Returns the kernel in the precision that the layer computes with."""
        return ops.cast(self.layer.kernel, self.layer.compute_dtype)

    def pre_activation(self, inputs):
        """Returns the layer's output ahead of its activation."""
        inputs = ops.cast(inputs, self.layer.compute_dtype)
        outputs = self.transform(inputs, self.kernel())
        if self.layer.bias is None:
            return outputs
        bias = ops.cast(self.layer.bias, outputs.dtype)
        if getattr(self.layer, "data_format", None) == "channels_first":
            bias = ops.reshape(bias, (-1, *[1] * self.layer.rank))
        return ops.add(outputs, bias)

    def transform(self, inputs, kernel):
        """Returns the layer's linear map of `inputs`, with `kernel` in place of its kernel."""
        layer = self.layer
        if isinstance(layer, layers.Dense):
            return ops.matmul(inputs, kernel)
        padding = layer.padding
        if padding == "causal":
            past = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
            time_axis = 2 if layer.data_format == "channels_first" else 1
            inputs = ops.pad(inputs, [(past if a == time_axis else 0, 0) for a in range(3)])
            padding = "valid"
        return ops.conv(
            inputs,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )


class Chain:
    """A model as a chain of blocks.

    Args:
        model: A built Sequential or Functional `keras.Model` that is a single chain of layers;
            nested models are opened.
        name: String, the name of the class that asks, for the errors.

    Attributes:
        entry: Tuple of the `Step`s ahead of the first layer with a kernel.
        hidden: Tuple of the hidden `Block`s.
        output: The output `Block`.

    Raises:
        TypeError: If `model` is not a `keras.Model`.
        ValueError: If the model is not such a chain, or holds a layer that cannot be in one.
    """

    def __init__(self, model, name):
        self._name = name
        chained = self._chained_layers(model)
        places = [place for place, layer in enumerate(chained) if self._has_kernel(layer)]
        if len(places) < 2:
            raise ValueError(
                f"`{name}` needs a hidden layer: a Dense or Conv layer ahead of the output layer. "
                f"Received: model '{model.name}' with {len(places)} such layers. Without a hidden "
                "layer there is no error to transport: train the model itself."
            )
        steps, inputs = [], model.inputs[0]
        for layer in chained:
            outputs = layer.compute_output_spec(inputs)
            steps.append(Step(layer, tuple(inputs.shape)[1:], tuple(outputs.shape)[1:]))
            inputs = outputs
        self._check_masks(steps)

        self.entry = tuple(steps[: places[0]])
        for step in self.entry:
            if step.layer.trainable_weights:
                raise ValueError(
                    f"`{name}` brings no error to layer '{step.layer.name}' of type "
                    f"{type(step.layer).__name__}, which has trainable weights ahead of the first "
                    "Dense or Conv layer. Freeze it with `trainable=False`, make it without "
                    "weights, or put it behind a Dense or Conv layer."
                )
        blocks = []
        for place, end in zip(places, [*places[1:], len(steps)]):
            block = _make_block(steps[place], steps[place + 1 : end])
            blocks.append(block)
        self.hidden, self.output = tuple(blocks[:-1]), blocks[-1]

    @property
    def blocks(self):
        return (*self.hidden, self.output)

    def _chained_layers(self, model):
        name = self._name
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"`model` must be a `keras.Model`. Received: model={model!r} of type "
                f"{type(model).__name__}"
            )
        if not graph.has_graph(model):
            raise ValueError(
                f"`{name}` takes a Sequential model, or a Functional model that is a single chain "
                f"of layers. Received: the subclassed model '{model.name}' of type "
                f"{type(model).__name__}. Write its layers as a `keras.Sequential`."
            )
        if not model.built:
            raise ValueError(
                f"`{name}` needs a built model, and model '{model.name}' is not. Give it a "
                "`keras.Input`, call `model.build(input_shape)` or call it on data first."
            )
        for side, tensors in (("input", model.inputs), ("output", model.outputs)):
            if len(tensors) != 1:
                raise ValueError(
                    f"`{name}` takes a model that is a single chain of layers. Received: model "
                    f"'{model.name}' with {len(tensors)} {side}s. Give it one {side}."
                )
        chained, pending = [], graph.output_calls(model)
        while pending:
            call, pending = pending[0], pending[0].inputs
            layer = call.layer
            if not isinstance(layer, keras.layers.Layer):
                raise ValueError(
                    f"`{name}` cannot run the plain operation '{layer.name}' of type "
                    f"{type(layer).__name__} in model '{model.name}'. Use a layer in its place, "
                    "such as `keras.layers.Activation` or `keras.layers.Rescaling`."
                )
            if call.input_count > 1:
                raise ValueError(
                    f"`{name}` takes a model that is a single chain of layers. Received: model "
                    f"'{model.name}', whose branches meet in layer '{layer.name}' of type "
                    f"{type(layer).__name__}. Train a model without skips and branches; a mask "
                    "that Keras hands to a layer is a branch too."
                )
            if layer.weights and any(layer is other for other in chained):
                raise ValueError(
                    f"`{name}` cannot train layer '{layer.name}', which model '{model.name}' calls "
                    "more than once. Use a layer of its own at each place."
                )
            chained.append(layer)
        return chained[::-1]

    def _check_masks(self, steps):
        """Refuses a mask that Keras would hand on through a layer with a kernel."""
        mask = source = None
        for step in steps:
            layer = step.layer
            if not layer.supports_masking:
                mask = None
                continue
            if mask is None:
                source = layer
            elif isinstance(layer, WEIGHT_LAYERS):
                raise ValueError(
                    f"`{self._name}` cannot carry the mask of layer '{source.name}' of type "
                    f"{type(source).__name__} through layer '{layer.name}' of type "
                    f"{type(layer).__name__}. Leave the mask out (of an `Embedding` with "
                    "`mask_zero=False`) and weight the time steps by `sample_weight`, or end it "
                    "ahead of that layer, as `GlobalAveragePooling1D` does."
                )
            mask = layer.compute_mask(keras.KerasTensor((None, *step.input_shape)), mask)

    def _has_kernel(self, layer):
        """Whether it is a layer to train; refuses layers that no block can hold."""
        problem = None
        if isinstance(layer, WEIGHT_LAYERS):
            if not any(type(layer).call is base.call for base in WEIGHT_LAYERS):
                problem = "its class has a `call` of its own. Use Keras's own layer"
            elif layer.quantization_mode is not None:
                problem = "it is quantized. Quantize after the training"
            if problem is None:
                return True
        elif any(map(grouping.is_wrapper, [layer, *graph.all_layers(layer)])):
            problem = (
                "it modulates the error by itself. Pass `keras_grapes.strip(model)`, and "
                "`modulation=` for GRAPES"
            )
        elif grouping.nested_groups(layer) or _has_matrix(layer):
            problem = (
                "it has weights between nodes and is neither a Dense nor a Conv1D, Conv2D or "
                "Conv3D layer. Replace it by one of these, or, ahead of the first of these, run it "
                "as a step of preprocessing outside the model"
            )
        if problem:
            raise ValueError(
                f"`{self._name}` cannot train layer '{layer.name}' of type "
                f"{type(layer).__name__}: {problem}."
            )
        return False


def _has_matrix(layer):
    if isinstance(layer, _LOCAL_WEIGHTS):
        return False
    return any(len(weight.shape) > 1 for weight in layer.trainable_weights)


def _make_block(first, following):
    changing = [place for place, step in enumerate(following) if not step.moves]
    end = changing[-1] + 1 if changing else 0
    (group,) = grouping.layer_groups(first.layer)
    return Block(
        layer=first.layer,
        group=group,
        shape=first.output_shape,
        local=tuple(following[:end]),
        moving=tuple(following[end:]),
    )
