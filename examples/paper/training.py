"""Trains a network as `fit` does, a whole epoch in one compiled program on data in memory."""

import functools
import math
import platform
import time

import keras
import numpy as np
import tensorflow as tf

import keras_grapes as kg
from examples import data
from examples.paper import networks, probes, tasks

# It takes the programs of several networks for one that is traced again and again.
tf.get_logger().setLevel("ERROR")

TEST_BATCH = 1000
CURVES = ("loss", "accuracy", "test_loss", "test_accuracy")
VALIDATION_CURVES = ("validation_loss", "validation_accuracy")
PROBES = {"modulation": probes.Modulation, "weights": probes.Weights}
VERSIONS = {
    "python": platform.python_version(),
    **{package.__name__: package.__version__ for package in (kg, keras, tf, np)},
}


class Trainer:
    """One compiled network, trained again and again from new weights.

    Runs that differ in their seed, learning rate or number of epochs alone share it: weights, the
    state of the optimizer and its learning rate are variables of the compiled program.

    Args:
        settings: `Settings`.
    """

    def __init__(self, settings):
        self.settings = settings
        parts, self.shape, self.classes = tensors(
            settings.dataset,
            settings.train_examples,
            settings.validation_examples,
            settings.test_examples,
        )
        if networks.loss_of(settings) not in networks.SPARSE:
            parts = [(images, tf.one_hot(labels, self.classes)) for images, labels in parts]
        self.train, self.validation, self.test = parts
        self.model = networks.build(settings, self.shape, self.classes)
        networks.compile_model(self.model, settings)
        self._optimizer_start = [tf.constant(v.numpy()) for v in self.model.optimizer.variables]
        # Keras creates the variables of its metrics in the first step, which a compiled function
        # cannot; of no effect on the weights, as `reset` sets them.
        self.model.train_step(tuple(part[:2] for part in self.train))
        # XLA does not know the operations that deform images, and is slow at convolutions on a CPU.
        self.use_xla = settings.network == "dense" and not settings.deformation
        compiled = functools.partial(tf.function, jit_compile=self.use_xla)
        self._train = compiled(self._train_epoch)
        self._test = compiled(self._test_epoch)

    def reset(self, settings):
        """Goes back to the start of a run: the weights of its seed, a fresh optimizer."""
        fresh = networks.build(settings, self.shape, self.classes)
        for variable, start in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(start)
        for variable, start in zip(self.model.optimizer.variables, self._optimizer_start):
            variable.assign(start)
        self.model.optimizer.learning_rate = settings.learning_rate

    def train_epoch(self, order, train=None):
        """Trains on the images in `order`, an array of ints; returns mean loss and accuracy."""
        self.model.reset_metrics()
        self._train(*(train or self.train), tf.constant(order, "int32"))
        return self._metrics()

    def evaluate(self, test=None):
        """Returns mean loss and accuracy on the test images."""
        self.model.reset_metrics()
        self._test(*(test or self.test))
        return self._metrics()

    def _metrics(self):
        metrics = self.model.get_metrics_result()
        return float(metrics["loss"]), float(metrics["accuracy"])

    def _train_epoch(self, images, labels, order):
        _for_each_batch(self.model.train_step, images, labels, order, self.settings.batch_size)

    def _test_epoch(self, images, labels):
        order = tf.range(images.shape[0])
        _for_each_batch(self.model.test_step, images, labels, order, TEST_BATCH)


def _for_each_batch(step, images, labels, order, size):
    """Calls `step` on batches of images in an order; the last one has what is left."""
    whole = order.shape[0] // size
    if whole > 0:
        batches = tf.reshape(order[: whole * size], (whole, size))
        for number in tf.range(whole):
            step((tf.gather(images, batches[number]), tf.gather(labels, batches[number])))
    rest = order[whole * size :]
    if rest.shape[0] > 0:
        step((tf.gather(images, rest), tf.gather(labels, rest)))


def run(settings, on_epoch=lambda: None):
    """Trains one run and returns what is to be recorded of it, as a dict.

    A run whose loss is no longer a number ends there, as its weights never recover.

    Args:
        settings: `Settings`.
        on_epoch: Called after each epoch.
    """
    start = time.perf_counter()
    trainer = trainer_for(settings.program)
    trainer.reset(settings)
    sequence = tasks.sequence(settings, trainer.train, trainer.test)
    raised = mean_factor(trainer.model) if settings.raised_rate else 1.0
    measured = [(name, PROBES[name](trainer.model, settings)) for name in settings.record]
    curves = CURVES + (VALIDATION_CURVES if settings.validation_examples else ())
    result = {"epochs": {name: [] for name in curves}}
    if settings.tasks:
        result["tasks"] = []
    for name, probe in measured:
        result[name] = [probe()]
    for epoch in range(settings.all_epochs):
        current = epoch // settings.epochs
        trainer.model.optimizer.learning_rate = raised * learning_rate(settings, epoch)
        order = order_of(settings, epoch, len(trainer.train[0]))
        loss, accuracy = trainer.train_epoch(order, sequence.train(current))
        tests = [trainer.evaluate(test) for test in sequence.tests]
        values = [loss, accuracy, *tests[current]]
        if settings.validation_examples:
            values += trainer.evaluate(trainer.validation)
        for name, value in zip(curves, values):
            result["epochs"][name].append(finite(value))
        if settings.tasks:
            result["tasks"].append([finite(accuracy) for _, accuracy in tests])
        for name, probe in measured:
            result[name].append(probe())
        on_epoch()
        if not math.isfinite(loss):
            break
    return {
        **result,
        "diverged": not math.isfinite(loss),
        "seconds": round(time.perf_counter() - start, 3),
        "versions": VERSIONS,
    }


def learning_rate(settings, epoch):
    """The learning rate of an epoch: it falls to a tenth where the settings say so."""
    falls = epoch // settings.decay_every if settings.decay_every else 0
    return settings.learning_rate * 0.1**falls


def mean_factor(model):
    """Mean over the hidden nodes of the factors that GRAPES would have now."""
    groups = probes.hidden_groups(model)
    return float(np.mean(np.concatenate([nodes.factor().ravel() for nodes in groups])))


def order_of(settings, epoch, examples):
    """The order of the training images in an epoch: another each time, by the seed alone."""
    return np.random.default_rng((settings.seed, epoch)).permutation(examples)


def finite(value):
    """A number as JSON can hold it: `None` where it is not finite."""
    return value if math.isfinite(value) else None


@functools.lru_cache(maxsize=1)
def trainer_for(program):
    """The `Trainer` of a program. One at a time: runs of one program follow each other."""
    keras.backend.clear_session()
    return Trainer(program)


@functools.lru_cache(maxsize=1)
def tensors(dataset, train_examples, validation_examples, test_examples):
    """Data in memory: pairs of tensors to train, validate and test on, shape of an image, classes.

    Raises:
        ValueError: If what is held out for validation leaves too few to train on.
    """
    loaded = data.load(dataset)
    whole = len(loaded.train[0])
    left = whole - validation_examples
    if left < 1:
        raise ValueError(
            f"validation_examples={validation_examples} of {whole} leave none to train on"
        )
    parts = [
        tuple(tf.constant(array[begin:end]) for array in part)
        for part, begin, end in (
            (loaded.train, 0, min(left, train_examples or left)),
            (loaded.train, left, whole),
            (loaded.test, 0, test_examples),
        )
    ]
    return parts, loaded.train[0].shape[1:], loaded.classes
