"""Trains the models of `tests/test_resume.py` in a process of its own.

Arguments: what to do (`whole`, `interrupted` or `resumed`), the folder, and the kinds of models,
each as `kind` or `kind:way,way`.
"""

import os
import pathlib
import signal
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import keras_grapes as kg

EPOCHS, SAVED_EPOCHS, BATCH, BATCHES = 4, 2, 8, 5
RANDOM = np.random.default_rng(0)
X = RANDOM.random((BATCH * BATCHES, 6)).astype("float32")
Y = RANDOM.integers(0, 4, BATCH * BATCHES)


def dense():
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(9, use_bias=False),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Dense(8, "tanh"),
            layers.Dense(4, "softmax"),
        ]
    )


def spiking():
    unit = {"return_sequences": True, "input_activation": "leaky_relu", "bias_initializer": "zeros"}
    return keras.Sequential(
        [
            keras.Input((6,)),
            kg.RateCoding(6, rate=0.6),
            kg.SNU(9, **unit),
            kg.SSNU(4, recurrent=True, **unit),
            layers.GlobalAveragePooling1D(),
            layers.Softmax(),
        ]
    )


def adam():
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.02, 7, 0.9))


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)


def grapes(make, inner):
    model = make()
    return model, kg.Grapes(inner, model=model)


KINDS = {
    "momentum": lambda: grapes(dense, momentum()),
    "adam": lambda: grapes(dense, adam()),
    "averaged": lambda: grapes(dense, keras.optimizers.Adam(0.01, use_ema=True, clipnorm=0.5)),
    "propagated": lambda: (kg.propagate(dense()), adam()),
    "fa": lambda: (kg.FeedbackAlignment(dense(), modulation=kg.Modulation()), adam()),
    "dfa": lambda: (kg.DirectFeedbackAlignment(dense(), modulation=kg.Modulation()), momentum()),
    "ifa": lambda: (kg.IndirectFeedbackAlignment(dense(), modulation=kg.Modulation()), adam()),
    "spiking": lambda: (kg.propagate(spiking()), adam()),
    "spiking-grapes": lambda: grapes(spiking, momentum()),
}
WAYS = ("keras", "weights", "model-checkpoint", "backup", "checkpoint")


def compiled(kind):
    model, optimizer = KINDS[kind]()
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, callbacks=(), initial_epoch=0):
    model.fit(
        X,
        Y,
        batch_size=BATCH,
        epochs=EPOCHS,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model


class Saves(keras.callbacks.Callback):
    """Saves by hand after every epoch, as a user does in a loop."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        self.model.save(self.folder / "keras.keras")
        self.model.save_weights(self.folder / "weights.weights.h5")
        checkpoint = tf.train.Checkpoint(model=self.model, optimizer=self.model.optimizer)
        checkpoint.write(str(self.folder / "checkpoint"))


class InterruptedTrainingError(Exception):
    pass


class Interrupt(keras.callbacks.Callback):
    """Ends training in the middle of an epoch, by an error or by killing this very process."""

    def __init__(self, kill):
        super().__init__()
        self.kill = kill

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == SAVED_EPOCHS and batch == BATCHES // 2:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise InterruptedTrainingError


def interrupt(kind, folder, kill):
    callbacks = [
        Saves(folder),
        keras.callbacks.ModelCheckpoint(folder / "model-checkpoint.keras"),
        keras.callbacks.BackupAndRestore(folder / "backup"),
        Interrupt(kill),
    ]
    try:
        fit(compiled(kind), callbacks)
    except InterruptedTrainingError:
        return
    sys.exit("was not interrupted")


def resume(kind, folder, way):
    if way in ("keras", "model-checkpoint"):
        model = keras.models.load_model(folder / f"{way}.keras")
    else:
        model = compiled(kind)
    if way == "backup":
        return fit(model, [keras.callbacks.BackupAndRestore(folder / "backup")])
    if way == "weights":
        # Keras loads the state of an optimizer only into one that is built.
        model.optimizer.build(model.trainable_variables)
        model.load_weights(folder / "weights.weights.h5")
    if way == "checkpoint":
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        status = checkpoint.read(str(folder / "checkpoint"))
    fit(model, initial_epoch=SAVED_EPOCHS)
    if way == "checkpoint":
        status.assert_existing_objects_matched()
    return model


def store(model, file):
    state = [*model.weights, *model.optimizer.variables]
    for layer in model.layers:
        if isinstance(layer, kg.RateCoding):
            state.append(layer.seed_generator.state)
    np.savez(file, *[keras.ops.convert_to_numpy(variable) for variable in state])


if __name__ == "__main__":
    todo, root, *kinds = sys.argv[1:]
    for place, kind in enumerate(kinds):
        kind, _, ways = kind.partition(":")
        folder = pathlib.Path(root) / kind
        folder.mkdir(exist_ok=True)
        # Other weights and feedback kernels to begin with, where they are to be restored.
        keras.utils.set_random_seed(99 if todo == "resumed" else 0)
        if todo == "whole":
            store(fit(compiled(kind)), folder / "whole.npz")
        elif todo == "resumed":
            for way in ways.split(",") if ways else WAYS:
                store(resume(kind, folder, way), folder / f"{way}.npz")
        else:
            interrupt(kind, folder, kill=place == len(kinds) - 1)
        keras.backend.clear_session()
