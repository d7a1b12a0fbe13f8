"""Residual networks with GRAPES: which version trains one, and at which learning rate?

    python benchmarks/residual.py

A ResNet of 17 convolutions with batch normalization on scikit-learn's digits: the test accuracy
after a few epochs, mean and standard deviation over seeds, and the error gain that was measured
on fresh weights. Every arm of a seed starts from the same weights and sees the same batches.
"""

import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from examples import command_line

command_line.import_tensorflow()

# ruff: noqa: E402 (TensorFlow is imported quietly first)
import keras
import numpy as np
import sklearn.datasets

import keras_grapes as kg

layers = keras.layers

BLOCKS = 8
FILTERS = 16
# None stands for an arm whose error is not modulated.
ARMS = {
    "plain": None,
    "local (Grapes)": None,
    "propagating": kg.Modulation(),
    "propagating, unit_mean=True": kg.Modulation(unit_mean=True),
    "propagating, bounds=(1, 1.1)": kg.Modulation(bounds=(1.0, 1.1)),
}
OPTIMIZERS = {
    "SGD 0.1": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "SGD 0.01": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "SGD 0.001": lambda: keras.optimizers.SGD(0.001, momentum=0.9),
    "Adam 0.001": lambda: keras.optimizers.Adam(0.001),
}


def parse_arguments():
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    parser.add_counts(
        ("--epochs", 4, "epochs of a run"),
        ("--seeds", 3, "runs of each arm and optimizer"),
        ("--batch", 32, "images of a batch"),
    )
    return parser.parse_args()


def digits():
    x, y = sklearn.datasets.load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:1437], order[1437:]
    return (x[train], y[train]), (x[test], y[test])


def network():
    def convolution(x):
        x = layers.Conv2D(FILTERS, 3, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    image = keras.Input((8, 8, 1))
    x = layers.ReLU()(convolution(image))
    for _ in range(BLOCKS):
        inner = convolution(layers.ReLU()(convolution(x)))
        x = layers.ReLU()(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10)(x))


def accuracy(arm, optimizer, seed, train, test, options):
    """Trains an arm and returns its test accuracy."""
    keras.utils.set_random_seed(seed)
    model = network()
    if ARMS[arm] is not None:
        model = kg.propagate(model, ARMS[arm])
    optimizer = OPTIMIZERS[optimizer]()
    if arm.startswith("local"):
        optimizer = kg.Grapes(optimizer, model=model)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    keras.utils.set_random_seed(seed)
    model.fit(*train, batch_size=options.batch, epochs=options.epochs, verbose=0)
    return model.evaluate(*test, batch_size=360, verbose=0)[1]


def main():
    options = parse_arguments()
    train, test = digits()
    keras.utils.set_random_seed(0)
    model = network()
    batch = [part[: options.batch] for part in train]
    for arm, modulation in ARMS.items():
        if modulation is not None:
            gains = kg.error_gain(model, *batch, modulation=modulation)
            print(f"{arm:30} error gain: largest {gains.largest:.3g}, median {gains.median:.3g}")
    print(f"\n{'test accuracy, %':30}" + "".join(f"{name:>15}" for name in OPTIMIZERS))
    for arm in ARMS:
        cells = []
        for optimizer in OPTIMIZERS:
            seeds = range(options.seeds)
            found = [100 * accuracy(arm, optimizer, s, train, test, options) for s in seeds]
            spread = statistics.stdev(found) if len(found) > 1 else 0.0
            cells.append(f"{statistics.mean(found):.1f} ± {spread:.1f}")
        print(f"{arm:30}" + "".join(f"{cell:>15}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
