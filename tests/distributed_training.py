"""One small training of each kind, on whatever devices the strategy in force has.

Run as a script it is one worker of a `MultiWorkerMirroredStrategy`, with its cluster in TF_CONFIG,
and writes the trained weights to the file that it is given.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_grapes as kg

EXAMPLES = 64
BATCH_SIZE = 16
EPOCHS = 2


def chain():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, "tanh"),
            layers.Dense(8, "relu"),
            layers.Dense(7, "tanh"),
            layers.Dense(4, "softmax"),
        ]
    )


def grapes():
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Reshape((2, 3)),
            layers.LSTM(5),
            layers.Dense(8, "relu"),
            layers.Dense(4, "softmax"),
        ]
    )
    inner = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01, use_ema=True)
    return model, kg.Grapes(inner, model=model)


def propagated():
    return kg.propagate(chain()), keras.optimizers.SGD(0.1, momentum=0.9)


def rule(rule_class):
    return rule_class(chain(), modulation=kg.Modulation(), seed=0), keras.optimizers.SGD(0.1)


KINDS = {
    "grapes": grapes,
    "propagate": propagated,
    "fa": lambda: rule(kg.FeedbackAlignment),
    "dfa": lambda: rule(kg.DirectFeedbackAlignment),
    "ifa": lambda: rule(kg.IndirectFeedbackAlignment),
}


def train(kind, strategy):
    """Returns the weights after two epochs, the same for every strategy up to rounding."""
    random = np.random.default_rng(0)
    x = random.normal(size=(EXAMPLES, 6)).astype("float32")
    y = random.integers(0, 4, EXAMPLES)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model, optimizer = KINDS[kind]()
        optimizer.build(model.trainable_variables)
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH_SIZE)
    batches = strategy.experimental_distribute_dataset(batches)
    loss_function = keras.losses.SparseCategoricalCrossentropy(reduction="sum")

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x, training=True)) / BATCH_SIZE
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    @tf.function
    def epoch():
        for x, y in batches:
            strategy.run(step, args=(x, y))

    for _ in range(EPOCHS):
        epoch()
    return [weight.numpy() for weight in model.weights]


def main(path):
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    trained = {}
    for kind in KINDS:
        for place, weight in enumerate(train(kind, strategy)):
            trained[f"{kind}/{place}"] = weight
    np.savez(path, **trained)


if __name__ == "__main__":
    main(sys.argv[1])
