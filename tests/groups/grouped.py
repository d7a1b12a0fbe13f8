"""Layers for the tests of groups, and the sums of weights that enter their nodes."""

import keras
import numpy as np
from keras import layers

import keras_grapes as kg
from keras_grapes.groups import layer_groups, weight_layers
from tests import reference

IMAGE = (8, 8, 3)
SEQUENCE = (5, 3)


def abs_sum(variable, axes):
    return reference.importance(variable.numpy(), axes)


def built(layer, input_shape):
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, layer(inputs)).layers[-1]


def importances(layer):
    """Importances of the groups of a layer, as the package groups them."""
    return [
        np.asarray(kg.node_importance(list(g.kernels), g.incoming_axes))
        for g in layer_groups(layer)
    ]


class OutgoingFirst(layers.Layer):
    """Its weights are `(units, inputs)`, so that the guess by the last axis would be wrong."""

    def build(self, input_shape):
        self.w = self.add_weight(shape=(4, input_shape[-1]), name="w")

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.w))


def output_layers(model):
    return [entry.layer.name for entry in weight_layers(model) if entry.is_output]
