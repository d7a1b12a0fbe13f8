"""Trains small networks from the same weights, on the backend that Keras runs on.

Run it as `python -m tests.backend.trainings weights.npz`.
"""

import sys

import keras
import numpy as np
from keras import layers

import keras_grapes as kg

STEPS = (3, 20)
BATCH = 8
# No activation here has a kink, where rounding alone would tell two trainings apart.

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.005),
}


def dense():
    hidden = [layers.Dense(12, activation="elu"), layers.Dense(9, activation="tanh")]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3)])


def convolutional():
    # A bias ahead of a normalization has no gradient but the rounding.
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(5, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("elu"),
            layers.Conv2D(4, 3, strides=2, activation="tanh"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


def lstm():
    return keras.Sequential([keras.Input((5, 4)), layers.LSTM(6), layers.Dense(3)])


def spiking(reset):
    hidden = kg.SNU(8, reset=reset, recurrent=True, return_sequences=True)
    return keras.Sequential([keras.Input((5, 4)), hidden, kg.SSNU(6), layers.Dense(3)])


def _with_grapes(model, optimizer):
    return model, kg.Grapes(optimizer, model=model)


def _propagating(model, optimizer):
    return kg.propagate(model), optimizer


VERSIONS = {"local": _with_grapes, "propagating": _propagating}


def _rules(model):
    """Yields the feedback models with and without modulation, their kernels drawn by NumPy."""
    drawn = {"feedback_initializer": lambda shape: np.random.default_rng(1).normal(0, 0.3, shape)}
    rules = [
        kg.FeedbackAlignment,
        kg.DirectFeedbackAlignment,
        kg.SignConcordantFeedback,
        kg.DirectRandomTargetProjection,
    ]
    if model is not convolutional:
        rules.append(kg.IndirectFeedbackAlignment)
    for rule in rules:
        for modulation in (None, kg.Modulation()):
            yield rule(model(), modulation=modulation, **drawn)


def cases():
    """Yields the name of each training, and its model and optimizer."""
    for network in (dense, convolutional):
        for version, prepare in VERSIONS.items():
            for name, optimizer in OPTIMIZERS.items():
                yield f"{network.__name__} {version} {name}", *prepare(network(), optimizer())
        for rule in _rules(network):
            name = f"{network.__name__} {type(rule).__name__} {rule.modulation}"
            yield name, rule, OPTIMIZERS["sgd"]()
    for name, optimizer in OPTIMIZERS.items():
        yield f"lstm local {name}", *_with_grapes(lstm(), optimizer())
    for reset in ("gate", "soft", "subtract", "none"):
        for version, prepare in VERSIONS.items():
            model = spiking(reset)
            yield f"snu {reset} {version}", *prepare(model, OPTIMIZERS["momentum"]())


def train(model, optimizer):
    """Returns the weights of the network after each of the `STEPS`."""
    network = model.model if isinstance(model, kg.FeedbackModel) else model
    numbers = np.random.default_rng(0)
    for weight in network.trainable_weights:
        if weight.path.endswith("kernel"):
            weight.assign(numbers.normal(0, 0.5, weight.shape))
    total = max(STEPS) * BATCH
    x = numbers.random((total, *network.input_shape[1:]), "float32")
    y = numbers.integers(0, 3, total)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Where it need not be, compiling takes longer than training.
    model.compile(optimizer, loss, jit_compile=keras.backend.backend() == "jax")
    done, weights = 0, []
    for steps in STEPS:
        some = slice(done * BATCH, steps * BATCH)
        model.fit(x[some], y[some], batch_size=BATCH, shuffle=False, verbose=0)
        done = steps
        weights.append(np.concatenate([np.ravel(w) for w in network.get_weights()]))
    return np.stack(weights)


if __name__ == "__main__":
    np.savez(sys.argv[1], **{name: train(*case) for name, *case in cases()})
