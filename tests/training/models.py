"""Models and data that the tests of the feedback models share."""

import keras
import numpy as np
from keras import layers

import keras_grapes as kg

RULES = {
    "fa": kg.FeedbackAlignment,
    "dfa": kg.DirectFeedbackAlignment,
    "ifa": kg.IndirectFeedbackAlignment,
}
# Those with other feedback, and what they share with the three above.
ALL_RULES = {
    **RULES,
    "uniform": kg.SignConcordantFeedback,
    "drtp": kg.DirectRandomTargetProjection,
}


def dense(sizes=(6, 9, 8, 7, 4), activation="tanh", **kwargs):
    """A fully connected network; biases are drawn too, so that each plays a part."""
    *hidden, outputs = sizes[1:]
    return keras.Sequential(
        [
            keras.Input((sizes[0],)),
            *[
                layers.Dense(units, activation, bias_initializer="random_normal", **kwargs)
                for units in hidden
            ],
            layers.Dense(outputs, "softmax", bias_initializer="random_normal"),
        ]
    )


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, strides=2, use_bias=False, padding="same"),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Flatten(),
            layers.Dense(10, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def batch_for(model, examples=24, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(examples, *model.inputs[0].shape[1:])).astype("float32")
    return x, random.integers(0, model.outputs[0].shape[-1], examples)


def compiled(rule, optimizer="sgd", **kwargs):
    rule.compile(optimizer, loss="sparse_categorical_crossentropy", **kwargs)
    return rule


def kernels(model):
    """Kernels of the layers to train, the first one first."""
    return [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]


def values(tensors):
    return [keras.ops.convert_to_numpy(tensor) for tensor in tensors]
