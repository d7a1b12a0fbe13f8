"""The data of a run as a sequence of tasks: one, or several that permute the pixels."""

import numpy as np
import tensorflow as tf


def sequence(settings, train, test):
    """Returns the tasks of a run, in the order in which it learns them.

    Args:
        settings: `Settings`.
        train: Pair of tensors, images and labels.
        test: Likewise.
    """
    if not settings.tasks:
        return Sequence(train, [test], [None])
    pixels = int(np.prod(train[0].shape[1:]))
    orders = [
        permutation(pixels, settings.permuted_pixels, np.random.default_rng((settings.seed, task)))
        for task in range(settings.tasks)
    ]
    return Sequence(train, [permute(test, order) for order in orders], orders)


class Sequence:
    """Tasks, of which only the one that is trained has its training images in memory.

    Args:
        train: Pair of tensors, images and labels.
        tests: List of such pairs, one a task.
        orders: List of permutations of the pixels, `None` for the images as they are.
    """

    def __init__(self, train, tests, orders):
        self.tests = tests
        self._plain = train
        self._orders = orders
        self._current = None, None

    def train(self, task):
        """Returns the training images and labels of a task."""
        if self._current[0] != task:
            self._current = task, permute(self._plain, self._orders[task])
        return self._current[1]


def permutation(pixels, permuted, random):
    """An order of pixels in which `permuted` of them, drawn at random, change places."""
    order = np.arange(pixels)
    chosen = random.choice(pixels, min(pixels, permuted or pixels), replace=False)
    order[np.sort(chosen)] = chosen
    return order


def permute(part, order):
    """Images with their pixels in an order, and labels."""
    images, labels = part
    if order is None:
        return part
    flat = tf.reshape(images, (len(images), -1))
    return tf.reshape(tf.gather(flat, order, axis=1), images.shape), labels
