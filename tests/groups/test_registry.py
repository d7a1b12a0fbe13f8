import keras
import numpy as np
import pytest
from keras import layers

import keras_grapes as kg
from keras_grapes.groups import (
    Group,
    layer_groups,
)
from keras_grapes.groups.registry import groupings
from tests.groups.grouped import SEQUENCE, OutgoingFirst, abs_sum, built, importances


class OwnKernel(layers.Layer):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


def test_unknown_layer_with_a_kernel_is_guessed():
    layer = built(OwnKernel(), (3,))
    (group,) = layer_groups(layer)
    assert group.guessed
    assert group.incoming_axes == [(0,)]


def test_unknown_recurrent_cell_is_guessed_with_both_kernels():
    class Cell(layers.Layer):
        state_size = 4

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], 4), name="kernel")
            self.recurrent_kernel = self.add_weight(shape=(4, 4), name="recurrent_kernel")

        def call(self, x, states):
            matmul = keras.ops.matmul
            y = matmul(x, self.kernel) + matmul(states[0], self.recurrent_kernel)
            return y, [y]

    layer = built(layers.RNN(Cell()), SEQUENCE)
    (group,) = layer_groups(layer)
    assert group.guessed
    assert len(group.kernels) == 2


@pytest.fixture
def registered():
    @kg.register_grouping(OutgoingFirst)
    def outgoing_first(layer):
        return Group(layer.w, incoming_axes=1)

    yield outgoing_first
    del groupings.functions[OutgoingFirst]


def test_registered_layer(registered):
    layer = built(OutgoingFirst(), (3,))
    (importance,) = importances(layer)
    np.testing.assert_allclose(importance, abs_sum(layer.w, 1), rtol=1e-6)
    model = keras.Sequential([keras.Input((3,)), OutgoingFirst(), layers.Dense(2)])
    (group,) = kg.Grapes("sgd", model=model).find_groups(model)
    assert group.incoming_axes == [(1,)]


def test_registering_something_else_is_refused():
    with pytest.raises(TypeError, match="register_grouping"):
        kg.register_grouping(layers.Dense(3))

    @kg.register_grouping(OutgoingFirst)
    def wrong(layer):
        return layer.w

    try:
        with pytest.raises(TypeError, match="must return"):
            layer_groups(built(OutgoingFirst(), (3,)))
    finally:
        del groupings.functions[OutgoingFirst]
