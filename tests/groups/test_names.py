import keras
from keras import layers

from keras_grapes.groups import (
    group_by_name,
)
from tests.groups.grouped import IMAGE


def test_names_alone():
    model = keras.Sequential(
        [
            keras.Input(IMAGE),
            layers.SeparableConv2D(4, 2),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4),
            layers.Dense(2),
        ]
    )
    groups = group_by_name(model.trainable_variables)
    assert [g.kernels[0].name for g in groups] == ["depthwise_kernel", "pointwise_kernel", "kernel"]
    raw = group_by_name([v.value for v in model.trainable_variables])
    assert [tuple(g.kernels[0].shape) for g in raw] == [tuple(g.kernels[0].shape) for g in groups]


def test_one_kernel_is_an_output_layer():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    assert group_by_name(model.trainable_variables) == []
