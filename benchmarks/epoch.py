"""Time of an epoch of the paper's experiments, as a ratio to its bare matrix products.

The networks are trained as `python -m examples.paper` trains them. The bare products are those of
forward pass, error and update of the same batches, compiled in the same way, with nothing else. All
take turns within one run, so that whatever else the machine does hits all of them; each number is a
median over the rounds.
"""

import itertools
import os
import pathlib
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import numpy as np
import tensorflow as tf

from examples.paper import training
from examples.paper.settings import Settings

VARIANTS = {
    "plain": {},
    "GRAPES, local": {"arm": "GRAPES", "version": "local"},
    "GRAPES, propagating": {"arm": "GRAPES", "version": "propagating"},
}
BATCH = 64


def parse_arguments():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_counts(
        ("--width", 256, "units of a hidden layer"),
        ("--depth", 4, "number of hidden layers"),
        ("--images", 60_000, "images of an epoch"),
        ("--rounds", 5, "turns of each"),
    )
    return parser.parse_args()


def bare_products(sizes, images):
    """Returns a function that multiplies the matrices of an epoch and nothing else."""
    weights = [
        tf.Variable(tf.random.normal((a, b), stddev=a**-0.5)) for a, b in itertools.pairwise(sizes)
    ]
    batches = images.shape[0] // BATCH

    @tf.function(jit_compile=True)
    def multiply(images):
        total = 0.0
        for batch in tf.range(batches):
            passed = [tf.slice(images, (batch * BATCH, 0), (BATCH, sizes[0]))]
            for weight in weights:
                passed.append(passed[-1] @ weight)
            error = passed.pop()
            for weight, inputs in zip(weights[::-1], passed[::-1]):
                # Read in full, so that no product is left out.
                total += tf.reduce_max(tf.matmul(inputs, error, transpose_a=True))
                if inputs is not passed[0]:
                    error = tf.matmul(error, weight, transpose_b=True)
        return total

    return lambda: float(multiply(images))


def main():
    arguments = parse_arguments()
    random = np.random.default_rng(0)
    sizes = [784, *[arguments.width] * arguments.depth, 10]
    images = random.random((arguments.images, 28, 28, 1), dtype="float32")
    labels = random.integers(0, 10, arguments.images)
    train = tf.constant(images), tf.constant(labels)
    training.tensors = lambda *names: (train, train, (28, 28, 1), 10)
    functions = {"bare products": bare_products(sizes, tf.reshape(train[0], (-1, 784)))}
    order = random.permutation(arguments.images)
    for name, changes in VARIANTS.items():
        settings = Settings(
            hidden=(arguments.width,) * arguments.depth, batch_size=BATCH, **changes
        )
        trainer = training.Trainer(settings)
        functions[name] = lambda trainer=trainer: trainer.train_epoch(order)
    seconds = {name: [] for name in functions}
    for turn in range(arguments.rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:  # The first one compiles.
                seconds[name].append(time.perf_counter() - start)
    print(f"{'-'.join(map(str, sizes))}, ReLU, batches of {BATCH}, {arguments.images} images")
    print(f"{'':20}{'seconds':>9}{'ratio':>8}")
    for name, values in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(values, seconds["bare products"]))
        print(f"{name:20}{statistics.median(values):9.2f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
