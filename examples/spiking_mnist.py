"""Trains a spiking network on rate-coded digits and says what it reaches.

    python examples/spiking_mnist.py
    python examples/spiking_mnist.py --preset full
    python examples/spiking_mnist.py --dataset digits

The network is 784-256-256-256-10 spiking neural units (SNU). Every pixel is the rate of a random
spike train of 20 time steps, drawn anew for every batch and every test; the class is the output
unit that spikes most often. A bar shows the training within each epoch, and behind it stands the
accuracy on the test images. At the end come the number reached, the firing rates, the synaptic
operations of an image, pictures, and the trained model as a file.
"""

import pathlib
import sys
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from examples import command_line, data

UNITS = 256
HIDDEN_LAYERS = 3
STEPS = 20
BATCH_SIZE = 128
DECAY = 0.9
# The rate falls along half a cosine to 0 in the last epoch.
LEARNING_RATE = 2e-3
# Epochs on MNIST, and on the digits, where an epoch is 12 steps.
PRESETS = {"quick": (2, 20), "full": (10, 60)}
# Images that the firing rates and the synaptic operations are taken from.
PROBED = 256


def build_model(pixels, classes, seed):
    """Rate coding, three hidden layers of spiking units, and an output unit for each class.

    Units that let negative currents pass (`input_activation="linear"`) learn where a ReLU would
    stay silent, and weights of twice Glorot's variance make the spikes of one layer enough for the
    next one. A narrower pseudo-derivative than the unit's own, and a decay of its own for each
    unit, are worth some tenths of a per cent; so is dropout between the layers.
    """
    import keras

    import keras_grapes as kg

    keras.utils.set_random_seed(seed)

    def units(count, name, dropout):
        return kg.SNU(
            count,
            decay=DECAY,
            trainable_decay="unit",
            input_activation="linear",
            surrogate="atan",
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_avg", "uniform"),
            dropout=dropout,
            return_sequences=True,
            name=name,
        )

    names = [f"hidden_{number}" for number in range(1, HIDDEN_LAYERS + 1)]
    return keras.Sequential(
        [
            keras.Input((pixels,), name="image"),
            kg.RateCoding(STEPS, seed=seed),
            # What is dropped of the spikes of pixels would be dropped for good.
            *(units(UNITS, name, 0.0 if name == names[0] else 0.1) for name in names),
            units(classes, "output", 0.1),
        ]
    )


def train(model, dataset, options):
    """Trains a model. Returns Keras's history and the callback with the firing rates."""
    import keras

    import keras_grapes as kg

    (images, labels), held_out = divide(dataset.train, options.hold_out)
    steps = options.epochs * -(-len(images) // BATCH_SIZE)
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        # Counts of 20 steps are large logits.
        loss=kg.losses.SpikeCountCrossentropy(scale=0.5),
        metrics=[kg.metrics.SpikeAccuracy(name="accuracy")],
    )
    watched = held_out or dataset.test
    watch = kg.callbacks.FiringRate(watched[0][:PROBED], batch_size=PROBED)
    history = model.fit(
        images,
        labels,
        batch_size=BATCH_SIZE,
        epochs=options.epochs,
        validation_data=watched,
        validation_batch_size=500,
        callbacks=[watch],
    ).history
    return history, watch


def divide(train, count):
    """Returns what to train on, and `count` images of it to hold out, or `None`."""
    import numpy as np

    if not count:
        return train, None
    # One division for all seeds: a seed is for the network and the order of the data.
    order = np.random.default_rng(12345).permutation(len(train[0]))
    held_out, rest = order[:count], order[count:]
    return tuple(part[rest] for part in train), tuple(part[held_out] for part in train)


def draw(model, dataset, watch, folder):
    """Saves pictures of the firing rates, and of what the first test image does."""
    import keras_grapes as kg

    recordings = kg.analysis.record(model, dataset.test[0][:1])
    figures = {
        "firing_rates": kg.analysis.layer_rates(watch.unit_rates),
        "raster": kg.analysis.raster(recordings),
        "output_potentials": kg.analysis.membrane_traces(
            recordings["output"], units=range(dataset.classes)
        ),
    }
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=120)


def parse(parser, arguments=None):
    parser.add_run_options(data.NAMES, "runs/spiking_mnist", *PRESETS["quick"])
    epochs, on_digits = PRESETS["full"]
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="quick",
        help=f"full: {epochs} epochs, on digits {on_digits}; default: quick",
    )
    parser.add_argument(
        "--hold-out",
        type=command_line.positive_int,
        metavar="N",
        help="leave out N images of training, and have the accuracy of each epoch on these: to "
        "choose settings by; default: none, the accuracy on the test images",
    )
    return parser.parse_run(arguments)


def main():
    # A silent layer belongs in the report, without a place in the code.
    warnings.showwarning = lambda message, *rest, **named: print(f"\n{message}", flush=True)
    parser = command_line.Parser(description=__doc__.splitlines()[0])
    options = parse(parser)
    dataset = data.load_for(parser, options.dataset)
    if options.hold_out and options.hold_out >= len(dataset.train[0]):
        parser.error(f"argument --hold-out: there are {len(dataset.train[0])} images")
    command_line.import_backend()
    if options.epochs is None:
        options.epochs = PRESETS[options.preset][dataset.name == "digits"]
    run(dataset.flattened(), options)


def run(dataset, options):
    """Trains and tests the network, and prints the report."""
    import keras_grapes as kg

    images, pixels = dataset.train[0].shape
    images -= options.hold_out or 0
    sizes = [pixels, *[UNITS] * HIDDEN_LAYERS, dataset.classes]
    print(f"Data      {dataset.title}: {images} images, {len(dataset.test[0])} to test on")
    print(f"Network   {'-'.join(map(str, sizes))} SNU, {STEPS} time steps of rate coding")
    print(
        f"Training  Adam from {LEARNING_RATE:g} to 0, batches of {BATCH_SIZE}, "
        f"{options.epochs} epochs, seed {options.seed}"
    )
    watched = f"{options.hold_out} images held out" if options.hold_out else "the test images"
    print(f"The accuracy behind each bar, val_accuracy, is that on {watched}.\n", flush=True)
    start = time.perf_counter()
    model = build_model(pixels, dataset.classes, options.seed)
    history, watch = train(model, dataset, options)
    seconds = time.perf_counter() - start

    accuracy = history["val_accuracy"][-1]
    if options.hold_out:
        accuracy = model.evaluate(*dataset.test, batch_size=500, verbose=0)[1]
    print(f"\nTest accuracy after epoch {options.epochs}: {100 * accuracy:.2f} %")
    print(f"Training took {seconds / 60:.1f} minutes.")
    rates = ", ".join(f"{name} {values[-1]:.3f}" for name, values in watch.rates.items())
    print(f"Spikes of a unit per time step: {rates}\n")
    print(f"For one image:\n{kg.analysis.synaptic_operations(model, dataset.test[0][:PROBED])}")
    draw(model, dataset, watch, options.output)
    model.save(options.output / "model.keras")
    print(f"\nThe model, and pictures of rates, spikes and potentials: {options.output}")


if __name__ == "__main__":
    command_line.run(main)
