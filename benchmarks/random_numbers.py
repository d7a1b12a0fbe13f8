"""What random numbers cost, compiled by XLA and not: rate coding, noise and dropout.

    python benchmarks/random_numbers.py

One call at a time, in turns; the median of the rounds.
"""

import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from examples import command_line

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
import tensorflow as tf

import keras_grapes as kg


def parse_arguments():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_counts(
        ("--batch", 64, "images of a batch"),
        ("--steps", 20, "time steps of the rate code"),
        ("--rounds", 9, "turns of each"),
    )
    return parser.parse_args()


def draws(batch, steps):
    """Functions that draw, by name."""
    images = tf.fill((batch, 784), 0.5)
    activity = tf.ones((batch, 256))
    kernel = tf.zeros((256, 256))
    coding = kg.RateCoding(steps, rate=0.3, seed=0)
    noise = kg.hardware.UpdateNoise(0.01, seed=0)
    rounding = kg.hardware.FixedPoint(8, rounding="stochastic", seed=0)
    dropout = keras.layers.Dropout(0.1, seed=0)
    generator = keras.random.SeedGenerator(0)
    return {
        f"RateCoding, {batch}x{steps}x784": lambda: coding(images, training=True),
        f"keras.random.uniform, {batch}x{steps}x784": lambda: keras.random.uniform(
            (batch, steps, 784), seed=generator
        ),
        "UpdateNoise, 256x256": lambda: noise(kernel),
        "FixedPoint, stochastic, 256x256": lambda: rounding(kernel),
        f"keras.layers.Dropout, {batch}x256": lambda: dropout(activity, training=True),
    }


def milliseconds(function):
    start = time.perf_counter()
    function().numpy()
    return 1e3 * (time.perf_counter() - start)


def main():
    options = parse_arguments()
    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}; milliseconds")
    print(f"{'':38}{'XLA':>10}{'no XLA':>10}{'ratio':>10}")
    for name, draw in draws(options.batch, options.steps).items():
        compiled = tf.function(draw, jit_compile=True)
        traced = tf.function(draw)
        compiled(), traced()
        pairs = [(milliseconds(compiled), milliseconds(traced)) for _ in range(options.rounds)]
        by_xla, without = (statistics.median(column) for column in zip(*pairs))
        print(f"{name:38}{by_xla:>10.2f}{without:>10.2f}{by_xla / without:>10.1f}")


if __name__ == "__main__":
    main()
