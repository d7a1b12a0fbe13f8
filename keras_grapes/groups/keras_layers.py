"""The groups of Keras's own layers."""

import dataclasses

from keras import layers

from keras_grapes import graph, keras_hooks
from keras_grapes.groups.einsum import Equation
from keras_grapes.groups.group import Group
from keras_grapes.groups.model_layers import nested_groups
from keras_grapes.groups.registry import register_grouping
from keras_grapes.kernels import acting_kernel

__all__ = []


@register_grouping(layers.Dense)
def _dense(layer):
    return Group(acting_kernel(layer))


@register_grouping(layers.EinsumDense)
def _einsum_dense(layer):
    equation = Equation.of(layer)
    letters, incoming, output = equation.kernel, equation.incoming_axes, equation.output
    nodes = [c for c in letters if c in output]
    # A kernel that is summed away, or that is a scale of each value, or whose diagonal alone acts.
    if not nodes or not incoming or len(set(letters)) < len(letters):
        return []
    before, ellipsis, after = output.partition("...")
    if ellipsis:
        axis_of = {c: i for i, c in enumerate(before)}
        axis_of.update({c: i - len(after) for i, c in enumerate(after)})
    else:
        axis_of = {c: i - len(output) for i, c in enumerate(output)}
    return Group(acting_kernel(layer), incoming, output_axis=tuple(axis_of[c] for c in nodes))


def _channel_axis(layer):
    return 1 if layer.data_format == "channels_first" else -1


@register_grouping(layers.Conv1D)
@register_grouping(layers.Conv2D)
@register_grouping(layers.Conv3D)
def _conv(layer):
    return Group(acting_kernel(layer), output_axis=_channel_axis(layer))


@register_grouping(layers.Conv1DTranspose)
@register_grouping(layers.Conv2DTranspose)
@register_grouping(layers.Conv3DTranspose)
def _conv_transpose(layer):
    rank = len(layer.kernel.shape)
    incoming = (*range(rank - 2), rank - 1)
    return Group(layer.kernel, incoming, output_axis=_channel_axis(layer))


@register_grouping(layers.DepthwiseConv1D)
@register_grouping(layers.DepthwiseConv2D)
def _depthwise_conv(layer):
    incoming = tuple(range(len(layer.kernel.shape) - 2))
    return Group(layer.kernel, incoming, output_axis=_channel_axis(layer))


@register_grouping(layers.SeparableConv1D)
@register_grouping(layers.SeparableConv2D)
def _separable_conv(layer):
    spatial = tuple(range(len(layer.depthwise_kernel.shape) - 2))
    return [
        Group(layer.depthwise_kernel, spatial).inner(),
        Group(layer.pointwise_kernel, output_axis=_channel_axis(layer)),
    ]


@register_grouping(layers.MultiHeadAttention)
@register_grouping(layers.GroupQueryAttention)
def _attention(layer):
    dense = [sub for sub in graph.sublayers(layer) if isinstance(sub, layers.EinsumDense)]
    output = keras_hooks.output_projection(layer)
    hidden = [_einsum_dense(sub).inner() for sub in dense if sub is not output]
    return [*hidden, _einsum_dense(output)]


@register_grouping(layers.SimpleRNNCell)
def _simple_rnn_cell(cell):
    return Group([cell.kernel, cell.recurrent_kernel])


# One node per gate and unit, so the nodes are not the channels of the output.
@register_grouping(layers.LSTMCell)
@register_grouping(layers.GRUCell)
def _gated_cell(cell):
    return Group([cell.kernel, cell.recurrent_kernel], output_axis=None)


@register_grouping(layers.ConvLSTM1D)
@register_grouping(layers.ConvLSTM2D)
@register_grouping(layers.ConvLSTM3D)
def _conv_lstm(layer):
    return _gated_cell(layer.cell)


@register_grouping(layers.StackedRNNCells)
def _stacked_cells(stack):
    *hidden, last = [nested_groups(cell) for cell in stack.cells]
    return [*(group.inner() for groups in hidden for group in groups), *last]


@register_grouping(layers.RNN)
def _rnn(layer):
    return nested_groups(layer.cell)


@register_grouping(layers.Bidirectional)
def _bidirectional(layer):
    return [
        dataclasses.replace(g, output_axis=None)
        for direction in (layer.forward_layer, layer.backward_layer)
        for g in nested_groups(direction)
    ]


@register_grouping(layers.TimeDistributed)
def _time_distributed(layer):
    def shift(axis):
        if isinstance(axis, tuple):
            return tuple(shift(a) for a in axis)
        return axis + 1 if axis is not None and axis >= 0 else axis

    return [
        dataclasses.replace(g, output_axis=shift(g.output_axis)) for g in nested_groups(layer.layer)
    ]


@register_grouping(layers.SpectralNormalization)
def _spectral_normalization(layer):
    return nested_groups(layer.layer)


# A row of an embedding is looked up, not summed into a node.
@register_grouping(layers.Embedding)
def _embedding(layer):
    return []
