import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes.groups import (
    has_unknown_weights,
    layer_groups,
)
from keras_grapes.groups.registry import groupings
from tests.groups.grouped import (
    IMAGE,
    SEQUENCE,
    OutgoingFirst,
    abs_sum,
    built,
    importances,
    output_layers,
)

# One row per layer class: the layer, its input, and each group's sum written out by hand.
SINGLE_KERNEL = [
    (layers.Dense(4), (3,), (0,)),
    (layers.Conv1D(4, 2), SEQUENCE, (0, 1)),
    (layers.Conv2D(4, 3), IMAGE, (0, 1, 2)),
    (layers.Conv2D(6, 3, groups=3), IMAGE, (0, 1, 2)),
    (layers.Conv3D(4, 2), (4, 4, 4, 2), (0, 1, 2, 3)),
    (layers.Conv1DTranspose(4, 2), SEQUENCE, (0, 2)),
    (layers.Conv2DTranspose(4, 3), IMAGE, (0, 1, 3)),
    (layers.Conv3DTranspose(4, 2), (4, 4, 4, 2), (0, 1, 2, 4)),
    (layers.DepthwiseConv1D(2, depth_multiplier=2), SEQUENCE, (0,)),
    (layers.DepthwiseConv2D(3, depth_multiplier=2), IMAGE, (0, 1)),
    (layers.EinsumDense("abc,cde->abde", output_shape=(None, 2, 4)), SEQUENCE, (0,)),
    (layers.EinsumDense("abc,bcd->abd", output_shape=(5, 4)), SEQUENCE, (1,)),
    (layers.EinsumDense("...x,xy->...y", output_shape=4), SEQUENCE, (0,)),
]


@pytest.mark.parametrize("layer, shape, axes", SINGLE_KERNEL, ids=lambda v: getattr(v, "name", ""))
def test_layers_of_one_kernel(layer, shape, axes):
    layer = built(layer, shape)
    (importance,) = importances(layer)
    np.testing.assert_allclose(importance, abs_sum(layer.kernel, axes), rtol=1e-5)


@pytest.mark.parametrize("layer_class", [layers.SeparableConv1D, layers.SeparableConv2D])
def test_separable_convolution_has_two_groups(layer_class):
    shape = SEQUENCE if layer_class is layers.SeparableConv1D else IMAGE
    layer = built(layer_class(4, 2, depth_multiplier=2), shape)
    depthwise, pointwise = importances(layer)
    spatial = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(depthwise, abs_sum(layer.depthwise_kernel, spatial), rtol=1e-5)
    np.testing.assert_allclose(
        pointwise, abs_sum(layer.pointwise_kernel, tuple(range(len(shape)))), rtol=1e-5
    )


@pytest.mark.parametrize("layer_class", [layers.SimpleRNN, layers.LSTM, layers.GRU])
def test_recurrent_layers_sum_both_kernels(layer_class):
    layer = built(layer_class(4), SEQUENCE)
    (importance,) = importances(layer)
    expected = abs_sum(layer.cell.kernel, 0) + abs_sum(layer.cell.recurrent_kernel, 0)
    np.testing.assert_allclose(importance, expected, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutional_lstm(rank):
    layer_class = getattr(layers, f"ConvLSTM{rank}D")
    layer = built(layer_class(2, 2), (2, *[4] * rank, 3))
    (importance,) = importances(layer)
    axes = tuple(range(rank + 1))
    expected = abs_sum(layer.cell.kernel, axes) + abs_sum(layer.cell.recurrent_kernel, axes)
    np.testing.assert_allclose(importance, expected, rtol=1e-5)


def test_bidirectional_groups_each_direction():
    layer = built(layers.Bidirectional(layers.LSTM(4)), SEQUENCE)
    for importance, cell in zip(
        importances(layer), (layer.forward_layer.cell, layer.backward_layer.cell), strict=True
    ):
        expected = abs_sum(cell.kernel, 0) + abs_sum(cell.recurrent_kernel, 0)
        np.testing.assert_allclose(importance, expected, rtol=1e-5)


def test_stacked_cells_have_a_group_each():
    cells = [layers.SimpleRNNCell(4), layers.LSTMCell(2)]
    layer = built(layers.RNN(cells), SEQUENCE)
    groups = layer_groups(layer)
    assert [g.node_shape for g in groups] == [(4,), (8,)]
    assert [g.feeds_output for g in groups] == [False, True]


@pytest.mark.parametrize("inner", [layers.Dense(4), layers.Conv1D(4, 1)])
def test_wrappers_delegate(inner):
    for wrapper in (layers.TimeDistributed, layers.SpectralNormalization):
        inner = type(inner).from_config(inner.get_config())
        shape = (2, *SEQUENCE) if wrapper is layers.TimeDistributed else SEQUENCE
        layer = built(wrapper(inner), shape)
        axes = tuple(range(len(inner.kernel.shape) - 1))
        (importance,) = importances(layer)
        np.testing.assert_allclose(importance, abs_sum(inner.kernel, axes), rtol=1e-5)


@pytest.mark.parametrize(
    "layer, input_shape",
    [
        (layers.MultiHeadAttention(2, 3, value_dim=4), (5, 6)),
        (layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2), (5, 6)),
    ],
)
def test_attention_groups_each_projection(layer, input_shape):
    inputs = keras.Input(input_shape)
    keras.Model(inputs, layer(inputs, inputs))
    groups = layer_groups(layer)
    hidden = [layer._query_dense, layer._key_dense, layer._value_dense]
    assert len(groups) == 4
    for group, dense in zip(groups, [*hidden, layer._output_dense], strict=True):
        (kernel,) = group.kernels
        assert kernel is dense.kernel
        axes = (0, 1) if dense is layer._output_dense else (0,)
        assert group.incoming_axes == [axes]
        assert group.feeds_output == (dense is layer._output_dense)


def test_every_keras_layer_with_a_kernel_is_registered():
    """A new Keras layer with a kernel must not be grouped by a guess."""
    # A spectrogram is a fixed transform.
    skipped = {"STFTSpectrogram"}
    for name in dir(layers):
        layer_class = getattr(layers, name)
        if not (isinstance(layer_class, type) and issubclass(layer_class, layers.Layer)):
            continue
        source = layer_class.__dict__.get("build")
        names = source.__code__.co_names + source.__code__.co_consts if source else ()
        owns_kernel = any("kernel" in str(n) for n in names)
        if name not in skipped and owns_kernel:
            assert any(base in groupings.functions for base in layer_class.__mro__), name


@pytest.mark.parametrize(
    "layer, shape",
    [
        (layers.Embedding(5, 4), ()),
        (layers.BatchNormalization(), (3,)),
        (layers.LayerNormalization(axis=(1, 2)), (3, 4)),
        (layers.Dropout(0.1), (3,)),
    ],
)
def test_layers_without_nodes(layer, shape):
    assert layer_groups(built(layer, shape)) == []


def test_subclasses_are_grouped_as_their_base():
    class Transposed(layers.Conv2DTranspose):
        pass

    layer = built(Transposed(4, 3), IMAGE)
    (group,) = layer_groups(layer)
    assert group.incoming_axes == [(0, 1, 3)]
    assert not group.guessed


def test_every_weight_of_keras_layers_is_known():
    """A matrix of a layer of Keras that is no kernel is not one of an unknown class."""
    for layer, shape in [(layers.PReLU(), (5, 3)), (layers.Embedding(5, 4), ())]:
        layer = built(layer, shape)
        assert any(len(weight.shape) >= 2 for weight in layer.weights)
        assert not has_unknown_weights(layer)
    assert has_unknown_weights(built(OutgoingFirst(), (3,)))


@pytest.mark.parametrize(
    "equation, output_shape",
    [
        ("abc,c->ab", (5,)),  # Summed away,
        ("abc,bc->a", ()),
        ("abc,c->abc", (5, 3)),  # a scale of each value,
        ("abc,bc->abc", (5, 3)),
    ],
)
def test_einsum_without_nodes(equation, output_shape):
    """A kernel without axes of nodes, or with nothing to sum over, is no kernel of nodes."""
    inputs = keras.Input(SEQUENCE)
    hidden = layers.Dense(3, name="hidden")(inputs)
    einsum = layers.EinsumDense(equation, output_shape, name="einsum")
    outputs = einsum(hidden)
    assert layer_groups(einsum) == []
    alone = keras.Model(inputs, outputs)
    sums = "->abc" not in equation
    # What sums is where the output is computed; behind a scale it is the layer before.
    assert output_layers(alone) == ["einsum" if sums else "hidden"]
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(outputs)))
    assert output_layers(model) == ["out"]
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.kernels[0] is model.get_layer("hidden").kernel
    assert "einsum" in kg.summary(model)
    copy = kg.propagate(model)
    assert [type(layer).__name__ for layer in copy.layers].count("ErrorModulation") == 1
    with pytest.raises(ValueError, match="cannot wrap layer"):
        kg.ErrorModulation(einsum)


def test_einsum_with_a_repeated_letter_has_no_nodes():
    layer = layers.EinsumDense("ab,bcc->ac", output_shape=3)
    assert layer_groups(layer) == []
